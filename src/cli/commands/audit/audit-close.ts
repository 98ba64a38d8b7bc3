/**
 * `chamberlain audit close`: writes a year of the audit into a signed file, and removes its rows from PostgreSQL.
 *
 *   rows ──▶ file, whole ──▶ read back ──▶ recorded ──▶ rows removed
 *
 * Each step begins when the one before it is on the disk, and is not repeated. A run that was interrupted anywhere
 * is continued by running the command again.
 */
import { InvalidArgumentError } from 'commander';
import { existsSync, statSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import type { Config } from '../../../shared/config.ts';
import { auditFileName, writeAuditFile } from '../../../audit/audit-file.ts';
import { ChamberlainError, isNotMigrated } from '../../../shared/errors.ts';
import * as store from '../../../audit/audit-closings.ts';
import { type Client, openOwner } from '../../../database/connection.ts';
import { isSignedByAdmin, readBack } from '../../../audit/audit-files.ts';
import type { Command } from '../../command.ts';
import { configOf, wantsJson } from '../../configuration.ts';
import { operatorName } from '../../operator.ts';
import { type Progress, withProgress } from '../../progress.ts';
import { print, printJson } from '../../table.ts';
import { count } from '../../../shared/printable.ts';

export function defineClose(command: Command): void {
  command
    .summary('move a past year into a signed file')
    .description(
      "Writes the rows of a past year, with their hashes, into a file that is signed with an admin's own\n" +
        'key (CHAMBERLAIN_ADMIN_KEY, or `adminKey`), which the configuration must list. Reads the file back,\n' +
        'records its digest, and removes the rows. The chain continues from the last of them. `audit verify\n' +
        'FILE...` verifies such files. The oldest year must be closed first, and every request of the year\n' +
        'must be done. Times are UTC. The command may be interrupted at any moment, and run again. It writes\n' +
        'as the owner of the database, and needs the secret `postgres-owner`.',
    )
    .argument('<YEAR>', 'such as 2025', parseYear)
    .option('--out <folder>', 'the folder for the file, where it must stay', '.')
    .examples('audit close 2025 --out /srv/audit')
    .exits({
      0: 'the year is in its file, and its rows are removed',
      1: 'AUDIT_NOT_CLOSABLE: the year cannot be closed yet; or the command failed',
    })
    .action(async (year: number) => {
      const { out } = command.opts<{ out: string }>();
      const json = wantsJson(command);
      const config = configOf(command);
      const closed = await withProgress(json, (say) => closeYear(config, year, out, { say }));
      if (json) printJson(closed);
      else print(renderClosed(closed));
    });
}

/** A closed year. */
interface Closed extends Omit<store.AuditClosing, 'file' | 'closedAt'> {
  file: string;
  /** how many rows this run has removed */
  removed: number;
}

/**
 * Closes a year, or continues an interrupted run. Throws USAGE if there is no such folder, and AUDIT_NOT_CLOSABLE if the
 * year may not be closed.
 */
export async function closeYear(
  config: Config,
  year: number,
  out: string,
  progress: Pick<Progress, 'say'>,
): Promise<Closed> {
  if (statSync(out, { throwIfNoEntry: false })?.isDirectory() !== true) {
    throw new ChamberlainError('USAGE', `there is no folder ${out}`, {
      action: 'Create it, or name another one with --out.',
    });
  }
  const path = resolve(join(out, auditFileName(config.realm, year)));
  const client = await openOwner(config);
  try {
    await store.holdClosings(client, year);
    const closings = await store.readClosings(client);
    await requireRemoved(client, closings.at(-1), year);
    const known = closings.find((each) => each.year === year);
    const closing = known ?? (await fileAndRecord(client, config, { year, path, progress }));
    const removed = await remove(client, config, { closing, path, progress });
    const { closedAt: _at, ...rest } = { closedAt: undefined, ...closing };
    // if nothing was left to do, nothing has looked for the file
    const file = known === undefined || removed > 0 ? path : known.file;
    return { ...rest, file, removed };
  } catch (error) {
    if (!isNotMigrated(error)) throw error;
    throw new ChamberlainError('CONFIG_INVALID', 'the database is not migrated', { cause: error });
  } finally {
    await client.end();
  }
}

/**
 * Refuses while rows of another closed year are still there: they may go only when the file of that year was checked.
 */
async function requireRemoved(
  client: Client,
  last: store.AuditClosing | undefined,
  year: number,
): Promise<void> {
  if (last === undefined || last.year === year || (await store.countClosed(client)) === 0) return;
  throw store.notClosable(
    year,
    `${last.year} is closed, and its rows are still in PostgreSQL: close ${last.year} again first`,
  );
}

interface Closing {
  year: number;
  path: string;
  progress: Pick<Progress, 'say'>;
}

/**
 * Writes the file of the year unless it exists, reads it back, and records it. An existing file must hold this very
 * year.
 */
async function fileAndRecord(
  client: Client,
  config: Config,
  { year, path, progress }: Closing,
): Promise<Omit<store.AuditClosing, 'closedAt'>> {
  const found = await store.findYear(client, year);
  const { first, last, row, hash, after } = found;
  if (!existsSync(path)) {
    // only here: `audit` itself signs nothing
    const { openListedKey } = await import('../../own-key/submitter.ts');
    const signer = await openListedKey(config);
    const head = { audit: config.realm, year, first, after };
    await writeAuditFile(
      path,
      signer,
      head,
      counted(store.readYear(client, found), last - first + 1),
    );
  }
  const file = await readBack(path, config.realm, (rows) => progress.say(`read back ${rows} rows`));
  const { head, end } = file;
  if (head.year !== year || head.first !== first || head.after !== after || end.hash !== hash) {
    throw new ChamberlainError(
      'AUDIT_NOT_CLOSABLE',
      `${path} exists, and holds other rows than PostgreSQL: move it away, and keep it`,
    );
  }
  if (!isSignedByAdmin(config, end)) {
    throw new ChamberlainError(
      'AUDIT_NOT_CLOSABLE',
      `${path} is signed with a key that is not an admin's in the configuration: move it away`,
    );
  }
  const closing = { year, first, last, row, hash, file: basename(path), sha256: file.sha256 };
  await store.recordClosing(client, closing, operatorName());
  return closing;

  async function* counted<T>(rows: AsyncIterable<T>, total: number): AsyncGenerator<T> {
    let written = 0;
    for await (const each of rows) {
      written += 1;
      if (written % 1000 === 0) progress.say(`wrote ${written} of ${total} rows`);
      yield each;
    }
  }
}

/** Removes the rows that are still there, once the recorded file has been checked. Returns how many. */
async function remove(
  client: Client,
  config: Config,
  {
    closing: { year, sha256, file },
    path,
    progress,
  }: {
    closing: Omit<store.AuditClosing, 'closedAt'>;
    path: string;
    progress: Pick<Progress, 'say'>;
  },
): Promise<number> {
  const total = await store.countClosed(client);
  if (total === 0) return 0;
  const sentence = `${year} is closed, and its rows are still in PostgreSQL: they can be removed only when its file ${file} (sha256 ${sha256}) is at hand`;
  if (!existsSync(path)) {
    throw new ChamberlainError(
      'AUDIT_NOT_CLOSABLE',
      `${sentence}; there is no ${path}: give the folder with --out`,
    );
  }
  if ((await readBack(path, config.realm)).sha256 !== sha256) {
    throw new ChamberlainError('AUDIT_NOT_CLOSABLE', `${sentence}; ${path} is a different file`);
  }
  let removed = 0;
  for (let more = true; more;) {
    const now = await store.removeClosed(client);
    removed += now;
    more = now > 0;
    progress.say(`removed ${removed} of ${total} rows`);
  }
  return removed;
}

function renderClosed({ year, first, last, file, sha256, hash, removed }: Closed): string {
  return [
    removed === 0
      ? `${year} was already closed: ${count(last - first + 1, 'row')}`
      : `closed ${year}: ${count(last - first + 1, 'row')}, ${removed} of them removed from PostgreSQL now`,
    `file   ${file}`,
    `sha256 ${sha256}`,
    `head   ${hash}`,
    'Keep the file, and a copy of it elsewhere: nothing else holds these rows now.',
  ].join('\n');
}

function parseYear(text: string): number {
  const year = Number(text);
  if (!/^\d{4}$/u.test(text) || year < 2000) {
    throw new InvalidArgumentError('It must be a year such as 2025.');
  }
  return year;
}
