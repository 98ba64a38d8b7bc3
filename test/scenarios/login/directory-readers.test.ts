/**
 * Other people's programs, as docs/directory.md shows them: a program with ldap3, and hosts of another kind with Debian's
 * sssd or nslcd. Names, groups and sudo rules are LDAP's there.
 */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { openDirectoryHost } from '../../../dev/servers/directory-host.ts';
import type { Machine } from '../../../dev/servers/private-machine.ts';
import { blockOf } from '../../page-blocks.ts';
import { eventually } from '../eventually.ts';
import { settled } from '../outside.ts';
import { admit, openRunning, type Running } from '../running.ts';

let running: Running;
let sssd: Machine;
let nslcd: Machine;

beforeAll(async () => {
  running = await openRunning('directory_readers');
  await admit(running.portal, 'alice', 'bob');
  for (const name of ['wiki', 'idle', 'going']) {
    await ask('tool.create', 'alice', { name, title: name });
  }
  await ask('maintainer.add', 'alice', { tool: 'wiki', person: 'bob' });
  await settled(running.world);
  const { dataRoot } = running.world;
  [sssd, nslcd] = await Promise.all(
    (['sssd', 'nslcd'] as const).map((name) =>
      openDirectoryHost(name, { configuration: blockHere(`directory:${name}`), dataRoot }),
    ) as [Promise<Machine>, Promise<Machine>],
  );
});
afterAll(async () => {
  await Promise.all([sssd?.close(), nslcd?.close()]);
  await running?.close();
});

const ask = (kind: string, requestedBy: string, more: Record<string, unknown>) =>
  running.portal.get({ kind, requestedBy, ...more });

const secretOf = (account: string) => join(running.world.config.secrets, `ldap-${account}`);

/** A block of the page, with what a reader replaces: our base and realm are those of the page. */
function blockHere(name: string): string {
  const { slapd, config } = running.world;
  const numbers = [...config.ids.people, ...config.ids.tools];
  const values: [string, string][] = [
    // the server of the tests speaks no TLS
    ['ldap_uri = ', 'ldap_id_use_start_tls = false\nldap_uri = '],
    ['ldaps://ldap.example.org', slapd.tcpUri()],
    ['SECRET', readFileSync(secretOf('sssd'), 'utf8').trim()],
    ['/etc/my-program/ldap-reader', secretOf('reader')],
    ['gidNumber=500', `gidNumber=${config.ids.realmGid}`],
    ['min_id = 500', `min_id = ${config.ids.realmGid}`],
    ['max_id = 499999', `max_id = ${Math.max(...numbers.map(({ last }) => last))}`],
    ['cache_timeout = 60', 'cache_timeout = 2'],
    ['refresh_interval = 60', 'refresh_interval = 1'],
  ];
  return values.reduce((text, [there, here]) => text.replaceAll(there, here), blockOf(name));
}

const groupsOf = async (machine: Machine, person: string) =>
  (await machine.must(['id', '-nG', person])).trim().split(' ').toSorted();

describe('the program with ldap3', () => {
  interface Shown {
    tool: string;
    state: string;
    people: string[];
  }

  const run = (adjust: (program: string) => string = (program) => program) =>
    promisify(execFile)('/usr/bin/python3', ['-c', adjust(blockHere('directory:ldap3'))]);

  const shown = async (): Promise<Record<string, [state: string, ...people: string[]]>> => {
    const { stdout } = await run();
    const lines = stdout.trimEnd().split('\n');
    return Object.fromEntries(
      lines.map((line) => {
        const { tool, state, people } = JSON.parse(line) as Shown;
        return [tool, [state, ...people.map((dn) => dn.split(',')[0] ?? '')]];
      }),
    );
  };

  test('shows each tool, its state and its people', async () => {
    await ask('tool.disable', 'alice', { tool: 'idle', reason: 'a while' });
    await ask('tool.delete', 'alice', { tool: 'going' });
    await settled(running.world);
    expect(await shown()).toEqual({
      'tools.admin': ['active', 'uid=steward'],
      'tools.wiki': ['active', 'uid=alice', 'uid=bob'],
      'tools.idle': ['disabled', 'uid=alice'],
      'tools.going': ['to be deleted', 'uid=alice'],
    });
  });

  test.each([
    [
      'may not read',
      (program: string) =>
        program
          .replace('cn=reader,', 'cn=keys-agent,')
          .replace(secretOf('reader'), secretOf('keys-agent')),
    ],
    ['has the wrong secret', (program: string) => program.replace('.strip()', '+ "x"')],
    [
      'gets only a part',
      (program: string) => program.replace('generator=False', 'generator=False, size_limit=1'),
    ],
  ])('shows nothing if it %s', async (_, adjust) => {
    await expect(run(adjust)).rejects.toMatchObject({
      ...{ code: 1, stdout: '', stderr: expect.stringContaining('the directory cannot be read: ') },
    });
  });
});

test.each([
  ['sssd', () => sssd],
  ['nslcd', () => nslcd],
])('a host with %s knows people, tools and groups', async (_, host) => {
  const { toolHomes } = running.world.config.files;
  expect(await groupsOf(host(), 'alice')).toEqual(
    ['project-tools', 'tools.going', 'tools.idle', 'tools.wiki'].toSorted(),
  );
  const account = await host().must(['getent', 'passwd', 'tools.wiki']);
  expect(account.trim()).toMatch(new RegExp(`^tools\\.wiki:.*:${toolHomes}/wiki:/bin/bash$`, 'u'));
});

test('a host with sssd lets a maintainer become the tool', async () => {
  await eventually('the rule of sudo', async () => {
    const asTool = ['sudo', '-n', '-u', 'tools.wiki', 'id', '-un'];
    return (await sssd.run(asTool, { user: 'alice' })).stdout === 'tools.wiki\n';
  });
});

type Entries = Record<string, Record<string, string[]>>;

/** What an account sees, by the first part of the DN. `attributes` are operational ones, in addition to all others. */
async function seen(account: string, under: string, ...attributes: string[]): Promise<Entries> {
  const { uri, base } = running.world.slapd;
  const { stdout } = await promisify(execFile)('ldapsearch', [
    ...['-LLL', '-x', '-o', 'ldif-wrap=no', '-H', uri, '-y', secretOf(account)],
    ...['-D', `cn=${account},ou=chamberlain,${base}`, '-b', `${under}${base}`, '-s', 'sub'],
    ...['(objectClass=*)', '*', ...attributes],
  ]);
  const entries = stdout
    .trimEnd()
    .split('\n\n')
    .map((text) => {
      const lines = text.split('\n').map((line) => line.split(/::? /u) as [string, string]);
      const values = Map.groupBy(lines, ([name]) => name);
      return Object.fromEntries(
        [...values].map(([name, each]) => [name, each.map(([, is]) => is)]),
      );
    });
  return Object.fromEntries(entries.map((entry) => [entry['dn']?.[0]?.split(',')[0] ?? '', entry]));
}

const LOCKS = ['pwdPolicySubentry', 'pwdAccountLockedTime'];

test('the accounts of readers see the attributes of the page, and no others', async () => {
  const names = [
    ...['cn', 'dn', 'gidNumber', 'homeDirectory', 'loginShell', 'memberOf', 'objectClass'],
    ...['sn', 'uid', 'uidNumber'],
  ];
  for (const [account, more] of [
    ['reader', []],
    ['mail-reader', ['mail']],
  ] as const) {
    const people = await seen(account, 'ou=people,');
    expect(Object.keys(people['uid=bob'] ?? {}).toSorted()).toEqual([...names, ...more].toSorted());
  }
  const { base } = running.world.slapd;
  const [top] = Object.values(await seen('reader', '', 'contextCSN'));
  expect(top).toMatchObject({ dn: [base], contextCSN: [expect.any(String)] });
});

test('the states look as the page says', async () => {
  const { base } = running.world.slapd;
  const policy = [`cn=disabled,ou=ppolicies,${base}`];
  const tools = await seen('reader', 'ou=servicegroups,', ...LOCKS);
  const shell = ['/bin/disabledtoolshell'];
  expect(tools['uid=tools.idle']).toMatchObject({ pwdPolicySubentry: policy, loginShell: shell });
  expect(tools['uid=tools.idle']).not.toHaveProperty('pwdAccountLockedTime');
  expect(tools['uid=tools.going']).toMatchObject({
    ...{ pwdPolicySubentry: policy, loginShell: shell },
    pwdAccountLockedTime: [expect.stringMatching(/^\d{14}Z$/u)],
  });
  for (const name of ['idle', 'going']) {
    const members = tools[`cn=tools.${name}`]?.['member'];
    expect(members).toContain(`uid=alice,ou=people,${base}`);
  }
  expect(tools['uid=tools.wiki']).not.toHaveProperty('pwdPolicySubentry');
  const rules = Object.keys(await seen('reader', 'ou=sudoers,cn=tools,ou=projects,'));
  expect(rules.toSorted()).toEqual(['cn=runas-tools.admin', 'cn=runas-tools.wiki', 'ou=sudoers']);
  await ask('access.revoke', 'steward', { person: 'bob' });
  await ask('person.suspend', 'steward', { person: 'alice', reason: 'away' });
  await settled(running.world);
  const { 'uid=alice': alice, 'uid=bob': bob } = await seen('reader', 'ou=people,', ...LOCKS);
  expect(alice).toMatchObject({
    ...{ pwdPolicySubentry: policy, pwdAccountLockedTime: ['000001010000Z'] },
    ...{ loginShell: ['/bin/bash'], gidNumber: ['500'] },
  });
  expect(bob).toMatchObject({ loginShell: ['/bin/bash'], gidNumber: ['500'] });
  for (const name of ['memberOf', ...LOCKS]) expect(bob).not.toHaveProperty(name);
  expect(alice).not.toHaveProperty('memberOf');
});

test.each([
  ['sssd', () => sssd],
  ['nslcd', () => nslcd],
])('on a host with %s, a person who is suspended is in no group any more', async (_, host) => {
  await eventually('the end of her membership', async () => {
    const groups = await groupsOf(host(), 'alice');
    return groups.join() === 'project-tools'; // her primary group, by its number
  });
});
