/**
 * What homes and their credentials files say of those who are taken over, and of those who were before but
 * have no credentials yet: who had access once, and whose password can stay.
 */
import type { KnownRealm, TakenCredentials } from './import-batch.ts';
import type { AccountName } from '../identity/names.ts';
import { databaseUser } from '../identity/ids.ts';
import type { HomePath } from '../reconcile/action.ts';
import type { CredentialsHave, FilesReader } from '../targets/files-reader.ts';
import type { Judgement } from './judge.ts';

/** Whoever may get credentials by this import. */
export interface Candidate {
  kind: 'person' | 'tool';
  uid: number;
  account: AccountName;
  /** the name of the home */
  home: string;
  /** now, or ever before: then there are credentials whatever the home is like */
  admitted: boolean;
}

export interface JudgedHomes {
  admitted: number[];
  credentials: TakenCredentials[];
  /** accounts whose file stays, so that their password does */
  kept: AccountName[];
  /** accounts that get a new password as soon as a plan is carried out, and why */
  lost: { account: AccountName; why: string }[];
}

/** Homes at a time, so that progress can be said. */
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

/** What is put away has no home in its place, and comes back with a new password. */
function mayGet({ state, hasCredentials }: { state: string; hasCredentials: boolean }): boolean {
  return state !== 'archived' && state !== 'deleted' && !hasCredentials;
}

function person(uid: number, shellName: string, admitted: boolean): Candidate {
  return { kind: 'person', uid, account: shellName as AccountName, home: shellName, admitted };
}

function tool({
  uid,
  account,
  name,
}: {
  uid: number;
  account: AccountName;
  name: string;
}): Candidate {
  return { kind: 'tool', uid, account, home: name, admitted: true };
}

/** Looks at the credentials file of each, page by page. Throws BACKEND_UNREADABLE. */
export async function readHomes(
  reader: FilesReader,
  candidates: readonly Candidate[],
  say: (text: string) => void,
): Promise<Map<number, CredentialsHave>> {
  const haves = new Map<number, CredentialsHave>();
  for (let at = 0; at < candidates.length; at += SLICE) {
    say(`looking at homes: ${at} of ${candidates.length}`);
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
 * | person, never admitted             | else   |                             | no credentials             |
 * | tool, or person who is or was admitted | ours | names its user, is its own  | credentials, this password |
 * | tool, or person who is or was admitted | any  | else                        | credentials, a new one     |
 *
 * Its own is also a file of root's, who has put it there. Mode and links do not matter here: whether what
 * others could read is to be changed is for the plan to say.
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
  if (have.home === 'unmanaged') return 'the home is not its own';
  switch (have.file.kind) {
    case 'absent':
      return 'there is no credentials file';
    case 'regular':
      return have.file.user === user ? undefined : `the file names the user ${have.file.user}`;
    default:
      return `there is ${have.file.what}`;
  }
}
