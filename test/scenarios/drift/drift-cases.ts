/**
 * The table of drifts of single subjects: every case is a test of drift.test.ts, done on real servers. Drifts
 * of everybody at once are in drift-servers.long.test.ts; a PostgreSQL from a backup is in recover.long.test.ts.
 */
import { ATTRIBUTE_CASES } from './drift-attributes.ts';
import type { DriftCase } from './drift-case.ts';
import { DATABASE_CASES } from './drift-databases.ts';
import { DIRECTORY_CASES } from './drift-directory.ts';
import { HOME_CASES } from './drift-homes.ts';

export const DRIFT_CASES: readonly DriftCase[] = [
  ...ATTRIBUTE_CASES,
  ...DIRECTORY_CASES,
  ...HOME_CASES,
  ...DATABASE_CASES,
];
