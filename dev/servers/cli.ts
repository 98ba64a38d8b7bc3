/** `dev/stack`: see USAGE. */
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { stackEnvironment, stackStatus, startStack, stopStack } from './stack.ts';

const USAGE = `usage: dev/stack up | down [--purge] | status [--json] | env   [--dir DIR]

  up      start PostgreSQL, Redis, slapd and two MariaDB servers of your own, with an empty realm,
          and return when all of them answer; may be called again
  down    end them; the data stays, unless --purge
  status  each server's pid and whether it answers; exit 0 if all do, 3 if not
  env     shell assignments: eval "$(dev/stack env)"

DIR is .stack by default. Data, keys and passwords lie there; where its path is too long or too odd for
them, or closed to their users, the servers' own files lie in /var/tmp, and DIR/servers says where.
`;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    dir: { type: 'string', default: process.env['CHAMBERLAIN_STACK_DIR'] ?? '.stack' },
    purge: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h', default: false },
  },
});
const dir = resolve(values.dir);

try {
  process.exitCode = await act(values.help ? 'help' : positionals.join(' '));
} catch (error) {
  process.stderr.write(`dev/stack: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}

async function act(command: string): Promise<number> {
  switch (command) {
    case 'up': {
      const begin = performance.now();
      await startStack(dir, (line) => process.stderr.write(`dev/stack: ${line}\n`));
      const seconds = ((performance.now() - begin) / 1000).toFixed(1);
      process.stdout.write(`The stack in ${dir} answers (${seconds} s).\n`);
      return 0;
    }
    case 'down':
      await stopStack(dir, values.purge);
      return 0;
    case 'status': {
      const servers = await stackStatus(dir);
      const lines = values.json
        ? [JSON.stringify(servers)]
        : servers.map(({ name, state, pid }) => `${name.padEnd(16)}${state.padEnd(9)}${pid ?? ''}`);
      process.stdout.write(`${lines.map((line) => line.trimEnd()).join('\n')}\n`);
      return servers.every(({ state }) => state === 'answers') ? 0 : 3;
    }
    case 'env': {
      const lines = Object.entries(stackEnvironment(dir)).map(
        ([name, value]) => `export ${name}='${value.replaceAll("'", String.raw`'\''`)}'\n`,
      );
      process.stdout.write(lines.join(''));
      return 0;
    }
    case 'help':
      process.stdout.write(USAGE);
      return 0;
    default:
      process.stderr.write(USAGE);
      return 2;
  }
}
