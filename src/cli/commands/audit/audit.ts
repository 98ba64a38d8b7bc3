/** `chamberlain audit`: the append-only trail, and the proof that nothing in it was changed. */
import { type Help, InvalidArgumentError } from 'commander';
import { ChamberlainError } from '../../../shared/errors.ts';
import type { Config } from '../../../shared/config.ts';
import { timeOf } from '../../../shared/time.ts';
import { type ChainFault, FIRST_HASH } from '../../../audit/audit-chain.ts';
import { readClosings } from '../../../audit/audit-closings.ts';
import { type AuditRow, readAudit } from '../../../audit/audit-trail.ts';
import { type ChainVerdict, verifyAudit } from '../../../audit/audit-verify.ts';
import { defineClose } from './audit-close.ts';
import {
  type AuditFile,
  checkAuditFile,
  compareWithRecord,
  placesOf,
} from '../../../audit/audit-files.ts';
import type { Command } from '../../command.ts';
import { configOf, wantsJson } from '../../configuration.ts';
import { EXIT, failureLine } from '../../exit.ts';
import { printPage } from '../../fold.ts';
import { limitUpTo } from '../../options/limit.ts';
import { type Progress, withProgress } from '../../progress.ts';
import { parseSince } from '../../options/since.ts';
import { requireSubjects, withAdmin } from '../../admin.ts';
import { paint, print, printJson, renderColumns, renderTable } from '../../table.ts';
import { count } from '../../../shared/printable.ts';

interface AuditOptions {
  subject?: string;
  key?: string;
  since?: Date;
  limit: number;
}

const MOST_ROWS = 1_000_000;

export function define(command: Command): void {
  command
    .description(
      'Shows who requested what, who approved it, and the outcome, oldest first. It lists requests, and\n' +
        'what operators did on the command line (as `unix:NAME`, the name that the machine reports). It\n' +
        'holds no personal data except names of accounts: it says which fields changed, but not their\n' +
        'values. A request that adds or removes maintainers has a row for the tool, and one for each of\n' +
        'them. The first maintainers of a new tool have none. Times are UTC.',
    )
    .option(
      '--subject <subject>',
      'only rows about this person or tool: a name, an account, or a uid',
    )
    .option('--key <fingerprint>', "only what was signed with this admin's own key")
    .option(
      '--since <time>',
      'only rows of the last 2h, 3d or 1w, or from 2026-11-24 or 2026-11-24T09:30 on',
      (text) => parseSince(text, new Date()),
    )
    .option('--limit <count>', 'how many rows, counted from the newest', limitUpTo(MOST_ROWS), 100)
    .examples(
      'audit --since 3d',
      'audit --subject tools.bridgebot --limit 1000 --json',
      'audit --key SHA256:Rd1bWvQ3a8cVnZyUuO9vYx0b2mJ5sT7eKqLhGfDpNiM',
      'audit verify',
    )
    .exits()
    .action(async () => {
      const { subject, key, since, limit } = command.opts<AuditOptions>();
      if (subject !== undefined && key !== undefined) {
        throw new ChamberlainError('USAGE', '--subject and --key exclude each other');
      }
      const { rows, hasOlder, closedUpTo } = await withAdmin(configOf(command), async (client) => {
        const subjects =
          subject === undefined
            ? undefined
            : (await requireSubjects(client, subject)).map(({ uid }) => uid);
        const closings = await readClosings(client);
        const read = await readAudit(client, { subjects, key, since, limit });
        return { ...read, closedUpTo: closings.at(-1)?.year ?? null };
      });
      if (wantsJson(command)) printJson({ rows, hasOlder, closedUpTo });
      else {
        printPage(renderAudit(rows));
        if (hasOlder)
          print(
            paint('dim', `older rows are not shown: --limit ${Math.min(limit * 10, MOST_ROWS)}`),
          );
        else if (closedUpTo !== null && (since?.getUTCFullYear() ?? 0) <= closedUpTo) {
          print(
            paint('dim', `the rows of ${closedUpTo} and before are in the files of closed years`),
          );
        }
      }
    });
  defineVerify(addSubcommand(command, 'verify'));
  defineClose(addSubcommand(command, 'close'));
}

/** A subcommand, whose help does not list the options of `audit` itself. */
function addSubcommand(audit: Command, name: string): Command {
  const command = audit.command(name);
  const inherited = { ...command.configureHelp() };
  return command.configureHelp({
    ...inherited,
    visibleGlobalOptions(this: Help, of) {
      const all = inherited.visibleGlobalOptions?.call(this, of) ?? [];
      return all.filter((option) => !audit.options.includes(option));
    },
  });
}

function defineVerify(command: Command): void {
  command
    .summary('recompute the hash chain')
    .description(
      'Recomputes the hash chain over all rows, and prints its head: the last hash, with the number of its\n' +
        'row. Names each row that was edited, removed or inserted.\n\n' +
        'A chain cannot show by itself that its end was cut off, or that all of it was made again. So keep a\n' +
        'head where nobody who can write to the database can change it, and give it later with --head.\n\n' +
        'For closed years, PostgreSQL holds only the last hash. To verify those years too, and that each\n' +
        'joins the next, give the files of all of them.',
    )
    .argument('[FILE...]', 'the files of closed years, as `audit close` wrote them')
    .option(
      '--head <hash>',
      'a head that was printed earlier, which must still be in the chain',
      parseHead,
    )
    .examples(
      'audit verify',
      'audit verify --head "$(cat /root/audit-head)"',
      'audit verify --json | jq -r .head',
      'audit verify /srv/audit/*.jsonl',
    )
    .exits({
      0: 'every row is as it was sealed',
      1: 'AUDIT_BROKEN: something was changed; or the command failed',
    })
    .action(async (paths: string[]) => {
      const { head } = command.opts<{ head?: string }>();
      const json = wantsJson(command);
      const config = configOf(command);
      const verdict = await withProgress(json, (say) => verifyAll(config, paths, head, { say }));
      if (json) printJson(verdict);
      else printPage(renderVerdict(verdict));
      if (verdict.faultsInAll > 0) {
        const faults = verdict.faultsInAll === 1 ? 'one fault' : `${verdict.faultsInAll} faults`;
        process.stderr.write(`${failureLine('AUDIT_BROKEN', `${faults} in the audit`)}\n`);
        process.exitCode = EXIT.failed;
      }
    });
}

/** Verifies the given files, the rows in PostgreSQL, and that they join. */
export async function verifyAll(
  config: Config,
  paths: readonly string[],
  head: string | undefined,
  progress: Pick<Progress, 'say'>,
): Promise<ChainVerdict> {
  const files: AuditFile[] = [];
  const faults: ChainFault[] = [];
  for (const path of paths) {
    const say = (rows: number) => progress.say(`verified ${rows} rows of ${path}`);
    const checked = await checkAuditFile(path, config.realm, head, say);
    if ('file' in checked) files.push(checked.file);
    else faults.push(checked.fault);
  }
  const verdict = await withAdmin(config, (client) =>
    verifyAudit(client, {
      head,
      places: placesOf(files),
      isInFile: files.some(({ hasHash }) => hasHash),
      onProgress: (done, of) => progress.say(`verified ${done} of ${of}`),
    }),
  );
  if (paths.length > 0) faults.push(...compareWithRecord(config, files, paths, verdict.closed));
  return {
    ...verdict,
    faults: [...faults, ...verdict.faults],
    faultsInAll: faults.length + verdict.faultsInAll,
  };
}

function parseHead(text: string): string {
  const hash = text.trim().toLowerCase();
  if (!/^[0-9a-f]{64}$/u.test(hash)) {
    throw new InvalidArgumentError(
      'It must be the 64 hexadecimal digits that `audit verify` prints.',
    );
  }
  if (hash === FIRST_HASH.toString('hex')) {
    throw new InvalidArgumentError(
      '64 zeros are the head of an empty audit, which proves nothing. Give a head that was printed later.',
    );
  }
  return hash;
}

function renderAudit(rows: readonly AuditRow[]): string {
  return renderColumns(rows, [
    ['row', ({ id }) => id],
    ['when', ({ at }) => timeOf(at)],
    ['requested', ({ requestedBy }) => requestedBy],
    ['approved', ({ approvedBy }) => approvedBy],
    ['portal', ({ portal }) => portal],
    ['kind', ({ kind }) => kind],
    ['subject', ({ account, subject }) => account ?? subject],
    ['fields', ({ fields }) => fields.join(',')],
    ['verdict', ({ verdict }) => verdict],
    ['code', ({ code }) => code],
    ['key', ({ key }) => key],
  ]);
}

function renderVerdict(verdict: ChainVerdict): string {
  const { head, row, at, closed, toRemove, sealed, waiting } = verdict;
  const { faults, faultsInAll, headFound } = verdict;
  const last = closed.at(-1);
  const lines = [
    `head ${head}`,
    row === undefined
      ? 'no row is sealed'
      : `row  ${row}, ${at ?? (sealed === 0 ? 'which is in a file' : 'which is gone')}`,
    `sealed: ${count(sealed, 'row')}; waiting to be sealed: ${waiting}`,
    ...(last === undefined
      ? []
      : [`the years up to ${last.year} are closed: ${count(last.last, 'row')}, in files`]),
    ...(toRemove === 0
      ? []
      : [
          `still in PostgreSQL: ${toRemove} of those: run \`chamberlain audit close ${last?.year} --out FOLDER\` again, with the folder of its file`,
        ]),
    ...(headFound === true ? ['the given head is in the chain'] : []),
  ];
  if (faults.length > 0) {
    const table = renderTable(
      ['row', 'when', 'fault', ''],
      faults.map((fault) => [fault.row, fault.at, fault.kind, fault.sentence]),
    );
    lines.push('', table);
  }
  if (faultsInAll > faults.length) lines.push(`… and ${faultsInAll - faults.length} more`);
  return lines.join('\n');
}
