/** Checks whether sets of backups are made. */
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import type { Config } from '../shared/config.ts';
import { findLack, TO_MAKE } from '../backup/programs.ts';
import { timeOf } from '../shared/time.ts';
import { readLastBackup } from './health-queries.ts';
import type { Client } from '../database/connection.ts';
import { elsewhere, fix, type Line, ok } from './line.ts';

/** A set is made every night; half a day is added for a late one. */
const LATEST_MS = 36 * 3600_000;

/** The programs, on the machine where sets are made: the one that has the owner's secret. */
export function lookAtBackupPrograms({ backups, secrets }: Config): Line[] {
  if (backups === undefined) return [];
  try {
    accessSync(join(secrets, 'postgres-owner'), constants.R_OK);
  } catch {
    return [
      elsewhere('sets of backups are not made on this machine', 'Run this where they are made.'),
    ];
  }
  const lack = findLack(TO_MAKE);
  return lack === undefined
    ? [ok('the programs that make sets of backups are installed')]
    : [
        fix(
          `sets of backups cannot be made: this machine does not have ${lack.programs}`,
          lack.todo,
        ),
      ];
}

/** Whether a set was made recently. A new realm may have none. */
export async function lookAtLastBackup(
  client: Client,
  { backups }: Config,
  now: Date,
): Promise<Line[]> {
  const { madeAt, since } = await readLastBackup(client);
  const isLate = now.getTime() - (madeAt ?? since).getTime() > LATEST_MS;
  if (!isLate) {
    return [
      ok(
        madeAt === null
          ? 'no set of backups yet, since the realm is new'
          : `the last set of backups was made at ${timeOf(madeAt)}`,
      ),
    ];
  }
  const what =
    madeAt === null
      ? 'no set of backups was ever made'
      : `the last set of backups was made at ${timeOf(madeAt)}`;
  const todo =
    backups === undefined
      ? 'List a key in `backups.recipients`, and have cron make sets: see docs/backups.md.'
      : 'Run `chamberlain backup DIR` yourself, and find out why cron does not: see docs/backups.md.';
  return [fix(what, todo)];
}
