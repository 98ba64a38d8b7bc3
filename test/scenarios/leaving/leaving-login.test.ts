/**
 * A person who is suspended, or loses access, in the middle of work; and a tool that is disabled: what ends on
 * a login host.
 */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Access, openAccess, processesOf } from '../login/access.ts';
import { eventually } from '../eventually.ts';
import { openLogin, type Login, type Session } from '../login/login.ts';
import { query, settled } from '../outside.ts';
import { PLACES } from '../../../src/login-host/places.ts';

const PEOPLE = ['alice', 'bob', 'carol', 'dave', 'erin', 'frank', 'grace', 'heidi'];

let login: Login;
const figures: Record<string, unknown> = {};

beforeAll(async () => {
  login = await openLogin('leaving-login');
  await Promise.all(
    PEOPLE.map(async (name) => {
      await login.create(name);
      await login.admit(name);
    }),
  );
  await newTool('bot', ...PEOPLE);
  await newTool('cat', ...PEOPLE);
});

afterAll(async () => {
  await login?.close();
  process.stdout.write(`leaving a login host: ${JSON.stringify(figures)} (ms)\n`);
});

async function newTool(name: string, ...maintainers: string[]): Promise<void> {
  const wish = { kind: 'tool.create', requestedBy: 'steward', name, title: name };
  await login.portal.get({ ...wish, maintainers });
}

const URGENT = { queue: 'requests.urgent' } as const;
const ask = (kind: string, about: Record<string, string>) => ({
  ...{ kind, requestedBy: 'steward' },
  ...about,
});
const suspend = (person: string) =>
  login.portal.send(ask('person.suspend', { person, reason: 'for the test' }), URGENT);

async function uidOf(tool: string): Promise<number> {
  const sql = 'SELECT uid FROM tools WHERE name = $1';
  const [row] = await query<{ uid: number }>(login.world, sql, [tool]);
  return row?.uid ?? 0;
}

const runningAs = (uid: number, command: string) =>
  processesOf(login).filter((each) => each.uid === uid && each.command.endsWith(command));

describe('a person who is suspended', () => {
  let access: Access;
  let his: Session;

  beforeAll(async () => {
    access = await openAccess(login, 'alice', 'bot');
    his = await login.openSession('bob');
    await his.run('become bot sleep 4000 </dev/null >/dev/null 2>&1 &');
    const uid = await uidOf('bot');
    await eventually('his process', () => runningAs(uid, 'sleep 4000').length === 1);
  });
  afterAll(async () => {
    await access?.close();
    await his?.close();
  });

  test('loses all access, whatever is open', async () => {
    const began = performance.now();
    const id = await suspend('alice');
    figures['suspended'] = await access.untilClosed(began);
    await login.portal.finish(id);
    expect(await login.ssh('alice', 'true')).toMatchObject({ code: 255 });
    // no command in progress has got through
    await settled(login.world);
    for (const [what, isClosed] of Object.entries(access.closed)) {
      expect([what, await isClosed()]).toEqual([what, true]);
    }
  });

  test('and nobody else does: neither another’s session, nor processes of the same tool', async () => {
    expect(his.isOpen).toBe(true);
    expect(runningAs(await uidOf('bot'), 'sleep 4000')).toHaveLength(1);
    expect((await his.run('become bot id -un')).output).toBe('tools.bot\n');
  });

  test('gets in again once reinstated, and stays', async () => {
    await login.portal.get(ask('person.reinstate', { person: 'alice' }));
    await eventually('a login', async () => (await login.ssh('alice', 'true')).code === 0);
    const hers = await login.openSession('alice');
    await eventually('become', async () => (await hers.run('become bot true')).code === 0);
    await hers.close();
  });
});

describe('jobs of cron and at', () => {
  /** As cron asks before each job. There may be no cron here: su asks by the lines of its file. */
  const starts = async (user: string) =>
    (await login.host.machine.run(['su', '-s', '/bin/sh', user, '-c', 'true'])).code === 0;

  beforeAll(async () => {
    const { machine } = login.host;
    const cron = '@include common-account\n@include common-session-noninteractive\n';
    writeFileSync(join(machine.root, 'etc/pam.d/cron'), cron);
    expect(await login.host.install()).toMatchObject({ code: 0, stderr: '' });
    await machine.must([
      ...['sh', '-c'],
      '{ echo auth sufficient pam_rootok.so; cat /etc/pam.d/cron; } >/etc/pam.d/su',
    ]);
  });

  test('are not started for a suspended person or a disabled tool, until they are reinstated', async () => {
    await newTool('dog', 'frank');
    const all = ['frank', 'tools.dog', 'bob', 'root'];
    const started = async () => Promise.all(all.map(starts));
    await eventually('all', async () => (await started()).every(Boolean));
    await Promise.all([
      suspend('frank'),
      login.portal.send(ask('tool.disable', { tool: 'dog', reason: 'for the test' }), URGENT),
    ]);
    await eventually('the two to be refused', async () => {
      return String(await started()) === 'false,false,true,true';
    });
    await login.portal.get(ask('person.reinstate', { person: 'frank' }));
    await login.portal.get(ask('tool.enable', { tool: 'dog' }));
    await eventually('all again', async () => (await started()).every(Boolean));
  });

  test('are started for local accounts, whatever the list contains', async () => {
    writeFileSync(join(login.host.machine.root, PLACES.login, 'closed'), 'root\n');
    expect(await starts('root')).toBe(true);
  });
});

describe('a person who is suspended while the host receives nothing', () => {
  /** What she has started, under any account. */
  async function commandsOf(name: string): Promise<string> {
    const sql = 'SELECT uid FROM people WHERE shell_name = $1';
    const [row] = await query<{ uid: number }>(login.world, sql, [name]);
    const hers = processesOf(login).filter(
      (each) => each.uid === row?.uid || each.login === row?.uid,
    );
    return hers.map(({ command }) => command).join('\n');
  }

  /** Her work, in a session that is open. */
  async function openWork(name: string): Promise<Session> {
    const session = await login.openSession(name);
    await eventually('become', async () => (await session.run('become bot true')).code === 0);
    await session.run('become bot sleep 5000 </dev/null >/dev/null 2>&1 &');
    // stopped in the middle: it receives only one signal
    await session.run('become bot sleep 5001 </dev/null >/dev/null 2>&1 & kill -STOP $!');
    await eventually('her process', async () => /^sleep 5000$/m.test(await commandsOf(name)));
    return session;
  }

  test.each([
    ['the login helper is', 'carol', ['helper']],
    ['the agent is', 'dave', ['agent']],
    ['both are', 'grace', ['helper', 'agent']],
  ] as const)('because %s away, is ended at the next start', async (which, name, away) => {
    const { host } = login;
    const hers = await openWork(name);
    for (const one of away) await host[one].stop('SIGKILL');
    await login.portal.finish(await suspend(name));
    // the earlier knowledge still counts
    expect((await hers.run('become bot id -un')).output).toBe('tools.bot\n');
    const began = performance.now();
    for (const one of away) await host[one].start();
    await eventually('the end of her session', () => !hers.isOpen);
    await eventually('and of everything else', async () => (await commandsOf(name)) === '');
    figures[`ended after ${which} back`] = Math.round(performance.now() - began);
    expect(await login.ssh(name, 'true')).toMatchObject({ code: 255 });
    await eventually('trust', async () => (await login.agentStatus()).trusted);
  });

  test('because it is down, gets in after it has booted only until it is up to date', async () => {
    const { machine, sshd, agent, helper } = login.host;
    for (const one of [sshd, agent, helper]) await one.stop('SIGKILL');
    await machine.must(['/bin/rm', '-rf', '/run/chamberlain']);
    await login.portal.finish(await suspend('heidi'));
    await sshd.start();
    const hers = await login.openSession('heidi');
    const began = performance.now();
    await login.host.start();
    await eventually('the end of her session', () => !hers.isOpen);
    figures['ended after a boot'] = Math.round(performance.now() - began);
    expect(await login.ssh('heidi', 'true')).toMatchObject({ code: 255 });
    expect((await login.ssh('bob', 'become bot id -un')).stdout).toBe('tools.bot\n');
  });
});

test('a person who loses access is put out, together with processes of a tool', async () => {
  const hers = await login.openSession('erin');
  await eventually('become', async () => (await hers.run('become bot true')).code === 0);
  await hers.run('become bot setsid -f sleep 6000 </dev/null >/dev/null 2>&1');
  const uid = await uidOf('bot');
  await eventually('the process', () => runningAs(uid, 'sleep 6000').length === 1);
  const began = performance.now();
  await login.portal.send(ask('access.revoke', { person: 'erin' }), URGENT);
  await eventually('the end of the session', () => !hers.isOpen);
  await eventually('and of the process', () => runningAs(uid, 'sleep 6000').length === 0);
  figures['access revoked'] = Math.round(performance.now() - began);
});

describe('a tool that is disabled', () => {
  let his: Session;
  beforeAll(async () => {
    his = await login.openSession('bob');
    await eventually('become', async () => (await his.run('become cat true')).code === 0);
  });
  afterAll(async () => his?.close());

  test('has its processes ended, whoever has started them; the person stays', async () => {
    const uid = await uidOf('cat');
    await his.run('become cat sleep 7000 </dev/null >/dev/null 2>&1 &');
    await his.run('become cat setsid -f sleep 7000 </dev/null >/dev/null 2>&1');
    await eventually('his processes', () => runningAs(uid, 'sleep 7000').length === 2);
    const words: string[] = [];
    const began = performance.now();
    const wish = ask('tool.disable', { tool: 'cat', reason: 'It floods: see T1' });
    const id = await login.portal.send(wish, URGENT);
    await eventually('the end of its processes', () => {
      return processesOf(login).every((each) => each.uid !== uid);
    });
    figures['disabled: processes'] = Math.round(performance.now() - began);
    await eventually('become to say why', async () => {
      const { code, output } = await his.run('become cat true');
      // it must not leave that to sudo
      if (output.includes('sudo')) words.push(output);
      return (
        code === 1 &&
        output ===
          "become: the tool 'cat' is disabled (It floods? see T1); a maintainer can have it enabled\n"
      );
    });
    figures['disabled: become says why'] = Math.round(performance.now() - began);
    // the rule may disappear once, between become's check and sudo
    expect(words.slice(1)).toEqual([]);
    await login.portal.finish(id);
    expect((await his.run('sudo -n -u tools.cat true')).code).not.toBe(0);
    expect((await his.run('become --list')).output).toContain('bot\n');
  });

  test('is also announced by its shell', async () => {
    const { machine } = login.host;
    await eventually('the reason', async () => {
      const { code, stdout } = await machine.run(['/bin/disabledtoolshell'], { user: 'tools.cat' });
      return code === 1 && stdout === 'This tool is disabled: It floods? see T1\n';
    });
  });

  test('works again once enabled, and new processes stay', async () => {
    await login.portal.get(ask('tool.enable', { tool: 'cat' }));
    await eventually('become', async () => (await his.run('become cat true')).code === 0);
    await his.run('become cat sleep 8000 </dev/null >/dev/null 2>&1 &');
    const uid = await uidOf('cat');
    await eventually('its process', () => runningAs(uid, 'sleep 8000').length === 1);
    await login.host.agent.stop('SIGKILL');
    await login.host.agent.start();
    await eventually('trust', async () => (await login.agentStatus()).trusted);
    expect(runningAs(uid, 'sleep 8000')).toHaveLength(1);
  });
});
