/** Wanting back what is put away, of a person or a tool alike. */
import type { Code } from '../../shared/errors.ts';
import { findArchival, wantBack } from '../../lifecycle/archivals-table.ts';
import { type RequestContext, refuse } from '../context.ts';

/**
 * Wants back what is put away, or half so; the doors stay closed until all of it is there. Refuses where it
 * is kept no longer, and where it is wanted back already: by these codes.
 */
export async function wantReturn(
  { client, now }: Pick<RequestContext<unknown>, 'client' | 'now'>,
  { uid, named }: { uid: number; named: string },
  [notKept, returning]: [Code, Code],
): Promise<void> {
  const archival = await findArchival(client, uid);
  if (archival === undefined || archival.expiredAt !== null) {
    refuse(notKept, `The archive of ${named} is kept no longer. It cannot be brought back.`);
  }
  if (archival.returningAt !== null) {
    refuse(returning, `The return of ${named} is under way already.`);
  }
  await wantBack(client, uid, now);
}
