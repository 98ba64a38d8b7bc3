/**
 * A person's keys: `sshPublicKey`, one canonical line each (options, type, base64; no comment),
 * written by this target alone. Whatever else is there is removed, first.
 *
 * | state              | wanted         |
 * | ------------------ | -------------- |
 * | active             | the keys       |
 * | suspended, deleted | none           |
 *
 * | account in the directory | then                                                        |
 * | ------------------------ | ----------------------------------------------------------- |
 * | ours                     | keys that go (revoke), then keys that come                  |
 * | absent                   | keys that come, after unix-account has added it             |
 * | not ours                 | nothing: unix-account reports it, and its keys are not ours |
 */
import type { Wanted } from '../model/wanted.ts';
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
      attributes: { sshPublicKey: linesOf(wanted) },
    };
  },

  async observe(eyes, wanted) {
    const found = await eyes.find({
      place: 'people',
      any: [{ attribute: 'uid', values: wanted.map((person) => person.account) }],
      attributes: ['uid', 'uidNumber', 'sshPublicKey'],
    });
    const byRef = new Map(found.map((entry) => [entry.ref, entry]));
    return wanted.map((person) => byRef.get(accountRef(person)));
  },

  plan(want, have, wanted) {
    if (have === undefined ? !want.present : !isOurs(want, have))
      return { steps: [], findings: [] };
    const [change] = compareEntry(want, have?.attributes ?? {});
    if (change === undefined) return { steps: [], findings: [] };
    const steps: Step[] = [];
    const { revoke, rest } = splitKeys(change);
    if (revoke.length > 0) steps.push(modifyStep(want, wanted, 'revoke', revoke));
    if (rest.length > 0) steps.push(modifyStep(want, wanted, 'change', rest));
    return { steps, findings: [] };
  },
};

function linesOf(wanted: Wanted): string[] {
  if (wanted.kind !== 'person' || wanted.state !== 'active') return [];
  if (wanted.keys === undefined) throw new TypeError(`${wanted.account} was read without keys`);
  return wanted.keys.map((key) => key.line).toSorted();
}

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
