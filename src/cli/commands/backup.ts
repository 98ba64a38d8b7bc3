/** `chamberlain backup`: makes a set of backups, and proves that one can be restored. */
import { basename, resolve } from 'node:path';
import type { Command } from 'commander';
import { makeSet, type Made } from '../../backup/make.ts';
import { verifySet, type Verified } from '../../backup/verify.ts';
import { ChamberlainError } from '../../shared/errors.ts';
import { configOf, configPathOf, wantsJson } from '../configuration.ts';
import { describeExamples, describeExits, EXIT } from '../exit.ts';
import { startProgress } from '../progress.ts';
import { print, printJson } from '../table.ts';

interface BackupOptions {
  verify?: string;
  key?: string;
}

export function defineBackup(command: Command): void {
  command
    .description(
      'Makes one set of backups, a new folder in DIR: PostgreSQL as of one moment, the directory as read\n' +
        'after it, the secrets, the configuration, and the list of archives with their digests. Each file\n' +
        'is encrypted by age to the keys of `backups.recipients`; nothing is frozen. A folder whose name\n' +
        'begins with a dot is no set. It prints nothing unless somebody watches, or --json is given. It\n' +
        'reads as the owner of the database and as cn=directory-reader; run it where the secrets are.\n\n' +
        '--verify restores a set into servers of its own, which end with it, and compares the rows of each\n' +
        'table, the entries, and the archives that are on this machine. It needs no configuration.',
    )
    .argument('[DIR]', 'the folder that the set is made in')
    .option('--verify <set>', 'restore that set into private servers, and compare')
    .option('--key <file>', 'with --verify: the private key, as `age-keygen` makes it')
    .addHelpText(
      'after',
      describeExamples(
        'backup /var/backups/chamberlain',
        'backup --verify /mnt/chamberlain-tools-20261129T221700Z --key /media/key/backup.txt',
      ) +
        `\n${describeExits({
          0: 'the set is made; or it can be restored',
          1: 'no set was made; or BACKUP_DAMAGED: it cannot be restored',
          3: 'it can be restored, and archives are missing on this machine',
        })}`,
    )
    .action(async (folder: string | undefined) => {
      const { verify, key } = command.opts<BackupOptions>();
      if ((folder === undefined) === (verify === undefined)) {
        throw usage('it wants a DIR, or --verify');
      }
      if ((verify === undefined) !== (key === undefined)) {
        throw usage('--verify and --key go together');
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

/** Shows how far it is, where somebody watches. A signal ends what runs, and what is half made goes. */
async function interruptibly<T>(
  act: (say: (text: string) => void, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const ending = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(name, () => {
      ending.abort(
        new ChamberlainError('STEP_FAILED', `${name} has ended it, and nothing is left of it`, {
          action: '',
        }),
      );
    });
  }
  const progress = startProgress({ json: true });
  try {
    return await act(progress.say, ending.signal);
  } finally {
    progress.end();
  }
}

function usage(sentence: string): ChamberlainError {
  return new ChamberlainError('USAGE', sentence);
}

function renderMade({ set, bytes, archives, ...told }: Made): string {
  return [
    `made ${set}, ${Math.ceil(bytes / 1024)} KiB`,
    ...renderContents(told),
    `archives    ${archives} listed`,
  ].join('\n');
}

function renderVerified({ set, at, archives, ...told }: Verified): string {
  const { present, missing, elsewhere } = archives;
  const counted = [
    ...(present > 0 ? [`${present} here`] : []),
    ...(missing.length > 0 ? [`${missing.length} missing`] : []),
    ...(elsewhere > 0 ? [`${elsewhere} in folders that are not on this machine`] : []),
  ];
  return [
    `${basename(set)} can be restored, to ${at}`,
    ...renderContents(told),
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
