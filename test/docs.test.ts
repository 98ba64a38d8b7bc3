/** The documents: their generated parts are those of the code, every link leads somewhere, every block of commands is run. */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { fieldsOf } from '../src/cli/kind-fields.ts';
import { CODES } from '../src/shared/errors.ts';
import { REQUEST_KINDS } from '../src/requests/kinds.ts';
import { expectGolden } from './golden.ts';
import { commandBlocks, PAGES, readPage as read } from './page-blocks.ts';

const ROOT = join(import.meta.dirname, '..');
test('README has at most 200 lines', () => {
  expect(read('README.md').split('\n').length).toBeLessThanOrEqual(201);
});

test('docs/errors.md is made from src/shared/errors.ts', () => {
  const rows = Object.entries(CODES).map(
    ([code, { meaning, action }]) =>
      `## ${code}\n\n${meaning} ${action}${code.startsWith('BACKEND_') ? OTHERS_DO_NOT : ''}`,
  );
  expectGolden('../../docs/errors.md', ERRORS_HEAD + rows.join('\n\n'));
});

/** A command says so itself, and the sentence is also that of work which continues. */
const OTHERS_DO_NOT =
  ' Whatever else ended with this code does not: repeat the command, the call of the API, or the repair.';

const ERRORS_HEAD = `# Error codes

Each error has a code, for programs, and a sentence, for people. A code never changes its meaning. A command prints
\`CODE: sentence. What to do.\` on standard error; a portal receives the code and the sentence in the verdict and in
events. This page is made from \`src/shared/errors.ts\`.

After BACKEND_UNREADABLE and BACKEND_UNAVAILABLE, a worker tries again by itself, without end. After STEP_STALE,
STILL_CHANGING, STEP_FAILED and INTERNAL, it tries up to eight times, and then parks the subject:
run \`chamberlain repair SUBJECT\` when the cause is gone.

\`chamberlain status\` counts a portal's invalid jobs by their code. One code appears only there: QUEUE_FULL counts
requests that intake has removed unread, because too many waited ([portals.md](portals.md) gives the limits).

A command that gives up waiting prints \`TIMEOUT: sentence\` and ends with 5. Nothing has failed: the sentence says what is
not known or not done yet.

`;

describe('docs/portals.md names, of each kind of request, every field', () => {
  const page = read('docs/portals.md');
  const rows = page
    .slice(page.indexOf('## What can be requested'))
    .split('\n')
    .filter((line) => line.startsWith('|'));
  test.each(REQUEST_KINDS)('%s', (kind) => {
    const row = rows.find((line) => line.includes(`\`${kind}\``)) ?? '';
    for (const { name } of fieldsOf(kind)) expect(row).toMatch(new RegExp(`\`${name}\\??\``));
  });
});

describe('every link leads to a file, and to a heading in it:', () => {
  test.each(PAGES)('%s', (page) => {
    for (const target of linksOf(read(page))) {
      const [path = '', heading] = target.split('#');
      const file = path === '' ? page : relative(ROOT, join(ROOT, dirname(page), path));
      expect([target, existsSync(join(ROOT, file))]).toEqual([target, true]);
      if (heading !== undefined) expect(headingsOf(read(file))).toContain(heading);
    }
  });
});

/** The targets of links within the project. */
function linksOf(text: string): string[] {
  return [...text.matchAll(/\]\((?!https?:)([^)\s]+)\)/g)].map(([, target = '']) => target);
}

/** As the hosts of repositories name headings in links. */
function headingsOf(text: string): string[] {
  const outside = text.replaceAll(/^```.*?^```/gms, '');
  return [...outside.matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  );
}

/** The test that runs each block of commands: its file names it. */
const RUN_BY: Record<string, readonly string[]> = {
  'scenarios/pages': [
    ...[
      'readme:stack',
      'portal:send',
      'login-hosts:install',
      'login-hosts:renew-seals',
      'backups:key',
    ],
    ...['operations:day', 'operations:look', 'operations:unmanaged', 'operations:upgrade'],
    ...['real:users', 'real:secrets', 'real:keys', 'real:postgres', 'real:redis', 'real:ldap'],
    ...['real:mariadb', 'real:prepare', 'real:found', 'install:portal-gone'],
    ...['install:redis-restart', 'install:slapd-start', 'real:ldap-again', 'recovery:slapd'],
    ...['backups:wal-server', 'backups:wal-receiver', 'restore:log'],
  ],
  'api/requests': ['api:call'],
  'scenarios/portals-by-request': ['portal:fingerprint', 'portal:password'],
  'scenarios/login/joining': ['login-hosts:request', 'login-hosts:join', 'login-hosts:answer'],
  'scenarios/login/hearing.long': ['portal:hear'],
  'scenarios/leaving/leaving': ['lifecycle:archives'],
  'deploy-long/named-directory': ['install:nis'],
  'deploy-long/recovery': ['recovery:start'],
  'scenarios/recovery/backup-set.long': [
    ...['backups:cron', 'backups:verify', 'recovery:set', 'recovery:freeze', 'recovery:everything'],
    ...['recovery:suspend', 'recovery:after'],
    ...['restore:files', 'restore:postgres', 'restore:directory'],
  ],
};

const SYSTEMD = 'systemd does not run where the tests do';
/** Why a block is run by no test. */
const NOT_RUN: Record<string, string> = {
  'readme:demo': '.ci/run runs both',
  'contributing:setup': 'installs packages on the machine of the reader',
  'contributing:tests': '.ci/run runs them, with everything',
  'contributing:golden': 'writes what tests are compared with',
  'install:package': 'test/deploy-long installs both packages in a Debian of its own',
  'readme:compose': 'test/deploy-long runs both',
  'install:compose': 'test/deploy-long does the same',
  'install:setup': 'test/deploy-long runs the second command on a machine with systemd',
  'roles:request': 'test/deploy-long does the same on machines with systemd',
  'roles:join': 'test/deploy-long does the same on machines with systemd',
  'roles:answer': 'test/deploy-long does the same on machines with systemd',
  'install:packages': 'installs packages',
  'install:slapd': 'installs a package',
  'install:units': SYSTEMD,
  'install:workers': SYSTEMD,
  'restore:mariadb':
    'mariadb-backup is a package that no test needs, and replaces a whole server, under systemd',
};

describe('every block of commands is run by a test, or a reason says why not:', () => {
  const listed = [...Object.values(RUN_BY).flat(), ...Object.keys(NOT_RUN)];

  test('each has one name, which is listed once', () => {
    const unnamed = commandBlocks().filter(({ name }) => name === undefined);
    expect(unnamed).toEqual([]);
    expect(
      commandBlocks()
        .map(({ name }) => name ?? '')
        .toSorted(),
    ).toEqual(listed.toSorted());
  });

  test.each(Object.entries(RUN_BY))('test/%s.test.ts runs its own', (file, names) => {
    const text = readFileSync(join(ROOT, `test/${file}.test.ts`), 'utf8');
    for (const name of names) expect(text).toContain(`'${name}'`);
  });
});
