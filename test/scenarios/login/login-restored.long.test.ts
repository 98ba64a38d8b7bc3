/**
 * A login host is shown an older directory: by a replica that lags, by one that was restored from a backup, and
 * by an admin of the directory who puts back an earlier state. A key that was revoked does not come back.
 */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { slapdServer, type SlapdServer } from '../../../dev/servers/slapd.ts';
import { PLACES } from '../../../src/login-host/places.ts';
import { runningPid, signalTree, startServer, stopServer } from '../../stack.ts';
import { restoreDirectoryCopy, dumpDirectory } from '../recovery/backup.ts';
import { eventually } from '../eventually.ts';
import { confirmRecovery } from '../recovery/recovering.ts';
import {
  addLoginHost,
  type AgentStatus,
  type Login,
  type Session,
  untilSound,
  untilStatus,
} from './login.ts';
import { changeDirectory, readDirectory, settled } from '../outside.ts';
import { openRunning } from '../running.ts';
import { difference, filesBySeals, filesOf } from '../drift/sealed-files.ts';

let login: Login;
let lagging: SlapdServer;
/** of the directory, before alice lost a key, bob his access, and carol came */
let backup: string;
let lost: { file: string; line: string };
let carols: Session;

beforeAll(async () => {
  const running = await openRunning('login-restored');
  const { world, portal } = running;
  const { base } = world.config.ldap;
  const { realm, ids, secrets } = world.config;
  lagging = slapdServer(join(world.dir, 'lagging'), { base, realm, ids, secrets });
  await startServer(lagging);
  login = await addLoginHost(running, { moreLdapUris: [lagging.tcpUri()] });
  for (const name of ['alice', 'bob']) {
    await login.create(name);
    await login.admit(name);
  }
  lost = await login.host.newKey('lost');
  await portal.get({ kind: 'key.add', requestedBy: 'alice', person: 'alice', key: lost.line });
  const wish = { kind: 'tool.create', requestedBy: 'alice', name: 'bot', title: 'A bot' };
  await portal.get({ ...wish, maintainers: ['alice', 'bob'] });
  await settled(world);
  await nextHeartbeat();
  backup = dumpDirectory(world);
  await restoreDirectoryCopy({ ...world, slapd: lagging }, backup);

  const gone = { person: 'alice', key: lost.line };
  await portal.get({ kind: 'key.remove', requestedBy: 'alice', ...gone });
  await portal.get({ kind: 'access.revoke', requestedBy: 'steward', person: 'bob' });
  await login.create('carol');
  await login.admit('carol');
  await settled(world);
  await nextHeartbeat();
  await eventually('her key', () => login.keyFile('carol').length === 1);
  carols = await login.openSession('carol');
  await expectWhatIsRight();
}, 180_000);

afterAll(async () => {
  await carols?.close();
  if (lagging !== undefined) await stopServer(lagging);
  await login?.close();
});

async function heartbeat(): Promise<string> {
  const { base } = login.world.config.ldap;
  const entry = (await readDirectory(login.world)).get(`cn=chamberlain,${base}`);
  return entry?.['description']?.[0] ?? '';
}

async function nextHeartbeat(): Promise<void> {
  const before = await heartbeat();
  await eventually('a heartbeat', async () => (await heartbeat()) !== before);
}

/** Alice and carol get in, alice not with the key that she removed, bob not at all; nobody is logged out. */
async function expectWhatIsRight(): Promise<void> {
  expect(await login.ssh('alice', 'become bot id -un')).toMatchObject({ stdout: 'tools.bot\n' });
  expect(await login.ssh('alice', 'true', { key: lost.file })).toMatchObject({ code: 255 });
  expect(await login.ssh('bob', 'true')).toMatchObject({ code: 255 });
  expect(await login.ssh('carol', 'id -un')).toMatchObject({ code: 0, stdout: 'carol\n' });
  expect((await carols.run('id -un')).output).toBe('carol\n');
}

function signalMain(name: 'SIGSTOP' | 'SIGCONT'): void {
  const pid = runningPid(login.world.slapd);
  if (pid !== undefined) signalTree(pid, name);
}

/** What has changed since the backup. */
const CHANGED = ['alice', 'bob', 'tools.bot'];
const isRefused = ({ refused }: AgentStatus, all: readonly string[] = CHANGED) =>
  String(refused.map(({ entry }) => entry).sort()) === String(all);

const OLDER =
  /^the heartbeat of the directory was published at \S+, but this host has seen one that was published later, at \S+: the directory is an older copy/;

describe('a replica that lags, while the other server hangs', () => {
  afterAll(() => signalMain('SIGCONT'));

  test('is not trusted: what was revoked stays revoked, and people who were added since stay', async () => {
    signalMain('SIGSTOP');
    const status = await untilStatus(login, 'the doubt', ({ why }) => OLDER.test(why ?? ''));
    expect(status).toMatchObject({ trusted: false, server: lagging.tcpUri() });
    const { refused } = await untilStatus(login, 'whom it shows older', isRefused);
    const reasons = new Map(refused.map(({ entry, why }) => [entry, why]));
    expect(CHANGED.map((name) => [name, reasons.get(name)])).toEqual(
      CHANGED.map((name) => [
        name,
        expect.stringMatching(
          /^its seal has the number \d+, but only \d+ and higher numbers are valid: is it an older/,
        ),
      ]),
    );
    await expectWhatIsRight();
  });

  test('nor is it after a restart of agent and helper', async () => {
    const { agent, helper } = login.host;
    for (const one of [agent, helper]) await one.stop('SIGKILL');
    await helper.start();
    await agent.start();
    await untilStatus(login, 'the doubt', (status) => {
      return OLDER.test(status.why ?? '') && isRefused(status);
    });
    await expectWhatIsRight();
  });

  test('the server is trusted automatically when it is back', async () => {
    signalMain('SIGCONT');
    await untilSound(login);
    await expectWhatIsRight();
  });
});

describe('a directory that was restored from a backup', () => {
  beforeAll(async () => {
    await stopServer(lagging);
    await restoreDirectoryCopy(login.world, backup);
  });

  test('is not trusted: what was revoked stays revoked, and people who were added since stay', async () => {
    await untilStatus(login, 'the doubt', (status) => {
      const { why, held } = status;
      return OLDER.test(why ?? '') && isRefused(status) && held?.names.join() === 'carol';
    });
    await expectWhatIsRight();
  });

  test('accepted on the host, it may remove people that it lacks, and brings nothing back', async () => {
    const accepted = await login.host.keysAgent('accept');
    expect(accepted).toMatchObject({ code: 0 });
    expect(accepted.stdout).toMatch(/^the heartbeat published at \S+\ncarol has disappeared\n$/);
    await eventually('the end of her session', () => !carols.isOpen);
    expect(await login.ssh('alice', 'true')).toMatchObject({ code: 0 });
    expect(await login.ssh('alice', 'true', { key: lost.file })).toMatchObject({ code: 255 });
    expect(await login.ssh('bob', 'true')).toMatchObject({ code: 255 });
    // the host still refuses older seals, whether it trusts the directory or (once its heartbeat is a minute old) not
    await untilStatus(login, 'the end of that doubt', (status) => {
      return !OLDER.test(status.why ?? '') && isRefused(status);
    });
  });

  test('once Chamberlain has accepted it too, everything is as it was before', async () => {
    const { world } = login;
    expect(await confirmRecovery(world)).toMatchObject({ exit: 0 });
    await settled(world);
    await untilSound(login);
    await eventually('what the seals say', async () => {
      return difference(filesOf(login), await filesBySeals(login)) === undefined;
    });
    carols = await login.openSession('carol');
    await expectWhatIsRight();
  });
});

describe('an older seal that somebody puts back', () => {
  /** Puts back what the backup has. */
  async function putBack(name: string): Promise<void> {
    const dn = `uid=${name},ou=people,${login.world.config.ldap.base}`;
    const entry = backup.split('\n\n').find((each) => each.startsWith(`dn: ${dn}\n`)) ?? '';
    const [, seal] = /^chamberlainSeal: (.+)$/m.exec(entry.replaceAll('\n ', '')) ?? [];
    const change = `replace: chamberlainSeal\nchamberlainSeal: ${seal}`;
    await changeDirectory(login.world, 'ldapmodify', `dn: ${dn}\nchangetype: modify\n${change}\n`);
  }
  const PUT_BACK = ['alice', 'bob'];

  test('is refused by a host that has seen a newer one', async () => {
    for (const name of PUT_BACK) await putBack(name);
    const status = await untilStatus(login, 'the refusals', (each) => isRefused(each, PUT_BACK));
    expect(status).toMatchObject({ trusted: true });
    await expectWhatIsRight();
  });

  test('is refused by a new host: the heartbeat names the lowest number that counts', async () => {
    const { machine, agent, helper } = login.host;
    for (const one of [agent, helper]) await one.stop();
    await machine.must(['/bin/sh', '-c', `rm -rf ${PLACES.login}/* ${PLACES.keys}/*`]);
    await helper.start();
    await agent.start();
    await untilStatus(login, 'the refusals', (status) => isRefused(status, PUT_BACK));
    await eventually("carol's key", () => login.keyFile('carol').length === 1);
    expect([login.keyFile('alice'), login.keyFile('bob')]).toEqual([[], []]);
    expect(await login.ssh('alice', 'true', { key: lost.file })).toMatchObject({ code: 255 });
    expect(await login.ssh('bob', 'true')).toMatchObject({ code: 255 });
    expect(await login.ssh('carol', 'true')).toMatchObject({ code: 0 });
  });
});
