/**
 * Logging in, on a whole login host: Debian's sshd and sudo as `install` sets them up, real clients, and all of
 * Chamberlain behind it. One scenario, in order.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { lstatSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { openLogin, type Login, type Session } from './login.ts';
import { eventually } from '../eventually.ts';
import { homeOf, query } from '../outside.ts';
import { difference, filesBySeals, filesOf } from '../drift/sealed-files.ts';

let login: Login;

beforeAll(async () => {
  login = await openLogin('login');
});

afterAll(async () => {
  await login?.close();
});

/**
 * A quarter of a second, and several times that on a busy machine; a change that is not noticed is found within
 * a minute.
 */
const SOON_MS = 10_000;

/** When something becomes true, in milliseconds after `began`; it must be soon. */
async function since(began: number, what: string, look: () => Promise<boolean>): Promise<number> {
  await eventually(what, look, SOON_MS);
  return Math.round(performance.now() - began);
}

const OWN_KEYS = 'sudo -n -u chamberlain-lookup /usr/lib/chamberlain/own-keys';

const figures: Record<string, number> = {};
afterAll(() => void process.stdout.write(`login: ${JSON.stringify(figures)} (ms)\n`));

describe('a person with a key', () => {
  test('gets no shell without access to the realm', async () => {
    await login.create('alice');
    const { code, stderr } = await login.ssh('alice', 'true');
    expect([code, stderr]).toEqual([
      255,
      expect.stringContaining('Permission denied (publickey).'),
    ]);
  });

  test('gets one in her home once access is granted', async () => {
    await login.admit('alice');
    figures['granted'] = await since(performance.now(), 'a login', async () => {
      return (await login.ssh('alice', 'true')).code === 0;
    });
    const { code, stdout } = await login.ssh('alice', 'id -un; id -gn; pwd; echo $0');
    expect([code, stdout]).toEqual([0, 'alice\nproject-tools\n/home/alice\nbash\n']);
  });

  test('gets in with no other key, and nobody else gets in with hers', async () => {
    await login.create('bob');
    await login.admit('bob');
    const strange = await login.host.newKey('strange');
    expect((await login.ssh('alice', 'true', { key: strange.file })).code).toBe(255);
    const hers = login.keys.get('alice') ?? '';
    for (const name of ['root', 'sshd', 'chamberlain-keys', 'bob', 'steward', 'nobody-of-us']) {
      expect([name, (await login.ssh(name, 'true', { key: hers })).code]).toEqual([name, 255]);
    }
  });
});

describe('in a session that is open', () => {
  let hers: Session;
  let his: Session;

  beforeAll(async () => {
    await eventually('his login', async () => (await login.ssh('bob', 'true')).code === 0);
    hers = await login.openSession('alice');
    his = await login.openSession('bob');
    // both are told the state before it changes
    expect(await hers.run('become newtool')).toEqual({
      code: 1,
      output: "become: no such tool 'newtool'\n",
    });
    expect((await his.run('become newtool')).code).toBe(1);
  });

  afterAll(async () => {
    await hers?.close();
    await his?.close();
  });

  const becomes = (session: Session, tool: string) => async () => {
    const { code, output } = await session.run(`become ${tool} id -un`);
    return code === 0 && output === `tools.${tool}\n`;
  };

  test('a person can become a new tool soon after the request', async () => {
    const began = performance.now();
    await login.portal.send({
      kind: 'tool.create',
      requestedBy: 'alice',
      name: 'newtool',
      title: 'New',
    });
    figures['become new tool'] = await since(began, 'become', becomes(hers, 'newtool'));
    expect(await hers.run('become newtool pwd')).toEqual({
      code: 0,
      output: '/data/project/newtool\n',
    });
    expect((await hers.run('become --list')).output).toBe('newtool\n');
  });

  test('a new maintainer can soon become it', async () => {
    expect(await his.run('become newtool')).toEqual({
      code: 1,
      output:
        'You are not a member of the group tools.newtool.\n' +
        "Any existing member of the tool's group can add you to that.\n",
    });
    const began = performance.now();
    await login.portal.send({
      kind: 'maintainer.add',
      requestedBy: 'alice',
      tool: 'newtool',
      person: 'bob',
    });
    figures['become as new maintainer'] = await since(began, 'become', becomes(his, 'newtool'));
    // so does a rule that an admin has written here for the tool's group
    const rule = '%tools.newtool ALL = (root) NOPASSWD: /usr/bin/true\n';
    writeFileSync(join(login.host.machine.root, 'etc/sudoers.d/local'), rule, { mode: 0o440 });
    expect((await his.run('sudo -n /usr/bin/true')).code).toBe(0);
  });

  test('a removed maintainer soon cannot', async () => {
    const began = performance.now();
    await login.portal.send({
      kind: 'maintainer.remove',
      requestedBy: 'alice',
      tool: 'newtool',
      person: 'bob',
    });
    figures['become as removed'] = await since(began, 'a refusal', async () => {
      const { code, output } = await his.run('become newtool true');
      return code === 1 && output.startsWith('You are not a member of the group tools.newtool.');
    });
    // sudo itself refuses, too: only the words are become's
    for (const asked of ['-u tools.newtool true', '/usr/bin/true']) {
      expect([asked, (await his.run(`sudo -n ${asked}`)).code]).toEqual([asked, 1]);
    }
  });

  test('a tool that is a maintainer of another leads to that', async () => {
    await login.portal.get({ kind: 'tool.create', requestedBy: 'bob', name: 'inner', title: 'In' });
    const maintainers = ['tools.newtool'];
    await login.portal.get({
      kind: 'maintainer.add',
      requestedBy: 'bob',
      tool: 'inner',
      maintainers,
    });
    await eventually('her refusal', async () => {
      return (await hers.run('become inner true')).output.startsWith('You are not a member');
    });
    await eventually('become in become', async () => {
      return (await hers.run('become newtool become inner id -un')).output === 'tools.inner\n';
    });
  });

  test('a person who has lost access can no longer become any tool, and is put out', async () => {
    await eventually('his tool', becomes(his, 'inner'));
    const began = performance.now();
    await login.portal.send({ kind: 'access.revoke', requestedBy: 'steward', person: 'bob' });
    figures['put out without access'] = await since(began, 'the end of his session', () =>
      Promise.resolve(!his.isOpen),
    );
    expect((await login.ssh('bob', 'true')).code).toBe(255);
    // as in a session that nobody could end; the helper may end this process, too, before it has answered
    const become = ['/usr/bin/become', 'inner', 'true'];
    const answer = await eventually('become to answer', async () => {
      const ended = await login.host.machine.run(become, { user: 'bob' });
      return ended.code !== null && ended;
    });
    expect(answer.code).toBe(1);
    const sudo = ['/usr/bin/sudo', '-n', '-u', 'tools.inner', 'true'];
    expect((await login.host.machine.run(sudo, { user: 'bob' })).code).not.toBe(0);
  });
});

describe('files', () => {
  const HOME = '/data/project/newtool';
  const toolUid = async () => {
    const [row] = await query<{ uid: number }>(
      login.world,
      `SELECT uid FROM tools WHERE name = 'newtool'`,
    );
    return row?.uid ?? 0;
  };
  const ownersBelow = (folder: string) =>
    ['', ...readdirSync(folder, { recursive: true, encoding: 'utf8' })]
      .sort()
      .map((name) => [name, lstatSync(join(folder, name)).uid]);

  test('a tree that was copied to the host can be taken by the tool', async () => {
    const { world } = login;
    const tree = join(world.dir, 'a tree');
    mkdirSync(join(tree, 'sub folder'), { recursive: true });
    writeFileSync(join(tree, 'script'), '#!/bin/sh\n', { mode: 0o755 });
    writeFileSync(join(tree, 'sub folder', '-n'), 'text\n');
    const copied = await login.copy('scp', 'alice', ['-r', tree, `alice@127.0.0.1:${HOME}/`]);
    expect([copied.code, copied.stderr]).toEqual([0, '']);
    const there = join(homeOf(world, { tool: 'newtool' }), 'a tree');
    const names = ['', 'script', 'sub folder', 'sub folder/-n'];
    const { stdout: hers } = await login.ssh('alice', 'id -u');
    expect(ownersBelow(there)).toEqual(names.map((name) => [name, Number(hers)]));

    const taken = await login.ssh('alice', `become newtool take 'a tree'`);
    expect([taken.code, taken.stderr]).toEqual([0, '']);
    const uid = await toolUid();
    expect(ownersBelow(there)).toEqual(names.map((name) => [name, uid]));
    expect(lstatSync(join(there, 'script')).mode & 0o7777).toBe(0o755);
  });

  test('a link and a FIFO in a tree do not mislead take', async () => {
    await login.ssh('alice', `cd ${HOME} && mkdir t && ln -s /etc/passwd t/link && mkfifo t/fifo`);
    const { code, stderr } = await login.ssh('alice', 'become newtool take t');
    expect([code, stderr]).toEqual([1, expect.stringMatching(/t\/fifo/)]);
    expect(lstatSync(join(login.host.machine.root, 'etc/passwd')).uid).toBe(0);
    expect(lstatSync(join(homeOf(login.world, { tool: 'newtool' }), 't')).uid).toBe(
      await toolUid(),
    );
  });

  test('the tool can write to files that a maintainer creates in its home', async () => {
    const make = 'umask 022; echo hers >by-alice; mkdir folder; echo hers >folder/file';
    expect((await login.ssh('alice', `cd ${HOME} && { ${make}; }`)).code).toBe(0);
    const write = 'echo its >>by-alice; echo its >>folder/file; echo its >folder/new';
    const { code, stderr } = await login.ssh('alice', `become newtool sh -ec '${write}'`);
    expect([code, stderr]).toEqual([0, '']);
    const file = join(homeOf(login.world, { tool: 'newtool' }), 'by-alice');
    expect(readFileSync(file, 'utf8')).toBe('hers\nits\n');
  });

  test('files that came by sftp, with their own modes, can be taken and then written', async () => {
    const batch = `put "${join(login.world.dir, 'a tree/script')}" ${HOME}/brought\n`;
    const put = await login.copy('sftp', 'alice', ['-b', '-', 'alice@127.0.0.1'], batch);
    expect([put.code, put.stderr]).toEqual([0, '']);
    const script = 'take brought && echo its >>brought && cat brought';
    expect(await login.ssh('alice', `become newtool sh -c '${script}'`)).toMatchObject({
      ...{ code: 0, stdout: '#!/bin/sh\nits\n' },
    });
  });

  test("nothing of the caller's environment reaches the programs behind sudo, whatever an admin keeps", async () => {
    const { root } = login.host.machine;
    const rule = 'Defaults env_keep += "NODE_OPTIONS"\nDefaults setenv\n';
    writeFileSync(join(root, 'etc/sudoers.d/mine'), rule, { mode: 0o440 });
    const hostile = 'export NODE_OPTIONS=--require=/nowhere; touch mine;';
    for (const command of ['take mine', OWN_KEYS]) {
      const { code, stderr } = await login.ssh('alice', `${hostile} ${command}`);
      expect([command, code, stderr]).toEqual([command, 0, '']);
    }
    const asked = 'sudo -n NODE_OPTIONS=--require=/nowhere /usr/lib/chamberlain/take mine';
    expect((await login.ssh('alice', asked)).stderr).toContain('not allowed to set');
  });

  test('chamberlain-whoami shows her tools and keys', async () => {
    const { code, stdout } = await login.ssh('alice', 'chamberlain-whoami --json');
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      ...{ name: 'alice', kind: 'person', state: 'active', tools: ['newtool'] },
      ...{ refused: null, trouble: null },
      keys: [{ type: 'ssh-ed25519', takenUntil: expect.any(String) }],
    });
  });
});

describe('a file that somebody plants', () => {
  let planted: { file: string; line: string };

  beforeAll(async () => {
    planted = await login.host.newKey('planted');
  });

  const getsIn = async (name: string) =>
    (await login.ssh(name, 'true', { key: planted.file })).code === 0;

  test.each([
    ['a file', `printf '%s\\n' "$KEY" >F`],
    [
      'a link to a file of a tool',
      `printf '%s\\n' "$KEY" >/data/project/newtool/k; ln -s /data/project/newtool/k F`,
    ],
    ['a link to the folder of keys', 'ln -s /var/lib/chamberlain/keys/alice F'],
    ['a FIFO', 'mkfifo F'],
    ['a folder', 'mkdir F'],
  ])('as ~/.ssh/authorized_keys, %s, has no effect', async (_, plant) => {
    const commands = ['authorized_keys', 'authorized_keys2'].map(
      (name) => `rm -rf .ssh/${name}; ${plant.replaceAll('F', `.ssh/${name}`)}`,
    );
    const script = `KEY='${planted.line}'; mkdir -p .ssh; chmod 700 .ssh; ${commands.join('; ')}`;
    expect((await login.ssh('alice', script)).code).toBe(0);
    expect(await getsIn('alice')).toBe(false);
    const own = await login.ssh('alice', 'true');
    expect(own.code).toBe(0);
  });

  test("in a tool's home, has no effect", async () => {
    const script = `mkdir -p .ssh; printf '%s\\n' '${planted.line}' >.ssh/authorized_keys`;
    const { code } = await login.ssh('alice', `become newtool sh -c "${script}"`);
    expect(code).toBe(0);
    expect(await getsIn('tools.newtool')).toBe(false);
  });

  test('people cannot enter the folder of keys', async () => {
    for (const look of ['ls /var/lib/chamberlain/keys', 'cat /var/lib/chamberlain/keys/alice']) {
      expect((await login.ssh('alice', look)).stderr).toContain('Permission denied');
    }
  });

  test('by a compromised agent, cannot be planted', async () => {
    const places = ['keys/alice', 'keys/root', 'login/closed', 'login/seals', 'login/accept'].map(
      (name) => `/var/lib/chamberlain/${name}`,
    );
    const others = ['passwd', 'group', 'shadow'].map((name) => `/var/lib/extrausers/${name}`);
    for (const path of [...places, ...others, '/etc/sudoers.d/mine-too']) {
      const script = `printf '%s\\n' '${planted.line}' >>${path}`;
      const sh = ['/bin/sh', '-c', script];
      const { code, stderr } = await login.host.machine.run(sh, { user: 'chamberlain-keys' });
      expect([path, code, stderr]).toEqual([path, 2, expect.stringContaining('Permission denied')]);
    }
  });

  test('by root, as the keys of a local account, has no effect', async () => {
    const { agent, helper, machine } = login.host;
    // they would remove it, maybe before anybody has tried it
    for (const each of [agent, helper]) each.signal('SIGSTOP');
    try {
      for (const name of ['root', 'postgres', 'chamberlain-keys']) {
        const path = `/var/lib/chamberlain/keys/${name}`;
        const script = `printf '%s\\n' '${planted.line}' >${path}; chmod 644 ${path}`;
        await machine.must(['/bin/sh', '-c', script]);
        expect([name, await getsIn(name)]).toEqual([name, false]);
        await machine.must(['/bin/rm', path]);
      }
    } finally {
      for (const each of [agent, helper]) each.signal('SIGCONT');
    }
  });

  test("in a local account's home, has no effect: local admins have a file of root's", async () => {
    const { machine } = login.host;
    const script = `mkdir -p ~postgres/.ssh; printf '%s\\n' '${planted.line}' >~postgres/.ssh/authorized_keys`;
    await machine.must(['/bin/bash', '-c', script]);
    expect(await getsIn('postgres')).toBe(false);
    writeFileSync(join(machine.root, 'etc/ssh/authorized_keys.d/postgres'), `${planted.line}\n`);
    expect(await getsIn('postgres')).toBe(true);
  });

  test('hostile entries of the directory are refused by name, and affect nobody else', async () => {
    const { ids, ldap } = login.world.config;
    const uid = ids.people.at(-1)?.last ?? 0;
    const person = (name: string, uidNumber: number, key = planted.line) => ({
      name,
      ldif: [
        `dn: uid=${name},ou=people,${ldap.base}`,
        ...['person', 'inetOrgPerson', 'ldapPublicKey', 'posixAccount'].map(
          (c) => `objectClass: ${c}`,
        ),
        ...[`uid: ${name}`, `cn: hostile ${name}`, `sn: ${name}`, `homeDirectory: /home/${name}`],
        ...[`uidNumber: ${uidNumber}`, 'gidNumber: 500', 'loginShell: /bin/bash'],
        `sshPublicKey:: ${Buffer.from(key).toString('base64')}`,
      ].join('\n'),
    });
    const { line } = await login.host.newKey('second');
    const hostile = [
      person('root', uid),
      person('sshd', uid - 1),
      person('../x', uid - 2),
      person('zero', 0),
      person('twice', uid - 3, `${planted.line}\n${line}`),
      person('stranger', uid - 4), // nothing is wrong with this one, but that nobody has sealed it
    ];
    const members = hostile.map(({ name }) => `member: uid=${name},ou=people,${ldap.base}`);
    const realmGroup = `dn: cn=project-tools,ou=groups,${ldap.base}\nchangetype: modify\nadd: member`;
    // even the directory's own admin must ask for it with `relax`: the ranges are protected
    await addRelaxed([...hostile.map(({ ldif }) => ldif), `${realmGroup}\n${members.join('\n')}`]);

    const refused = await eventually('the refusals', async () => {
      const { refused: all } = await login.agentStatus();
      return all.length >= hostile.length && all;
    });
    for (const { name } of hostile) {
      // an entry whose name cannot be ours is named by its place
      const entries = [name, `uid=${name},ou=people,${ldap.base}`];
      expect([name, refused.some(({ entry }) => entries.includes(entry))]).toEqual([name, true]);
      expect([name, login.keyFile(name)]).toEqual([name, []]);
      expect([name, await getsIn(name)]).toEqual([name, false]);
    }
    expect(await login.agentStatus()).toMatchObject({ trusted: true });
    expect((await login.ssh('alice', 'id -u root sshd; getent passwd 0 zero')).stdout).toMatch(
      /^0\n\d{1,3}\nroot:x:0:.*\n$/,
    );
  });
});

describe('unsealed changes by an admin of the directory', () => {
  test('have no effect on a login host: not even all members, keys and rules at once', async () => {
    const { base } = login.world.config.ldap;
    const hers = await login.openSession('alice');
    const { line } = await login.host.newKey('by-hand');
    const person = (name: string) => `uid=${name},ou=people,${base}`;
    const modify = (dn: string, change: string) => `dn: ${dn}\nchangetype: modify\n${change}`;
    const rule = `cn=all,ou=sudoers,cn=tools,ou=projects,${base}`;
    await addRelaxed([
      modify(`cn=project-tools,ou=groups,${base}`, `replace: member\nmember: ${person('bob')}`),
      modify(
        `cn=tools.newtool,ou=servicegroups,${base}`,
        `replace: member\nmember: ${person('bob')}`,
      ),
      modify(person('alice'), `replace: sshPublicKey\nsshPublicKey: ${line}`),
      modify(person('alice'), 'replace: loginShell\nloginShell: /bin/false'),
      `dn: cn=runas-tools.newtool,ou=sudoers,cn=tools,ou=projects,${base}\nchangetype: delete`,
      [
        ...[`dn: ${rule}`, 'objectClass: sudoRole', 'cn: all', 'sudoUser: ALL', 'sudoHost: ALL'],
        ...['sudoCommand: ALL', 'sudoRunAsUser: ALL', 'sudoOption: !authenticate'],
      ].join('\n'),
    ]);
    // a later change has been read, so this one has been read, too
    const wish = { kind: 'tool.create', requestedBy: 'alice', name: 'later', title: 'Later' };
    await login.portal.get(wish);
    await eventually('the later tool', async () => {
      return (await hers.run('become later id -un')).output === 'tools.later\n';
    });
    expect((await hers.run('become newtool id -un')).output).toBe('tools.newtool\n');
    expect((await hers.run('sudo -n id')).code).toBe(1);
    expect((await login.ssh('alice', 'echo $0')).stdout).toBe('bash\n');
    expect((await login.ssh('bob', 'true')).code).toBe(255);
    expect(difference(filesOf(login), await filesBySeals(login))).toBeUndefined();
    expect(await login.agentStatus()).toMatchObject({ trusted: true, held: null });
    await hers.close();
  });
});

/** As the directory's administrator, past the overlays (the Relax Rules control). */
async function addRelaxed(entries: string[]): Promise<void> {
  const { world } = login;
  const child = spawn('ldapmodify', [
    ...['-x', '-H', world.config.ldap.uri, '-e', 'relax', '-a'],
    ...['-D', world.ldapAdmin.dn, '-y', join(world.config.secrets, 'ldap-admin')],
  ]);
  child.stdin.end(`${entries.join('\n\n')}\n`);
  let said = '';
  child.stderr.on('data', (text) => (said += String(text)));
  const [code] = (await once(child, 'close')) as [number];
  if (code !== 0) throw new Error(said);
}
