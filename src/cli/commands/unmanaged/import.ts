/** `chamberlain import`: imports a running platform. It reads with accounts that cannot write. */
import type { OpenDirectoryReader } from '../../../backends/ldap/directory.ts';
import { type Client, openOwner, rehearse, transact } from '../../../database/connection.ts';
import { DATABASES } from '../../../roles/databases/worker.ts';
import { DIRECTORY_TARGETS } from '../../../roles/directory/role.ts';
import { DIRECTORY } from '../../../roles/directory/worker.ts';
import { HOMES_TARGETS } from '../../../roles/homes/role.ts';
import { HOMES } from '../../../roles/homes/worker.ts';
import { portalNames, realmOf, type Config } from '../../../shared/config.ts';
import type { Step } from '../../../reconcile/plan.ts';
import { mergeReports, type Report, type Unreadable } from '../../../reconcile/report.ts';
import { ChamberlainError, codeOf, describeError } from '../../../shared/errors.ts';
import { hasClass } from '../../../targets/directory-entry.ts';
import {
  candidatesOf,
  type JudgedHomes,
  judgeHomes,
  readHomes,
} from '../../../import/credentials.ts';
import { readDirectory, type SeenDirectory } from '../../../import/directory.ts';
import { foresee } from '../../../import/foresee.ts';
import {
  judge,
  lacksAdmin,
  type Judgement,
  onlyEntries,
  onlyRefusals,
  readEntries,
  type ImportContext,
} from '../../../import/judge.ts';
import { listSome } from '../../../import/refusal.ts';
import type { KnownRealm, ImportBatch } from '../../../import/import-batch.ts';
import { readKnown, type Written, writeImport } from '../../../import/write-import.ts';
import { lookAtHeartbeat } from '../../../seals/heartbeat-table.ts';
import type { AnyRef, DirectoryReader } from '../../../targets/directory-reader.ts';
import { databaseAccount } from '../../../targets/database-account.ts';
import type { DatabasesReader } from '../../../targets/databases-reader.ts';
import type { CredentialsHave, FilesReader } from '../../../targets/files-reader.ts';
import { unmanagedAmong, type Throttle, sightingOfHome } from '../../../targets/everything.ts';
import { type Sighting, sightingsOf } from '../../../unmanaged/sightings.ts';
import { seal } from '../../../targets/seal.ts';
import type { Command } from '../../command.ts';
import { configOf, wantsJson } from '../../configuration.ts';
import { canAsk, confirm, whyNotAsked } from '../../confirm.ts';
import { EXIT, failureLine, RUN_AGAIN } from '../../exit.ts';
import {
  type ImportReport,
  lostMembers,
  renderImport,
  type Losses,
  renderLosses,
} from '../../../import/import-report.ts';
import { operatorName } from '../../operator.ts';
import { startProgress } from '../../progress.ts';
import { print, printJson } from '../../table.ts';

/** What to look at, and whether to undo everything at the end. `only`: just these entries of the directory. */
export interface ImportOptions {
  homes?: true;
  databases?: true;
  /** the platform has verified its mail addresses */
  mailVerified?: true;
  check?: true;
  /** the operator agrees to what others lose by it */
  yes?: true;
  only?: ReadonlySet<AnyRef>;
}

export function define(command: Command): void {
  command
    .description(
      'Imports people, tools, numbers, names, members and keys from the directory into PostgreSQL, in one\n' +
        'transaction. Shows what it cannot import, and why: such an entry stays unmanaged, and no request\n' +
        'gets its name or number. Nothing outside PostgreSQL is changed.\n\n' +
        'Then shows what differs from what is wanted. A repair, a request or the sweep may correct that; to\n' +
        'read it undisturbed, run `chamberlain freeze --reason TEXT` first. If the import would leave out a\n' +
        'member of a group, or leave a person without any key or the realm without an admin, it says so and\n' +
        'asks for confirmation before it writes anything. It may be run again, and then imports what is new.\n\n' +
        'Runs as the owner of the database, and reads with the accounts directory-reader and\n' +
        'databases-reader. Requests wait for their verdict while it writes.',
    )
    .option('--from-directory', 'import from the directory, which is the only source (required)')
    .option(
      '--homes',
      'also check homes, as root on the file server, and keep credentials files that are right',
    )
    .option('--databases', 'also compare the accounts on each database server')
    .option(
      '--mail-verified',
      'the mail addresses in the directory were verified: they count as verified from now on (default: they do not)',
    )
    .option('--check', 'only show what would be imported')
    .option(
      '--yes',
      'do not ask for confirmation; required without a terminal if members, keys or admins are missing',
    )
    .examples(
      'import --from-directory --homes --databases --check',
      'import --from-directory --homes',
      'import --from-directory --check --json | jq .refusals',
    )
    .exits({
      0: 'everything was imported, now or before, and is as wanted',
      3: 'something was not imported, or is not as wanted',
      4: 'something is UNREADABLE; if it is the directory or a home, nothing was imported',
    })
    .action(async () => {
      const options = command.opts<ImportOptions & { fromDirectory?: true }>();
      if (options.fromDirectory !== true) {
        command.error('error: give --from-directory: there is no other source');
      }
      const report = await runImport(command, configOf(command), options);
      if (report === undefined) return;
      if (wantsJson(command)) printJson(withoutActions(report));
      else print(renderImport(report));
      process.exitCode = exitOf(report);
    });
}

/** Runs an import, with progress. Returns undefined if nothing was imported, after it has reported why. */
export async function runImport(
  command: Command,
  config: Config,
  options: ImportOptions,
): Promise<ImportReport | undefined> {
  const progress = startProgress({ json: wantsJson(command) });
  try {
    return await importWith(config, options, progress.say, async (losses) => {
      progress.say('');
      progress.erase();
      return await agree(command, losses, options.yes === true);
    });
  } catch (error) {
    progress.end();
    if (error instanceof Declined) return undefined;
    if (codeOf(error) !== 'BACKEND_UNREADABLE') throw error;
    const sentence = `nothing was imported: ${describeError(error)}`;
    const action = (error as Partial<ChamberlainError>).action ?? RUN_AGAIN;
    process.stderr.write(`${failureLine('BACKEND_UNREADABLE', sentence, action)}\n`);
    process.exitCode = EXIT.unreadable;
    return undefined;
  } finally {
    progress.end();
  }
}

/** The operator has not agreed. */
class Declined extends Error {}

/** Lists what others lose by the import, and asks. Throws USAGE if there is no terminal. */
async function agree(command: Command, losses: Losses, yes: boolean): Promise<boolean> {
  const text = renderLosses(losses);
  if (text === '' || yes) return true; // the report names them
  if (!wantsJson(command)) print(`${text}\n`);
  if (!canAsk(command)) {
    const sentence = `this import would leave out members, or leave people without a key or the realm without an admin, and ${whyNotAsked(command)}; give --yes, or --check`;
    throw new ChamberlainError('USAGE', sentence);
  }
  return await confirm('Import the rest anyway? [y/N] ', 'Nothing was imported.');
}

export function exitOf({ refusals, foreseen, adminless }: ImportReport): number {
  if (foreseen.unreadable.length > 0) return EXIT.unreadable;
  const open = refusals.length + foreseen.steps.length + foreseen.findings.length;
  return open > 0 || adminless !== undefined ? EXIT.pending : EXIT.done;
}

/** Reads in large pieces and without pauses, because nothing else waits for this process. */
const THROTTLE: Throttle = { piece: 1000, yieldTurn: async () => {} };

/** What somebody loses, one line each. */
function listLosses({ refusals, keyless }: Losses): string[] {
  const members = lostMembers(refusals).map(({ object, sentence }) => `${object}: ${sentence}`);
  return [...members, ...keyless];
}

function contextOf(
  config: Config,
  { mailVerified }: Pick<ImportOptions, 'mailVerified'>,
  now: Date,
): ImportContext {
  return {
    ...{ realm: config.realm, admin: config.admin, now },
    ...{ people: config.ids.people, tools: config.ids.tools },
    graceDays: config.leaving.graceDays,
    reservedNames: config.reservedNames,
    knownBadKeys: new Set(config.keys.knownBad),
    mailVerifiedAt: mailVerified === true ? now : null,
  };
}

/** @param agrees is called with what others lose, before anything is written */
async function importWith(
  config: Config,
  options: ImportOptions,
  say: (text: string) => void,
  agrees: (losses: Losses) => Promise<boolean>,
): Promise<ImportReport> {
  const opened: Opened = {
    directory: DIRECTORY.openReader(config),
    homes: HOMES.openReader(config),
    databases: DATABASES.openReader(config),
    owner: await openOwner(config),
  };
  try {
    return await importThrough(opened, config, options, say, agrees);
  } finally {
    const { owner, ...readers } = opened;
    await Promise.allSettled([...Object.values(readers).map((each) => each.close()), owner.end()]);
  }
}

interface Opened {
  directory: ReturnType<typeof DIRECTORY.openReader>;
  homes: ReturnType<typeof HOMES.openReader>;
  databases: ReturnType<typeof DATABASES.openReader>;
  owner: Client;
}

// oxlint-disable-next-line max-lines-per-function -- each of its steps uses what those before it have read
async function importThrough(
  opened: Opened,
  config: Config,
  { homes, databases, check: isCheck, only, mailVerified }: ImportOptions,
  say: (text: string) => void,
  agrees: (losses: Losses) => Promise<boolean>,
): Promise<ImportReport> {
  const { owner } = opened;
  const realm = realmOf(config);
  const check = isCheck === true;
  const context = contextOf(config, { mailVerified }, new Date());
  say('reading the directory');
  const directory = await opened.directory.readEverything(THROTTLE, realm.realmGid);
  const seen = await readDirectory(directory, realm);
  await requireCurrent(owner, opened.directory);
  say('reading keys');
  const all = readEntries(seen, context);
  const read = only === undefined ? all : onlyEntries(all, only, config.realm);
  const judgeAll = (ours: KnownRealm): Judgement => {
    const judged = judge(read, seen, ours, realm, context);
    return only === undefined ? judged : onlyRefusals(judged, only, config.realm);
  };
  const sightings = [directory.sightings, sightingsOfUnmanaged(seen.unmanaged, realm.realmGid)];

  const known = await readKnown(owner);
  // if entries were named, people and tools that were imported before get nothing
  const candidatesIn = (judged: Judgement, ours: KnownRealm) =>
    candidatesOf(judged, only === undefined ? ours : { ...ours, people: [], tools: [] });
  const judgedBefore = judgeAll(known);
  const candidates = candidatesIn(judgedBefore, known);
  const files =
    homes === true
      ? await readHomes(opened.homes, candidates, say)
      : new Map<number, CredentialsHave>();
  if (homes === true) {
    for await (const piece of opened.homes.listHomes(THROTTLE.piece)) {
      sightings.push(piece.map((home) => sightingOfHome(home, realm)));
    }
  }
  const accounts = databases === true ? await opened.databases.readEverything(THROTTLE) : undefined;
  sightings.push(accounts?.sightings ?? []);

  const adminTool = `${config.realm}.${config.admin}`;
  const losesAdmin =
    judgedBefore.people.length + judgedBefore.tools.length > 0 &&
    lacksAdmin(judgedBefore, known, config.admin);
  const losses = { ...judgedBefore, adminless: losesAdmin ? adminTool : undefined };
  if (!check && !(await agrees(losses))) throw new Declined();
  const named = new Set(listLosses(judgedBefore));
  say('waiting for verdicts in progress');
  const terms = { by: operatorName(), admin: config.admin, portals: portalNames(config) };
  const decide = (now: KnownRealm) => {
    // again, since a name or number may have been given meanwhile
    const judged = judgeAll(now);
    if (!check) requireNamed(judged, named);
    say(`writing ${judged.people.length} people and ${judged.tools.length} tools`);
    const ofHomes = judgeHomes(candidatesIn(judged, now), files);
    return {
      judgement: judged,
      credentials: ofHomes,
      batch: batchOf(judged, ofHomes, unmanagedOf(sightings.flat(), judged, now, realm)),
    };
  };
  const write = () => writeImport(owner, terms, decide);
  const { judgement, credentials, batch, admins, wanted } = await (check
    ? rehearse(owner, write)
    : transact(owner, write, { durable: true }));

  const readers = {
    directory: directory.reader,
    homes: homes === true ? opened.homes : undefined,
    databases: accounts?.reader,
  };
  const foreseen = await foreseeAll(config, readers, wanted, say);
  return {
    check,
    taken: countImported(batch),
    known: judgement.known,
    deletions: deletionsOf(batch),
    homes: homes === true ? keptOrLost(credentials, foreseen.steps) : undefined,
    refusals: judgement.refusals,
    keyless: judgement.keyless,
    foreseen,
    adminless: admins > 0 ? undefined : adminTool,
  };
}

/** Throws BACKEND_UNREADABLE if the directory may be an older copy of itself. */
async function requireCurrent(owner: Client, directory: OpenDirectoryReader): Promise<void> {
  const { doubt } = await lookAtHeartbeat(owner, () => directory.heartbeats());
  if (doubt === undefined) return;
  throw new ChamberlainError('BACKEND_UNREADABLE', 'reading the directory', {
    cause: new Error(doubt.sentence),
    action: 'Then run the command again.',
  });
}

function deletionsOf({ tools }: ImportBatch): ImportReport['deletions'] {
  return tools.flatMap(({ account, deletion }) =>
    deletion === undefined
      ? []
      : [{ account, was: deletion.was, deleteAfter: deletion.after.toISOString() }],
  );
}

/** Throws PLAN_MOVED if others lose something that was not named to the admin. */
function requireNamed(judged: Judgement, named: ReadonlySet<string>): void {
  const unnamed = listLosses(judged).filter((line) => !named.has(line));
  if (unnamed.length === 0) return;
  throw new ChamberlainError('PLAN_MOVED', 'nothing was imported', {
    cause: new Error(`the list that you confirmed did not name these: ${listSome(unnamed)}`),
    action: 'Run the import again, and read what it leaves out now.',
  });
}

/** What the roles would do; a role without a reader is not asked. */
async function foreseeAll(
  config: Config,
  readers: {
    directory: DirectoryReader;
    homes: FilesReader | undefined;
    databases: DatabasesReader | undefined;
  },
  wanted: Written['wanted'],
  say: (text: string) => void,
): Promise<Report> {
  const realm = realmOf(config);
  const { directory, homes, databases } = readers;
  const away = databases === undefined ? [] : await findAway(config, databases);
  // the directory role seals imported accounts by itself
  const targets = DIRECTORY_TARGETS.filter((target) => target !== seal);
  const foreseen = [await foresee(targets, directory, wanted.directory, realm, say)];
  if (homes !== undefined) {
    foreseen.push(await foresee(HOMES_TARGETS, homes, wanted.homes, realm, say));
  }
  if (databases !== undefined) {
    // no imported account is leaving
    foreseen.push(await foresee([databaseAccount], databases, wanted.databases, realm, say));
  }
  const merged = mergeReports(foreseen);
  merged.unreadable.push(...away.filter((each) => !isReportedIn(each, merged.unreadable)));
  return merged;
}

/** Each database server that could not be read, even if no imported account is to be on it. */
async function findAway(
  { databases }: Pick<Config, 'databases'>,
  reader: DatabasesReader,
): Promise<Unreadable[]> {
  const looks = databases.servers.map(({ name }) =>
    reader.look(name, []).then(
      () => [],
      (error: unknown) => {
        if (codeOf(error) !== 'BACKEND_UNREADABLE') throw error;
        return [{ target: databaseAccount.name, sentence: describeError(error) }];
      },
    ),
  );
  return (await Promise.all(looks)).flat();
}

function isReportedIn({ sentence }: Unreadable, reported: readonly Unreadable[]): boolean {
  return reported.some((each) => each.sentence.includes(sentence));
}

/** Actions hold whole values that are to be removed, and one may be a private key that somebody has put there. */
export function withoutActions({ foreseen, ...report }: ImportReport): unknown {
  const steps = foreseen.steps.map((step) => ({ ...step, action: undefined }));
  return { ...report, foreseen: { ...foreseen, steps } };
}

/**
 * A password that is right is lost nevertheless if a plan makes a new one, for example because all could read the
 * file.
 */
function keptOrLost({ kept, lost }: JudgedHomes, steps: readonly Step[]): ImportReport['homes'] {
  const made = new Map(
    steps
      .filter(({ action }) => action.verb === 'credentials.write')
      .map(({ account, because }) => [account, because]),
  );
  return {
    kept: kept.filter((account) => !made.has(account)),
    lost: [
      ...lost,
      ...kept.flatMap((account) => {
        const why = made.get(account);
        return why === undefined ? [] : [{ account, why }];
      }),
    ],
  };
}

/** Entries outside our places have names and numbers too. */
function sightingsOfUnmanaged(unmanaged: SeenDirectory['unmanaged'], realmGid: number): Sighting[] {
  return unmanaged.flatMap((entry) =>
    sightingsOf(hasClass(entry, 'posixAccount') ? 'people' : 'groups', entry, realmGid),
  );
}

/** What exists and stays unmanaged. */
function unmanagedOf(
  sightings: readonly Sighting[],
  judgement: Judgement,
  ours: KnownRealm,
  realm: { realmGid: number },
): Sighting[] {
  const subjects = new Map<string, number>([
    ...ours.names,
    ...judgement.people.map(({ shellName, uid }) => [shellName, uid] as const),
    ...judgement.tools.map(({ account, uid }) => [account, uid] as const),
  ]);
  return unmanagedAmong(sightings, subjects, realm);
}

function batchOf(
  { people, tools, maintainers, realmMembers }: Judgement,
  { admitted, credentials }: ReturnType<typeof judgeHomes>,
  sightings: Sighting[],
): ImportBatch {
  return { people, tools, maintainers, realmMembers, admitted, credentials, sightings };
}

function countImported({
  people,
  tools,
  maintainers,
  realmMembers,
}: ImportBatch): ImportReport['taken'] {
  return {
    people: people.length,
    suspended: people.filter(({ state }) => state === 'suspended').length,
    realmMembers: realmMembers.length,
    tools: tools.length,
    disabled: tools.filter(({ state }) => state === 'disabled').length,
    keys: people.reduce((sum, { keys }) => sum + keys.length, 0),
    maintainers: maintainers.length,
    mailAddresses: people.filter(({ email }) => email !== '').length,
    mailVerified: people.filter(({ mailVerifiedAt }) => mailVerifiedAt !== null).length,
  };
}
