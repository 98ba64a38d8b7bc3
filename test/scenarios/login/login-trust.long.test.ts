/**
 * What others can still do to a login host: somebody with the directory's administrator password, somebody who
 * runs code as the keys agent, and any local user. The table of docs/security.md names these tests.
 */
import { generateKeyPairSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { PLACES } from '../../../src/login-host/places.ts';
import type { ReportAnswer } from '../../../src/login-host/report-lines.ts';
import { readStatus } from '../../../src/login-host/status.ts';
import {
  parseSeal,
  payloadOf,
  sealKeyId,
  signPayload,
  formatSeal,
} from '../../../src/seals/seal.ts';
import { parseSshKey } from '../../../src/ssh-keys/ssh-key.ts';
import { eventually } from '../eventually.ts';
import { openLogin, type Login, type Session } from './login.ts';
import { changeDirectory, readDirectory, settled } from '../outside.ts';

let login: Login;
let base: string;
let his: Session;

beforeAll(async () => {
  login = await openLogin('login-trust');
  ({ base } = login.world.config.ldap);
  for (const name of ['alice', 'bob']) {
    await login.create(name);
    await login.admit(name);
  }
  await get('tool.create', 'alice', { name: 'wiki', title: 'w' });
  await eventually('their logins', async () => (await login.ssh('bob', 'true')).code === 0);
  his = await login.openSession('bob');
});
afterAll(async () => {
  await his?.close();
  await login?.close();
});

async function get(
  kind: string,
  requestedBy: string,
  more: Record<string, unknown>,
): Promise<void> {
  await login.portal.get({ kind, requestedBy, ...more });
  await settled(login.world);
}
const personDn = (name: string) => `uid=${name},ou=people,${base}`;
const toolDn = (name: string) => `uid=tools.${name},ou=people,ou=servicegroups,${base}`;
async function sealOf(dn: string): Promise<string> {
  return (await readDirectory(login.world)).get(dn)?.['chamberlainSeal']?.[0] ?? '';
}
const asAdmin = (ldif: string) => changeDirectory(login.world, 'ldapmodify', ldif);
const replace = (dn: string, attribute: string, value: string) =>
  asAdmin(`dn: ${dn}\nchangetype: modify\nreplace: ${attribute}\n${attribute}: ${value}\n`);
/** Waits until the host has everything that was written before: it is then also told what is requested now. */
async function heard(): Promise<void> {
  const before = Date.now();
  await get('person.update', 'alice', { person: 'alice', displayName: `The alice ${before}` });
  const number = parseSeal(payloadOf(await sealOf(personDn('alice'))) ?? '')?.number ?? 0;
  await eventually('the host to have it', () =>
    inside('var/lib/chamberlain/login/seals').includes(`"number":${number},`),
  );
}
const inside = (path: string): string => readFileSync(join(login.host.machine.root, path), 'utf8');
/** The status is written every few seconds. */
const refusedFor = (entry: string, why: RegExp) =>
  eventually(`${entry} to be refused: ${why}`, async () =>
    why.test((await refusedOf(entry)).join()),
  );
const refusedOf = async (entry: string) =>
  (await login.agentStatus()).refused.filter((each) => each.entry === entry).map(({ why }) => why);

describe('somebody with the password of the directory’s administrator', () => {
  test('lets no unknown person in: in range, with a key, in the realm group, with the seal of another', async () => {
    const { people } = login.world.config.ids;
    const key = await login.host.newKey('mallory');
    login.keys.set('mallory', key.file);
    const group = `cn=project-tools,ou=groups,${base}`;
    await asAdmin(
      [
        `dn: ${personDn('mallory')}`,
        'changetype: add',
        ...['inetOrgPerson', 'ldapPublicKey', 'posixAccount', 'chamberlainSealed'].map(
          (c) => `objectClass: ${c}`,
        ),
        ...[
          'uid: mallory',
          'cn: mallory',
          'sn: mallory',
          `uidNumber: ${(people.at(-1)?.last ?? 0) - 5}`,
        ],
        ...['gidNumber: 500', 'homeDirectory: /home/mallory', 'loginShell: /bin/bash'],
        ...[`sshPublicKey: ${key.line}`, `chamberlainSeal: ${await sealOf(personDn('alice'))}`],
        '',
        `dn: ${group}`,
        ...['changetype: modify', 'add: member', `member: ${personDn('mallory')}`, ''],
      ].join('\n'),
    );
    await heard();
    expect((await login.ssh('mallory', 'true')).code).toBe(255);
    expect((await login.host.machine.run(['/usr/bin/id', 'mallory'])).code).toBe(1);
    await refusedFor('mallory', /^its seal belongs to alice$/);
  });

  test('nor with a seal that they sign themselves, or change', async () => {
    const { privateKey } = generateKeyPairSync('ed25519');
    const own = { id: sealKeyId(privateKey), privateKey };
    const payload = payloadOf(await sealOf(personDn('alice'))) ?? '';
    const seal = parseSeal(payload);
    if (seal === undefined) throw new Error('alice has no seal');
    const { people } = login.world.config.ids;
    const mallory = {
      ...seal,
      name: 'mallory',
      home: '/home/mallory',
      uid: (people.at(-1)?.last ?? 0) - 5,
    };
    const signed = signPayload(formatSeal(mallory), own);
    const ours = await sealOf(personDn('alice'));
    for (const [text, why] of [
      [signed, /does not know the key/],
      [`${ours.slice(0, 16)}${signed.slice(16)}`, /signature is not valid/],
      [ours.replaceAll('alice', 'mallory'), /signature is not valid/],
    ] as const) {
      await replace(personDn('mallory'), 'chamberlainSeal', text);
      await heard();
      expect((await login.ssh('mallory', 'true')).code).toBe(255);
      await refusedFor('mallory', why);
    }
  });

  test('makes nobody root: their sudo rule, group and member are not read', async () => {
    const rules = `ou=sudoers,cn=tools,ou=projects,${base}`;
    const rule = [
      'sudoHost: ALL',
      'sudoCommand: ALL',
      'sudoUser: %tools.wiki',
      'sudoRunAsUser: tools.wiki',
    ];
    await asAdmin(`dn: cn=runas-tools.root,${rules}\nchangetype: delete\n`).catch(() => {});
    await asAdmin(
      [
        `dn: cn=everybody,${rules}`,
        'changetype: add',
        'objectClass: sudoRole',
        'cn: everybody',
        ...rule,
        '',
      ].join('\n'),
    ).catch(() => {}); // the constraint overlay refuses more than this
    await asAdmin(
      `dn: cn=tools.wiki,ou=servicegroups,${base}\nchangetype: modify\nadd: member\nmember: ${personDn('bob')}\n`,
    );
    await heard();
    expect((await his.run('become wiki true')).code).toBe(1);
    expect((await his.run('sudo -n true')).code).not.toBe(0);
    expect((await his.run('sudo -n -u tools.wiki true')).code).not.toBe(0);
    expect((await his.run('id -nG')).output).not.toContain('tools.wiki');
  });

  test('gives nobody a key, or more to an account of ours', async () => {
    const strange = await login.host.newKey('strange');
    await asAdmin(
      `dn: ${personDn('bob')}\nchangetype: modify\nadd: sshPublicKey\nsshPublicKey: ${strange.line}\n-\nreplace: loginShell\nloginShell: /bin/zsh\n`,
    );
    await heard();
    expect((await login.ssh('bob', 'true', { key: strange.file })).code).toBe(255);
    expect((await login.ssh('bob', 'echo $0')).stdout).toBe('bash\n');
  });

  test('restores no revoked key with an older seal', async () => {
    const before = await sealOf(personDn('bob'));
    const second = await login.host.newKey('bob-second');
    await get('key.add', 'bob', { person: 'bob', key: second.line });
    const withBoth = await sealOf(personDn('bob'));
    await eventually(
      'the second key',
      async () => (await login.ssh('bob', 'true', { key: second.file })).code === 0,
    );
    const verdict = parseSshKey(second.line);
    const fingerprint = verdict.ok ? verdict.key.fingerprint : '';
    await get('key.remove', 'bob', { person: 'bob', fingerprint });
    await eventually(
      'it is dead',
      async () => (await login.ssh('bob', 'true', { key: second.file })).code === 255,
    );
    for (const older of [withBoth, before]) {
      await replace(personDn('bob'), 'chamberlainSeal', older);
      await heard();
      expect((await login.ssh('bob', 'true', { key: second.file })).code).toBe(255);
      await refusedFor('bob', /has the number \d+, but only \d+ and higher numbers are valid/);
    }
    expect((await login.ssh('bob', 'true')).code).toBe(0); // with what was sealed last
    await get('person.update', 'bob', { person: 'bob', displayName: 'Bob again' });
    await eventually('bob to be taken', async () => (await refusedOf('bob')).length === 0);
  });

  test('ends nobody’s session: neither by the realm group, nor by removing an entry', async () => {
    const group = `cn=project-tools,ou=groups,${base}`;
    await replace(group, 'member', `cn=chamberlain,${base}`);
    await heard();
    expect(his.isOpen).toBe(true);
    expect((await login.ssh('bob', 'true')).code).toBe(0);
    await asAdmin(`dn: ${toolDn('wiki')}\nchangetype: delete\n`);
    await asAdmin(`dn: ${personDn('bob')}\nchangetype: delete\n`);
    await login.host.agent.stop();
    await login.host.agent.start();
    await eventually('it is seen', () => login.keyFile('bob').length === 0);
    await heard();
    expect(his.isOpen).toBe(true);
    await login.world.chamberlain('repair', '--all', '--yes').catch(() => '');
    await settled(login.world);
    await eventually('he is back', async () => (await login.ssh('bob', 'true')).code === 0);
  });
});

describe('somebody who runs code as the keys agent', () => {
  const SEND =
    'use IO::Socket::UNIX; $s = IO::Socket::UNIX->new("/run/chamberlain/login-helper.sock") or die; ' +
    'print $s map { "$_\\n" } @ARGV; shutdown $s, 1; print <$s>';
  async function tellAsAgent(lines: readonly string[]): Promise<ReportAnswer> {
    const { stdout } = await login.host.machine.run([
      ...[
        '/usr/bin/setpriv',
        '--reuid=chamberlain-keys',
        '--regid=chamberlain-keys',
        '--clear-groups',
      ],
      ...['/usr/bin/perl', '-e', SEND, ...lines],
    ]);
    return JSON.parse(stdout) as ReportAnswer;
  }
  const asAgent = (command: string) =>
    login.host.machine.run([
      ...[
        '/usr/bin/setpriv',
        '--reuid=chamberlain-keys',
        '--regid=chamberlain-keys',
        '--clear-groups',
      ],
      ...['/bin/sh', '-c', command],
    ]);

  test('writes no key file, account, group, sudo rule or list', async () => {
    for (const place of [
      '/var/lib/chamberlain/keys/bob',
      '/var/lib/chamberlain/keys/new',
      '/var/lib/chamberlain/login/seals',
      '/var/lib/chamberlain/login/closed',
      '/var/lib/chamberlain/login/accept',
      '/var/lib/extrausers/passwd',
      '/var/lib/extrausers/group',
      '/etc/sudoers.d/chamberlain-tools',
    ]) {
      expect([place, (await asAgent(`echo x >>${place}`)).code]).not.toEqual([place, 0]);
    }
    expect((await asAgent('cat /var/lib/chamberlain/keys/bob')).code).not.toBe(0);
  });

  test('cannot make the helper believe anything unsigned: gone, unsealed, an empty realm, garbage', async () => {
    await login.host.agent.stop();
    const names = ['alice', 'bob', 'steward', 'tools.wiki', 'tools.admin'];
    const told = await tellAsAgent([
      ...names.map((name) => JSON.stringify(['unsealed', name])),
      ...[
        '["all","x","begin"]',
        '["all","x","end"]',
        '["heartbeat",""]',
        'garbage',
        '[1,2]',
        '["end","1000"]',
      ],
    ]);
    expect(told).toMatchObject({ trusted: false });
    expect(his.isOpen).toBe(true);
    expect((await login.ssh('bob', 'true')).code).toBe(0);
    await login.host.agent.start();
    await eventually('trust', async () => (await login.agentStatus()).trusted);
  });

  /** The helper asks for everything again after up to a minute: the more often it had to, the later. */
  const ASKED_AGAIN_MS = 90_000;
  /**
   * By a status that is written after the call. The last one may be 5 s old: from before the lie, or from while it counted.
   */
  const seenNow = async () => {
    const asked = Date.now();
    return await eventually('the next status', () => {
      const status = readStatus(join(login.host.machine.root, PLACES.login));
      if (status === undefined || status.at <= asked) return undefined;
      const { trusted, held, refused, people } = status;
      return { trusted, held, people, refused: refused.map(({ entry, why }) => [entry, why]) };
    });
  };

  test.each([
    ['that somebody is gone', true, ['["gone","bob"]']],
    ['that everybody is', true, ['["all","x","begin"]', '["all","x","end"]']],
    ['that everything is being reported', false, ['["all","x","begin"]']],
    ['an invalid seal', true, ['["seal","bob","x"]']],
  ])('leaves no lasting effect once they are gone: %s', async (_, isAskedFor, lines) => {
    const before = await seenNow();
    const { run } = await tellAsAgent(lines);
    const isReported = async () => {
      const now = await tellAsAgent([]);
      return now.trusted && now.reading === undefined && (!isAskedFor || now.run !== run);
    };
    await eventually('it was reported again', isReported, ASKED_AGAIN_MS);
    await eventually('everything is as before', async () => {
      expect(await seenNow()).toEqual(before);
      return login.keyFile('bob').length === 1;
    });
    expect(his.isOpen).toBe(true);
    expect((await login.ssh('bob', 'true')).code).toBe(0);
  });
});

describe('a line that root adds to a key file', () => {
  /** The folder is watched, and checked every minute. */
  const SEEN_MS = 10_000;

  test('is removed at once', async () => {
    const strange = await login.host.newKey('planted');
    const plant = (name: string) =>
      login.host.machine.must([
        ...['/bin/sh', '-c', `echo '${strange.line}' >>/var/lib/chamberlain/keys/${name}`],
      ]);
    await plant('bob');
    await eventually('the line to be gone', () => login.keyFile('bob').length === 1, SEEN_MS);
    expect((await login.ssh('bob', 'true')).code).toBe(0);
    await plant('stranger');
    await eventually('the file to be gone', () => login.keyFile('stranger').length === 0, SEEN_MS);
  });
});
