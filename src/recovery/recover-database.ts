/** `chamberlain recover`, if PostgreSQL was restored from a backup. */
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import type { Command } from 'commander';
import { type Config, portalNames, readSealKey } from '../shared/config.ts';
import { ChamberlainError, doing } from '../shared/errors.ts';
import { type Deletion, parseDeletions, type SeenDeletion } from '../archives/deletion.ts';
import { parseErasedPeople } from '../lifecycle/erased-person.ts';
import { verifying } from '../seals/seal.ts';
import { eventsOfTaking, type Taking } from './taking.ts';
import type { Role } from '../reconcile/wanted.ts';
import { ROLES } from '../roles/index.ts';
import type { Step } from '../reconcile/plan.ts';
import type { Report } from '../reconcile/report.ts';
import {
  emptyServers,
  evidenceOf,
  evidenceOfSeals,
  isBorneOut,
  type Marked,
  moreOf,
  openOfDeleted,
  openOfDirectory,
  openOfEmpty,
} from './evidence.ts';
import { type HostSeals, readHostSeals } from './host-seals.ts';
import { type Decided, takeLesser } from './lesser.ts';
import { digestRecovery, rowsOfOpen, rowsOfTakings } from './render.ts';
import { toolAccount, toolOf } from '../identity/names.ts';
import { count, nameFew, printableLines } from '../shared/printable.ts';
import { timeOf } from '../shared/time.ts';
import { eventsForPortals } from '../events/done.ts';
import { findSubjects } from '../identity/names-table.ts';
import { type Client, rehearse, transact, openOwner } from '../database/connection.ts';
import { olderOf, readPlaces } from '../seals/place-markers-table.ts';
import {
  countBroughtToDatabases,
  readBroughtTo,
  readLastKnown,
  readSealNumbers,
  type Recovery,
  type SeenSince,
  writeRecovery,
} from './write-recovery.ts';
import { readMaintainersOf } from '../identity/tools-table.ts';
import { readWanted } from '../reconcile/wanted-queries.ts';
import { configOf, wantsJson } from '../cli/configuration.ts';
import { canAsk, confirm } from '../cli/confirm.ts';
import { EXIT, failureLine } from '../cli/exit.ts';
import { describeActing, freezeAndWait } from '../cli/commands/freeze.ts';
import { operatorName } from '../cli/operator.ts';
import {
  READ_AGAIN,
  type RecoverOptions,
  refuseUnread,
  surveyAll,
  type Surveyed,
} from './recover-survey.ts';
import { print, printJson, renderTable } from '../cli/table.ts';

const UNREAD_ERASURES = {
  target: 'home-archive',
  sentence:
    'the list of erased people (erasures.log in the folder of home archives) cannot be read',
  action:
    'Restore its newest copy. If nobody was ever erased, run `chamberlain prepare` on the file server instead.',
};

const UNREAD_ARCHIVES = {
  target: 'archives',
  sentence:
    'a folder of archives cannot be read; only the archives show what was deleted after the backup',
  action:
    'Mount or restore the folders `archives.homes` and `archives.databases`, with their owners: `chamberlain doctor` on the machine of each role says what is wrong.',
};

/**
 * Freezes the realm, surveys, shows the list, asks for confirmation, and then does everything on the list and thaws.
 */
export async function recoverDatabase(command: Command): Promise<void> {
  const config = configOf(command);
  const json = wantsJson(command);
  const { expect, seals, timeout } = command.opts<RecoverOptions>();
  const owner = await openOwner(config);
  try {
    const { acting, held } = await freezeAndWait(config, {
      reason: 'PostgreSQL was restored from a backup',
      keep: true,
      timeoutMs: timeout * 1000,
      json,
    });
    if (acting.length > 0) {
      process.exitCode = EXIT.timeout;
      const sentence = `still at work: ${describeActing(acting)}; nothing was done, and the realm stays frozen`;
      process.stderr.write(
        `${failureLine('TIMEOUT', sentence, 'Run the same command again to wait longer.')}\n`,
      );
      return;
    }
    const surveyed = await surveyAll(command, config, ROLES);
    const { reports, unreadable, doubt } = surveyed;
    if (refuseUnread(command, unreadable, 'the realm stays frozen')) return;
    const erased = parseErasedPeople(reports.get('homes')?.erased);
    if (erased === undefined) {
      refuseUnread(command, [UNREAD_ERASURES], 'the realm stays frozen');
      return;
    }
    const deletions = deletionsIn(reports);
    if (deletions === undefined) {
      refuseUnread(command, [UNREAD_ARCHIVES], 'the realm stays frozen');
      return;
    }
    const older = olderOf(await readPlaces(owner, 'databases'));
    const hosts = await readSealFiles(owner, command);
    const seen = {
      ...seenIn(reports, older),
      ...{ frozenAt: held.frozenAt, remembered: hosts.unknown, erased, deletions },
    };
    const decided = await decide(owner, command, surveyed, { erased, older, hosts });
    const write = () => writeRecovery(owner, seen, decided, termsOf(config));
    const drafted = await rehearse(owner, write);
    const digest = digestRecovery(drafted);
    const lost = {
      since: await readLastKnown(owner),
      isShown: doubt?.older === 'database' || (seals ?? []).length > 0,
    };
    requireDigest(digest, expect ?? digest);
    if (expect === undefined) {
      if (json) printJson({ recovered: false, digest, ...drafted });
      else print(renderRecovery(drafted, digest, lost));
      if (!canAsk(command)) {
        if (!json) print(TO_CONFIRM(digest));
        process.exitCode = EXIT.pending;
        return;
      }
      if (!(await confirm('\nDo this, and thaw the realm? [y/N] ', NOTHING_DONE))) return;
    }
    const keep = async () => {
      const written = await write();
      requireDigest(digestRecovery(written), digest);
      return written;
    };
    const recovered = await transact(owner, keep, { durable: true });
    const isDirectoryOlder = doubt?.older === 'directory';
    if (json)
      printJson({ recovered: true, digest, ...recovered, directoryIsOlder: isDirectoryOlder });
    else {
      if (expect !== undefined) print(renderRecovery(recovered, digest, lost));
      print(`\nDone. The realm is thawed.\n${NEXT}`);
      if (isDirectoryOlder) print(AND_DIRECTORY);
    }
  } finally {
    await owner.end();
  }
}

function requireDigest(digest: string, expected: string): void {
  if (digest === expected) return;
  const sentence = `the digest is ${digest} now, not ${expected}; nothing was done, and the realm stays frozen`;
  throw new ChamberlainError('PLAN_MOVED', sentence, { action: READ_AGAIN });
}

const AND_DIRECTORY = 'The directory is an older copy too. Now run `chamberlain recover` again.';
const NOTHING_DONE = 'Nothing was done; the realm stays frozen.';
const TO_CONFIRM = (digest: string) =>
  '\nNothing was done; the realm stays frozen. If the list is right, run the same command with\n' +
  `--expect ${digest}`;

type Remembered = Omit<HostSeals, 'refused'>;

/** Decides what changes because of the evidence, for all subjects that `--keep` does not keep as in the backup. */
async function decide(
  owner: Client,
  command: Command,
  { reports, doubt }: Surveyed,
  {
    erased,
    older,
    hosts,
  }: { erased: readonly { uid: number }[]; older: readonly string[]; hosts: Remembered },
): Promise<Decided> {
  const config = configOf(command);
  const { keep = [], database } = command.opts<RecoverOptions>();
  await requireKnown(owner, keep);
  const stepsOf = (role: Role) => reports.get(role)?.steps ?? [];
  const directory = doubt?.older === 'directory' ? [] : stepsOf('directory');
  const databases = stepsOf('databases');
  const sealed = reports.get('directory')?.newerSeals ?? [];
  const seals = [...evidenceOfSeals(sealed), ...hosts.shown];
  const markedBy = (role: Role): Marked => reports.get(role) ?? {};
  const places = [markedBy('homes'), markedBy('databases')];
  // with --database, everything was restored
  const isOfNow = database !== true && isBorneOut(markedBy('directory'), places);
  const subjects = new Set([...seals, ...directory, ...databases].map(({ subject }) => subject));
  for (const { uid } of erased) subjects.delete(uid);
  const wanted = await readWanted(owner, 'directory', [...subjects]);
  const byUid = new Map(wanted.map((each) => [each.uid, each]));
  const wasThere = await readBroughtTo(owner, [...subjects]);
  const brought = await countBroughtToDatabases(owner);
  const empty = emptyServers(databases, brought).filter((name) => !older.includes(name));
  const servers = config.databases.servers
    .map(({ name }) => name)
    .filter((name) => !older.includes(name) && !empty.includes(name));
  const { takings, open, seenKeys } = takeLesser(
    wanted,
    [
      ...seals,
      ...evidenceOf('directory', directory, byUid, wasThere),
      ...evidenceOf('databases', databases, byUid, wasThere, servers),
    ],
    {
      maintainers: await readMaintainersOf(owner, [...subjects]),
      more: moreOf([...(isOfNow ? directory : []), ...databases], servers),
      admin: toolAccount(config.realm, config.admin),
      keep,
    },
  );
  return {
    takings,
    seenKeys,
    open: [
      ...(sealed.length > 0 && !isOfNow ? [openOfDirectory(places)] : []),
      ...[...empty.map(openOfEmpty), ...open, ...openOfDeleted(directory, wanted)],
    ],
  };
}

/** Throws USAGE if an account is unknown. */
async function requireKnown(owner: Client, accounts: readonly string[]): Promise<void> {
  const known = await findSubjects(owner, accounts);
  const unknown = accounts.filter((account) => !known.has(account));
  if (unknown.length === 0) return;
  throw new ChamberlainError('USAGE', `--keep: the backup does not know ${unknown.join(', ')}`);
}

/** Reads the seals that login hosts remember. Throws USAGE if a file cannot be read. */
async function readSealFiles(owner: Client, command: Command): Promise<Remembered> {
  const { seals: files = [] } = command.opts<RecoverOptions>();
  if (files.length === 0) return { shown: [], unknown: [] };
  const keys = verifying(readSealKey(configOf(command)));
  const known = await readSealNumbers(owner);
  const read = files.map((file) => {
    const text = doing('USAGE', `reading ${file}`, () => readFileSync(file, 'utf8'));
    const seals = readHostSeals(text, basename(file), keys, known);
    // lines that a crash cut off, or that an earlier key signed
    const lines = count(seals.refused, 'line');
    if (seals.refused > 0)
      process.stderr.write(`${file}: left out ${lines} not signed with the seal key\n`);
    return seals;
  });
  return {
    shown: read.flatMap(({ shown }) => shown),
    unknown: read.flatMap(({ unknown }) => unknown),
  };
}

function termsOf(config: Config) {
  return {
    by: operatorName(),
    realm: config.realm,
    portals: portalNames(config),
    admin: config.admin,
    keepDays: config.archives.keepDays,
    eventsOfErased: ({ account, uid }: { account: string; uid: number }) =>
      eventsForPortals(config, [], {
        ...{ event: 'person.erased', subject: uid, request: undefined, data: { account } },
      }),
    eventsOfDeleted: ({ account, uid, kind }: Deletion) => {
      const tool = kind === 'tool' ? { tool: toolOf(account) } : {};
      const data = { ...tool, account };
      return eventsForPortals(config, [], {
        ...{ event: `${kind}.deleted`, subject: uid, request: undefined, data },
      });
    },
    eventsOfTaking: (taking: Taking) =>
      eventsOfTaking(taking).flatMap(({ event, data }) =>
        eventsForPortals(config, [], { event, subject: taking.subject, request: undefined, data }),
      ),
  };
}

/** Whether a file or a server may have a password for the account that is not the recorded one. */
function isOfPassword({ action: { verb } }: Step): boolean {
  return verb === 'credentials.write' || verb === 'db.setVerifier';
}

/** The deletions that the archives of both roles show. Undefined if a role could not read its archives. */
function deletionsIn(reports: ReadonlyMap<Role, Report>): SeenDeletion[] | undefined {
  const [homes, databases] = (['homes', 'databases'] as const).map((role) =>
    parseDeletions(reports.get(role)?.deletions),
  );
  return homes && databases && [...homes, ...databases];
}

/** @param older database servers that are older copies; they show nothing new */
function seenIn(
  reports: ReadonlyMap<Role, Report>,
  older: readonly string[],
): Omit<SeenSince, 'frozenAt' | 'erased' | 'deletions' | 'remembered'> {
  const isOlder = ({ action }: Step) => 'server' in action && older.includes(action.server);
  const strange = [...reports.values()].flatMap(({ steps }) =>
    steps.filter((step) => isOfPassword(step) && !isOlder(step)),
  );
  return {
    unmanagedNumbers: [...reports.values()].flatMap(
      ({ unmanagedNumbers }) => unmanagedNumbers ?? [],
    ),
    strangePasswords: [...new Set(strange.map(({ subject }) => subject))],
    isOlder: reports.get('directory')?.doubt?.older === 'database',
    given: [...reports].flatMap(([role, { steps }]) =>
      steps
        .filter(({ effect }) => effect === 'revoke')
        .map(({ subject, target }) => ({ subject, role, target })),
    ),
  };
}

function renderRecovery(recovery: Recovery, digest: string, lost: Lost): string {
  const { ranges, exhausted, names, credentials, events, erased, leaving, takings, open } =
    recovery;
  const named = (what: string, list: readonly string[], how: string) =>
    list.length === 0 ? [] : [[what, `${how} ${nameFew(list)}`]];
  const rows = [
    ...ranges.map(({ kind, first, last, from, to }) => [
      'numbers',
      `${kind} ${first}-${last}: continue at ${to}, not at ${from}${to > last ? '; the range is exhausted' : ''}`,
    ]),
    ...named('names', names, 'treated as unmanaged:'),
    ...named(
      'passwords',
      credentials.map(({ account }) => account),
      'new for',
    ),
    ...named(
      'erased',
      erased.map(({ account }) => account),
      'again, according to erasures.log:',
    ),
    ...named(
      'deleted',
      leaving.deleted.map(({ account }) => account),
      'after the backup, according to their archives:',
    ),
    ...events.map(({ portal, to }) => ['events', `of ${portal}: continue at ${to + 1}`]),
  ];
  const section = (heading: string, headings: readonly string[], of: string[][]) =>
    of.length === 0 ? [] : [`${heading}\n${renderTable(headings, of)}`];
  const text = [
    ...section(
      'Will be changed because of what the servers show:',
      ['account', 'from now on', 'shown by'],
      rowsOfTakings(takings),
    ),
    ...section(
      'For you to decide. None of this happens unless you run the command in its row:',
      ['what', 'to change it'],
      rowsOfOpen(open),
    ),
    ...section('How the realm continues:', ['what', 'how'], rows),
    ...exhausted.map(
      (kind) => `There is no number left for a new ${kind}: see IDS_EXHAUSTED in docs/errors.md.`,
    ),
    describeLost(lost, names.length > 0),
    `digest ${digest}`,
  ].join('\n\n');
  return printableLines(text);
}

interface Lost {
  /** the time of the last change that the backup knows */
  since: Date | undefined;
  /** whether anything shows what was taken away after the backup */
  isShown: boolean;
}

function describeLost({ since, isShown }: Lost, areUnmanaged: boolean): string {
  const known = since === undefined ? '' : ` (its last change was made at ${timeOf(since)})`;
  return [
    `Lost: everything requested after the backup${known}, except what is listed above.`,
    STILL_CLOSED,
    ...(areUnmanaged ? [TAKE_BACK] : []),
    ...(isShown ? [] : [UNSHOWN]),
  ].join('\n');
}

// the seal of a suspended person does not list keys or tools
const STILL_CLOSED =
  'Nothing shows which keys and tools were taken from people who are suspended in the backup. See `chamberlain explain`\n' +
  'before you reinstate them.';
const TAKE_BACK =
  'Accounts created after the backup are listed as unmanaged. `chamberlain import --from-directory --homes --databases`\n' +
  'takes them over, with their numbers.';
const UNSHOWN =
  'Nothing shows whose access was revoked after the backup, so these people will have access again. Give the seal files\n' +
  'of login hosts with --seals. If you know who some of them are, run `chamberlain submit person.suspend --people …`\n' +
  'without --wait before you confirm: this request is done first when the realm is thawed.';
const NEXT =
  'Now run `chamberlain sweep now`, which repairs the remaining differences, `chamberlain list unmanaged` and\n' +
  '`chamberlain doctor`. Then make a set of backups.';
