/**
 * The events about what a recovery changes. They repeat the events of the original decisions, which portals may not
 * have received.
 */
import { toolOf } from '../identity/names.ts';
import type { Taking } from './taking.ts';

const REASON = 'After a server was restored from a backup, the other servers showed this.';

/** The kinds and data are described in docs/portals.md. */
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
