/**
 * What a recovery takes from the evidence: of each subject the lesser of what the backup lets it do and of what the
 * servers show. Pure.
 *
 * A valid seal with a higher number than the backup's was decided after it: state, access, keys and members are taken
 * from it. What it gives counts only where the servers show that as well; and whatever a server shows takes more away,
 * unless that follows from the seal already:
 *
 * | person's account is closed | by the seal, active and with access | by the seal, else |
 * | -------------------------- | ----------------------------------- | ----------------- |
 * | in the directory           | suspended                           | as the seal says  |
 * | on a database server       | suspended                           | as the seal says  |
 *
 * A seal of somebody who is closed does not say which keys there are, nor does the seal of a tool say whether somebody who
 * is closed maintains it: those of the backup stay, and an admin is told so. What nothing shows is left to an admin too.
 */
import { toolOf } from '../identity/names.ts';
import { parseSshKey } from '../ssh-keys/ssh-key.ts';
import type { PersonSeal, Seal, ToolSeal } from '../seals/seal.ts';
import type { Open, SealedKey, Taking } from './taking.ts';
import type { Member, Wanted, WantedPerson, WantedTool } from '../reconcile/wanted.ts';
import { EVERYWHERE, type More, type Shown } from './evidence.ts';

/** Somebody who maintains a tool in the backup, whether that lets them in or not. */
interface Maintainer extends Member {
  /** of a person: active, and with access; of a tool: not deleted */
  isIn: boolean;
}

export interface Decided {
  takings: Taking[];
  open: Open[];
  /** that the evidence shows, and that nobody else may be given; what `takings` add is among them */
  seenKeys: { person: number; fingerprint: string }[];
}

/** What is known beside the evidence. */
export interface RecoveryContext {
  /** by uid of the tool */
  maintainers: ReadonlyMap<number, readonly Maintainer[]>;
  /** by uid: what servers show beyond the backup */
  more: ReadonlyMap<number, More>;
  /** the account of the admin tool: nobody becomes an admin by evidence */
  admin: string;
  /** accounts for which the backup counts */
  keep: readonly string[];
}

/**
 * Decides.
 *
 * @param wanted the subjects that evidence is about, as the backup has them, with keys
 */
export function takeLesser(
  wanted: readonly Wanted[],
  shown: readonly Shown[],
  context: RecoveryContext,
): Decided {
  const bySubject = Map.groupBy(shown, ({ subject }) => subject);
  const decided: Decided = { takings: [], open: [], seenKeys: [] };
  /** whether a person is let in, once all is taken; of those of whom nothing is taken, the backup tells */
  const isIn = new Map<string, boolean>();
  const people = wanted.filter((of): of is WantedPerson => of.kind === 'person');
  const tools = wanted.filter((of): of is WantedTool => of.kind === 'tool');
  for (const of of [...people, ...tools]) {
    if (of.kind === 'person') decided.seenKeys.push(...seenKeysOf(of, bySubject, context.more));
    if (context.keep.includes(of.account)) continue;
    const about = (bySubject.get(of.uid) ?? []).filter(
      ({ seal }) => seal === undefined || isOf(seal, of),
    );
    const gone = goneOf(of, about);
    if (gone !== undefined) decided.open.push(gone);
    if (of.state === 'deleted' || of.state === 'archived') continue;
    const more = context.more.get(of.uid);
    const { taking, open } =
      of.kind === 'person'
        ? takePerson(of, about, more)
        : takeTool(of, about, { ...context, more: more ?? NO_MORE, isIn });
    decided.open.push(...open);
    if (of.kind === 'person') {
      const { state = of.state, member = of.realmMember } = taking;
      isIn.set(of.account, state === 'active' && member);
    }
    if (!isNothing(taking)) decided.takings.push(taking);
    if (taking.state === 'disabled') decided.open.push(disabledOf(taking));
  }
  return decided;
}

interface Taken {
  taking: Taking;
  open: Open[];
}

const NO_MORE: More = { open: new Set(), isMember: false, keys: new Set(), members: new Set() };

function takePerson(person: WantedPerson, shown: Shown[], more = NO_MORE): Taken {
  const seal = newestSeal(shown) as PersonSeal | undefined;
  const { account } = person;
  const open: Open[] = [];
  let state: 'active' | 'suspended' = closedState(seal?.state ?? person.state, 'suspended');
  let member = seal?.member ?? person.realmMember;
  if (
    seal !== undefined &&
    isGain(person, state, member) &&
    !isShown(person, state, member, more)
  ) {
    open.push(notShown(account, seal));
    [state, member] = [closedState(person.state, 'suspended'), person.realmMember];
  }
  const used: Shown[] = shown.filter((each) => each.seal !== undefined && each.seal === seal);
  for (const each of shown) {
    const isClosed = each.closed === 'directory' || (each.closed === 'databases' && member);
    if (state !== 'active' || !(isClosed || (each.isNoMember === true && member))) continue;
    used.push(each);
    if (isClosed) state = 'suspended';
    else member = false;
  }
  const keys = takeKeys(person, seal, shown, more);
  open.push(...keys.notShown.map((line) => keyNotShown(account, line)));
  const by = [...new Set([...used, ...keys.used].map((each) => each.by))];
  if (state === 'suspended' && (seal !== undefined || person.state === 'active')) {
    open.push(suspendedOf(account, by));
  }
  const taking: Taking = {
    ...nothing(person),
    ...(state === person.state ? {} : { state }),
    ...(member === person.realmMember ? {} : { member }),
    ...(keys.removed.length === 0 ? {} : { keysRemoved: keys.removed }),
    ...(keys.added.length === 0 ? {} : { keysAdded: keys.added }),
    by,
  };
  return { taking, open };
}

function isGain(person: WantedPerson, state: string, member: boolean): boolean {
  return (state === 'active' && person.state !== 'active') || (member && !person.realmMember);
}

/** Whether every server lets in whom a seal lets in: the backup would have it closed there. */
function isShown(person: WantedPerson, state: string, member: boolean, more: More): boolean {
  const isOpen = state === person.state || more.open.has('directory');
  const isMember = !member || state !== 'active' || more.isMember || isInRealm(person);
  return isOpen && isMember && (!person.everAdmitted || !member || more.open.has(EVERYWHERE));
}

function isInRealm({ state, realmMember }: WantedPerson): boolean {
  return state === 'active' && realmMember;
}

function takeKeys(
  { keys = [] }: WantedPerson,
  seal: PersonSeal | undefined,
  shown: readonly Shown[],
  more: More,
): { removed: string[]; added: SealedKey[]; notShown: string[]; used: Shown[] } {
  const sealed = seal?.state === 'active' ? new Set(seal.keys) : undefined;
  const lacking = shown.filter(({ withoutKeys = [] }) => withoutKeys.length > 0);
  const without = new Set(lacking.flatMap(({ withoutKeys = [] }) => withoutKeys));
  const isLeft = (line: string) => (sealed?.has(line) ?? true) && !without.has(line);
  const known = new Set(keys.map(({ line }) => line));
  const removed = keys.filter(({ line }) => !isLeft(line));
  const given = [...(sealed ?? [])].filter((line) => !known.has(line));
  const added = given.flatMap((line) => (more.keys.has(line) ? (keyOf(line) ?? []) : []));
  const used = lacking.filter(({ withoutKeys = [] }) =>
    removed.some(({ line }) => withoutKeys.includes(line)),
  );
  const again = new Set(added.map(({ fingerprint }) => fingerprint));
  return {
    // one with other options is replaced
    removed: removed.flatMap(({ fingerprint }) => (again.has(fingerprint) ? [] : [fingerprint])),
    added,
    notShown: given.filter((line) => !more.keys.has(line)),
    used,
  };
}

/** Whether servers give them now or not: a key never moves to another person. */
function seenKeysOf(
  person: WantedPerson,
  shown: ReadonlyMap<number, readonly Shown[]>,
  more: RecoveryContext['more'],
): Decided['seenKeys'] {
  const { uid } = person;
  const sealed = (shown.get(uid) ?? []).flatMap(({ seal }) =>
    seal?.kind === 'person' && isOf(seal, person) ? seal.keys : [],
  );
  return [...new Set([...sealed, ...(more.get(uid)?.keys ?? [])])].flatMap((line) => {
    const key = keyOf(line);
    return key === undefined ? [] : [{ person: uid, fingerprint: key.fingerprint }];
  });
}

function keyOf(line: string): SealedKey | undefined {
  const parsed = parseSshKey(line);
  return parsed.ok ? parsed.key : undefined;
}

function takeTool(
  tool: WantedTool,
  shown: Shown[],
  {
    maintainers,
    more,
    admin,
    keep,
    isIn,
  }: Omit<RecoveryContext, 'more'> & { more: More; isIn: ReadonlyMap<string, boolean> },
): Taken {
  const seal = newestSeal(shown) as ToolSeal | undefined;
  const used: Shown[] = shown.filter((each) => each.seal !== undefined && each.seal === seal);
  const open: Open[] = [];
  let state: 'active' | 'disabled' = closedState(seal?.state ?? tool.state, 'disabled');
  const isShownOpen = more.open.has('directory') && more.open.has(EVERYWHERE);
  if (seal !== undefined && state === 'active' && tool.state !== 'active' && !isShownOpen) {
    open.push(notShown(tool.account, seal));
    state = 'disabled';
  }
  for (const each of shown) {
    if (state !== 'active' || each.closed === undefined) continue;
    used.push(each);
    state = 'disabled';
  }
  const known = maintainers.get(tool.uid) ?? [];
  const sealed = seal === undefined ? undefined : new Set(seal.members);
  const lacking = shown.filter(({ withoutMembers = [] }) => withoutMembers.length > 0);
  const without = new Set(lacking.flatMap(({ withoutMembers = [] }) => withoutMembers));
  const removed = known.filter(
    (each) =>
      (isIn.get(each.account) ?? each.isIn) &&
      !keep.includes(each.account) &&
      (without.has(each.account) || sealed?.has(each.account) === false),
  );
  used.push(
    ...lacking.filter(({ withoutMembers = [] }) =>
      removed.some(({ account }) => withoutMembers.includes(account)),
    ),
  );
  const names = new Set(known.map(({ account }) => account as string));
  const given = [...(sealed ?? [])].filter(
    (account) => !names.has(account) && account !== tool.account,
  );
  const hasMore = (account: string) => !without.has(account) && more.members.has(account);
  const added = given.filter(hasMore);
  const isAdmin = tool.account === admin;
  open.push(
    ...given
      .filter((account) => !hasMore(account))
      .map((account) => maintainerNotShown(tool, account)),
  );
  if (isAdmin) open.push(...added.map(newAdmin));
  const taking: Taking = {
    ...nothing(tool),
    ...(state === tool.state ? {} : { state }),
    ...(removed.length === 0
      ? {}
      : { membersRemoved: removed.map(({ kind, account, uid }) => ({ kind, account, uid })) }),
    ...(added.length === 0 || isAdmin ? {} : { membersAdded: added }),
    by: [...new Set(used.map(({ by }) => by))],
  };
  return { taking, open };
}

function nothing({ uid, account, kind }: Wanted): Taking {
  return { subject: uid, account, kind, by: [] };
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

function closedState<T extends string>(state: string, closed: T): 'active' | T {
  return state === 'active' ? 'active' : closed;
}

function newestSeal(shown: readonly Shown[]): Seal | undefined {
  return shown.flatMap(({ seal }) => seal ?? []).toSorted((a, b) => b.number - a.number)[0];
}

function isOf(seal: Seal, { kind, account }: Wanted): boolean {
  return seal.kind === kind && seal.name === account;
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

function suspendedOf(account: string, by: readonly string[]): Open {
  const seen = by.length === 0 ? '' : `, as ${by.join(' and ')} shows`;
  return {
    account,
    sentence:
      `${account} is suspended${seen}; which keys and tools there were since the backup, nothing shows: ` +
      `see \`list keys --person ${account}\` and \`explain ${account}\` before`,
    command: `submit person.reinstate --person ${account}`,
  };
}

function disabledOf({ account, by }: Taking): Open {
  return {
    account,
    sentence: `${account} is disabled, as ${by.join(' and ')} shows`,
    command: `submit tool.enable --tool ${toolOf(account)}`,
  };
}

function notShown(account: string, { number, state }: Seal): Open {
  const sentence = `${account} is ${state} by its seal ${number}, but not every server lets them in`;
  return { account, sentence: `${sentence}: it stays as it is in the backup` };
}

function keyNotShown(account: string, line: string): Open {
  const shown = keyOf(line)?.fingerprint ?? line;
  const sentence = `${account} had the key ${shown} by a seal, but the directory does not show it: it is not given back`;
  return { account, sentence, command: `submit key.add --person ${account} --key '${line}'` };
}

function maintainerNotShown(tool: WantedTool, account: string): Open {
  const sentence = `${account} maintained ${tool.account} by its seal, but the directory does not show that`;
  return {
    account,
    sentence: `${sentence}: it is not given back`,
    command: `submit maintainer.add --tool ${tool.name} --maintainers ${account}`,
  };
}

function newAdmin(account: string): Open {
  const sentence = `${account} had become an admin after the backup, which no evidence makes anybody`;
  return { account, sentence };
}
