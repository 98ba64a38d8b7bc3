#!/usr/bin/env -S node --disable-sigusr1 --expose-gc --max-semi-space-size=2 --no-opt --no-maglev
/** The agent of a login host, and what an admin asks there. */
import { flushCompileCache } from 'node:module';
import { Command } from 'commander';
import { ChamberlainError } from '../../shared/errors.ts';
import { openLog } from '../../shared/log.ts';
import { acceptDirectory } from '../accept.ts';
import { startAgent } from '../agent/agent.ts';
import { loadLoginHostConfig, LOGIN_HOST_CONFIG } from '../config.ts';
import { PLACES } from '../places.ts';
import { leaveSssd, objections, othersRefused } from '../require-seals.ts';
import { readStatus, type LoginStatus } from '../status.ts';
import { exitOf, renderRefused, renderStatus, runningOf, statusJson } from './agent-status.ts';
import { describeExits, EXIT, endCommand } from '../../cli/exit.ts';
import { paint, print, printJson, renderAge } from '../../cli/table.ts';

/** What is in hand when a signal comes is done anew at the next start. */
const CLOSE_MS = 1000;

const program = new Command('keys-agent')
  .description(
    'Follows the directory on this login host, and says how old what the host knows of it is.',
  )
  .helpCommand(false)
  .configureHelp({ helpWidth: 100 })
  .configureOutput({ outputError: () => {} }) // below
  .exitOverride();

program
  .command('run')
  .summary('follow the directory until SIGTERM')
  .description(
    'Reads the directory, and tells the root helper (login-helper) what it shows, until SIGTERM or\n' +
      'SIGINT. The helper verifies all of it. Run it as its own user (chamberlain-keys), which needs no\n' +
      "right but to write to the helper's socket. Logs JSON lines to standard error.",
  )
  .option('--config <file>', 'the configuration of this login host', LOGIN_HOST_CONFIG)
  .addHelpText('after', describeExits({ 0: 'ended by a signal, as asked' }))
  .action(async ({ config: file }: { config: string }) => {
    const config = loadLoginHostConfig(file);
    const log = openLog(process.env['CHAMBERLAIN_LOG_LEVEL'] ?? 'info');
    const agent = startAgent(config, log);
    log.info({ servers: config.ldap.uris }, 'following the directory');
    flushCompileCache(); // for the next start, where the unit names a folder for it
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
  .summary('how old its knowledge is, how long it lasts, what is refused')
  .description(
    'Tells how old the knowledge of this host is, how long people can log in by it if nothing more is\n' +
      'heard of the directory, and what in the directory is not taken, why, and since when.',
  )
  .option('--json', 'print JSON for programs')
  .addHelpText(
    'after',
    describeExits({
      0: 'the directory is trusted, and all of it is taken',
      1: 'the root helper or the agent does not run',
      3: 'something is not taken, is kept though it is gone, or cannot be written',
      4: 'the directory cannot be read, or not be trusted',
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
    const running = runningOf(status, now, lives);
    if (options.json === true) printJson(statusJson(status, now, running));
    else print(renderStatus(status, now, running));
    process.exitCode = exitOf(status, running);
  });

program
  .command('accept')
  .summary('believe the directory as it is')
  .description(
    'Has the root helper believe the directory as it is, once an admin has seen that it is the right\n' +
      'one: whoever is gone from it goes, fewer people and tools than the heartbeat counts are enough,\n' +
      'and its heartbeat may be older than the last one. Seals older than those seen are refused all\n' +
      'the same. Only root may run it.',
  )
  .addHelpText('after', describeExits({ 0: 'it is accepted' }))
  .action(async () => {
    requireRoot('accept');
    const accepted = await acceptDirectory(PLACES.login);
    for (const sentence of accepted.length > 0 ? accepted : ['nothing needed it']) {
      print(sentence);
    }
  });

program
  .command('require-seals')
  .summary('switch a host that was set up with sssd to seals alone')
  .description(
    'Takes sssd out of nsswitch.conf and PAM, and stops it, so that this host believes seals alone.\n' +
      'While anybody here has no seal that the host takes, it says who, and changes nothing. Only root\n' +
      'may run it.',
  )
  .option(
    '--without <names>',
    'entries that may stay without a seal, separated by commas: they can no longer log in here',
  )
  .addHelpText(
    'after',
    describeExits({ 0: 'this host asks sssd nothing', 3: 'not yet: something stands against it' }),
  )
  .action(({ without = '' }: { without?: string }) => {
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
    for (const sentence of leaveSssd()) {
      isAsked = true;
      print(sentence);
    }
    if (!isAsked) print('sssd is not asked here');
  });

const NEVER = paint(
  'red',
  'the root helper has never run on this host: start chamberlain-login-helper',
);

function whatStandsAgainst(status: LoginStatus, now: number): string[] {
  const running = runningOf(status, now, lives);
  const why = objections(status, running.helper && running.agent);
  if (why.length === 0) return [];
  const age = (ms: number) => renderAge(new Date(ms), new Date(now));
  return [
    'Not switched; nothing is changed:',
    ...why.map((sentence) => `  ${sentence}`),
    ...renderRefused(status, age),
  ];
}

function requireRoot(command: string): void {
  if (process.getuid?.() !== 0) throw new ChamberlainError('USAGE', `${command} is for root`);
}

function lives(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

try {
  await program.parseAsync();
} catch (error) {
  endCommand(error);
}
