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
  const told = new Set(onDone.portals);
  for (const each of config.portals) if (each.subjectEvents) told.add(each.name);
  if (portal !== undefined) told.add(portal);
  const subjectEvents = [...told]
    .filter((name) => adminOfPortal(name) === undefined)
    .map((name) => ({
      portal: name,
      event: onDone.event,
      subject,
      request: jti,
      data: onDone.data,
    }));
  if (portal === undefined || adminOfPortal(portal) !== undefined) return subjectEvents;
  return [
    ...subjectEvents,
    { portal, event: 'request.done', subject, request: jti, data: { kind } },
  ];
}
