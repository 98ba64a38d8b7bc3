/**
 * sweep.release
 *
 * | the last sweep that judged     | the digest       | the release                               |
 * | ------------------------------ | ---------------- | ----------------------------------------- |
 * | is not held                    | any              | SWEEP_NOT_HELD                            |
 * | is held                        | another          | PLAN_MOVED                                |
 * | is held, and released already  | its own          | SWEEP_NOT_HELD                            |
 * | is held                        | its own          | a sweep begins at once, and may act on it |
 *
 * As `chamberlain sweep release`, a release counts for what had drifted then: if something else has drifted when the next
 * sweep looks, that sweep is held too.
 */
import type { RequestOf } from '../schema.ts';
import { insertRelease, readLastSweeps, readReleases } from '../../drift/sweeps-table.ts';
import { type Handler, refuse, requireOwnKeyOfAdmin } from '../context.ts';

export const releaseSweep: Handler<RequestOf<'sweep.release'>> = async (context) => {
  requireOwnKeyOfAdmin(context);
  const { client, request, requestedBy: by } = context;
  const { digest } = request;
  const { held } = await readLastSweeps(client);
  if (held === undefined) refuse('SWEEP_NOT_HELD', 'No sweep is held. See `chamberlain sweep`.');
  if (held.digest !== digest) {
    refuse(
      'PLAN_MOVED',
      `The held sweep has ${held.digest === null ? 'no digest' : `the digest ${held.digest}`}. Read the plan of everything again, and give the digest that the sweep shows.`,
    );
  }
  if ((await readReleases(client)).some((release) => release.digest === digest)) {
    refuse('SWEEP_NOT_HELD', 'The sweep is released already: the next one acts on it.');
  }
  await insertRelease(client, by, digest);
  return {
    subject: undefined,
    account: undefined,
    fields: ['sweep'],
    touches: [],
    onDone: undefined,
  };
};
