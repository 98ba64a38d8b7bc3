/** Forgetting, against a real sssd that follows a real slapd. */
import { afterAll, beforeAll, beforeEach, expect, test } from '@jest/globals';
import { writeFileSync } from 'node:fs';
import { eventually } from '../scenarios/eventually.ts';
import { freePort, openHelperHost, type HelperHost } from './helper-host.ts';

let host: HelperHost;
let machine: HelperHost['machine'];
let helper: HelperHost['helper'];
let ask: HelperHost['ask'];
let begun: HelperHost['begun'];
let hold: HelperHost['hold'];
afterAll(async () => machine.close());
beforeEach(async () => host.begin());

const SSSD = `[sssd]
services = nss, sudo
domains = x
[domain/x]
id_provider = ldap
ldap_uri = ldap://127.0.0.1:PORT
ldap_search_base = dc=x
ldap_id_use_start_tls = false
sudo_provider = ldap
`;
const SLAPD = `include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/nis.schema
modulepath /usr/lib/ldap
moduleload back_mdb
database mdb
suffix dc=x
rootdn cn=admin,dc=x
rootpw admin
directory /run/ldap
`;
const account = (n: number) => `dn: uid=p${n},dc=x
objectClass: account
objectClass: posixAccount
uid: p${n}
cn: p${n}
uidNumber: ${10_100 + n}
gidNumber: 500
homeDirectory: /home/p${n}
loginShell: /bin/bash

`;
let uri: string;
const add = (n: number) =>
  machine.must(['ldapadd', '-x', '-H', uri, '-D', 'cn=admin,dc=x', '-w', 'admin'], {
    input: account(n),
  });
const isKnown = async (name: string) =>
  (await machine.run(['getent', '-s', 'sss', 'passwd', name])).code === 0;

/** Puts another program in the place of sss_cache, or none; returns how to put it back. */
async function replace(program?: string): Promise<() => Promise<unknown>> {
  const path = '/usr/sbin/sss_cache';
  await machine.must(['mv', path, `${path}.kept`]);
  if (program !== undefined) writeFileSync(machine.inside(path), program, { mode: 0o755 });
  return () => machine.must(['mv', `${path}.kept`, path]);
}

beforeAll(async () => {
  host = await openHelperHost();
  ({ machine, helper, ask, begun, hold } = host);
  await host.begin();
  await expect(helper.forget(['p1'])).rejects.toMatchObject({
    code: 'STEP_FAILED',
    cause: expect.stringContaining("Can't find configuration db"),
  });

  const port = await freePort();
  uri = `ldap://127.0.0.1:${port}`;
  await machine.must(['mkdir', '-p', '/run/ldap']);
  writeFileSync(machine.inside('/etc/ldap/slapd.conf'), SLAPD);
  await machine.must(['slapadd', '-q', '-f', '/etc/ldap/slapd.conf'], {
    input: `dn: dc=x\nobjectClass: domain\ndc: x\n\n${account(1)}`,
  });
  const slapd = machine.daemon({
    name: 'slapd',
    command: () => ['slapd', '-f', '/etc/ldap/slapd.conf', '-h', uri, '-d', '0'],
    answers: async () => (await machine.run(['ldapsearch', '-xH', uri, '-b', 'dc=x'])).code === 0,
  });
  await slapd.start();
  writeFileSync(machine.inside('/etc/sssd/sssd.conf'), SSSD.replace('PORT', String(port)), {
    mode: 0o600,
  });
  const sssd = machine.daemon({
    name: 'sssd',
    command: () => ['sssd', '--interactive', '--logger=stderr'],
    answers: () => isKnown('p1'),
  });
  await sssd.start();
});

test('makes sssd know at once who was asked for too early', async () => {
  expect(await isKnown('p2')).toBe(false);
  await add(2);
  expect(await isKnown('p2')).toBe(false);
  await helper.forget(['p2']);
  expect(await isKnown('p2')).toBe(true);
  expect(begun()).toEqual(['-u p2 -g p2 -R']);
});

test('does so too, where everything is forgotten at once', async () => {
  const names = Array.from({ length: 20 }, (_, n) => `p${n + 3}`);
  for (const name of names) expect(await isKnown(name)).toBe(false);
  await add(3);
  await add(22);
  await helper.forget(names);
  expect([await isKnown('p3'), await isKnown('p22')]).toEqual([true, true]);
  expect(begun()).toEqual(['-U -G -R']);
});

test('a name that nobody has is no error', async () => {
  await helper.forget(['nobody-has-this', 'tools.nobody-has-this']);
  // where there are no sudo rules to forget either, sss_cache says so, and exits with 2
  const restore = await replace('#!/bin/sh\nexec /usr/sbin/sss_cache.real "$1" "$2"\n');
  await helper.forget(['nobody-has-this']);
  await restore();
});

test('runs one after another, and answers each when its own names are done', async () => {
  const letFirstGo = hold('p1');
  const letLastGo = hold('p3');
  const first = helper.forget(['p1']);
  await eventually('it is in hand', () => begun().length === 1);
  const second = helper.forget(['p2']);
  const last = helper.forget(['p1', 'p3', 'p2']);
  let isLastDone = false;
  void last.then(() => (isLastDone = true));
  // the helper has read both when it answers a third
  expect(await ask('end 10900\n')).toBe('ok\n');
  letFirstGo();
  await first;
  await second;
  await eventually('the last is in hand', () => begun().includes('-u p3 -g p3 -R'));
  expect(isLastDone).toBe(false);
  letLastGo();
  await last;
  const calls = ['p1', 'p2', 'p1', 'p3'].map((name) => `-u ${name} -g ${name} -R`);
  expect(host.witnessed()).toEqual(calls.flatMap((call) => [`begin ${call}`, `end ${call}`]));
});

test('gathers what comes meanwhile: more than a few become one call', async () => {
  const letGo = hold('p1');
  const first = helper.forget(['p1']);
  await eventually('it is in hand', () => begun().length === 1);
  const others = Array.from({ length: 13 }, (_, n) => helper.forget([`q${n}`]));
  expect(await ask('end 10900\n')).toBe('ok\n');
  letGo();
  await Promise.all([first, ...others]);
  expect(begun()).toEqual(['-u p1 -g p1 -R', '-U -G -R']);
});

test('a few are done one by one', async () => {
  await helper.forget(Array.from({ length: 12 }, (_, n) => `q${n}`));
  expect(begun()).toHaveLength(12);
});

test('a call that hangs is ended, and the next one goes on', async () => {
  const restore = await replace('#!/bin/sh\nexec /usr/bin/sleep 1000\n');
  const refused = expect(helper.forget(['p1'])).rejects.toMatchObject({
    code: 'STEP_FAILED',
    cause: 'running /usr/sbin/sss_cache (of sssd-tools): it did not end in 10 s',
  });
  const isHanging = async () => (await machine.run(['pgrep', '-x', 'sleep'])).code === 0;
  await eventually('it hangs', isHanging);
  await restore();
  await Promise.all([helper.forget(['p2']), refused]);
  expect(await isHanging()).toBe(false);
});

test('without sssd, it is refused, and the helper lives on', async () => {
  const restore = await replace();
  await expect(helper.forget(['p1'])).rejects.toMatchObject({
    code: 'STEP_FAILED',
    cause: expect.stringContaining('ENOENT'),
  });
  await restore();
  await helper.forget(['p1']);
});
