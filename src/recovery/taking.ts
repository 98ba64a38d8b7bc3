/** What a recovery changes because of the evidence, and what an admin must decide (src/recovery/lesser.ts). Pure. */
import { toolOf } from '../identity/names.ts';
import type { Member } from '../reconcile/wanted.ts';

/** A key in the form of a seal. */
export interface SealedKey {
  fingerprint: string;
  /** `type base64` */
  line: string;
  options: readonly string[];
}

/** The changes of one subject. What does not change is left out. */
export interface Taking {
  subject: number;
  account: string;
  kind: 'person' | 'tool';
  state?: 'active' | 'suspended' | 'disabled';
  /** access to the realm */
  member?: boolean;
  /** fingerprints */
  keysRemoved?: string[];
  keysAdded?: SealedKey[];
  membersRemoved?: Member[];
  /** accounts */
  membersAdded?: string[];
  /** where this was seen */
  by: string[];
}

/** What only an admin can decide. */
export interface Open {
  account: string;
  sentence: string;
  /** the command to run, if one is enough */
  command?: string;
}

const REASON = 'After a server was restored from a backup, the other servers showed this.';

/**
 * The events about what a taking changes. They repeat the events of the original decisions, which portals may not have
 * received. docs/portals.md describes the kinds and data.
 */
export function eventsOfTaking(taking: Taking): { event: string; data: Record<string, unknown> }[] {
  return taking.kind === 'person' ? eventsOfPerson(taking) : eventsOfTool(taking);
}

function eventsOfPerson({ account, state, member, keysRemoved = [], keysAdded = [] }: Taking) {
  const key = (event: string, fingerprint: string) => ({
    event,
    data: { account, fingerprint, label: '' },
  });
  return [
    ...(state === 'suspended' ? [{ event: 'person.suspended', data: { account } }] : []),
    ...(state === 'active' ? [{ event: 'person.reinstated', data: { account } }] : []),
    ...(member === undefined
      ? []
      : [
          {
            event: member ? 'access.granted' : 'access.revoked',
            data: { account, reason: REASON },
          },
        ]),
    ...keysRemoved.map((fingerprint) => key('key.removed', fingerprint)),
    ...keysAdded.map(({ fingerprint }) => key('key.added', fingerprint)),
  ];
}

function eventsOfTool({ account, state, membersRemoved = [], membersAdded = [] }: Taking) {
  const tool = toolOf(account);
  const maintainers = (event: string, list: readonly string[]) =>
    list.length === 0 ? [] : [{ event, data: { tool, account, maintainers: list } }];
  return [
    ...(state === 'disabled'
      ? [{ event: 'tool.disabled', data: { tool, account, reason: REASON } }]
      : []),
    ...(state === 'active' ? [{ event: 'tool.enabled', data: { tool, account } }] : []),
    ...maintainers(
      'maintainer.removed',
      membersRemoved.map(({ account: name }) => name),
    ),
    ...maintainers('maintainer.added', membersAdded),
  ];
}
