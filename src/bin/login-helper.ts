#!/usr/bin/env -S node --disable-sigusr1 --max-semi-space-size=1 --max-old-space-size=384
/** `login-helper`: the root helper of a login host, in this process, until a signal. */
import { parseArgs } from 'node:util';
import { ChamberlainError } from '../errors.ts';
import { openLog } from '../log.ts';
import { loadLoginHostConfig, LOGIN_HOST_CONFIG } from '../login-host/config.ts';
import { startHelper } from '../login-host/helper.ts';
import { describeFailure, EXIT } from './exit.ts';

const HELP = `Usage: login-helper [--config FILE]

Does for the keys agent what takes root: has sssd forget accounts, ends sessions, makes passwd.db. Serves
on the socket \`helperSocket\` until SIGTERM or SIGINT, then exits 0. Logs JSON lines to standard error.

  --config FILE  the login host's configuration (default: ${LOGIN_HOST_CONFIG})
  -h, --help     this text

Exit codes:
  0  ended by a signal, as asked
  1  it failed: standard error says \`CODE: sentence. What to do.\`
  2  the command line or the configuration is wrong, or another helper serves

Variables:
  CHAMBERLAIN_LOG_LEVEL  debug, info (default), warn, error
`;

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
      helper.close();
      log.info({ signal }, 'ended');
      process.exit(EXIT.done); // whoever waits for an answer asks again
    });
  }
  log.info({ socket: config.helperSocket }, 'serving');
}

function readOptions(args: string[]) {
  try {
    return parseArgs({
      args,
      options: { config: { type: 'string' }, help: { type: 'boolean', short: 'h' } },
    }).values;
  } catch (cause) {
    throw new ChamberlainError('USAGE', 'reading the options', { cause });
  }
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  const { line, exit } = describeFailure(error);
  process.stderr.write(`${line}\n`);
  process.exit(exit); // what a failed start has left open does not keep it
}
