/**
 * A person's keys: `sshPublicKey`, one canonical line each (options, type, base64; no comment), written only by
 * this target. Any other value is removed, first. The target also writes the keys' labels, for people on a
 * login host to read: a `description` of the form `<fingerprint> <label>` for each key that has one. Any other
 * description belongs to somebody else, and is left.
 *
 * Keys are compared by options, type and base64. A value that also has a comment, as in an imported directory,
 * is the same key, and is left. A label that is already that comment needs no `description`.
 *
 * | state              | wanted                     |
 * | ------------------ | -------------------------- |
 * | active             | the keys, and their labels |
 * | suspended, deleted | none                       |
 *
 * | account in the directory | then                                                               |
 * | ------------------------ | ------------------------------------------------------------------ |
 * | ours                     | remove keys (revoke), then add keys, and labels in either case     |
 * | ours, person deleted     | remove keys; labels go with the account                            |
 * | absent                   | add keys and labels, after unix-account has added the account      |
 * | not ours, or elsewhere   | nothing: unix-account reports it, and its keys are not ours        |
 * | of a class without keys  | remove keys: unix-account reports it                               |
 * | oversized                | a finding: not everything was read                                 |
 *
 * | values with a wanted key                         | then                                         |
 * | ------------------------------------------------ | -------------------------------------------- |
 * | the line itself, or with a comment               | left                                         |
 * | several such                                     | one is left, the others are removed (revoke) |
 * | with a comment that no login host would accept   | replaced by the line, in one modify          |
 * | with more than one line                          | removed (revoke), and the line is added      |
 */
import { printable } from '../shared/printable.ts';
import { parseSshKey } from '../ssh-keys/ssh-key.ts';
import type { Attributes } from '../reconcile/action.ts';
import type { Wanted, WantedKey } from '../reconcile/wanted.ts';
import { NOTHING_TO_DO, type DraftStep } from '../reconcile/plan.ts';
import {
  compareEntry,
  countValues,
  describeEntry,
  hasClass,
  isOurs,
  isSame,
  modifyStep,
  otherClassFinding,
  type Change,
  type EntryWant,
} from './directory-entry.ts';
import type { DirectoryEntry, DirectoryReader } from './directory-reader.ts';
import { oddityOf } from '../unmanaged/sightings.ts';
import type { Target } from './target.ts';
import { accountRef, observeAccounts } from './unix-account.ts';

export const sshKeys: Target<DirectoryReader, EntryWant, DirectoryEntry | undefined> = {
  name: 'ssh-keys',
  of: ['person'],
  needs: ['unix-account'],

  want(wanted, realm) {
    return {
      realm: realm.realm,
      ref: accountRef(wanted),
      number: { attribute: 'uidNumber', value: String(wanted.uid) },
      present: wanted.state !== 'deleted',
      attributes: { sshPublicKey: linesOf(wanted), description: labelsOf(wanted) },
    };
  },

  describe: (want) => describeEntry(want, countValues(want.attributes['sshPublicKey'], 'key')),

  async observe(reader, wanted, realm) {
    const attributes = ['objectClass', 'uid', 'uidNumber', 'sshPublicKey', 'description'];
    return await observeAccounts(reader, wanted, realm, { place: 'people', attributes });
  },

  plan(want, have, wanted) {
    if (have === undefined ? !want.present : !isOurs(want, have)) return NOTHING_TO_DO;
    const { sshPublicKey = [], description = [] } = have?.attributes ?? {};
    const labelsThere = description.filter(isLabel);
    const there: Attributes = { sshPublicKey, description: labelsThere };
    // no other target has read as much of the account
    const isOversized = have !== undefined && oddityOf(have) === 'oversized';
    // nearly every person ends here
    const isAsWanted = ['sshPublicKey', 'description'].every((attribute) =>
      isSame(want.attributes[attribute] ?? [], there[attribute] ?? []),
    );
    if (isAsWanted && !isOversized) return NOTHING_TO_DO;
    const changes = compareEntry(
      { ...want, attributes: leaveComments(keysOf(wanted), sshPublicKey, labelsThere) },
      there,
    );
    const keys = changes.find(({ attribute }) => attribute === 'sshPublicKey');
    const labels = changes.filter(({ attribute }) => attribute === 'description');
    const { revoke, rest } = keys === undefined ? NO_KEYS : splitKeys(keys);
    const steps: DraftStep[] = [];
    if (revoke.length > 0) steps.push(modifyStep(want, 'revoke', revoke));
    // labels are not part of a revoke: a label that has changed since must not keep a key alive
    const isTaken = want.present && (have === undefined || hasClass(have, 'inetOrgPerson'));
    const change = isTaken ? [...rest, ...labels] : [];
    if (change.length > 0) steps.push(modifyStep(want, 'change', change));
    return { steps, findings: isOversized ? [otherClassFinding(want, have)] : [] };
  },
};

function keysOf(wanted: Wanted): WantedKey[] {
  if (wanted.kind !== 'person' || wanted.state !== 'active') return [];
  if (wanted.keys === undefined) throw new TypeError(`${wanted.account} was read without keys`);
  return wanted.keys;
}

function linesOf(wanted: Wanted): string[] {
  return keysOf(wanted)
    .map(({ line }) => line)
    .toSorted();
}

function labelsOf(wanted: Wanted): string[] {
  return keysOf(wanted).flatMap(labelOf).toSorted();
}

function labelOf({ fingerprint, label }: WantedKey): string[] {
  return label.trim() === '' ? [] : [`${fingerprint} ${label.trim()}`];
}

/** The wanted keys and labels, given what is there: a value with a comment is left as it is. */
function leaveComments(
  keys: readonly WantedKey[],
  values: readonly string[],
  labelsThere: readonly string[],
): { sshPublicKey: string[]; description: string[] } {
  const byLine = Map.groupBy(
    values.flatMap((value) => readValue(value, keys) ?? []),
    ({ line }) => line,
  );
  const left = keys.map((key) => {
    const found = byLine.get(key.line) ?? [];
    const named = found.find(({ comment }) => comment === key.label.trim());
    const value = found.find((each) => each.value === key.line) ?? named ?? found[0];
    const isSaid = value !== undefined && value.comment === key.label.trim();
    return {
      value: value?.value ?? key.line,
      labels: labelOf(key).filter((label) => !isSaid || labelsThere.includes(label)),
    };
  });
  return {
    sshPublicKey: left.map(({ value }) => value).toSorted(),
    description: left.flatMap(({ labels }) => labels).toSorted(),
  };
}

/** Which of the wanted keys a value is, and its comment; undefined if it is none of them. */
function readValue(
  value: string,
  keys: readonly WantedKey[],
): { value: string; line: string; comment: string } | undefined {
  for (const { line } of keys) {
    if (value === line) return { value, line, comment: '' };
    if (!value.startsWith(`${line} `)) continue;
    const comment = value.slice(line.length).replace(/^ +| +$/g, '');
    return isTakenComment(comment) ? { value, line, comment } : undefined;
  }
  // other blanks, or options in other letters: the parser knows what login hosts make of it
  if (!keys.some(({ line }) => value.includes(line.slice(line.lastIndexOf(' '))))) return undefined;
  const parsed = parseSshKey(value);
  if (!parsed.ok) return undefined;
  const { options, line: bare, label } = parsed.key;
  const line = options.length === 0 ? bare : `${options.join(',')} ${bare}`;
  return keys.some((key) => key.line === line) ? { value, line, comment: label } : undefined;
}

/** Whether src/ssh-keys/ssh-key.ts accepts the comment: otherwise the value is not a key on a login host. */
function isTakenComment(comment: string): boolean {
  return Array.from(comment).length <= 255 && printable(comment) === comment;
}

/** Whether a description is a label of ours, of any key, wanted or not. */
function isLabel(description: string): boolean {
  return /^SHA256:[A-Za-z0-9+/]{43} /.test(description);
}

const NO_KEYS: ReturnType<typeof splitKeys> = { revoke: [], rest: [] };

/**
 * A value that only adds a comment to an added line gives no access that must be revoked. It is replaced in one
 * modify, so that the key is never absent.
 */
function splitKeys({ attribute, remove, add }: Change): { revoke: Change[]; rest: Change[] } {
  const isCommented = (value: string) => add.some((line) => value.startsWith(`${line} `));
  const replaced = remove.filter((value) => isCommented(value) && !/[\r\n]/.test(value));
  const revoked = remove.filter((value) => !replaced.includes(value));
  return {
    revoke: revoked.length === 0 ? [] : [{ attribute, remove: revoked, add: [] }],
    rest: add.length + replaced.length === 0 ? [] : [{ attribute, remove: replaced, add }],
  };
}
