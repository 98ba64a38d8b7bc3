/**
 * What a recovery takes from the evidence: of each subject the lesser of what the backup lets it do and of what the
 * servers show. Pure.
 *
 * A valid seal with a higher number than the backup's was decided after it: state, access, keys and members are taken
 * from it, also where that gives something back. Then whatever another server shows takes more away, unless that
 * follows from the seal already:
 *
 * | person's account is closed | by the seal, active and with access | by the seal, else |
 * | -------------------------- | ----------------------------------- | ----------------- |
 * | in the directory           | suspended                           | as the seal says  |
 * | on a database server       | suspended                           | as the seal says  |
 *
 * What nothing shows is left to an admin: `Open`.
 */
import { parseSshKey } from '../model/ssh-key.ts';
import type { PersonSeal, Seal, ToolSeal } from '../model/seal.ts';
import type { Wanted, WantedPerson, WantedTool } from '../model/wanted.ts';
import type { Open, SealedKey, Taking } from '../model/taking.ts';
import type { Shown } from './evidence.ts';

export interface Decided {
  takings: Taking[];
  open: Open[];
}

/**
 * Decides.
 *
 * @param wanted the subjects that evidence is about, as the backup has them, with keys and members
 * @param admin the account of the admin tool: nobody becomes an admin by evidence
 */
export function takeLesser(
  wanted: readonly Wanted[],
  shown: readonly Shown[],
  { admin }: { admin: string },
): Decided {
  const bySubject = Map.groupBy(shown, ({ subject }) => subject);
  const takings: Taking[] = [];
  const open: Open[] = [];
  /** accounts that a group does not hold because they themselves are closed */
  const outside = new Set<string>();
  const decide = <W extends Wanted>(of: W, how: (of: W, shown: Shown[]) => Taking) => {
    const about = (bySubject.get(of.uid) ?? []).filter(
      ({ seal }) => seal === undefined || isOf(seal, of),
    );
    const gone = goneOf(of, about);
    if (gone !== undefined) open.push(gone);
    if (of.state === 'deleted' || of.state === 'archived') return;
    const taking = how(of, about);
    if (taking.kind === 'person' && (taking.state === 'suspended' || taking.member === false)) {
      outside.add(of.account);
    }
    if (isNothing(taking)) return;
    takings.push(taking);
    if (taking.state === 'suspended' || taking.state === 'disabled') open.push(closedOf(taking));
  };
  const tools: WantedTool[] = [];
  for (const of of wanted) {
    if (of.kind === 'person') decide(of, takePerson);
    else tools.push(of);
  }
  for (const of of tools) {
    decide(of, (tool, about) => {
      const taking = takeTool(tool, about, outside);
      if (tool.account !== admin || taking.membersAdded === undefined) return taking;
      const { membersAdded, ...rest } = taking;
      open.push(...membersAdded.map(newAdmin));
      return rest;
    });
  }
  return { takings, open };
}

function takePerson(person: WantedPerson, shown: Shown[]): Taking {
  const seal = newestSeal(shown) as PersonSeal | undefined;
  let state: 'active' | 'suspended' = closedState(seal?.state ?? person.state, 'suspended');
  let member = seal?.member ?? person.realmMember;
  const used: Shown[] = shown.filter((each) => each.seal !== undefined && each.seal === seal);
  for (const each of shown) {
    const isClosed = each.closed === 'directory' || (each.closed === 'databases' && member);
    if (state !== 'active' || !(isClosed || (each.isNoMember === true && member))) continue;
    used.push(each);
    if (isClosed) state = 'suspended';
    else member = false;
  }
  const keys = takeKeys(person, seal, shown);
  used.push(...keys.used);
  return {
    ...nothing(person),
    ...(state === person.state ? {} : { state }),
    ...(member === person.realmMember ? {} : { member }),
    ...(keys.removed.length === 0 ? {} : { keysRemoved: keys.removed }),
    ...(keys.added.length === 0 ? {} : { keysAdded: keys.added }),
    by: [...new Set(used.map(({ by }) => by))],
  };
}

/** A seal of somebody who is suspended has no keys, whichever there are: those of the backup stay. */
function takeKeys(
  { keys = [] }: WantedPerson,
  seal: PersonSeal | undefined,
  shown: readonly Shown[],
): { removed: string[]; added: SealedKey[]; used: Shown[] } {
  const sealed = seal?.state === 'active' ? new Set(seal.keys) : undefined;
  const lacking = shown.filter(({ withoutKeys = [] }) => withoutKeys.length > 0);
  const without = new Set(lacking.flatMap(({ withoutKeys = [] }) => withoutKeys));
  const isLeft = (line: string) => (sealed?.has(line) ?? true) && !without.has(line);
  const known = new Set(keys.map(({ line }) => line));
  const removed = keys.filter(({ line }) => !isLeft(line));
  const added = [...(sealed ?? [])].flatMap((line) => (known.has(line) ? [] : (keyOf(line) ?? [])));
  const used = lacking.filter(({ withoutKeys = [] }) =>
    removed.some(({ line }) => withoutKeys.includes(line)),
  );
  const again = new Set(added.map(({ fingerprint }) => fingerprint));
  return {
    // one with other options is replaced
    removed: removed.flatMap(({ fingerprint }) => (again.has(fingerprint) ? [] : [fingerprint])),
    added,
    used,
  };
}

function keyOf(line: string): SealedKey | undefined {
  const parsed = parseSshKey(line);
  return parsed.ok ? parsed.key : undefined;
}

function takeTool(tool: WantedTool, shown: Shown[], outside: ReadonlySet<string>): Taking {
  const seal = newestSeal(shown) as ToolSeal | undefined;
  const used: Shown[] = shown.filter((each) => each.seal !== undefined && each.seal === seal);
  let state: 'active' | 'disabled' = closedState(seal?.state ?? tool.state, 'disabled');
  for (const each of shown) {
    if (state !== 'active' || each.closed === undefined) continue;
    used.push(each);
    state = 'disabled';
  }
  const members = (tool.members ?? []).filter(({ uid }) => uid !== tool.uid);
  const sealed = seal === undefined ? undefined : new Set(seal.members);
  const lacking = shown.filter(({ withoutMembers = [] }) => withoutMembers.length > 0);
  const without = new Set(lacking.flatMap(({ withoutMembers = [] }) => withoutMembers));
  const removed = members.filter(
    ({ account }) =>
      !outside.has(account) && (without.has(account) || sealed?.has(account) === false),
  );
  used.push(
    ...lacking.filter(({ withoutMembers = [] }) =>
      removed.some(({ account }) => withoutMembers.includes(account)),
    ),
  );
  const known = new Set(members.map(({ account }) => account as string));
  const added = [...(sealed ?? [])].filter(
    (account) => !known.has(account) && !without.has(account) && account !== tool.account,
  );
  return {
    ...nothing(tool),
    ...(state === tool.state ? {} : { state }),
    ...(removed.length === 0 ? {} : { membersRemoved: removed }),
    ...(added.length === 0 ? {} : { membersAdded: added }),
    by: [...new Set(used.map(({ by }) => by))],
  };
}

function nothing({ uid, account, kind }: Wanted): Taking {
  return { subject: uid, account, kind, by: [] };
}

function closedState<T extends string>(state: string, closed: T): 'active' | T {
  return state === 'active' ? 'active' : closed;
}

function newestSeal(shown: readonly Shown[]): Seal | undefined {
  return shown.flatMap(({ seal }) => seal ?? []).toSorted((a, b) => b.number - a.number)[0];
}

/** Who was put away, or brought back, after the backup: half of that is no state to begin with. */
function goneOf(of: Wanted, shown: readonly Shown[]): Open | undefined {
  const seal = newestSeal(shown);
  const { account, state } = of;
  if (seal === undefined) return undefined;
  if (seal.state === 'archived' && state !== 'archived') {
    const sentence = `${account} was being put away, or brought back; here it is ${state}`;
    return { account, sentence: `${sentence}: it is closed until you delete or open it` };
  }
  if (seal.state !== 'archived' && (state === 'archived' || state === 'deleted')) {
    const sentence = `${account} was brought back after the backup; here it is ${state}`;
    return of.kind === 'tool'
      ? { account, sentence, command: `restore ${of.name}` }
      : { account, sentence, command: `submit person.restore --person ${account}` };
  }
  return undefined;
}

function isOf(seal: Seal, { kind, account }: Wanted): boolean {
  return seal.kind === kind && seal.name === account;
}

function isNothing({
  state,
  member,
  keysRemoved,
  keysAdded,
  membersRemoved,
  membersAdded,
}: Taking) {
  const lists = [keysRemoved, keysAdded, membersRemoved, membersAdded];
  return state === undefined && member === undefined && lists.every((list) => list === undefined);
}

function closedOf({ account, kind, state, by }: Taking): Open {
  const sentence = `${account} is ${state}, as ${by.join(' and ')} shows`;
  if (kind === 'tool') {
    const tool = account.slice(account.indexOf('.') + 1);
    return { account, sentence, command: `submit tool.enable --tool ${tool}` };
  }
  const keys = 'which keys there were then, nothing shows: `list keys` has those of the backup';
  return {
    account,
    sentence: `${sentence}; ${keys}`,
    command: `submit person.reinstate --person ${account}`,
  };
}

function newAdmin(account: string): Open {
  const sentence = `${account} had become an admin after the backup, which no evidence makes anybody`;
  return { account, sentence };
}
