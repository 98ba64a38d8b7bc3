/**
 * `chamberlain audit close`: puts a year of the audit into a signed file, and removes its rows from PostgreSQL.
 *
 *   rows ──▶ file, whole ──▶ read back ──▶ recorded ──▶ rows removed
 *
 * Each step is done once the one before it is on the disk, and is not done again: whoever is cut anywhere runs it
 * again, and it goes on from there.
 */
import { InvalidArgumentError, type Command } from 'commander';
import { existsSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import type { Config } from '../../shared/config.ts';
import { auditFileName, writeAuditFile } from '../../audit/audit-file.ts';
import { ChamberlainError, isNotMigrated } from '../../shared/errors.ts';
import * as store from '../../audit/audit-closings.ts';
import { openOwner } from '../../import/write-import.ts';
import type { Client } from '../../database/connection.ts';
import { isSignedByAdmin, readBack } from '../../audit/audit-files.ts';
import { configOf, wantsJson } from '../configuration.ts';
import { describeExamples, describeExits } from '../exit.ts';
import { operatorName } from '../operator.ts';
import { type Progress, startProgress } from '../progress.ts';
import { findSubmitter } from '../submission.ts';
import { print, printJson } from '../table.ts';

export function defineClose(command: Command): void {
  command
    .summary('put a year that is over into a signed file')
    .description(
      'Writes the rows of a year that is over, with their hashes, into a file that is signed with the\n' +
        "admin's own key; reads it back, records its digest, and removes the rows. The chain goes on from\n" +
        'the last of them. `audit verify FILE...` verifies such files. The oldest year comes first, and\n' +
        'every request of it must be done. It may be interrupted anywhere, and run again. It writes as the\n' +
        'owner of the database, and needs its secret. Times are UTC.',
    )
    .argument('<YEAR>', 'such as 2025', parseYear)
    .option('--out <folder>', 'where the file is to lie, and stay', '.')
    .addHelpText(
      'after',
      describeExamples('audit close 2025 --out /srv/audit') +
        `\n${describeExits({ 0: 'the year is in its file, and its rows are gone', 1: 'AUDIT_NOT_CLOSABLE: it cannot be closed as things are; or it failed' })}`,
    )
    .action(async (year: number) => {
      const { out } = command.opts<{ out: string }>();
      const json = wantsJson(command);
      const progress = startProgress({ json });
      let closed: Closed;
      try {
        closed = await closeYear(configOf(command), year, out, progress);
      } finally {
        progress.end();
      }
      if (json) printJson(closed);
      else print(renderClosed(closed));
    });
}

/** What has become of a year. */
interface Closed extends Omit<store.AuditClosing, 'file' | 'closedAt'> {
  file: string;
  /** rows that this run has removed */
  removed: number;
}

/** Closes a year, or goes on where a run was cut. Throws AUDIT_NOT_CLOSABLE where that may not be. */
export async function closeYear(
  config: Config,
  year: number,
  out: string,
  progress: Pick<Progress, 'say'>,
): Promise<Closed> {
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
    // where nothing was left to do, the file was not looked for
    const file = known === undefined || removed > 0 ? path : known.file;
    return { ...rest, file, removed };
  } catch (error) {
    if (!isNotMigrated(error)) throw error;
    throw new ChamberlainError('CONFIG_INVALID', 'the database is not migrated', { cause: error });
  } finally {
    await client.end();
  }
}

/** Refuses where another year is closed whose rows are still there: its own file is looked at before they go. */
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

/** Has the year in its file, reads that back, and records it. A file that is there counts if it is the very year. */
async function fileAndRecord(
  client: Client,
  config: Config,
  { year, path, progress }: Closing,
): Promise<Omit<store.AuditClosing, 'closedAt'>> {
  const found = await store.findYear(client, year);
  const { first, last, row, hash, after } = found;
  if (!existsSync(path)) {
    const signer = findSubmitter(config, undefined, undefined);
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
      `${path} is there, and holds other rows than PostgreSQL: move it away, and keep it`,
    );
  }
  if (!isSignedByAdmin(config, end)) {
    throw new ChamberlainError(
      'AUDIT_NOT_CLOSABLE',
      `${path} is signed with a key that the configuration gives no admin: move it away`,
    );
  }
  const closing = { year, first, last, row, hash, file: basename(path), sha256: file.sha256 };
  await store.recordClosing(client, closing, operatorName());
  return closing;

  async function* counted<T>(rows: AsyncIterable<T>, total: number): AsyncGenerator<T> {
    let count = 0;
    for await (const each of rows) {
      count += 1;
      if (count % 1000 === 0) progress.say(`wrote ${count} of ${total} rows`);
      yield each;
    }
  }
}

/** Removes what rows are still there, once the file that was recorded is seen. Returns how many. */
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
  const sentence = `${year} is closed, and its rows are still in PostgreSQL: they are removed when its file ${file} (sha256 ${sha256}) is seen`;
  if (!existsSync(path)) {
    throw new ChamberlainError(
      'AUDIT_NOT_CLOSABLE',
      `${sentence}; it is not at ${path}: give its folder with --out`,
    );
  }
  if ((await readBack(path, config.realm)).sha256 !== sha256) {
    throw new ChamberlainError('AUDIT_NOT_CLOSABLE', `${sentence}; ${path} is another`);
  }
  let removed = 0;
  for (let more = true; more;) {
    const count = await store.removeClosed(client);
    removed += count;
    more = count > 0;
    progress.say(`removed ${removed} of ${total} rows`);
  }
  return removed;
}

function renderClosed({ year, first, last, file, sha256, hash, removed }: Closed): string {
  return [
    removed === 0
      ? `${year} was closed before: ${last - first + 1} rows`
      : `closed ${year}: ${last - first + 1} rows, ${removed} of them removed from PostgreSQL now`,
    `file   ${file}`,
    `sha256 ${sha256}`,
    `head   ${hash}`,
    'Keep the file, and a copy of it elsewhere: nothing else holds these rows any more.',
  ].join('\n');
}

function parseYear(text: string): number {
  const year = Number(text);
  if (!/^\d{4}$/u.test(text) || year < 2000) {
    throw new InvalidArgumentError('It wants a year such as 2025.');
  }
  return year;
}
