/** What is told of a request: when all that it touched is applied, and when an admin decides on it. */
import { adminOfPortal, type Config } from '../shared/config.ts';
import type { RejectedApproval } from '../requests/approvals-table.ts';
import type { NewEvent } from './events-table.ts';
import type { DoneRequest } from '../reconcile/relay-queries.ts';

/**
 * What concerns the subject goes to each portal whose configuration says so, and to those that the
 * request names; then `request.done` to the request's own. An admin's key has no queue.
 */
export function doneEvents(config: Config, request: DoneRequest): NewEvent[] {
  const { portal, jti, kind, subject, onDone } = request;
  const about = onDone.each ?? [{ subject, data: {} }];
  const subjectEvents = about.flatMap((each) =>
    tellPortals(config, [portal, ...onDone.portals], {
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

/** An event for each portal that is told of every subject, and for these. */
export function tellPortals(
  config: Config,
  besides: readonly (string | undefined)[],
  event: Omit<NewEvent, 'portal'>,
): NewEvent[] {
  const told = new Set(config.portals.flatMap((each) => (each.subjectEvents ? [each.name] : [])));
  for (const name of besides) if (name !== undefined) told.add(name);
  return [...told]
    .filter((name) => adminOfPortal(name) === undefined)
    .map((portal) => ({ portal, ...event }));
}

/** Told to the portal that asked, by the id that it gave. An admin's key has no queue. */
export function tellOfWaiting(
  waiting: RejectedApproval,
  event: string,
  data: Record<string, unknown>,
): NewEvent[] {
  const { kind, subject, account, request } = waiting;
  const portal = portalOf(waiting);
  if (portal === undefined) return [];
  return [{ portal, event, subject, request, data: { kind, account, ...data } }];
}

/** The portal that sent it; undefined for an admin's own key. */
export function portalOf({ portal }: Pick<RejectedApproval, 'portal'>): string | undefined {
  return adminOfPortal(portal) === undefined ? portal : undefined;
}
