/**
 * Cases made from what the directory's targets want: each attribute of each target, changed, removed, and
 * added. If a target starts to want another attribute, it is in the table automatically; if another value of
 * it must have a special form, OTHER gives it, and if the consequence differs, EXCEPT says so.
 */
import type { AccountName } from '../../../src/identity/names.ts';
import type { Wanted } from '../../../src/reconcile/wanted.ts';
import type { Attributes, EntryRef } from '../../../src/reconcile/action.ts';
import { readableRef, splitRef, type AnyRef } from '../../../src/targets/directory-reader.ts';
import { DIRECTORY_TARGETS } from '../../../src/roles/directory/role.ts';
import { person, REALM, tool } from '../../targets/directory-cases.ts';
import { change, remove, rename, type DriftCase, type Hand, type Subject } from './drift-case.ts';

type Way = 'changed' | 'removed' | 'added';

/** A want of a directory target, as far as the cases need it. */
export interface Shape {
  ref: AnyRef;
  attributes: Attributes;
  without?: Attributes;
}

/** Another value that the attribute's syntax accepts; by default the wanted value, and an x. */
const OTHER: Record<string, (subject: Subject, hand: Hand) => string> = {
  uidNumber: ({ kind }, hand) => String(hand.freeNumber(kind)),
  gidNumber: ({ kind }, hand) => String(kind === 'person' ? 501 : hand.freeNumber('tool')),
  homeDirectory: () => '/root',
  loginShell: () => '/bin/zsh',
  gecos: () => 'disabled - by hand',
  mail: ({ name }) => `${name}@elsewhere.example`,
  member: (_, { base }) => `uid=ghost,ou=people,${base}`,
  memberOf: (_, { base }) => `cn=tools.ghost,ou=servicegroups,${base}`,
  chamberlainSeal: () => 'no seal',
  description: () => `SHA256:${'b'.repeat(43)} smuggled`,
  sshPublicKey: () => `ssh-ed25519 ${'A'.repeat(68)}`,
  pwdAccountLockedTime: () => '000001010000Z',
  pwdPolicySubentry: (_, { base }) => `cn=disabled,ou=ppolicies,${base}`,
  sudoUser: () => 'mallory',
  sudoHost: () => 'elsewhere',
  sudoCommand: () => '/usr/bin/id',
  sudoOption: () => 'env_keep+=LD_PRELOAD',
  sudoRunAsUser: (_, { neighbour }) => neighbour.account,
  sudoRunAs: () => 'root',
  sudoRunAsGroup: () => 'root',
  sudoNotBefore: () => '20200101000000Z',
  sudoNotAfter: () => '20400101000000Z',
  sudoOrder: () => '9',
};

/** What must follow, by kind of change: values that let somebody in are removed before others are added. */
type Follows = Partial<Record<Way, DriftCase['shows']>>;

const NUMBERS = {
  removed: 'refused', // an account or group must have one
  added: 'refused', // and has but one
} as const;
/** The naming attribute of an entry: RFC 4511, section 4.6, does not allow its removal. */
const nameOf = (target: string): Follows => ({
  removed: 'refused',
  added: [`NAME_FOREIGN ${target} (advisory)`],
});

/**
 * Where the result is not as in `usually`, by `<target> <kind> <attribute>`. Names and numbers make an entry
 * ours: with another one it is not, and only an admin can say what it is.
 */
const EXCEPT: Record<string, Follows> = {
  'unix-group tool cn': { ...nameOf('unix-group'), changed: ['ID_FOREIGN unix-group'] },
  'unix-group tool gidNumber': { ...NUMBERS, changed: ['NAME_FOREIGN unix-group'] },
  'unix-group tool member': { removed: 'refused' }, // a groupOfNames has at least one
  'unix-account person uid': { ...nameOf('unix-account'), changed: ['ID_FOREIGN unix-account'] },
  'unix-account person cn': { removed: 'refused' }, // RFC 4519, section 3.12: MUST, as is sn
  'unix-account person sn': { removed: 'refused' },
  'unix-account person uidNumber': { ...NUMBERS, changed: ['NAME_FOREIGN unix-account'] },
  'unix-account person gidNumber': { ...NUMBERS, changed: ['ID_FOREIGN unix-account'] },
  'unix-account person homeDirectory': { removed: 'refused', added: 'refused' },
  'unix-account person loginShell': { added: 'refused' },
  'unix-account tool uid': { ...nameOf('unix-account'), changed: ['ID_FOREIGN unix-account'] },
  'unix-account tool cn': { removed: 'refused' },
  'unix-account tool sn': { removed: 'refused' },
  'unix-account tool uidNumber': { ...NUMBERS, changed: ['NAME_FOREIGN unix-account'] },
  'unix-account tool gidNumber': { ...NUMBERS, changed: ['ID_FOREIGN unix-account'] },
  'unix-account tool homeDirectory': { removed: 'refused', added: 'refused' },
  'unix-account tool loginShell': { added: 'refused' },
  'seal person chamberlainSeal': { added: 'refused' }, // it has one value
  'seal tool chamberlainSeal': { added: 'refused' },
  'ssh-keys person description': { changed: ['change ssh-keys'], added: ['change ssh-keys'] },
  // ours only by its name: under another name it is another rule, next to a new one
  'sudo-rule tool cn': {
    ...nameOf('sudo-rule'),
    changed: ['create sudo-rule', 'NAME_FOREIGN sudo-rule (advisory)'],
  },
  'sudo-rule tool sudoRunAsUser': {
    changed: ['revoke sudo-rule', 'create sudo-rule'],
    added: ['revoke sudo-rule', 'create sudo-rule'],
  },
};

function usually(target: string, attribute: string, way: Way): DriftCase['shows'] {
  const letsIn =
    target === 'sudo-rule' || ['member', 'memberOf', 'sshPublicKey'].includes(attribute);
  if (way === 'removed' || !letsIn) return [`change ${target}`];
  return way === 'changed' && ['memberOf', 'sshPublicKey'].includes(attribute)
    ? [`revoke ${target}`, `change ${target}`]
    : [`revoke ${target}`];
}

/** Every attribute that a target of the directory wants, or wants removed, by kind of subject. */
export function wantedAttributes(
  target: (typeof DIRECTORY_TARGETS)[number],
  wanted: Wanted,
): { shape: Shape; names: string[] } {
  const shape: Shape = target.want(wanted, REALM);
  return {
    shape,
    names: [...new Set([...Object.keys(shape.attributes), ...Object.keys(shape.without ?? {})])],
  };
}

const SEALED = { seal: { number: 1, until: '2026-12-06T00:00:00Z' } };
const BOT = 'tools.bot' as AccountName;

/** Each (target, kind of subject) of the directory that has an entry of its own for each subject. */
export const ENTRY_TARGETS = DIRECTORY_TARGETS
  // many subjects share the realm group: drift-directory.ts has its cases
  .filter(({ name }) => name !== 'realm-membership')
  .flatMap((target) =>
    target.of.map((kind) => ({
      ...{ target, kind },
      sample:
        kind === 'person'
          ? person({ ...SEALED, memberOf: [] })
          : tool({ ...SEALED, memberOf: [BOT] }),
    })),
  );

export const ATTRIBUTE_CASES: readonly DriftCase[] = ENTRY_TARGETS.flatMap(
  ({ target, kind, sample }) => {
    const { shape, names } = wantedAttributes(target, sample);
    return names.flatMap((attribute) =>
      waysOf(attribute, shape).map((way) => caseOf(target.name, kind, attribute, way, shape)),
    );
  },
);

/** An absent attribute cannot be changed or removed; drift-directory.ts distinguishes classes. */
function waysOf(attribute: string, { attributes }: Shape): Way[] {
  if (attribute === 'objectClass') return [];
  const isThere = (attributes[attribute] ?? []).length > 0 || attribute === 'description';
  return isThere ? ['changed', 'removed', 'added'] : ['added'];
}

function caseOf(
  target: string,
  kind: 'person' | 'tool',
  attribute: string,
  way: Way,
  shape: Shape,
): DriftCase {
  const covers = `${target} ${kind} ${attribute}`;
  const shows = EXCEPT[covers]?.[way] ?? usually(target, attribute, way);
  const isName = splitRef(shape.ref as EntryRef).attribute === attribute;
  const own = (subject: Subject, text: string) => text.replace(SAMPLE_NAME[kind], subject.name);
  const wanted = (subject: Subject) => {
    if (attribute === 'uidNumber') return String(subject.uid);
    if (attribute === 'gidNumber') return String(kind === 'person' ? 500 : subject.uid);
    if (kind === 'person' && ['cn', 'sn'].includes(attribute)) return `The ${subject.name}`;
    return own(subject, shape.attributes[attribute]?.[0] ?? '');
  };
  const place = (subject: Subject, hand: Hand) =>
    `${own(subject, readableRef(shape.ref, 'tools'))},${hand.base}`;
  const renamed = (subject: Subject) => `${attribute}=${wanted(subject)}x`;
  const isDecided = shows !== 'refused' && shows.some((line) => line.includes('FOREIGN'));
  return {
    what: `${attribute} ${way} (${target} of a ${kind})`,
    of: kind,
    covers,
    shows,
    damage(subject, hand) {
      const dn = place(subject, hand);
      if (isName && way === 'changed') return hand.ldif(rename(dn, renamed(subject)));
      if (way === 'removed') return hand.ldif(change(dn, ['delete', attribute]));
      const other = OTHER[attribute]?.(subject, hand) ?? `${wanted(subject)}x`;
      return hand.ldif(change(dn, [way === 'changed' ? 'replace' : 'add', attribute, other]));
    },
    decide: !isDecided
      ? undefined
      : (subject, hand) => {
          const dn = place(subject, hand);
          if (!isName) return hand.ldif(change(dn, ['replace', attribute, wanted(subject)]));
          if (way === 'added')
            return hand.ldif(change(dn, ['delete', attribute, `${wanted(subject)}x`]));
          const other = dn.replace(/^[^,]+/, renamed(subject));
          // its own rule has been created again meanwhile
          const isBeside = target === 'sudo-rule';
          return hand.ldif(
            isBeside ? remove(other) : rename(other, `${attribute}=${wanted(subject)}`),
          );
        },
  };
}

const SAMPLE_NAME = { person: 'alice', tool: 'bot' };
