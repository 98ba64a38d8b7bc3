/** For tests without workers: `status` exits 3 if none has run for a while. */
import type { Pool } from '../../src/database/connection.ts';

/** Pretends that every worker made its last progress so many seconds ago. */
export async function pretendWork(owner: Pick<Pool, 'query'>, seconds = 0): Promise<void> {
  await owner.query(
    'UPDATE leases SET since = now(), renewed_at = now() - make_interval(secs => $1)',
    [seconds],
  );
}
