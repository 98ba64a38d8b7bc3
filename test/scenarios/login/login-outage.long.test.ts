/**
 * Every server of ours is frozen: people get in by what the login host knows, until the limit, and then no
 * longer.
 */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { runningPid, signalTree } from '../../stack.ts';
import { eventually } from '../eventually.ts';
import { openLogin, type Login } from './login.ts';

const PEOPLE = Array.from({ length: 40 }, (_, n) => `p${n}`);
/** These have logged in before; the host has never seen the others. */
const SEEN = PEOPLE.slice(0, 20);
/**
 * Renewed at half of it, so each key lives for 60 to 120 s after the servers have gone, while all people get in and
 * a host boots.
 */
const LIMIT_SECONDS = 120;
/** At once: as many as two cores serve without waiting for each other. */
const AT_ONCE = 3;
/**
 * A login takes a tenth of a second, and more on a busy machine, so it is compared with an earlier one. A login
 * that waits for a server that hangs waits for at least this long.
 */
const NO_WAIT_MS = 1000;

let login: Login;
/** the longest time that it took while all was well, in milliseconds */
const before = { login: 0, work: 0 };

beforeAll(async () => {
  login = await openLogin('login-outage', {
    own: true,
    offlineLimitSeconds: LIMIT_SECONDS,
    sshdOptions: ['LogLevel=DEBUG1'],
  });
  await Promise.all(
    PEOPLE.map(async (name) => {
      await login.create(name);
      await login.admit(name);
    }),
  );
  for (const [tool, ...maintainers] of [
    ['bot', 'p0', 'p39'],
    ['cat', 'p1'],
  ]) {
    const wish = { kind: 'tool.create', requestedBy: 'steward', name: tool, title: 'A tool' };
    await login.portal.get({ ...wish, maintainers });
  }
  await eventually('all key files', () => PEOPLE.every((name) => login.keyFile(name).length === 1));
  for (let at = 0; at < SEEN.length; at += AT_ONCE) {
    const logins = await Promise.all(SEEN.slice(at, at + AT_ONCE).map(getsIn));
    before.login = Math.max(before.login, ...logins.map(({ tookMs }) => tookMs));
  }
  before.work = await eventually('the tools', () => expectWork('p0'));
}, 180_000);

afterAll(async () => {
  signalServers('SIGCONT');
  await login?.close();
});

function signalServers(name: 'SIGSTOP' | 'SIGCONT'): void {
  if (login === undefined) return;
  const { slapd, postgres, redis } = login.world;
  for (const server of [slapd, postgres, redis]) {
    const pid = runningPid(server);
    if (pid !== undefined) signalTree(pid, name);
  }
}

const getsIn = async (name: string) => {
  const { code, stdout, tookMs } = await login.ssh(name, 'id -un; pwd');
  return { name, code, stdout, tookMs };
};

/** What a maintainer of `bot` does with it; returns how many milliseconds that takes. */
async function expectWork(name: string): Promise<number> {
  const began = performance.now();
  const script =
    'id -nG; become bot id -un; sudo -n -u tools.bot id -un; become --list; become cat true';
  expect(await login.ssh(name, script)).toMatchObject({
    stdout: 'project-tools tools.bot\ntools.bot\ntools.bot\nbot\n',
    stderr: expect.stringContaining('You are not a member of the group tools.cat'),
  });
  return performance.now() - began;
}

test('all people get in at once, including those whom the host has never seen', async () => {
  signalServers('SIGSTOP');
  const tookMs: number[] = [];
  const all = [...PEOPLE.slice(SEEN.length), ...SEEN];
  for (let at = 0; at < all.length; at += AT_ONCE) {
    const logins = await Promise.all(all.slice(at, at + AT_ONCE).map(getsIn));
    for (const { name, code, stdout, tookMs: took } of logins) {
      expect([name, code, stdout]).toEqual([name, 0, `${name}\n/home/${name}\n`]);
      tookMs.push(took);
    }
  }
  tookMs.sort((a, b) => a - b);
  const [p50, p95, slowest] = [0.5, 0.95, 1].map((share) =>
    Math.round(tookMs[Math.ceil(share * tookMs.length) - 1] ?? Infinity),
  ) as [number, number, number];
  process.stdout.write(
    `frozen: of ${tookMs.length} logins p50 ${p50} ms, p95 ${p95} ms, slowest ${slowest} ms\n`,
  );
  // two may be delayed by whatever else this machine does
  expect(p95).toBeLessThan(NO_WAIT_MS + 2 * before.login);
});

test('id, become and sudo still know what they knew', async () => {
  expect(await expectWork('p39')).toBeLessThan(2 * NO_WAIT_MS + 2 * before.work);
});

test('a host that boots meanwhile lets people in, and they work', async () => {
  const { machine, sshd, agent, helper } = login.host;
  for (const one of [sshd, agent, helper]) await one.stop('SIGKILL');
  await machine.must(['/bin/rm', '-rf', '/run/chamberlain']);
  await helper.start();
  await sshd.start();
  await expectWork('p0');
  await agent.start(); // it reports that it cannot read
  await expectWork('p39');
  const status = await eventually('the trouble to be shown', async () => {
    const now = await login.agentStatus();
    return now.trouble === null ? undefined : now;
  });
  expect(status).toMatchObject({ trusted: false, people: PEOPLE.length + 1 });
});

test('after the limit nobody gets in, and sshd says that the key has expired', async () => {
  const some = [PEOPLE[0], SEEN.at(-1), PEOPLE[SEEN.length], PEOPLE.at(-1)] as string[];
  await eventually(
    'the end of the keys',
    async () => {
      const codes = (await Promise.all(some.map(getsIn))).map(({ code }) => code);
      expect(codes).toEqual(some.map(() => 255));
      return true;
    },
    (LIMIT_SECONDS + 30) * 1000,
  );
  const logged = login.host.sshd.log().length;
  for (const name of some) {
    expect(await getsIn(name)).toMatchObject({ name, code: 255 });
  }
  const said = login.host.sshd.log().slice(logged);
  expect(said.match(/authorized-keys.*: entry expired at \d+/g)?.length).toBeGreaterThanOrEqual(
    some.length,
  );
});

test('when the servers are back, so are the people', async () => {
  signalServers('SIGCONT');
  await eventually('a login', async () => (await getsIn('p0')).code === 0);
  await eventually('trust', async () => (await login.agentStatus()).trusted);
  await expectWork('p39');
});
