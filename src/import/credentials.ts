/**
 * Reads homes and their credentials files, for imported accounts and for earlier accounts that have no credentials yet.
 * They show who once had access, and whose password can stay.
 */
import type { KnownRealm, TakenCredentials } from './import-batch.ts';
import type { AccountName } from '../identity/names.ts';
import { databaseUser } from '../identity/posix-id.ts';
import type { HomePath } from '../reconcile/action.ts';
import type { CredentialsHave, FilesReader } from '../targets/files-reader.ts';
import type { Judgement } from './judge.ts';

/** An account that may get credentials through this import. */
export interface Candidate {
  kind: 'person' | 'tool';
  uid: number;
  account: AccountName;
  /** the name of the home */
  home: string;
  /** has or had access to the realm. Then it gets credentials, whatever its home is like */
  admitted: boolean;
}

export interface JudgedHomes {
  admitted: number[];
  credentials: TakenCredentials[];
  /** accounts whose file stays, and so does their password */
  kept: AccountName[];
  /** accounts that get a new password when a plan is carried out, and why */
  lost: { account: AccountName; why: string }[];
}

/** How many homes are read at a time, so that progress can be shown. */
const SLICE = 2000;

export function candidatesOf(judgement: Judgement, ours: KnownRealm): Candidate[] {
  const members = new Set(judgement.realmMembers);
  return [
    ...judgement.people.map(({ uid, shellName }) => person(uid, shellName, members.has(uid))),
    ...ours.people
      .filter(mayGet)
      .map((known) => person(known.uid, known.shellName, known.realmMember || known.everAdmitted)),
    ...judgement.tools.map(tool),
    ...ours.tools.filter(mayGet).map(tool),
  ];
}

/** Archived subjects cannot get credentials now: they have no home, and get a new password when they are restored. */
function mayGet({ state, hasCredentials }: { state: string; hasCredentials: boolean }): boolean {
  return state !== 'archived' && state !== 'deleted' && !hasCredentials;
}

function person(uid: number, shellName: string, admitted: boolean): Candidate {
  return { kind: 'person', uid, account: shellName as AccountName, home: shellName, admitted };
}

function tool(of: { uid: number; account: AccountName; name: string }): Candidate {
  return { kind: 'tool', uid: of.uid, account: of.account, home: of.name, admitted: true };
}

/** Reads the credentials file of each candidate, page by page. Throws BACKEND_UNREADABLE. */
export async function readHomes(
  reader: FilesReader,
  candidates: readonly Candidate[],
  say: (text: string) => void,
): Promise<Map<number, CredentialsHave>> {
  const haves = new Map<number, CredentialsHave>();
  for (let at = 0; at < candidates.length; at += SLICE) {
    say(`reading homes: ${at} of ${candidates.length}`);
    const slice = candidates.slice(at, at + SLICE);
    const found = await reader.readCredentials(
      slice.map(({ kind, uid, home }) => ({ home: homePath(kind, home), uid, folders: [] })),
    );
    for (const [index, have] of found.entries()) haves.set(slice[index]?.uid ?? 0, have);
  }
  return haves;
}

function homePath(kind: Candidate['kind'], name: string): HomePath {
  return { area: kind === 'tool' ? 'toolHomes' : 'personHomes', name };
}

/**
 * | account                            | home   | file                        | then                       |
 * | ---------------------------------- | ------ | --------------------------- | -------------------------- |
 * | person, never admitted             | ours   | any                         | was admitted once          |
 * | person, never admitted             | other  |                             | no credentials             |
 * | tool, or person who is or was admitted | ours | names its user, own file    | credentials, this password |
 * | tool, or person who is or was admitted | any  | any other                   | credentials, new password  |
 *
 * A file owned by root counts as the account's own, because root put it there. Mode and links do not matter here: the
 * plan decides whether a password that others could read is changed.
 */
export function judgeHomes(
  candidates: readonly Candidate[],
  haves: ReadonlyMap<number, CredentialsHave>,
): JudgedHomes {
  const judged: JudgedHomes = { admitted: [], credentials: [], kept: [], lost: [] };
  for (const { kind, uid, account, admitted } of candidates) {
    const have = haves.get(uid);
    if (have === undefined) continue;
    if (kind === 'person' && have.home === 'ours') judged.admitted.push(uid);
    if (!admitted && have.home !== 'ours') continue;
    const why = whyLost(have, databaseUser(kind, uid));
    const isRight = have.home === 'ours' && have.file.kind === 'regular' && why === undefined;
    judged.credentials.push({
      account: uid,
      verifier: isRight ? (have.file as { verifier: string }).verifier : undefined,
    });
    if (why === undefined) judged.kept.push(account);
    else judged.lost.push({ account, why });
  }
  return judged;
}

function whyLost(have: CredentialsHave, user: string): string | undefined {
  if (have.home === 'absent') return 'there is no home';
  if (have.home === 'unmanaged') return 'the home belongs to another account';
  switch (have.file.kind) {
    case 'absent':
      return 'there is no credentials file';
    case 'regular':
      return have.file.user === user ? undefined : `the file names the user ${have.file.user}`;
    default:
      return `instead of the credentials file there is ${have.file.what}`;
  }
}
