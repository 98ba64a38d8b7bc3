/** The restoring of a person or a tool from its archives. */
import type { Code } from '../../shared/errors.ts';
import { findArchival, wantBack } from '../../lifecycle/archivals-table.ts';
import { type RequestContext, refuse } from '../context.ts';

/**
 * Begins the restoring of a subject that is archived or being archived. Its access stays closed until everything is
 * back. Refuses with these codes if the archive is no longer kept, or if the restoring has begun already.
 */
export async function wantReturn(
  { client, now }: Pick<RequestContext<unknown>, 'client' | 'now'>,
  { uid, named }: { uid: number; named: string },
  [notKept, returning]: [Code, Code],
): Promise<void> {
  const archival = await findArchival(client, uid);
  if (archival === undefined || archival.expiredAt !== null) {
    refuse(notKept, `The archives of ${named} are no longer kept, so nothing can be restored.`);
  }
  if (archival.returningAt !== null) {
    refuse(returning, `The restoration of ${named} has already begun. Wait until it has finished.`);
  }
  await wantBack(client, uid, now);
}
