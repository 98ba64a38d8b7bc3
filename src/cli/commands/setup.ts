/** `chamberlain setup`: turns a Debian 13 machine with the package chamberlain into a realm. */
import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemdRuns } from '../../../deploy/login-host/services.ts';
import type { GroupedLine } from '../../doctor/line.ts';
import { refuseListenWithout } from '../../setup/answers.ts';
import { joinedPieces } from '../../setup/joined.ts';
import { stopServers } from '../../setup/own-servers.ts';
import { allPieces, renewedPieces } from '../../setup/pieces.ts';
import { readConfig } from '../../setup/places.ts';
import { requireAlone } from '../../setup/programs.ts';
import { renderDifferences, renderPlan } from '../../setup/render-setup.ts';
import {
  carryOut,
  carryOutEach,
  type Difference,
  type Piece,
  survey,
  takeAway,
} from '../../setup/setup.ts';
import { ChamberlainError } from '../../shared/errors.ts';
import { readAnswers } from '../answers.ts';
import { type Command, CONFIG_FILE } from '../command.ts';
import { wantsJson } from '../configuration.ts';
import { EXIT } from '../exit.ts';
import { printPage } from '../fold.ts';
import { askToJoin, joinedMachine, type JoinOptions } from '../joining.ts';
import { startProgress, withProgress } from '../progress.ts';
import { print, printJson } from '../table.ts';
import { countStates, endChecks, examineRealm, renderLines } from './doctor.ts';

/** The workers need some time until the first admin has everything. */
const LATEST_MS = 60_000;
const AGAIN_MS = 500;

interface SetupOptions extends JoinOptions {
  answers?: string;
  print?: true;
  check?: true;
  renew?: true;
  uninstall?: true;
}

const ANSWERS = `      realm: tools                     # the prefix of every tool's account
      base: dc=example,dc=org          # of the directory
      listen: realm.example.org        # optional: the name by which other machines reach this one
      admin:                           # the first one
        name: alice                    # a shell name
        sshKey: /root/alice.pub        # the path of a public key, or the key
        signingKey: /root/alice.pem    # the public half, as \`openssl pkey -pubout\` prints it
        displayName: Alice A.          # optional
        email: alice@example.org       # optional
      database:                        # optional: the MariaDB server
        name: toolsdb
        kind: toolsdb                  # or replica
        host: sql.example.org          # optional, with port and caFile: one that is there already
      redis:                           # optional: one that is there already
        url: rediss://cache.example.org
        caFile: /etc/ssl/own.pem
      ldap:                            # optional, not with listen: one that is there already,
                                       # which others may use too
        uri: ldaps://ldap.example.org
        caFile: /etc/ssl/own.pem
        administrator:                 # the olcRootDN, or EXTERNAL with ldapi
          user: cn=admin,dc=example,dc=org
          passwordFile: /root/password
        config:                        # optional, the same for cn=config
          user: cn=admin,cn=config
          passwordFile: /root/password
      postgres:                        # optional: one that is there already
        host: db.example.org
        port: 5432
        database: chamberlain
        caFile: /etc/ssl/own.pem
        administrator:                 # optional; the MariaDB server above may have one too
          user: postgres
          passwordFile: /root/password
      ids:                             # optional: ranges of numbers
        people: [{ first: 20000, last: 49999 }, { first: 100000, last: 499999 }]
        tools: [{ first: 50000, last: 59999 }]

A server that is there already is used as it is. \`setup\` writes down what its administrator must run
there, or runs that itself if it gets a login. For a directory it needs a login: it changes and
deletes nothing there, and adds only what it has shown before.`;

export function define(command: Command): void {
  command
    .description(
      'Makes a realm on this machine, which must run Debian 13 and have the package chamberlain: installs\n' +
        'the packages of the servers, makes an instance of PostgreSQL, Redis, slapd and MariaDB for\n' +
        'Chamberlain alone, each on a unix socket, then secrets, the configuration, the first admin and the\n' +
        'workers, and ends with `chamberlain doctor`. If other machines are to reach the servers, these also\n' +
        'listen with TLS, with certificates that a timer renews. Other instances on this machine are left\n' +
        'alone. Run it as root. It makes only what is missing or differs: it may be interrupted at any\n' +
        'moment, and run again. Where systemd does not run, as in a container, the servers run only until\n' +
        'this command ends, and it starts no worker.\n\n' +
        'Roles may run on a machine of their own. There, `--role ROLES --request FILE` writes a join request,\n' +
        'which an operator answers with `chamberlain join` on the machine of the realm. With that answer,\n' +
        '`--join FILE` makes users, configuration, secrets and services of these roles. The other options\n' +
        'then do the same for them as for a realm.\n\n' +
        'It asks for what it must know. A YAML file (--answers FILE) may answer instead:\n\n' +
        ANSWERS,
    )
    .option('--answers <file>', 'the answers, in YAML')
    .option(
      '--print',
      'show each piece, what would be done for it and how it differs; change nothing',
    )
    .option('--check', 'show only the pieces that differ; change nothing')
    .option(
      '--renew',
      'only renew certificates that have less than a third of their life left, and make the servers use the new ones',
    )
    .option(
      '--role <roles>',
      'with --request: the roles, with commas, such as homes or databases,sweep',
    )
    .option('--request <file>', 'write the join request of a machine that is to run roles')
    .option('--name <name>', 'with --request: the name of this machine, if it is not its hostname')
    .option('--join <file>', 'make this machine what the answer of `chamberlain join` says')
    .option(
      '--fingerprint <code>',
      'with --join: that of the answer, as `chamberlain join` has shown it; required without a terminal',
    )
    .option(
      '--uninstall',
      'stop and disable the units, and move the configuration away; data, secrets, keys and packages stay',
    )
    .examples(
      'setup',
      'setup --answers realm.yaml --print',
      'setup --check',
      'setup --role homes --request files1.json',
      'setup --join files1.example.org.join',
    )
    .exits({
      0: 'everything is as it must be',
      3: '--check: a piece differs; otherwise: `doctor` has found something to correct',
      4: '`doctor` could not read something',
    })
    .action(() => act(command, command.opts<SetupOptions>()));
}

async function act(command: Command, options: SetupOptions): Promise<void> {
  requireMachine(command, options);
  if (options.request !== undefined) return askToJoin(command, options);
  if (options.uninstall === true && !existsSync(CONFIG_FILE)) {
    const none = 'There is no configuration, so there is nothing to remove.';
    return report(command, { removed: [] }, none);
  }
  const joined = await joinedMachine(command, options);
  if (joined === 'declined') return;
  const answers = joined ?? (await readAnswers(command, options.answers));
  const isJoined = 'roles' in answers;
  if (!isJoined && options.uninstall !== true) refuseListenWithout(systemdRuns(), answers);
  const pieces = isJoined ? joinedPieces(answers.roles, answers.answer) : allPieces(answers);
  if (options.print === true || options.check === true) {
    return await show(command, pieces, options.print === true);
  }
  await requireAlone();
  if (options.uninstall === true)
    await uninstall(command, pieces, isJoined ? undefined : answers.ldap?.uri);
  else if (isJoined) {
    await make(command, pieces, `\nRuns here: ${answers.roles.join(' and ')}.`);
  } else if (options.renew === true) await renew(command, renewedPieces(answers));
  else await make(command, pieces, NEXT);
}

function requireMachine(
  command: Command,
  { print: prints, check, renew: renews, uninstall: removes }: SetupOptions,
) {
  if ([prints, check, renews, removes].filter((each) => each === true).length > 1) {
    command.error('error: give only one of --print, --check, --renew and --uninstall');
  }
  const { config } = command.optsWithGlobals<{ config?: string }>();
  if (config !== undefined && config !== CONFIG_FILE) {
    command.error(`error: setup makes ${CONFIG_FILE}, so --config cannot name another file`);
  }
  if (process.getuid?.() !== 0) {
    throw new ChamberlainError('USAGE', 'only root can set up a realm', {
      action: 'Run it as root.',
    });
  }
  if (!existsSync('/usr/lib/systemd/system/chamberlain@.service')) {
    throw new ChamberlainError('USAGE', 'setup needs the units of the Debian package chamberlain', {
      action: 'Install the package, or follow the steps in docs/install.md.',
    });
  }
}

async function show(command: Command, pieces: readonly Piece[], all: boolean): Promise<void> {
  const found = await withProgress(wantsJson(command), (say) => survey(pieces, say));
  const how = new Map(found.map((difference) => [difference.piece, difference]));
  if (!all && found.length > 0) process.exitCode = EXIT.pending;
  const value = {
    differ: found.length,
    pieces: pieces
      .filter((piece) => all || how.has(piece))
      .map((piece) => ({
        ...{ name: piece.name, does: piece.does, differs: how.get(piece)?.differs ?? null },
      })),
  };
  report(command, value, all ? renderPlan(pieces, how) : renderDifferences(found));
}

function report(command: Command, value: unknown, text: string): void {
  if (wantsJson(command)) printJson(value);
  else printPage(text);
}

async function renew(command: Command, pieces: readonly Piece[]): Promise<void> {
  const json = wantsJson(command);
  const made = await withProgress(json, (say) => makeEach(pieces, say, json, carryOutEach));
  if (json) printJson({ made: namesOf(made) });
}

/** Makes what differs, and says so. */
async function makeEach(
  pieces: readonly Piece[],
  say: (text: string) => void,
  json: boolean,
  carry = carryOut,
): Promise<Difference[]> {
  const made: Difference[] = [];
  await carry(pieces, say, (difference) => {
    made.push(difference);
    if (!json) print(`${difference.piece.name} ${difference.differs}: made`);
  });
  if (made.length === 0 && !json) print('nothing was to be done');
  return made;
}

const namesOf = (made: readonly Difference[]) =>
  made.map(({ piece, differs }) => ({ name: piece.name, differed: differs }));

async function make(command: Command, pieces: readonly Piece[], next: string): Promise<void> {
  const json = wantsJson(command);
  const progress = startProgress({ json });
  try {
    const made = await makeEach(pieces, progress.say, json);
    const lines = systemdRuns() ? await examineUntilGood(progress.say) : undefined;
    progress.end();
    if (lines === undefined) {
      if (json) printJson({ made: namesOf(made), doctor: null });
      else print(WITHOUT_SYSTEMD);
      return;
    }
    const totals = countStates(lines);
    if (json) printJson({ made: namesOf(made), doctor: { totals, lines } });
    else {
      print(renderLines(lines, totals, false));
      if (faultsOf(lines).length === 0 && made.length > 0) print(next);
    }
    endChecks(totals);
  } finally {
    progress.end();
    await stopServers();
  }
}

const NEXT =
  '\nThe realm works. What comes next: a tool, login hosts, a second admin, backups. See docs/install.md.';

const WITHOUT_SYSTEMD =
  'systemd does not run here, and setup has stopped what it had started: now start the servers and the workers';

/** The lines of `doctor`: when they tell of no fault, or after a minute. */
async function examineUntilGood(say: (text: string) => void): Promise<GroupedLine[]> {
  const until = performance.now() + LATEST_MS;
  say('waiting for the workers');
  for (;;) {
    const lines = await examineRealm(readConfig(), CONFIG_FILE, '/etc', () => {});
    if (faultsOf(lines).length === 0 || performance.now() > until) return lines;
    say(`waiting for the workers: ${faultsOf(lines)[0]?.what}`);
    await sleep(AGAIN_MS);
  }
}

const faultsOf = (lines: readonly GroupedLine[]): GroupedLine[] =>
  lines.filter(({ state }) => state === 'fix' || state === 'unreadable');

async function uninstall(
  command: Command,
  pieces: readonly Piece[],
  directory?: string,
): Promise<void> {
  const removed: string[] = [];
  await withProgress(wantsJson(command), (say) =>
    takeAway(pieces, say, (what) => void removed.push(what)),
  );
  const added =
    directory === undefined ? [] : [`what was added to the directory at ${directory} stays there`];
  report(command, { removed }, [...removed, STAYS, ...added].join('\n'));
}

const STAYS = 'data, secrets, keys and packages stay';
