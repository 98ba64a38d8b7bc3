/**
 * A person's keys: `sshPublicKey`, one canonical line each (options, type, base64; no comment),
 * written by this target alone. Whatever else is there is removed, first. And their labels, for
 * people on a login host to read: a `description` of the form `<fingerprint> <label>` for each key
 * that has one. Any other description is another's, and left.
 *
 * | state              | wanted                     |
 * | ------------------ | -------------------------- |
 * | active             | the keys, and their labels |
 * | suspended, deleted | none                       |
 *
 * | account in the directory | then                                                              |
 * | ------------------------ | ----------------------------------------------------------------- |
 * | ours                     | keys that go (revoke), then keys that come, and labels either way |
 * | ours, person deleted     | keys that go; labels go with the account                          |
 * | absent                   | keys and labels that come, after unix-account has added it        |
 * | not ours                 | nothing: unix-account reports it, and its keys are not ours       |
 */
import type { Wanted, WantedKey } from '../model/wanted.ts';
import type { Step } from '../plan/plan.ts';
import {
  compareEntry,
  isOurs,
  modifyStep,
  type Change,
  type EntryWant,
} from './directory-entry.ts';
import type { DirectoryEntry, DirectoryEyes } from './directory-eyes.ts';
import type { Target } from './target.ts';
import { accountRef } from './unix-account.ts';

export const sshKeys: Target<DirectoryEyes, EntryWant, DirectoryEntry | undefined> = {
  name: 'ssh-keys',
  role: 'directory',
  of: ['person'],
  needs: ['unix-account'],

  want(wanted, realm) {
    return {
      target: 'ssh-keys',
      realm: realm.realm,
      ref: accountRef(wanted),
      number: { attribute: 'uidNumber', value: String(wanted.uid) },
      present: wanted.state !== 'deleted',
      attributes: { sshPublicKey: linesOf(wanted), description: labelsOf(wanted) },
    };
  },

  async observe(eyes, wanted) {
    const found = await eyes.find({
      place: 'people',
      any: [{ attribute: 'uid', values: wanted.map((person) => person.account) }],
      attributes: ['uid', 'uidNumber', 'sshPublicKey', 'description'],
    });
    const byRef = new Map(found.map((entry) => [entry.ref, entry]));
    return wanted.map((person) => byRef.get(accountRef(person)));
  },

  plan(want, have, wanted) {
    if (have === undefined ? !want.present : !isOurs(want, have))
      return { steps: [], findings: [] };
    const { sshPublicKey = [], description = [] } = have?.attributes ?? {};
    const changes = compareEntry(want, { sshPublicKey, description: description.filter(isLabel) });
    const keys = changes.find(({ attribute }) => attribute === 'sshPublicKey');
    const labels = changes.filter(({ attribute }) => attribute === 'description');
    const { revoke, rest } = keys === undefined ? NO_KEYS : splitKeys(keys);
    const steps: Step[] = [];
    if (revoke.length > 0) steps.push(modifyStep(want, wanted, 'revoke', revoke));
    // Labels are no part of a revoke: one that is not as it was seen must not keep a key alive.
    const change = want.present ? [...rest, ...labels] : [];
    if (change.length > 0) steps.push(modifyStep(want, wanted, 'change', change));
    return { steps, findings: [] };
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
  return keysOf(wanted)
    .filter(({ label }) => label.trim() !== '')
    .map(({ fingerprint, label }) => `${fingerprint} ${label.trim()}`)
    .toSorted();
}

/** Whether a description is a label of ours, of a key that is wanted or not. */
function isLabel(description: string): boolean {
  return /^SHA256:[A-Za-z0-9+/]{43} /.test(description);
}

const NO_KEYS: ReturnType<typeof splitKeys> = { revoke: [], rest: [] };

/**
 * A value that only adds a comment to a line that comes opens no door that is to be closed: it is
 * replaced in one modify, so that the key is never away.
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
