/**
 * The seal of a person or a tool, `chamberlainSeal` on the account's entry: everything that a login host may
 * know of it, signed (src/seals/seal.ts). The wanted value is the payload with its number; only the writer
 * signs. A survey compares payloads, and verifies nothing: a login host does that.
 *
 * | account in the directory              | seal there              | then                                          |
 * | ------------------------------------- | ----------------------- | --------------------------------------------- |
 * | ours                                  | of the wanted payload   | left                                          |
 * | ours                                  | another, several, other | replaced by the wanted one, in one modify:    |
 * |                                       | text, or none           | `revoke` if it allows less than before        |
 * | absent, and wanted                    |                         | the seal, with what unix-account adds         |
 * | not ours, or elsewhere; or not wanted |                         | nothing: unix-account reports or deletes it   |
 */
import {
  formatSeal,
  parseSeal,
  payloadOf,
  UNSEALED,
  verifyPayload,
  type Seal,
  type SealKeys,
} from '../seals/seal.ts';
import type { Realm, Wanted, WantedSeal } from '../reconcile/wanted.ts';
import { NOTHING_TO_DO, type Step } from '../reconcile/plan.ts';
import {
  describeEntry,
  isOurs,
  modifyStep,
  type Change,
  type EntryWant,
} from './directory-entry.ts';
import type { DirectoryEntry, DirectoryReader } from './directory-reader.ts';
import type { Target } from './target.ts';
import { accountRef, observeAccounts, passwdOf } from './unix-account.ts';

const CLASS = 'chamberlainSealed';
export const ATTRIBUTE = 'chamberlainSeal';

export const seal: Target<DirectoryReader, EntryWant, DirectoryEntry | undefined> = {
  name: 'seal',
  of: ['person', 'tool'],
  needs: ['unix-account'],

  want(wanted, realm) {
    const isSealed = wanted.state !== 'deleted' && wanted.seal !== undefined;
    return {
      realm: realm.realm,
      ref: accountRef(wanted),
      number: { attribute: 'uidNumber', value: String(wanted.uid) },
      present: isSealed,
      attributes: {
        objectClass: [CLASS],
        [ATTRIBUTE]: isSealed ? [payloadFor(wanted, wanted.seal as WantedSeal, realm)] : [],
      },
    };
  },

  describe(want) {
    const wanted = parseSeal(want.attributes[ATTRIBUTE]?.[0] ?? '');
    return describeEntry(want, `seal ${wanted?.number}`, `until ${wanted?.until}`);
  },

  async observe(reader, wanted, realm) {
    const attributes = ['objectClass', 'uid', 'uidNumber', ATTRIBUTE];
    return await observeAccounts(reader, wanted, realm, { attributes });
  },

  plan(want, have) {
    if (!want.present || (have !== undefined && !isOurs(want, have))) return NOTHING_TO_DO;
    const [payload = ''] = want.attributes[ATTRIBUTE] ?? [];
    const there = have?.attributes[ATTRIBUTE] ?? [];
    const [first] = there;
    const before = first === undefined ? undefined : payloadOf(first);
    if (there.length === 1 && before === payload) return NOTHING_TO_DO;
    const isClass = (name: string): boolean => name.toLowerCase() === CLASS.toLowerCase();
    const hasClass = have?.attributes['objectClass']?.some(isClass) ?? false;
    const changes: Change[] = [
      ...(hasClass ? [] : [{ attribute: 'objectClass', remove: [], add: [CLASS] }]),
      { attribute: ATTRIBUTE, remove: [...there], add: [payload] },
    ];
    const [was, is] = [parseSeal(before ?? ''), parseSeal(payload)];
    const effect = was !== undefined && is !== undefined && saysLess(was, is) ? 'revoke' : 'change';
    const step = modifyStep(want, effect, changes);
    const had = was === undefined ? 'unreadable' : `number ${was.number}`;
    const change = `seal ${first === undefined ? 'none' : had} → number ${is?.number}`;
    const fault = was === undefined ? 'its seal cannot be read' : 'its seal is out of date';
    const because = first === undefined ? UNSEALED : fault;
    return { steps: [{ ...step, change, because }], findings: [] };
  },
};

/**
 * The steps of a subject as they are run: a new account is added together with its seal. That is one write to
 * the directory instead of two, and nobody sees the account without a seal.
 */
export function addSealed(steps: readonly Step[]): Step[] {
  const ofSeal = steps.find(({ target }) => target === seal.name);
  const modify = ofSeal?.action;
  if (modify?.verb !== 'ldap.modify') return [...steps];
  const isAdd = ({ action }: Step) => action.verb === 'ldap.add' && action.entry === modify.entry;
  if (!steps.some(isAdd)) return [...steps];
  return steps.flatMap((step) => {
    if (step === ofSeal) return [];
    const { action } = step;
    if (action.verb !== 'ldap.add' || !isAdd(step)) return [step];
    const attributes = { ...action.attributes };
    for (const { attribute, add } of modify.changes) {
      attributes[attribute] = [...(attributes[attribute] ?? []), ...add];
    }
    return [{ ...step, action: { ...action, attributes } }];
  });
}

function payloadFor(wanted: Wanted, { number, until }: WantedSeal, realm: Realm): string {
  const { home, shell, gecos } = passwdOf(wanted, realm);
  const account = {
    realm: realm.realm,
    name: wanted.account as string,
    uid: wanted.uid,
    ...{ home, shell },
  };
  return formatSeal(
    wanted.kind === 'person'
      ? {
          ...{ kind: 'person', ...account, state: livingState(wanted.state) },
          member: wanted.realmMember,
          keys:
            wanted.state === 'active' ? (wanted.keys ?? []).map(({ line }) => line).toSorted() : [],
          ...{ number, until },
        }
      : {
          ...{ kind: 'tool', ...account, state: livingState(wanted.state) },
          gecos,
          members: (wanted.members ?? [])
            .filter(({ uid }) => uid !== wanted.uid)
            .map((member) => member.account as string)
            .toSorted(),
          ...{ number, until },
        },
  );
}

/** A deleted subject has no seal. */
function livingState<T extends string>(state: T | 'deleted'): Exclude<T, 'deleted'> {
  if (state === 'deleted') throw new TypeError('a deleted subject has no seal');
  return state as Exclude<T, 'deleted'>;
}

/** Whether one seal allows less than the other. */
function saysLess(was: Seal, is: Seal): boolean {
  if (was.state === 'active' && is.state !== 'active') return true;
  if (was.kind === 'person' && is.kind === 'person') {
    return (was.member && !is.member) || was.keys.some((key) => !is.keys.includes(key));
  }
  if (was.kind === 'tool' && is.kind === 'tool') {
    return was.members.some((member) => !is.members.includes(member));
  }
  return true;
}

/**
 * Of the seals that the steps would replace, those that verify and have a higher number than the wanted one.
 */
export function newerSealsIn(steps: readonly Step[], keys: SealKeys): Seal[] {
  return steps.flatMap(({ target, action }) => {
    if (target !== seal.name || action.verb !== 'ldap.modify') return [];
    const change = action.changes.find(({ attribute }) => attribute === ATTRIBUTE);
    const wanted = parseSeal(change?.add[0] ?? '');
    return (change?.remove ?? []).flatMap((text) => {
      const verified = verifyPayload(text, keys);
      const there = verified.ok ? parseSeal(verified.payload) : undefined;
      return there !== undefined && there.number > (wanted?.number ?? 0) ? [there] : [];
    });
  });
}
