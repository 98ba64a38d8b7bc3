/** `dev/stack`: see usage.txt, which dev/stack prints itself if it is asked for help. */
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { stackEnvironment, stackStatus, startStack, stopStack } from './stack.ts';

const USAGE = readFileSync(join(import.meta.dirname, 'usage.txt'), 'utf8');

const options = {
  dir: { type: 'string', default: process.env['CHAMBERLAIN_STACK_DIR'] ?? '.stack' },
  purge: { type: 'boolean', default: false },
  json: { type: 'boolean', default: false },
} as const;

try {
  const { values, positionals } = parseArgs({ allowPositionals: true, options });
  process.exitCode = await act(positionals.join(' '), resolve(values.dir), values);
} catch (error) {
  const isUsage = String((error as { code?: unknown }).code).startsWith('ERR_PARSE_ARGS');
  const { message } = error as Error;
  const said = isUsage ? `${message.split('. ')[0]}\n${USAGE}` : `${message}\n`;
  process.stderr.write(`dev/stack: ${said}`);
  process.exitCode = isUsage ? 2 : 1;
}

async function act(
  command: string,
  dir: string,
  values: { purge: boolean; json: boolean },
): Promise<number> {
  switch (command) {
    case 'up': {
      const begin = performance.now();
      await startStack(dir);
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
    default:
      process.stderr.write(USAGE);
      return 2;
  }
}
