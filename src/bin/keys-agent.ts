#!/usr/bin/env -S node --disable-sigusr1 --expose-gc --max-semi-space-size=2
/** The keys agent of a login host, and what it says of itself. */
import { flushCompileCache } from 'node:module';
import { Command } from 'commander';
import { openLog } from '../log.ts';
import { startAgent } from '../login-host/agent.ts';
import { readStatus, type AgentStatus } from '../login-host/agent-status.ts';
import { loadLoginHostConfig, LOGIN_HOST_CONFIG } from '../login-host/config.ts';
import { describeExits, EXIT, endCommand } from './exit.ts';
import { paint, print, printJson, renderAge, renderTable, withoutControls } from './table.ts';

/** An agent writes its status every 5 s; one that hangs on a server still does within 10. */
const SILENT_MS = 30_000;
/** What is in hand when a signal comes is done anew at the next start. */
const CLOSE_MS = 1000;

const program = new Command('keys-agent')
  .description(
    'Follows the directory, and keeps the key files that sshd is given on this login host.',
  )
  .option('--config <file>', 'the configuration of this login host', LOGIN_HOST_CONFIG)
  .helpCommand(false)
  .configureHelp({ showGlobalOptions: true, helpWidth: 100 })
  .configureOutput({ outputError: () => {} }) // below
  .exitOverride();

program
  .command('run')
  .summary('follow the directory until SIGTERM')
  .description(
    'Follows the directory until SIGTERM or SIGINT. Run it as its own user (chamberlain-keys), which\n' +
      'alone may write the folder of key files. Logs JSON lines to standard error.',
  )
  .addHelpText('after', describeExits({ 0: 'ended by a signal, as asked' }))
  .action(async () => {
    const config = loadLoginHostConfig(program.opts<{ config: string }>().config);
    const log = openLog(process.env['CHAMBERLAIN_LOG_LEVEL'] ?? 'info');
    process.umask(0o027);
    const agent = startAgent(config, log);
    log.info({ keys: config.keysFolder }, 'following the directory');
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
  .summary('how old its knowledge is, how long it lasts, what it refused')
  .description(
    'Tells how old the knowledge of this host is, how long people can log in by it if nothing more is\n' +
      'heard of the directory, and what in the directory is not taken, and why.',
  )
  .option('--json', 'print JSON for programs')
  .addHelpText(
    'after',
    describeExits({
      0: 'the directory is trusted, and all of it is taken',
      1: 'the agent does not run',
      3: 'something in the directory is not taken, or the root helper does not answer',
      4: 'the directory cannot be read, or not be trusted',
    }),
  )
  .action((options: { json?: true }) => {
    const config = loadLoginHostConfig(program.opts<{ config: string }>().config);
    const now = Date.now();
    const status = readStatus(config.stateFolder);
    if (status === undefined) {
      if (options.json === true) printJson({ running: false });
      else print(`directory   ${paint('red', 'the agent has never run on this host: start it')}`);
      process.exitCode = EXIT.failed;
      return;
    }
    const runs = now - status.at < SILENT_MS && lives(status.pid);
    if (options.json === true) printJson(toJson(status, now, runs));
    else print(render(status, now, runs));
    if (!runs) process.exitCode = EXIT.failed;
    else if (!status.trusted) process.exitCode = EXIT.unreadable;
    else if (status.refusalsInAll > 0 || status.helper !== undefined)
      process.exitCode = EXIT.pending;
  });

function lives(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

function toJson(status: AgentStatus, now: number, running: boolean): object {
  const time = (ms: number | undefined) => (ms === undefined ? null : new Date(ms).toISOString());
  const lastsSeconds = (ms: number | undefined) =>
    ms === undefined ? null : Math.max(0, Math.round((ms - now) / 1000));
  return {
    running,
    pid: status.pid,
    trusted: running && status.trusted,
    since: time(status.since),
    why: status.why ?? null,
    server: status.server,
    trustedAt: time(status.trustedAt),
    ageSeconds: status.trustedAt === undefined ? null : Math.round((now - status.trustedAt) / 1000),
    offlineLimitSeconds: status.offlineLimitSeconds,
    firstEndsAt: time(status.lasts?.first),
    lastEndsAt: time(status.lasts?.last),
    lastsSeconds: lastsSeconds(status.lasts?.first),
    people: status.people,
    files: status.files,
    refusals: status.refusals,
    refusalsInAll: status.refusalsInAll,
    helper: status.helper ?? null,
  };
}

function render(status: AgentStatus, now: number, runs: boolean): string {
  const age = (ms: number) => renderAge(new Date(ms), new Date(now));
  const state = !runs
    ? paint('red', `does not run: last heard of ${age(status.at)} ago`)
    : status.trusted
      ? paint('green', 'trusted')
      : paint(
          'red',
          `not trusted for ${age(status.since ?? now)}: ${withoutControls(status.why ?? '')}`,
        );
  const { lasts } = status;
  const left = (ms: number) => (ms <= now ? 'over' : renderAge(new Date(now), new Date(ms)));
  const lines = [
    `directory   ${state}`,
    `server      ${withoutControls(status.server)}`,
    `knowledge   ${status.trustedAt === undefined ? 'none yet' : `${age(runs && status.trusted ? status.at : status.trustedAt)} old`}`,
    `lasts       ${lasts === undefined ? '-' : `${left(lasts.first)} for the first, ${left(lasts.last)} for the last person`}`,
    `people      ${status.people}, ${status.files} of them with a key file`,
  ];
  if (status.helper !== undefined) {
    lines.push(`helper      ${paint('red', withoutControls(status.helper))}`);
  }
  if (status.refusalsInAll > 0) {
    const more = status.refusalsInAll - status.refusals.length;
    lines.push(
      '',
      `Not taken from the directory (${status.refusalsInAll}):`,
      renderTable(
        ['ENTRY', 'WHY'],
        status.refusals.map(({ entry, why }) => [entry, why]),
      ),
      ...(more > 0 ? [`and ${more} more`] : []),
    );
  }
  return lines.join('\n');
}

try {
  await program.parseAsync();
} catch (error) {
  endCommand(error);
}
