/** The help of the command line, and its answers to mistyped commands. No servers. */
import { readdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { beforeAll, describe, expect, test } from '@jest/globals';
import { fieldsOf } from '../../src/cli/kind-fields.ts';
import { REQUEST_KINDS } from '../../src/requests/kinds.ts';
import { REQUEST_SCHEMAS } from '../../src/requests/schema.ts';
import { expectGolden } from '../golden.ts';
import { runCli } from './run-cli.ts';

/** The help of a command and of each subcommand; one kind of request stands for all. */
async function readHelps(...command: string[]): Promise<[command: string, help: string][]> {
  const { exit, out, err } = await runCli([...command, '--help']);
  expect({ exit, err }).toEqual({ exit: 0, err: '' });
  const [, list = ''] = /^Commands:\n((?: {2}.*\n)+)/mu.exec(out) ?? [];
  const helps: [string, string][] = [[command.join(' '), out]];
  for (const [, name = ''] of list.matchAll(/^ {2}([a-z-]+(?: |$))/gmu)) {
    helps.push(...(await readHelps(...command, name.trim())));
  }
  return helps;
}

const CLI_HEAD = `# The command line

This page is made from the \`--help\` of each command. Every command has \`--json\`, for programs, and \`--config FILE\`. A list is
written \`a,b\`, as in \`--maintainers alice,tools.bridgebot\`. An error is one line on standard error,
\`CODE: sentence. What to do.\`; [errors.md](errors.md) lists the codes.

`;

describe('the help of', () => {
  let helps: [command: string, help: string][];
  beforeAll(async () => {
    helps = await readHelps();
  });

  test('every command, and of a kind of request, is in docs/cli.md', async () => {
    // if the list of commands were read wrongly, none would be found
    expect(helps.map(([command]) => command)).toEqual(
      expect.arrayContaining(['', 'survey', 'repair', 'audit verify', 'sweep release', 'recover']),
    );
    const { out } = await runCli(['submit', 'tool.create', '--help']);
    const pages = helps.flatMap((page) =>
      page[0] === 'submit' ? [page, ['submit tool.create', out] as const] : [page],
    );
    const sections = pages.map(
      ([command, help]) =>
        `## chamberlain ${command}`.trimEnd() + `\n\n\`\`\`\n${help.trimEnd()}\n\`\`\``,
    );
    expectGolden('../../docs/cli.md', CLI_HEAD + sections.join('\n\n'));
  });

  test('every command lists its exit codes, and has an example', () => {
    for (const [command, help] of helps.filter(([, text]) => !text.includes('\nCommands:\n'))) {
      for (const part of ['\nExit codes:\n', `  $ chamberlain ${command}`]) {
        expect([command, help]).toEqual([command, expect.stringContaining(part)]);
      }
    }
  });
});

test('`chamberlain help COMMAND` is the same as its --help', async () => {
  expect(await runCli(['help', 'status'])).toEqual(await runCli(['status', '--help']));
});

describe('a mistyped command line ends with 2 and one line on standard error:', () => {
  test.each([
    ['statu', "USAGE: unknown command 'statu' (did you mean status?). See --help."],
    ['status --jso', "USAGE: unknown option '--jso' (did you mean --json?). See --help."],
    [
      'submit tool.craete --name x',
      "USAGE: unknown kind 'tool.craete' (did you mean tool.create?). See --help.",
    ],
    [
      'submit tool.create --nmae x',
      "USAGE: unknown option '--nmae' (did you mean --name?); title is missing. See --help.",
    ],
    ['submit --fil x', "USAGE: unknown option '--fil' (did you mean --file?). See --help."],
    [
      'submit access.revoke --person x --reason has left us',
      "USAGE: unexpected 'left us'. A value with spaces must be quoted. See --help.",
    ],
    [
      'submit access.grant alice',
      "USAGE: unexpected 'alice'. A value must follow its option, such as --person. See --help.",
    ],
    [
      'status alice bob',
      "USAGE: too many arguments for 'status'. Expected 1 argument but got 2: alice, bob. See --help.",
    ],
    ['submit', 'USAGE: give a KIND, or --file. See --help.'],
    [
      'submit tool.create --file x',
      "USAGE: --file and 'tool.create' exclude each other: give one of them. See --help.",
    ],
    [
      'schema tool',
      "USAGE: unknown kind 'tool' (did you mean tool.create or tool.update or tool.disable or tool.enable or tool.delete?). See --help.",
    ],
    ['requests x', "USAGE: 'x' is neither a UUID nor a number. See --help."],
    [
      'requests --limit 0',
      "USAGE: option '--limit <count>' argument '0' is invalid. It must be a whole number from 1 to 10000. See --help.",
    ],
    [
      'requests --limit 10001',
      "USAGE: option '--limit <count>' argument '10001' is invalid. It must be a whole number from 1 to 10000. See --help.",
    ],
    [
      'plan --all alice',
      'USAGE: --all and SUBJECT exclude each other: give one of them. See --help.',
    ],
  ])('%s', async (command, line) => {
    expect(await runCli(command.split(' '))).toEqual({ exit: 2, out: '', err: `${line}\n` });
  });
});

test('--version prints the version of package.json and the last migration', async () => {
  const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };
  const last = readdirSync('migrations')
    .filter((name) => /^\d/u.test(name))
    .sort()
    .at(-1);
  const migration = last?.replace('.sql', '');
  expect(await runCli(['--version'])).toEqual({
    ...{ exit: 0, err: '' },
    out: `chamberlain ${version}, with migrations up to ${migration}\n`,
  });
  const json = await runCli(['--version', '--json']);
  expect({ ...json, out: JSON.parse(json.out) }).toEqual({
    ...{ exit: 0, err: '' },
    out: { version, migration },
  });
});

test('without a command, it prints its help on standard error and ends with 2', async () => {
  const { exit, out, err } = await runCli([]);
  expect({ exit, out }).toEqual({ exit: 2, out: '' });
  expect(err).toContain('Usage: chamberlain');
});

const NOBODY = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'];

test.each([
  [
    'nowhere',
    '/nowhere.yaml',
    [],
    /there is no such file \(ENOENT\)\. Name the right file, or create it\.$/u,
  ],
  ['a folder', tmpdir(), [], /it is a folder \(EISDIR\)\. Name the right file\.$/u],
  [
    "another user's",
    '/etc/shadow',
    NOBODY,
    /permission denied \(EACCES\)\. Run the command as a user who .*\.$/u,
  ],
])('a configuration that is %s is named once, with what to do', async (_, path, prefix, why) => {
  const { exit, err } = await runCli(['status', '--config', path], { prefix });
  expect(exit).toBe(2);
  expect(err.trimEnd().split(path)).toEqual([
    'CONFIG_INVALID: reading the configuration ',
    expect.stringMatching(why),
  ]);
});

test('a reader that closes early ends it silently', async () => {
  const { spawn } = await import('node:child_process');
  const script = '"$0" dist/chamberlain.js schema --json | true; echo "${PIPESTATUS[0]}"';
  const child = spawn('bash', ['-c', script, process.execPath], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [out, err] = ['', ''];
  child.stdout.on('data', (data) => (out += String(data)));
  child.stderr.on('data', (data) => (err += String(data)));
  await new Promise((resolve) => child.on('close', resolve));
  expect({ out, err }).toEqual({ out: '0\n', err: '' });
});

test('a failed write to standard output is reported in one line, and ends with 1', async () => {
  const prefix = ['sh', '-c', '"$@" >/dev/full', 'sh'];
  expect(await runCli(['schema'], { prefix })).toEqual({
    exit: 1,
    out: '',
    err: 'STEP_FAILED: writing standard output: ENOSPC: no space left on device, write.\n',
  });
});

describe('kinds', () => {
  test('are listed, each with its schema', async () => {
    const { out } = await runCli(['schema']);
    for (const kind of REQUEST_KINDS) expect(out).toContain(`${kind} `);
    expectGolden('schema.txt', out);
    const all = JSON.parse((await runCli(['schema', '--json'])).out) as Record<string, unknown>;
    expect(Object.keys(all)).toEqual(REQUEST_KINDS);
    const one = (await runCli(['schema', 'tool.create'])).out;
    expect(JSON.parse(one)).toEqual(all['tool.create']);
    expectGolden('schema-tool.create.json', one);
  });

  test('have no field with the name of an option of submit', () => {
    const options = [
      'config',
      'json',
      'help',
      'file',
      'portal',
      'portalKey',
      'portal-key',
      'id',
      'requestedBy',
      'approvedBy',
      'wait',
      'timeout',
    ];
    for (const kind of REQUEST_KINDS) {
      for (const { name } of fieldsOf(kind)) expect(options).not.toContain(name);
    }
  });

  test('describe themselves and each field', () => {
    expect(Object.keys(REQUEST_SCHEMAS)).toEqual(REQUEST_KINDS);
    for (const kind of REQUEST_KINDS) {
      for (const { name, description } of fieldsOf(kind)) {
        expect({ kind, name, described: description !== '' }).toEqual({
          kind,
          name,
          described: true,
        });
      }
    }
  });
});
