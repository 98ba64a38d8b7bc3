#!/usr/bin/env -S node --disable-sigusr1 --max-semi-space-size=2 --max-old-space-size=384
/** `login-helper`: the login helper of a login host, in this process, until a signal. */
import { flushCompileCache } from 'node:module';
import { parseArgs } from 'node:util';
import { doing } from '../../shared/errors.ts';
import { openLog } from '../../shared/log.ts';
import { tellSystemd } from '../../shared/systemd.ts';
import { loadLoginHostConfig, LOGIN_HOST_CONFIG } from '../config.ts';
import { startHelper } from '../helper/helper.ts';
import { PLACES } from '../places.ts';
import { describeFailure, EXIT } from '../../cli/exit.ts';

const HELP = `Usage: login-helper [--config FILE]

Verifies what the keys agent reads from the directory, and keeps the files of this login host up to date: key files,
accounts, groups, sudo rules, and the list of closed accounts. Ends the sessions of closed accounts. Serves the agent on
${PLACES.socket} until SIGTERM or SIGINT, then exits 0. Logs JSON lines to standard error.

  --config FILE  the login host's configuration (default: ${LOGIN_HOST_CONFIG})
  -h, --help     this text

Exit codes:
  0  ended by a signal, as requested
  1  it failed: standard error says \`CODE: sentence. What to do.\`
  2  the command line or the configuration is wrong, or another helper is running

Environment:
  CHAMBERLAIN_LOG_LEVEL  debug, info (default), warn, error
`;

/** Work that a signal interrupts is done again at the next start. */
const CLOSE_MS = 1000;

async function main(args: string[]): Promise<void> {
  const { config: path, help } = readOptions(args);
  if (help === true) {
    process.stdout.write(HELP);
    return;
  }
  const log = openLog(process.env['CHAMBERLAIN_LOG_LEVEL'] ?? 'info');
  const config = loadLoginHostConfig(path ?? LOGIN_HOST_CONFIG);
  const helper = await startHelper(config, log);
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.once(signal, () => {
      log.info({ signal }, 'ended');
      setTimeout(() => process.exit(EXIT.done), CLOSE_MS);
      void helper.close().finally(() => process.exit(EXIT.done));
    });
  }
  log.info({ socket: PLACES.socket }, 'serving');
  tellSystemd(log);
  flushCompileCache(); // for the next start, if the unit names a folder for it
}

function readOptions(args: string[]) {
  const options = { config: { type: 'string' }, help: { type: 'boolean', short: 'h' } } as const;
  return doing('USAGE', 'reading the options', () => parseArgs({ args, options }).values);
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  const { line, exit } = describeFailure(error);
  process.stderr.write(`${line}\n`);
  process.exit(exit); // whatever a failed start has left open must not keep the process
}
