/** What is told when all that a request raised is applied. */
import { adminOfPortal, type Config } from '../config.ts';
import type { NewEvent } from '../store/events.ts';
import type { DoneRequest } from '../store/relay.ts';

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
