/** `chamberlain backup`: makes a set of backups, or proves that one can be restored. */
import { basename, resolve } from 'node:path';
import { makeSet, type Made } from '../../backup/make.ts';
import { verifySet, type Verified } from '../../backup/verify.ts';
import { ChamberlainError } from '../../shared/errors.ts';
import type { Command } from '../command.ts';
import { configOf, configPathOf, wantsJson } from '../configuration.ts';
import { EXIT } from '../exit.ts';
import { withProgress } from '../progress.ts';
import { print, printJson } from '../table.ts';

interface BackupOptions {
  verify?: string;
  key?: string;
}

export function define(command: Command): void {
  command
    .description(
      'Makes a set of backups, as a new folder in DIR. The set holds PostgreSQL as of one moment, the\n' +
        'directory as read after it, the secrets, the configuration, and a list of the archives with their\n' +
        'digests. Each file is encrypted with age to the keys of `backups.recipients`. The realm is not\n' +
        'frozen meanwhile. A folder whose name begins with a dot is not a set. The command prints nothing,\n' +
        'unless it runs on a terminal or has --json. It reads as the owner of the database and as\n' +
        'cn=directory-reader: run it where the secrets are.\n\n' +
        '--verify restores a set into temporary servers, and compares the rows of each table, the entries of\n' +
        'the directory, and the archives that are on this machine. It needs no configuration.',
    )
    .argument('[DIR]', 'the folder in which to make the set')
    .option('--verify <set>', 'restore this set into temporary servers, and compare')
    .option('--key <file>', 'with --verify: the private key, as `age-keygen` makes it')
    .examples(
      'backup /var/backups/chamberlain',
      'backup --verify /mnt/chamberlain-tools-20261129T221700Z --key /media/key/backup.txt',
    )
    .exits({
      0: 'the set was made; with --verify: it can be restored',
      1: 'no set was made; with --verify: BACKUP_DAMAGED, it cannot be restored',
      3: 'with --verify: it can be restored, but archives are missing on this machine',
    })
    .action(async (folder: string | undefined) => {
      const { verify, key } = command.opts<BackupOptions>();
      if ((folder === undefined) === (verify === undefined)) {
        command.error('give either DIR or --verify');
      }
      if ((verify === undefined) !== (key === undefined)) {
        command.error('--verify and --key must be given together');
      }
      if (verify !== undefined && key !== undefined) await verifyThere(command, verify, key);
      else if (folder !== undefined) await makeThere(command, folder);
    });
}

async function makeThere(command: Command, folder: string): Promise<void> {
  const json = wantsJson(command);
  const made = await interruptibly((say, signal) =>
    makeSet(configOf(command), configPathOf(command), resolve(folder), { say, signal }),
  );
  if (json) printJson(made);
  else if (process.stdout.isTTY) print(renderMade(made));
}

async function verifyThere(command: Command, verify: string, key: string): Promise<void> {
  const verified = await interruptibly((say, signal) =>
    verifySet({ set: resolve(verify), key: resolve(key), signal }, say),
  );
  if (wantsJson(command)) printJson(verified);
  else print(renderVerified(verified));
  if (verified.archives.missing.length > 0) process.exitCode = EXIT.pending;
}

/** Shows progress on a terminal. On a signal, ends the running program and removes the unfinished set. */
async function interruptibly<T>(
  act: (say: (text: string) => void, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const ending = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(name, () => {
      ending.abort(
        new ChamberlainError('STEP_FAILED', `interrupted by ${name}; nothing was left behind`, {
          action: '',
        }),
      );
    });
  }
  return await withProgress(true, (say) => act(say, ending.signal));
}

function renderMade({ set, bytes, archives, ...contents }: Made): string {
  return [
    `made ${set}, ${Math.ceil(bytes / 1024)} KiB`,
    ...renderContents(contents),
    `archives    ${archives} listed`,
  ].join('\n');
}

function renderVerified({ set, at, archives, ...contents }: Verified): string {
  const { present, missing, elsewhere } = archives;
  const counted = [
    ...(present > 0 ? [`${present} here`] : []),
    ...(missing.length > 0 ? [`${missing.length} missing`] : []),
    ...(elsewhere > 0 ? [`${elsewhere} in folders that are not on this machine`] : []),
  ];
  return [
    `${basename(set)} can be restored, to ${at}`,
    ...renderContents(contents),
    `archives    ${counted.join(', ') || 'none'}`,
    ...missing.map(({ account, role, path }) => `  ${account}, ${role}: ${path}`),
  ].join('\n');
}

function renderContents({
  tables,
  entries,
  secrets,
}: Pick<Made, 'tables' | 'entries' | 'secrets'>): string[] {
  const rows = Object.values(tables).reduce((sum, count) => sum + count, 0);
  return [
    `PostgreSQL  ${rows} rows of ${Object.keys(tables).length} tables`,
    `directory   ${entries} entries`,
    `secrets     ${secrets.length} files`,
  ];
}
