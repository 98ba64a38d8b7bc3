/** Looks at whether sets of backups are made. */
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import type { Config } from '../shared/config.ts';
import { findLack, TO_MAKE } from '../backup/programs.ts';
import { timeOf } from '../shared/time.ts';
import { readLastBackup } from './health-queries.ts';
import type { Client } from '../database/connection.ts';
import { elsewhere, fix, type Line, ok } from './line.ts';

/** One a night, and half a day for who makes it later. */
const LATEST_MS = 36 * 3600_000;

/** The programs, on the machine that sets are made on: the one that has the owner's secret. */
export function lookAtBackupPrograms({ backups, secrets }: Config): Line[] {
  if (backups === undefined) return [];
  try {
    accessSync(join(secrets, 'postgres-owner'), constants.R_OK);
  } catch {
    return [elsewhere('sets of backups are not made on this machine', 'Look where that is done.')];
  }
  const lack = findLack(TO_MAKE);
  return lack === undefined
    ? [ok('the programs that make sets of backups are there')]
    : [fix(`to make sets of backups, there is no ${lack.programs}`, lack.todo)];
}

/** Whether a set was made of late. A realm that has just begun may be without. */
export async function lookAtLastBackup(
  client: Client,
  { backups }: Config,
  now: Date,
): Promise<Line[]> {
  const { madeAt, since } = await readLastBackup(client);
  const isLate = now.getTime() - (madeAt ?? since).getTime() > LATEST_MS;
  if (!isLate) {
    return [
      ok(madeAt === null ? 'no set of backups yet' : `a set of backups of ${timeOf(madeAt)}`),
    ];
  }
  const what =
    madeAt === null
      ? 'no set of backups was ever made'
      : `the last set of backups is of ${timeOf(madeAt)}`;
  const todo =
    backups === undefined
      ? 'Name a key as `backups.recipients`, and have cron make them: docs/backups.md.'
      : 'Run `chamberlain backup DIR` by hand, and see why cron does not: docs/backups.md.';
  return [fix(what, todo)];
}
