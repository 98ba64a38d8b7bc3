/**
 * What a recovery changes because of the evidence: each subject gets the lesser of what the backup allows and what the
 * servers show. Pure.
 *
 * A valid seal with a higher number than the backup's was decided later, so state, access, keys and members are taken
 * from it. What it gives counts only if the servers show it too. What a server shows can take away more, unless that
 * follows from the seal already:
 *
 * | person's account is closed | by the seal, active and with access | by the seal, otherwise |
 * | -------------------------- | ----------------------------------- | ---------------------- |
 * | in the directory           | suspended                           | as the seal says       |
 * | on a database server       | suspended                           | as the seal says       |
 *
 * The seal of a suspended person does not list their keys, and the seal of a tool does not list suspended maintainers.
 * Those of the backup stay, and the list for the admin says so. An admin also decides everything for which there is no
 * evidence.
 */
import { toolOf } from '../identity/names.ts';
import { commandToRestore } from '../lifecycle/render-leaving.ts';
import { parseSshKey } from '../ssh-keys/ssh-key.ts';
import type { PersonSeal, Seal, ToolSeal } from '../seals/seal.ts';
import type { Open, SealedKey, Taking } from './taking.ts';
import type { Member, Wanted, WantedPerson, WantedTool } from '../reconcile/wanted.ts';
import { EVERYWHERE, type More, type Shown } from './evidence.ts';

/** A maintainer of a tool in the backup, whether this gives them access or not. */
interface Maintainer extends Member {
  /** for a person: active and with access; for a tool: not deleted */
  isIn: boolean;
}

export interface Decided {
  takings: Taking[];
  open: Open[];
  /** the keys in the evidence, which nobody else may add; includes the keys that `takings` add */
  seenKeys: { person: number; fingerprint: string }[];
}

/** What is known in addition to the evidence. */
export interface RecoveryContext {
  /** by uid of the tool */
  maintainers: ReadonlyMap<number, readonly Maintainer[]>;
  /** what servers show beyond the backup, by uid */
  more: ReadonlyMap<number, More>;
  /** the account of the admin tool, because evidence makes nobody an admin */
  admin: string;
  /** accounts that stay as in the backup */
  keep: readonly string[];
}

/**
 * Decides what changes.
 *
 * @param wanted the subjects in the evidence, as they are in the backup, with keys
 */
export function takeLesser(
  wanted: readonly Wanted[],
  shown: readonly Shown[],
  context: RecoveryContext,
): Decided {
  const bySubject = Map.groupBy(shown, ({ subject }) => subject);
  const decided: Decided = { takings: [], open: [], seenKeys: [] };
  /** whether a person has access after the recovery; for people not listed, the backup counts */
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

/** Whether every server shows the access that a seal gives. According to the backup, it would be locked there. */
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
    // a key with other options is replaced, not removed
    removed: removed.flatMap(({ fingerprint }) => (again.has(fingerprint) ? [] : [fingerprint])),
    added,
    notShown: given.filter((line) => !more.keys.has(line)),
    used,
  };
}

/** All keys of a person in the evidence, because a key never moves to another person. */
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

/**
 * The message about a subject that was archived or restored after the backup. Such a state is not taken from a seal.
 */
function goneOf(of: Wanted, shown: readonly Shown[]): Open | undefined {
  const seal = newestSeal(shown);
  const { account, state } = of;
  if (seal === undefined) return undefined;
  if (seal.state === 'archived' && state !== 'archived') {
    const sentence =
      `${account} was being archived or restored; the state in the backup is ${state}: ` +
      'the account stays without access until you ';
    if (state === 'deleted') {
      return { account, sentence: `${sentence}restore it`, command: commandToRestore(of) };
    }
    const way =
      of.kind === 'person' ? 'delete or reinstate the person' : 'delete or enable the tool';
    return { account, sentence: sentence + way };
  }
  if (seal.state !== 'archived' && (state === 'archived' || state === 'deleted')) {
    const sentence = `${account} was restored after the backup; the state in the backup is ${state}`;
    return { account, sentence, command: commandToRestore(of) };
  }
  return undefined;
}

function suspendedOf(account: string, by: readonly string[]): Open {
  const seen = by.length === 0 ? '' : `, according to ${by.join(' and ')}`;
  return {
    account,
    sentence:
      `${account} is suspended${seen}; nothing shows which keys and tools they lost or got after the backup: ` +
      `first see \`list keys --person ${account}\` and \`explain ${account}\``,
    command: `submit person.reinstate --person ${account}`,
  };
}

function disabledOf({ account, by }: Taking): Open {
  return {
    account,
    sentence: `${account} is disabled, according to ${by.join(' and ')}`,
    command: `submit tool.enable --tool ${toolOf(account)}`,
  };
}

function notShown(account: string, { number, state }: Seal): Open {
  const sentence = `the seal ${number} says that ${account} is ${state}, but not every server shows this`;
  return { account, sentence: `${sentence}: the state in the backup is kept` };
}

function keyNotShown(account: string, line: string): Open {
  const shown = keyOf(line)?.fingerprint ?? line;
  const sentence = `a seal says that ${account} had the key ${shown}, but the directory does not show it: it is not restored`;
  return { account, sentence, command: `submit key.add --person ${account} --key '${line}'` };
}

function maintainerNotShown(tool: WantedTool, account: string): Open {
  const sentence = `a seal says that ${account} was a maintainer of ${tool.account}, but the directory does not show it`;
  return {
    account,
    sentence: `${sentence}: this is not restored`,
    command: `submit maintainer.add --tool ${tool.name} --maintainers ${account}`,
  };
}

function newAdmin(account: string): Open {
  const sentence = `${account} became an admin after the backup; evidence alone makes nobody an admin`;
  return { account, sentence };
}
