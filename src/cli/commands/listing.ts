/** `chamberlain list people`, `list tools`, `list keys`: page by page; `list admin-keys`, `list portals`. Reads only PostgreSQL. */
import { InvalidArgumentError, Option } from 'commander';
import type { Config } from '../../shared/config.ts';
import { withoutRealm } from '../../identity/names.ts';
import { timeOf } from '../../shared/time.ts';
import { nameFew } from '../../shared/printable.ts';
import {
  type KeysPage,
  listKeys,
  listPeople,
  listTools,
  type ListedKey,
  type ListedPerson,
  type ListedTool,
  PERSON_STATES,
  type SubjectsPage,
  TOOL_STATES,
} from '../../database/listing.ts';
import { readAdminKeys } from '../../requests/admin-keys.ts';
import { readPortals } from '../../requests/listed-portals.ts';
import { findPerson } from '../../identity/people-table.ts';
import type { Client } from '../../database/connection.ts';
import type { Command } from '../command.ts';
import { configOf, wantsJson } from '../configuration.ts';
import { printPage } from '../fold.ts';
import { limitUpTo } from '../options/limit.ts';
import { unknownSubject, withAdmin } from '../admin.ts';
import { type Column, paint, print, printJson, renderColumns } from '../table.ts';

/** How many maintainers of a tool the table names; the JSON names all. */
const FEW_NAMED = 3;

/** The person by name, not by number. */
type KeyOptions = Omit<KeysPage, 'person'> & { person?: string };

/** A list: how a page of it is read and shown. */
interface Listing<Row> {
  /** what is listed: the name of the command, and of the list in the JSON */
  noun: string;
  /** reads no more than `limit` rows */
  read: (client: Client, limit: number) => Promise<Row[]>;
  columns: readonly Column<Row>[];
  /** the value of --after for the page after this row */
  keyOf: (row: Row) => string | number;
}

export function defineListing(parent: Command): void {
  definePeople(parent.command('people').summary('people: state, access, keys, names'));
  defineTools(parent.command('tools').summary('tools: state, maintainers, title'));
  defineKeys(parent.command('keys').summary('SSH keys: whose, until when'));
  defineAdminKeys(parent.command('admin-keys').summary("admins' own keys: whose, until when"));
  definePortals(parent.command('portals').summary('portals: keys, kinds, who added them'));
}

function definePortals(command: Command): void {
  command
    .description(
      'Lists the portals of the configuration file, and those that were added by request: what they may\n' +
        'do, their keys, who asked for them and who approved them. A portal that was removed by request\n' +
        "stays listed until one of its name is added again. Admins' own keys are in `list admin-keys`. If the\n" +
        'file lists a portal that was also added by request, the file counts, and it comes first.',
    )
    .examples(
      'list portals',
      "list portals --json | jq '.portals[] | select(.removedAt == null) | .keys[]'",
    )
    .exits()
    .action(async () => {
      const config = configOf(command);
      const portals = await withAdmin(config, (client) => readPortals(client, config));
      if (wantsJson(command)) printJson({ portals });
      else
        printRows('portals', portals, [
          ['portal', (p) => p.name],
          ['events', (p) => p.events],
          ['kinds', (p) => (p.kinds === 'all' ? 'all' : nameFew(p.kinds, FEW_NAMED))],
          ['reads', (p) => p.reads.join(', ')],
          ['keys', (p) => p.keys.map(({ fingerprint }) => fingerprint).join(', ')],
          ['added by', (p) => p.addedBy ?? 'the configuration'],
          ['approved by', (p) => p.approvedBy],
          ['changed by', (p) => p.changedBy],
          ['removed', (p) => p.removedAt && `${timeOf(p.removedAt)} by ${p.removedBy ?? '?'}`],
        ]);
    });
}

function defineAdminKeys(command: Command): void {
  command
    .description(
      "Lists the admins' own keys: the owner, the fingerprint, how long the key is valid, who asked for it\n" +
        'and who approved it. Revoked keys stay listed. A key of the configuration never expires. A key\n' +
        'counts only while its owner is an admin. `audit --key FINGERPRINT` shows what a key has signed.',
    )
    .examples(
      'list admin-keys',
      "list admin-keys --json | jq -r '.adminKeys[] | select(.revokedAt == null)'",
    )
    .exits()
    .action(async () => {
      const config = configOf(command);
      const keys = await withAdmin(config, (client) => readAdminKeys(client, config));
      if (wantsJson(command)) printJson({ adminKeys: keys });
      else
        printRows('admin-keys', keys, [
          ['admin', (k) => k.admin],
          ['fingerprint', (k) => k.fingerprint],
          ['until', (k) => k.expiresAt && timeOf(k.expiresAt)],
          ['added by', (k) => k.addedBy ?? 'the configuration'],
          ['approved by', (k) => k.approvedBy],
          ['revoked', (k) => k.revokedAt && `${timeOf(k.revokedAt)} by ${k.revokedBy ?? '?'}`],
          ['label', (k) => k.label],
        ]);
    });
}

function definePeople(command: Command): void {
  defineSubjects(command, PERSON_STATES)
    .description(
      'Lists people by shell name: number, state, whether they have access to the realm, how many keys\n' +
        'they have, when they were created, mail address, when that was verified, and display name. Deleted\n' +
        'people are listed too, without the last three.',
    )
    .examples(
      'list people --state suspended',
      'list people --prefix al --limit 20',
      "list people --limit 10000 --json | jq -r '.people[] | select(.realmMember) | .email'",
    )
    .exits()
    .action(async () => {
      const options = command.opts<SubjectsPage>();
      await show<ListedPerson>(command, {
        noun: 'people',
        read: (client, limit) => listPeople(client, { ...options, limit }),
        columns: [
          ['person', (p) => p.account],
          ['number', (p) => p.uid],
          ['state', (p) => p.state],
          ['access', (p) => (p.realmMember ? 'yes' : 'no')],
          ['keys', (p) => p.keys],
          ['created', (p) => dayOf(p.createdAt)],
          ['mail', (p) => p.email],
          ['verified', (p) => p.mailVerifiedAt && dayOf(p.mailVerifiedAt)],
          ['display name', (p) => p.displayName],
        ],
        keyOf: ({ account }) => account,
      });
    });
}

function defineTools(command: Command): void {
  defineSubjects(command, TOOL_STATES)
    .description(
      'Lists tools by name: number, state, when it was created, maintainers and title. Deleted tools are\n' +
        'listed too. A name may also be given as the account, such as tools.bridgebot.',
    )
    .examples(
      'list tools --state disabled',
      'list tools --prefix bridge',
      "list tools --limit 10000 --json | jq -r '.tools[] | select(.maintainers == []) | .account'",
    )
    .exits()
    .action(async () => {
      const options = command.opts<SubjectsPage>();
      const { realm } = configOf(command);
      await show<ListedTool>(command, {
        noun: 'tools',
        read: (client, limit) =>
          listTools(client, {
            ...options,
            prefix: withoutRealm(options.prefix, realm),
            after: withoutRealm(options.after, realm),
            limit,
          }),
        columns: [
          ['tool', (t) => t.account],
          ['number', (t) => t.uid],
          ['state', (t) => t.state],
          ['created', (t) => dayOf(t.createdAt)],
          ['maintainers', (t) => nameFew(t.maintainers, FEW_NAMED)],
          ['title', (t) => t.title],
        ],
        keyOf: ({ name }) => name,
      });
    });
}

function defineKeys(command: Command): void {
  definePaging(command, 'number', (option) => option.argParser(parseNumber).default(0, 'none'))
    .description(
      'Lists SSH keys in the order in which they were first added: the number of the key (column `key`),\n' +
        'the person, when the key expires, and its fingerprint, as ssh-keygen -l prints it. Removed keys\n' +
        'are listed only with --removed.',
    )
    .option('--person <name>', 'only the keys of this person')
    .option('--expired', 'only keys that have expired')
    .option('--removed', 'the removed keys instead of the present ones')
    .examples(
      'list keys --person alice',
      'list keys --expired',
      "list keys --limit 10000 --json | jq -r '.keys[] | select(.expiresAt == null) | .person'",
    )
    .exits()
    .action(async () => {
      const options = command.opts<KeyOptions>();
      const config = configOf(command);
      await show<ListedKey>(command, {
        noun: 'keys',
        read: async (client, limit) => {
          const person = await uidOf(client, config, options.person);
          return await listKeys(client, { ...options, person, limit });
        },
        columns: [
          ['key', (k) => k.id],
          ['person', (k) => k.person],
          ['type', (k) => k.type],
          ['fingerprint', (k) => k.fingerprint],
          ['added', (k) => dayOf(k.addedAt)],
          ['until', (k) => k.expiresAt && timeOf(k.expiresAt)],
          ...(options.removed ? [REMOVED] : []),
          ['label', (k) => k.label],
        ],
        keyOf: ({ id }) => id,
      });
    });
}

const REMOVED: Column<ListedKey> = ['removed', ({ removedAt }) => removedAt && timeOf(removedAt)];

/** The options of a list of people or tools. */
function defineSubjects(command: Command, states: readonly string[]): Command {
  return definePaging(command, 'name', (option) => option.default('', 'none'))
    .addOption(new Option('--state <state>', 'only those in this state').choices(states))
    .addOption(
      new Option('--prefix <text>', 'only those whose name begins with this').default('', 'all'),
    );
}

function definePaging(command: Command, key: string, finish: (option: Option) => Option): Command {
  return command
    .option('--limit <count>', 'how many, up to 10000', limitUpTo(10_000), 100)
    .addOption(
      finish(
        new Option(
          `--after <${key}>`,
          `begin after this ${key}, the last one of the previous page (\`next\` in JSON)`,
        ),
      ),
    );
}

function parseNumber(text: string): number {
  if (!/^[0-9]{1,15}$/u.test(text)) throw new InvalidArgumentError('It must be a whole number.');
  return Number(text);
}

/** Reads one row more than it shows, to learn whether there is a next page. */
async function show<Row>(command: Command, listing: Listing<Row>): Promise<void> {
  const { limit } = command.opts<{ limit: number }>();
  const read = await withAdmin(configOf(command), (client) => listing.read(client, limit + 1));
  const rows = read.slice(0, limit);
  const last = rows.at(-1);
  const next = read.length > limit && last !== undefined ? listing.keyOf(last) : null;
  if (wantsJson(command)) {
    printJson({ [listing.noun]: rows, next });
    return;
  }
  printRows(listing.noun, rows, listing.columns);
  if (next !== null)
    print(paint('dim', `\nthere are more: chamberlain ${againAfter(command, next)}`));
}

function printRows<Row>(noun: string, rows: readonly Row[], columns: readonly Column<Row>[]): void {
  if (rows.length === 0) print(`no ${noun}`);
  else printPage(renderColumns(rows, columns));
}

/** The same command for the page after that row. */
function againAfter(command: Command, next: string | number): string {
  const flags = command.options.flatMap((option) => {
    const name = option.attributeName();
    if (name === 'after' || command.getOptionValueSource(name) !== 'cli') return [];
    const value = command.getOptionValue(name) as string | number | true;
    return value === true ? [`${option.long}`] : [`${option.long} ${value}`];
  });
  return [`list ${command.name()}`, ...flags, `--after ${next}`].join(' ');
}

async function uidOf(
  client: Client,
  config: Config,
  person: string | undefined,
): Promise<number | undefined> {
  if (person === undefined) return undefined;
  const found = await findPerson(client, person, config.admin);
  if (found === undefined) {
    throw await unknownSubject(client, person, 'PERSON_UNKNOWN');
  }
  return found.uid;
}

function dayOf(time: Date): string {
  return time.toISOString().slice(0, 10);
}
