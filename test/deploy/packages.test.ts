/** What the Debian packages contain that is made from the program: manual pages, completions, version, changelog. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { bashCompletion, zshCompletion } from '../../dev/debian/completion.ts';
import { renderPage } from '../../dev/debian/manual.ts';
import { commandPages } from '../../dev/debian/pages.ts';
import { copyrightOf, debianChangelog, packageVersion } from '../../dev/debian/texts.ts';
import { wholeProgram } from '../../src/cli/main.ts';
import { WORK_ROLES } from '../../workers/main.ts';

const PROJECT = join(import.meta.dirname, '../..');
const AT = new Date('2026-11-30T18:21:49Z');
const EDITION = { version: '1.2.0', date: AT };
const folder = mkdtempSync(join(tmpdir(), 'chamberlain-packages-'));
afterAll(() => rmSync(folder, { recursive: true }));

let program: Awaited<ReturnType<typeof wholeProgram>>;
beforeAll(async () => void (program = await wholeProgram()));

test('a help becomes a manual page', () => {
  const text = [
    'Usage: tell [options] NAME\n',
    'Tells a name. It may not contain a \\ or',
    'a ~.\n',
    'Options:\n  --at <time>  when, such as',
    '               09:30\n  --json       for programs\n',
    'Examples:\n  $ tell --at 09:30 x\n',
    '.5 is a number.\n',
    'Exit codes:\n  0  told\n',
  ].join('\n');
  const more = 'Usage: tell all\n\nTells all.\n\nGlobal Options:\n  --json  for programs\n';
  const helps = [
    { command: 'tell', text },
    { command: 'tell all', text: more },
  ];
  const page = { name: 'tell', section: 1, summary: 'tell a name', helps } as const;
  expect(renderPage({ ...page, seeAlso: ['told(5)'] }, EDITION))
    .toBe(`.TH TELL 1 2026-11-30 "chamberlain 1.2.0" Chamberlain
.SH NAME
tell \\- tell a name
.SH "SYNOPSIS"
.nf
tell [options] NAME
.fi
.SH "DESCRIPTION"
.PP
Tells a name. It may not contain a \\e or
a \\(ti.
.SH "OPTIONS"
.TP
\\fB\\-\\-at <time>\\fR
when, such as 09:30
.TP
\\fB\\-\\-json\\fR
for programs
.SH "EXAMPLES"
.nf
$ tell \\-\\-at 09:30 x
.fi
.SH "NOTES"
.PP
\\&.5 is a number.
.SH "EXIT CODES"
.TP
\\fB0\\fR
told
.SH "SUBCOMMANDS"
.SS "tell all"
.nf
tell all
.fi
.PP
Tells all.
.SH "SEE ALSO"
told(5)
`);
});

test('every command has a page, with its subcommands, options and exit codes', () => {
  const pages = new Map(commandPages(program).map((page) => [page.name, page]));
  expect([...pages.keys()].toSorted()).toEqual(
    ['chamberlain', ...program.commands.map((each) => `chamberlain-${each.name()}`)].toSorted(),
  );
  const textOf = (name: string): string => {
    const page = pages.get(name);
    return page === undefined ? '' : renderPage(page, EDITION).replaceAll('\\-', '-');
  };
  for (const command of program.commands) {
    const text = textOf(`chamberlain-${command.name()}`);
    for (const each of [command, ...command.commands]) {
      for (const { flags } of each.options) expect(text).toContain(`\\fB${flags}\\fR\n`);
    }
    for (const each of command.commands) {
      expect(text).toContain(`.SS "chamberlain ${command.name()} ${each.name()}"`);
    }
    expect(text).toMatch(/^(\.SH "EXIT CODES"|\\fBExit codes:\\fR)$/mu);
  }
  expect(textOf('chamberlain-repair')).toContain('.SH "DESCRIPTION"');
});

describe('bash completes', () => {
  const file = join(folder, 'completion');
  beforeAll(() => writeFileSync(file, bashCompletion(program)));
  const complete = (...words: string[]): string[] => {
    const script = `. "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($#-1)); compopt() { :; }
      _chamberlain; printf '%s\\n' "\${COMPREPLY[@]}"`;
    const args = ['--norc', '-c', script, 'bash', file, 'chamberlain', ...words];
    const text = execFileSync('bash', args, { cwd: folder, encoding: 'utf8', env: {} });
    return text.split('\n').filter((line) => line !== '');
  };

  test.each<[string[], string[]]>([
    [['su'], ['submit', 'survey']],
    [
      ['work', 'd'],
      ['directory', 'databases'],
    ],
    [['--config', 'x', 'audit', 'v'], ['verify']],
    [['survey', '--role', 'h'], ['homes']],
    [
      ['list', 'people', '--state', 'a'],
      ['active', 'archived'],
    ],
    [['submit', 'tool.create', '--na'], ['--name']],
    // only a server knows
    [['submit', 'tool.create', '--name', ''], []],
    // names of files
    [['--config', 'comp'], ['completion']],
    [['audit', 'verify', 'comp'], ['completion']],
    [['backup', '--verify', 'comp'], ['completion']],
    // an option of the program, of a command and of its subcommand
    [
      ['audit', 'verify', '--'],
      ['--head', '--subject', '--key', '--since', '--limit', '--config', '--json', '--help'],
    ],
    // only before the command
    [['status', '--vers'], []],
  ])('%j', (words, completed) => {
    expect(complete(...words)).toEqual(completed);
  });

  test('every command, and its options, as zsh does', () => {
    expect(complete('')).toEqual(
      expect.arrayContaining([...program.commands.map((each) => each.name()), '--version']),
    );
    for (const command of program.commands) {
      const names = command.options.map(({ long }) => long ?? '');
      expect(complete(command.name(), '--')).toEqual(expect.arrayContaining(names));
      for (const name of names) expect(zshCompletion(program)).toContain(`'${name}:`);
    }
  });
});

test('what is not released yet sorts between two releases', () => {
  const changelog = (title: string) => `# Changes\n\n## ${title}\n\n- one\n\n## 1.1.0\n\n- two\n`;
  const version = packageVersion('1.2.0', changelog('Unreleased'), AT);
  expect(version).toBe('1.2.0+git20261130182149');
  expect(packageVersion('1.2.0', changelog('1.2.0'), AT)).toBe('1.2.0');
  for (const [less, more] of [
    ['1.2.0', version],
    [version, '1.2.1'],
  ] as const) {
    execFileSync('dpkg', ['--compare-versions', less, 'lt', more]);
  }
});

test('debian/changelog has the top section of CHANGELOG.md', () => {
  const changelog = `# Changes

## 1.2.0

The first sentence.

Do:

- Run this command, which is long enough that its line has to be broken, as
  its last word shows.
- Then that.

## 1.1.0

- Older.
`;
  const about = { version: '1.2.0', maintainer: 'A <a@example.org>', at: AT };
  expect(debianChangelog(about, changelog)).toBe(`chamberlain (1.2.0) unstable; urgency=medium

  * The first sentence.

  [ Do ]
  * Run this command, which is long enough that its line has to be broken, as
    its last word shows.
  * Then that.

 -- A <a@example.org>  Mon, 30 Nov 2026 18:21:49 +0000
`);
});

test('equal notices stand once in the copyright file', () => {
  const work = (name: string, text: string) => ({ name, license: 'MIT', text });
  const text = copyrightOf([
    work('b 1', 'Free.\n'),
    work('c 2', 'Also free.'),
    work('a 3', 'Free.'),
  ]);
  expect(text).toContain('a 3 (MIT)\nb 1 (MIT)\n\n    Free.\n');
  expect(text.match(/Free\./gu)).toHaveLength(1);
});

test('each role but homes, which runs as root, has its user', () => {
  const text = readFileSync(join(PROJECT, 'deploy/debian/chamberlain.sysusers'), 'utf8');
  const users = [...text.matchAll(/^u (\S+)/gmu)].map(([, user = '']) => user);
  const roles = WORK_ROLES.filter((role) => role !== 'homes');
  expect(users.toSorted()).toEqual(roles.map((role) => `chamberlain-${role}`).toSorted());
  const drop = readFileSync(
    join(PROJECT, 'deploy/systemd/chamberlain@homes.service.d/root.conf'),
    'utf8',
  );
  expect(drop).toContain('\nUser=root\n');
});
