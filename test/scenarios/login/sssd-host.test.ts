/** A host of another kind, whose operator keeps Debian's sssd: names, groups and sudo rules are LDAP's there, as before. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { openSssdHost, type SssdHost } from '../../../dev/servers/sssd-host.ts';
import { eventually } from '../eventually.ts';
import { openRunning, type Running } from '../running.ts';

let running: Running;
let host: SssdHost;

beforeAll(async () => {
  running = await openRunning('sssd_host');
  const { world, portal } = running;
  const { config } = world;
  await portal.get({
    kind: 'person.create',
    requestedBy: 'alice',
    shellName: 'alice',
    displayName: 'Alice',
    email: 'alice@example.org',
  });
  await portal.get({ kind: 'access.grant', requestedBy: 'steward', person: 'alice' });
  await portal.get({ kind: 'tool.create', requestedBy: 'alice', name: 'wiki', title: 'Wiki' });
  host = await openSssdHost({
    ...{ ldapUri: world.slapd.tcpUri(), base: config.ldap.base, realm: config.realm },
    ...{ ids: config.ids, secrets: config.secrets, dataRoot: world.dataRoot },
  });
}, 120_000);
afterAll(async () => {
  await host?.close();
  await running?.close();
});

test('knows people, tools and groups, and lets a maintainer become the tool', async () => {
  const { machine } = host;
  expect(await machine.must(['id', '-nG', 'alice'])).toBe('project-tools tools.wiki\n');
  await eventually('the rule of sudo', async () => {
    const asTool = ['sudo', '-n', '-u', 'tools.wiki', 'id', '-un'];
    return (await machine.run(asTool, { user: 'alice' })).stdout === 'tools.wiki\n';
  });
});

test('a person who is suspended is in no group there any more', async () => {
  await running.portal.get({
    kind: 'person.suspend',
    requestedBy: 'steward',
    person: 'alice',
    reason: 'away',
  });
  await eventually('the end of her membership', async () => {
    return (await host.machine.run(['id', '-nG', 'alice'])).stdout.trim() === 'project-tools';
  });
});
