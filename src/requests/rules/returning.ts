/** Wanting back what is put away, of a person or a tool alike. */
import type { Code } from '../../shared/errors.ts';
import { findDeparture, wantBack } from '../../lifecycle/departures-table.ts';
import { type Asking, refuse } from '../asking.ts';

/**
 * Wants back what is put away, or half so; the doors stay closed until all of it is there. Refuses where it
 * is kept no longer, and where it is wanted back already: by these codes.
 */
export async function wantReturn(
  { client, now }: Pick<Asking<unknown>, 'client' | 'now'>,
  { uid, named }: { uid: number; named: string },
  [notKept, returning]: [Code, Code],
): Promise<void> {
  const departure = await findDeparture(client, uid);
  if (departure === undefined || departure.expiredAt !== null) {
    refuse(notKept, `The archive of ${named} is kept no longer. It cannot be brought back.`);
  }
  if (departure.returningAt !== null) {
    refuse(returning, `The return of ${named} is under way already.`);
  }
  await wantBack(client, uid, now);
}
