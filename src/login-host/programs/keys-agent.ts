#!/usr/bin/env -S node --disable-sigusr1 --expose-gc --max-semi-space-size=2 --no-opt --no-maglev
/** The agent of a login host, and the commands that an admin runs there. */
import { writeFileSync } from 'node:fs';
import { flushCompileCache } from 'node:module';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Command } from 'commander';
import { ChamberlainError } from '../../shared/errors.ts';
import { openLog } from '../../shared/log.ts';
import { tellSystemd } from '../../shared/systemd.ts';
import { startAgent } from '../agent/agent.ts';
import { loadLoginHostConfig, LOGIN_HOST_CONFIG } from '../config.ts';
import { isAlive, removeFile } from '../../shared/durable-file.ts';
import { PLACES } from '../places.ts';
import { leaveSssd, objections, othersRefused } from '../require-seals.ts';
import { ACCEPT_FILE, readStatus, type LoginStatus } from '../status.ts';
import { exitOf, renderRefused, renderStatus, runningOf, statusJson } from './agent-status.ts';
import { describeExits, EXIT, endCommand } from '../../cli/exit.ts';
import { paint, print, printJson, renderAge } from '../../cli/table.ts';

/** Work that a signal interrupts is done again at the next start. */
const CLOSE_MS = 1000;
/** How long the login helper may take to accept the directory. */
const PATIENCE_MS = 10_000;

const program = new Command('keys-agent')
  .description('Follows the directory on this login host, and shows how current the host is.')
  .helpCommand(false)
  .configureHelp({ helpWidth: 100 })
  .configureOutput({ outputError: () => {} }) // below
  .exitOverride();

program
  .command('run')
  .summary('follow the directory until SIGTERM')
  .description(
    'Reads the directory, and reports to the login helper what it shows, until SIGTERM or SIGINT. The\n' +
      'login helper verifies everything. Run it as its own user (chamberlain-keys), which only needs the\n' +
      'right to write to the socket of the login helper. Logs JSON lines to standard error.',
  )
  .option('--config <file>', 'the configuration of this login host', LOGIN_HOST_CONFIG)
  .addHelpText('after', describeExits({ 0: 'ended by a signal, as requested' }))
  .action(async ({ config: file }: { config: string }) => {
    const config = loadLoginHostConfig(file);
    const log = openLog(process.env['CHAMBERLAIN_LOG_LEVEL'] ?? 'info');
    const agent = startAgent(config, log);
    log.info({ servers: config.ldap.uris }, 'following the directory');
    tellSystemd(log);
    flushCompileCache(); // for the next start, if the unit names a folder for it
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      process.once(signal, () => {
        setTimeout(() => process.exit(0), CLOSE_MS).unref();
        void agent.close().then(() => process.exit(0));
      });
    }
    await agent.ended;
  });

program
  .command('status')
  .summary(
    'show how current this host is, how long people can log in without the directory, and what it refuses',
  )
  .description(
    'Shows how old the knowledge of this host is, how long people can still log in if the directory\n' +
      'cannot be read any more, and which entries of the directory are refused, why, and since when.',
  )
  .option('--json', 'print JSON for programs')
  .addHelpText(
    'after',
    describeExits({
      0: 'the directory is trusted, and every entry is accepted',
      1: 'the login helper or the agent is not running',
      3: 'an entry is refused, or has disappeared and is still kept here, or a file cannot be written',
      4: 'the directory cannot be read, or is not trusted',
    }),
  )
  .action((options: { json?: true }) => {
    const now = Date.now();
    const status = readStatus(PLACES.login);
    if (status === undefined) {
      if (options.json === true) printJson({ running: false });
      else print(NEVER);
      process.exitCode = EXIT.failed;
      return;
    }
    const running = runningOf(status, now, isAlive);
    if (options.json === true) printJson(statusJson(status, now, running));
    else print(renderStatus(status, now, running));
    process.exitCode = exitOf(status, running);
  });

program
  .command('accept')
  .summary('accept the directory as it is')
  .description(
    'Makes the login helper accept the directory as it is. Run it only after an admin has checked that it\n' +
      'is the right directory. This host then removes the people and tools that have disappeared from the\n' +
      'directory. It also accepts a directory that holds fewer people and tools than its heartbeat counts,\n' +
      'or whose heartbeat is older than the last one. It still refuses seals that are older than those it\n' +
      'has seen. Only root may run it.',
  )
  .addHelpText('after', describeExits({ 0: 'the directory is accepted' }))
  .action(async () => {
    requireRoot('accept');
    const accepted = await acceptDirectory();
    for (const sentence of accepted.length > 0 ? accepted : ['nothing was in doubt']) {
      print(sentence);
    }
  });

program
  .command('require-seals')
  .summary('switch a host from sssd to seals only')
  .description(
    'Removes sssd from nsswitch.conf and PAM, and stops it, so that this host believes only seals. If\n' +
      'an account here has no seal that the host accepts, it names the account, and changes nothing.\n' +
      'Only root may run it.',
  )
  .option(
    '--without <names>',
    'go on although these entries, separated by commas, have no seal: they can then no longer log in here',
  )
  .addHelpText(
    'after',
    describeExits({
      0: 'this host does not use sssd',
      3: 'nothing is changed: the host is not ready',
    }),
  )
  .action(async ({ without = '' }: { without?: string }) => {
    requireRoot('require-seals');
    const now = Date.now();
    const found = readStatus(PLACES.login);
    const status = found && othersRefused(found, new Set(without.split(',')));
    if (status === undefined) print(NEVER);
    const against = status === undefined ? [] : whatStandsAgainst(status, now);
    for (const line of against) print(line);
    if (status === undefined || against.length > 0) {
      process.exitCode = EXIT.pending;
      return;
    }
    let isAsked = false;
    for await (const sentence of leaveSssd()) {
      isAsked = true;
      print(sentence);
    }
    if (!isAsked) print('this host does not use sssd');
  });

const NEVER = paint(
  'red',
  'the login helper has never run on this host: start chamberlain-login-helper',
);

function whatStandsAgainst(status: LoginStatus, now: number): string[] {
  const running = runningOf(status, now, isAlive);
  const why = objections(status, running.helper && running.agent);
  if (why.length === 0) return [];
  const age = (ms: number) => renderAge(new Date(ms), new Date(now));
  return [
    'Nothing is changed, because the host is not ready:',
    ...why.map((sentence) => `  ${sentence}`),
    ...renderRefused(status, age),
  ];
}

/**
 * Asks the login helper to accept the directory, and returns what it has accepted, in sentences. Throws NOT_ACCEPTED if
 * the helper does not do so in time; the request is then removed.
 */
async function acceptDirectory(): Promise<readonly string[]> {
  const path = join(PLACES.login, ACCEPT_FILE);
  const read = () => readStatus(PLACES.login);
  if (read() === undefined) throw notNow('the login helper has never run here');
  const before = read()?.accepted?.at;
  writeFileSync(path, '', { mode: 0o600 });
  const deadline = performance.now() + PATIENCE_MS;
  do {
    await sleep(50);
    const { accepted } = read() ?? {};
    if (accepted?.at !== before) return accepted?.what ?? [];
  } while (performance.now() < deadline);
  removeFile(path);
  throw notNow(`the login helper did not answer within ${PATIENCE_MS / 1000} s`);
}

function notNow(why: string): ChamberlainError {
  return new ChamberlainError('NOT_ACCEPTED', why);
}

function requireRoot(command: string): void {
  if (process.getuid?.() !== 0)
    throw new ChamberlainError('USAGE', `only root may run \`${command}\``);
}

try {
  await program.parseAsync();
} catch (error) {
  endCommand(error);
}
