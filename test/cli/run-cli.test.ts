/** A command that runs in the process of a test has the same output and exit code as in a process of its own. */
import { expect, test } from '@jest/globals';
import { endOf, runCli, startCli } from './run-cli.ts';

const COMMANDS = [
  ['schema'],
  ['schema', 'tool.create'],
  ['schema', 'no.such.kind'],
  ['key', 'check', '/nowhere.pub'],
  ['status', '--config', '/nowhere.yaml'],
  ['status', '--unknown'],
  [],
];

test('each by itself and all at once, with its own output and exit code', async () => {
  const apart = await Promise.all(COMMANDS.map((words) => endOf(startCli(words))));
  expect(new Set(apart.map(({ exit }) => exit))).toEqual(new Set([0, 2]));
  const alone = [];
  for (const words of COMMANDS) alone.push(await runCli(words));
  expect(alone).toEqual(apart);
  expect(await Promise.all(COMMANDS.map((words) => runCli(words)))).toEqual(apart);
});

test('and leaves nothing behind in the process of the test', async () => {
  const { stdout, stderr, exitCode } = process;
  await runCli(['status', '--config', '/nowhere.yaml']);
  expect([process.stdout, process.stderr, process.exitCode]).toEqual([stdout, stderr, exitCode]);
});
