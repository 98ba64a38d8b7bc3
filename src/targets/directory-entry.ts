/**
 * What the directory's targets have in common: which of the entries found is ours, what differs,
 * and which steps and findings follow. Pure.
 *
 * | found                                               | then                                |
 * | --------------------------------------------------- | ----------------------------------- |
 * | nothing                                             | add                                 |
 * | our name, our number, in our place                  | ours: compare, modify or delete     |
 * | our name (in any case) elsewhere, or another number | NAME_FOREIGN, that entry is left    |
 * | another name with our number                        | ID_FOREIGN, that entry is left      |
 * | none of ours, and one that is not ours              | the finding, no add                 |
 * | ours, and one that is not ours                      | ours is kept right; advisory finding |
 * | ours, with an additional name                       | advisory NAME_FOREIGN; it is left   |
 * | ours, of another structural class                   | NAME_FOREIGN, only what is revoked  |
 */
import { normalName } from '../identity/names.ts';
import { count, printable } from '../shared/printable.ts';
import type { Wanted } from '../reconcile/wanted.ts';
import type { Action, Attributes, Effect, EntryRef } from '../reconcile/action.ts';
import type { DraftFinding, DraftStep, TargetPlan } from '../reconcile/plan.ts';
import { readableRef, splitRef, type AnyRef, type DirectoryEntry } from './directory-reader.ts';
import { oddityOf } from '../unmanaged/sightings.ts';

/** One attribute's part of a modify: first values are removed, then values are added. */
export interface Change {
  attribute: string;
  remove: string[];
  add: string[];
}

/** An entry as it should be. */
export interface EntryWant {
  ref: EntryRef;
  realm: string;
  /** what makes an entry of this name ours; sudo rules have no number */
  number?: { attribute: 'uidNumber' | 'gidNumber'; value: string };
  present: boolean;
  /**
   * The whole shape. `objectClass` lists the minimum, first the structural one. Every other attribute must be
   * exactly this, and `[]` means that it must be absent. Attributes that are not named are left alone.
   */
  attributes: Attributes;
  /** values that must be absent, of attributes that are otherwise left alone */
  without?: Attributes;
}

/** For people: the entry, then what it should be; `absent` if it should not exist. */
export function describeEntry(want: EntryWant, ...shape: readonly string[]): string {
  return [readableRef(want.ref, want.realm), ...(want.present ? shape : ['absent'])].join(', ');
}

/** For people: `1 key`, `3 keys`. */
export function countValues(values: readonly string[] | undefined, noun: string): string {
  return count(values?.length ?? 0, noun);
}

/** Gives each subject the entries that have one of its names or numbers, in any case. */
export function entriesFor(
  subjects: readonly Wanted[],
  entries: readonly DirectoryEntry[],
  keysOf: (subject: Wanted) => readonly (readonly [attribute: string, value: string])[],
): DirectoryEntry[][] {
  const keys = subjects.map(keysOf);
  const attributes = new Set(keys.flatMap((each) => each.map(([attribute]) => attribute)));
  const byKey = new Map<string, DirectoryEntry[]>();
  for (const entry of entries) {
    for (const attribute of attributes) {
      for (const value of entry.attributes[attribute] ?? []) {
        const key = keyText(attribute, value);
        const known = byKey.get(key);
        if (known === undefined) byKey.set(key, [entry]);
        else known.push(entry);
      }
    }
  }
  return keys.map((each) => {
    const found = each.flatMap(([attribute, value]) => byKey.get(keyText(attribute, value)) ?? []);
    if (found.length < 2) return found;
    return [...new Set(found)].toSorted((a, b) => (a.ref < b.ref ? -1 : 1));
  });
}

function keyText(attribute: string, value: string): string {
  return `${attribute}=${normalName(value)}`;
}

/** Our name in our place, with our number. */
export function isOurs(want: Pick<EntryWant, 'ref' | 'number'>, entry: DirectoryEntry): boolean {
  if (entry.ref !== want.ref) return false;
  const { number } = want;
  return number === undefined || (entry.attributes[number.attribute] ?? []).includes(number.value);
}

/**
 * How to give an account the gidNumber of a group. If numbers of groups are unique (slapo-unique), the directory
 * refuses it otherwise.
 */
export const AS_ADMINISTRATOR =
  "as the directory's administrator, with the relax control (ldapmodify -e relax)";

/**
 * The finding about an entry that has our name or number and is not ours; `beside` if one that is ours exists
 * as well.
 */
export function unmanagedFinding(
  want: EntryWant,
  entry: DirectoryEntry,
  namesake = false,
): DraftFinding {
  const { attribute, name } = splitRef(want.ref);
  const numbers = want.number === undefined ? [] : (entry.attributes[want.number.attribute] ?? []);
  const hasName = [...(entry.attributes[attribute] ?? []), nameOf(entry.ref)].some(
    (value) => normalName(value) === normalName(name),
  );
  const number = want.number?.attribute;
  const oddity = oddityOf(entry);
  const hasNumber = want.number !== undefined && numbers.includes(want.number.value);
  const code = hasNumber && !hasName ? 'ID_FOREIGN' : 'NAME_FOREIGN';
  const stated = [
    ...(oddity === undefined ? [] : [oddity]),
    ...(number === undefined ? [] : [`${number} ${numbers.join(', ') || 'none'}`]),
  ];
  const needed = number === undefined ? '' : ` (${number} ${want.number?.value})`;
  const object = readableRef(entry.ref, want.realm);
  const shared = hasName ? 'name' : hasNumber ? 'number' : 'display name';
  if (entry.ref === want.ref && want.number !== undefined && oddity === undefined) {
    const wrong = describeNumber(want.number, numbers, want.attributes);
    const sentence = `${object} ${wrong}, or rename the entry if it is not Chamberlain's`;
    return { object, code, sentence };
  }
  return {
    object,
    code,
    sentence:
      `${object}${stated.length === 0 ? '' : ` (${stated.join(', ')})`} is not managed by Chamberlain, but has the ${shared} of ` +
      `${readableRef(want.ref, want.realm)}${needed}: ${whatToDo({ hasName, hasNumber, namesake })}`,
  };
}

/** What is wrong with the number of an entry in our place, and what to do. */
function describeNumber(
  { attribute, value }: NonNullable<EntryWant['number']>,
  numbers: readonly string[],
  { gidNumber = [] }: Attributes,
): string {
  if (numbers.length > 0)
    return `has ${attribute} ${numbers.join(', ')}, not ${value}: set ${attribute} to ${value}`;
  // RFC 2307bis: both classes require the number, so an entry without it lacks its class too
  return attribute === 'gidNumber'
    ? `has no gidNumber, because it is not a posixGroup: add this class with gidNumber ${value}`
    : 'has no uidNumber, because it is not a posixAccount: add this class with its required attributes, ' +
        `uidNumber ${value} and gidNumber ${gidNumber[0]} among them, ${AS_ADMINISTRATOR}`;
}

/** Somebody may use the other name, and only an admin knows who, so it is not removed. */
function otherNameFinding(want: EntryWant, { attribute, remove }: Change): DraftFinding {
  const sentence =
    remove.length > 3
      ? `also has ${remove.length} other values of ${attribute}: remove those that nobody needs`
      : `also has the ${attribute} ${remove.map(shorten).join(', ')}: remove that value if nobody needs it`;
  return { ...ownFinding(want, sentence), advisory: true };
}

/**
 * The finding about an entry of ours that is of another class, or too large to be read. RFC 4512, section
 * 2.4.2: an entry keeps its structural class, so no modify can repair it.
 */
export function otherClassFinding(want: EntryWant, entry: DirectoryEntry): DraftFinding {
  if (oddityOf(entry) === 'oversized') {
    const sentence = 'is too large to be read as a whole: remove the values that nobody needs';
    return ownFinding(want, sentence);
  }
  const classes = entry.attributes['objectClass'] ?? [];
  const todo =
    want.number === undefined
      ? 'remove or rename this entry'
      : 'remove this entry, or rename it and give it another number';
  const has = `has the class${classes.length === 1 ? '' : 'es'} ${classes.join(', ')}`;
  const sentence = `${has}, but not ${classOf(want)}: ${todo}, so that Chamberlain can make its own`;
  return ownFinding(want, sentence);
}

function ownFinding(want: EntryWant, sentence: string): DraftFinding {
  const object = readableRef(want.ref, want.realm);
  return { object, code: 'NAME_FOREIGN', sentence: `${object} ${sentence}` };
}

/**
 * Only an admin knows whether the entry is ours, changed by hand, or another's: says what to do in either case.
 */
function whatToDo({
  hasName,
  hasNumber,
  namesake,
}: Record<'hasName' | 'hasNumber' | 'namesake', boolean>): string {
  if (!hasNumber) return 'rename or remove it';
  const change = hasName ? 'rename it and give it another number' : 'give it another number';
  return namesake
    ? `${change}, or remove it`
    : `restore its name and place, or ${change} if it belongs to something else`;
}

const NONE: readonly string[] = [];

/** Whether both have the same values in the same order. */
export function isSame(values: readonly string[], others: readonly string[]): boolean {
  if (values.length !== others.length) return false;
  for (let i = 0; i < values.length; i++) if (values[i] !== others[i]) return false;
  return true;
}

/** What a modify must do so that `have` becomes as wanted; empty if it is already. */
export function compareEntry(want: EntryWant, have: Attributes): Change[] {
  const changes: Change[] = [];
  for (const attribute in want.attributes) {
    const values = want.attributes[attribute] ?? NONE;
    const there = have[attribute] ?? NONE;
    if (isSame(values, there)) continue;
    if (attribute === 'objectClass') {
      if (values.every((value) => there.includes(value))) continue;
      const classes = new Set(there.map((value) => value.toLowerCase()));
      const add = values.filter((value) => !classes.has(value.toLowerCase()));
      if (add.length > 0) changes.push({ attribute, remove: [], add });
      continue;
    }
    const [wantSet, haveSet] = [new Set(values), new Set(there)];
    const remove = there.filter((value) => !wantSet.has(value));
    const add = values.filter((value) => !haveSet.has(value));
    if (remove.length + add.length > 0) changes.push({ attribute, remove, add });
  }
  for (const attribute in want.without) {
    const values = want.without[attribute] ?? NONE;
    const remove = (have[attribute] ?? NONE).filter((value) => values.includes(value));
    if (remove.length > 0) changes.push({ attribute, remove, add: [] });
  }
  return changes;
}

/**
 * Plans one entry. `split` divides the changes of an existing entry into what takes access away and the rest;
 * each part is one atomic modify. `gone` is the effect of deleting the entry.
 */
export function planEntry(
  want: EntryWant,
  have: readonly DirectoryEntry[],
  wanted: Wanted,
  split: (changes: Change[]) => { revoke: Change[]; change: Change[] },
  gone: Effect,
): TargetPlan {
  const ours = have.find((entry) => isOurs(want, entry));
  const findings = have
    .filter((entry) => entry !== ours)
    .map((entry) => unmanagedFinding(want, entry, ours !== undefined))
    .map((finding) => (ours === undefined ? finding : { ...finding, advisory: true as const }));
  const steps: DraftStep[] = [];
  const expect = expectationOf(want);
  if (ours === undefined) {
    if (want.present && findings.length === 0) {
      const attributes = Object.fromEntries(
        Object.entries(want.attributes).filter(([, values]) => values.length > 0),
      );
      const action: Action = { verb: 'ldap.add', entry: want.ref, attributes };
      steps.push(entryStep(want, 'create', 'absent → present', 'it does not exist', action));
    }
  } else if (!want.present) {
    const action: Action = { verb: 'ldap.delete', entry: want.ref, expect };
    const because = `the ${wanted.kind} is ${wanted.state}`;
    steps.push(entryStep(want, gone, 'present → absent', because, action));
  } else {
    const isOtherName = ({ attribute, add }: Change) =>
      attribute === splitRef(want.ref).attribute && add.length === 0;
    const changes = compareEntry(want, ours.attributes);
    const others = changes.filter(isOtherName);
    findings.push(...others.map((each) => otherNameFinding(want, each)));
    const { revoke, change } = split(changes.filter((each) => !isOtherName(each)));
    if (revoke.length > 0) steps.push(modifyStep(want, 'revoke', revoke));
    if (!hasClass(ours, classOf(want))) findings.push(otherClassFinding(want, ours));
    else if (change.length > 0) steps.push(modifyStep(want, 'change', change));
  }
  return { steps, findings };
}

/** Divides changes into those that remove values of one attribute, because such values give access, and the rest. */
export function splitRemovals(
  changes: Change[],
  attribute: string,
): { revoke: Change[]; change: Change[] } {
  const one = changes.find((each) => each.attribute === attribute);
  if (one === undefined || one.remove.length === 0) return { revoke: [], change: changes };
  const rest = changes.filter((each) => each !== one);
  const added = one.add.length === 0 ? [] : [{ ...one, remove: [] }];
  return { revoke: [{ ...one, add: [] }], change: [...rest, ...added] };
}

/** Whether an entry is of a class, in any case. */
export function hasClass({ attributes }: DirectoryEntry, name: string): boolean {
  const classes = attributes['objectClass'] ?? [];
  return classes.some((each) => each.toLowerCase() === name.toLowerCase());
}

function classOf(want: EntryWant): string {
  return want.attributes['objectClass']?.[0] ?? 'top';
}

/** One atomic modify, refused unless the entry is still ours. */
export function modifyStep(want: EntryWant, effect: Effect, changes: Change[]): DraftStep {
  const action: Action = {
    verb: 'ldap.modify',
    entry: want.ref,
    expect: expectationOf(want),
    changes,
  };
  const change = changes.map(describeChange).join('; ');
  return entryStep(want, effect, change, describeReason(changes), action);
}

function expectationOf(want: EntryWant): Record<string, string> {
  if (want.number !== undefined) return { [want.number.attribute]: want.number.value };
  return { objectClass: classOf(want) };
}

function entryStep(
  want: EntryWant,
  effect: Effect,
  change: string,
  because: string,
  action: Action,
): DraftStep {
  return { object: readableRef(want.ref, want.realm), effect, change, because, action };
}

/** `loginShell /bin/sh → /bin/bash`, `member −uid=eve +uid=bob`, `member +12 values`. */
function describeChange({ attribute, remove, add }: Change): string {
  if (remove.length === 1 && add.length === 1) {
    return `${attribute} ${shorten(remove[0] ?? '')} → ${shorten(add[0] ?? '')}`;
  }
  return [attribute, ...signed('−', remove), ...signed('+', add)].join(' ');
}

function signed(sign: string, values: string[]): string[] {
  if (values.length > 3) return [`${sign}${values.length} values`];
  return values.map((value) => sign + shorten(value));
}

/** `it differs in cn, sn, and lacks mail` */
function describeReason(changes: Change[]): string {
  const of = (text: string, isOne: (change: Change) => boolean) => {
    const names = changes.filter(isOne).map(({ attribute }) => attribute);
    return names.length === 0 ? [] : [`${text} ${names.join(', ')}`];
  };
  const reasons = [
    ...of('has extra values in', ({ add }) => add.length === 0),
    ...of('differs in', ({ remove, add }) => remove.length > 0 && add.length > 0),
    ...of('lacks', ({ remove }) => remove.length === 0),
  ];
  return `it ${reasons.join(', and ')}`;
}

/** A value that fits in a line: references by name, long values (keys) by both their ends. */
function shorten(value: string): string {
  const name = /^(?:people|toolAccounts|toolGroups|groups|policies|base)\/(.+)$/s.exec(value)?.[1];
  const text = printable(
    (name ?? value).replaceAll(/\p{C}/gu, (bad) => JSON.stringify(bad).slice(1, -1)),
  );
  return text.length <= 60 ? text : `${text.slice(0, 28)}…${text.slice(-16)}`;
}

function nameOf(ref: AnyRef): string {
  return ref.startsWith('dn:') ? '' : splitRef(ref as EntryRef).name;
}
