/** The events about a request: when everything that it touched is applied, and when an admin decides on it. */
import { adminOfPortal, type Config } from '../shared/config.ts';
import type { RejectedApproval } from '../requests/approvals-table.ts';
import type { NewEvent } from './events-table.ts';
import type { DoneRequest } from '../reconcile/relay-queries.ts';

/**
 * The events about the subject go to each portal with `subjectEvents` in the configuration, to the portal that sent the
 * request, and to the one that `onDone` names. Then `request.done` goes to the portal that sent the request. An admin's
 * own key has no queue.
 */
export function doneEvents(config: Config, request: DoneRequest): NewEvent[] {
  const { portal, jti, kind, subject, onDone } = request;
  const about = onDone.each ?? [{ subject, data: {} }];
  const subjectEvents = about.flatMap((each) =>
    eventsForPortals(config, [portal, onDone.alsoTo], {
      event: onDone.event,
      subject: each.subject,
      request: jti,
      data: { ...onDone.data, ...each.data },
    }),
  );
  if (portal === undefined || adminOfPortal(portal) !== undefined) return subjectEvents;
  return [
    ...subjectEvents,
    { portal, event: 'request.done', subject, request: jti, data: { kind } },
  ];
}

/** An event for each portal with `subjectEvents` in the configuration, and for these others. */
export function eventsForPortals(
  config: Config,
  others: readonly (string | undefined)[],
  event: Omit<NewEvent, 'portal'>,
): NewEvent[] {
  const names = new Set(config.portals.flatMap((each) => (each.subjectEvents ? [each.name] : [])));
  for (const name of others) if (name !== undefined) names.add(name);
  return [...names]
    .filter((name) => adminOfPortal(name) === undefined)
    .map((portal) => ({ portal, ...event }));
}

/**
 * An event about a waiting request for the portal that sent it, with the portal's id. An admin's own key has no queue.
 */
export function eventsOfWaiting(
  waiting: RejectedApproval,
  event: string,
  data: Record<string, unknown>,
): NewEvent[] {
  const { kind, subject, account, request } = waiting;
  const portal = portalOf(waiting);
  if (portal === undefined) return [];
  return [{ portal, event, subject, request, data: { kind, account, ...data } }];
}

/** The portal that sent a request; undefined if an admin signed it with their own key. */
export function portalOf({ portal }: Pick<RejectedApproval, 'portal'>): string | undefined {
  return adminOfPortal(portal) === undefined ? portal : undefined;
}
