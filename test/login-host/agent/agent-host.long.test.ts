/** A login host with its agent and its login helper, as they are installed, against a real slapd. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openLoginHost, type LoginHost } from '../../../dev/servers/login-host.ts';
import { PLACES } from '../../../src/login-host/places.ts';
import type { PersonSeal } from '../../../src/seals/seal.ts';
import { eventually } from '../../scenarios/eventually.ts';
import { changeDirectory } from '../../scenarios/outside.ts';
import { openWorld, runningPid, signalTree, type World } from '../../stack.ts';
import { backUp, newKey, restore, sealedEntries } from '../agent-world.ts';
import { statusOf } from '../host-status.ts';
import { newSealKey } from '../seal-key.ts';

const LIMIT_SECONDS = 3600;
const NAMES = Array.from({ length: 40 }, (_, n) => `p${n}`);
const TOOLS = Array.from({ length: 12 }, (_, n) => `t${n}`);
const KEYS = Object.fromEntries(NAMES.map((name) => [name, newKey()]));
const BEAT_MS = 3000;

let world: World;
let host: LoginHost;
let entries: ReturnType<typeof sealedEntries>;
/** the content of the heartbeat; undefined: none is published */
let beat: Parameters<typeof entries.heartbeat>[0] | undefined;
let beating: NodeJS.Timeout;

interface Status {
  exit: number | null;
  text: string;
  json: {
    running: boolean;
    trusted: boolean;
    why: string | null;
    trouble: string | null;
    people: number;
    tools: number;
    files: number;
    refused: { entry: string; why: string }[];
    held: { names: string[]; inAll: number } | null;
    accepted: { what: string[] } | null;
  };
}

const inside = (path: string) => join(host.machine.root, path);
const change = (ldif: string) => changeDirectory(world, 'ldapmodify', ldif);
let pulsing: Promise<unknown> = Promise.resolve();
const pulse = () => {
  const pulsed = change(entries.beat(entries.heartbeat(beat)));
  pulsing = pulsed.catch(() => {}); // if slapd is away, the next one follows
  return pulsed;
};
/** Stops publishing heartbeats. */
const fallSilent = async () => {
  beat = undefined;
  await pulsing;
};
const agentCommand = (...args: string[]) => host.machine.run(['/usr/sbin/keys-agent', ...args]);
/** What it says, without a start of the program. */
const look = () => statusOf(host.machine) as Status;
async function status(): Promise<Status> {
  const [json, text] = await Promise.all([
    agentCommand('status', '--json'),
    agentCommand('status'),
  ]);
  return { exit: json.code, json: JSON.parse(json.stdout) as Status['json'], text: text.stdout };
}

const files = () =>
  Object.fromEntries(
    readdirSync(inside(PLACES.keys)).map((name) => [
      name,
      readFileSync(join(inside(PLACES.keys), name), 'utf8'),
    ]),
  );
const file = (name: string): string | undefined => files()[name];
const list = (name: string) => readFileSync(join(inside(PLACES.extrausers), name), 'utf8');
const bare = (text: string | undefined) => text?.replaceAll(/,?expiry-time="\d{14}Z" ?/g, '');

let number = 1;
const uidOf = (name: string) => entries.personUid(NAMES.indexOf(name));
/** Gives a person another seal, one number higher. */
function reseal(name: string, changes: Partial<PersonSeal> = {}): string {
  const keys = [KEYS[name] ?? ''];
  const seal = entries.personSeal(name, uidOf(name), { keys, number: (number += 1), ...changes });
  return entries.reseal(entries.personDn(name), seal);
}

beforeAll(async () => {
  world = await openWorld('agent-host', { needs: ['slapd'] });
  const key = newSealKey();
  entries = sealedEntries(world, key);
  const { addPerson, personSeal, addTool, toolUid } = entries;
  beat = { people: NAMES.length, tools: TOOLS.length };
  await change(
    NAMES.map((name) =>
      addPerson(name, uidOf(name), personSeal(name, uidOf(name), { keys: [KEYS[name] ?? ''] })),
    ).join('') + TOOLS.map((tool, n) => addTool(tool, toolUid(n))).join(''),
  );
  host = await openLoginHost({
    ...{ folder: join(world.dir, 'login-host'), ldapUri: world.slapd.tcpUri() },
    ...{ base: world.config.ldap.base, realm: world.config.realm },
    ...{ ids: world.config.ids, secrets: world.config.secrets, dataRoot: world.dataRoot },
    ...{ sealKeys: [key.publicPem], offlineLimitSeconds: LIMIT_SECONDS },
  });
  await host.helper.start();
  await pulse();
  beating = setInterval(() => {
    if (beat !== undefined) void pulse().catch(() => {});
  }, BEAT_MS);
});

afterAll(async () => {
  clearInterval(beating);
  await host?.close();
  await world?.close();
});

/** Each test begins with forty people who may log in, twelve tools, and trust. */
beforeEach(async () => {
  beat = { people: NAMES.length, tools: TOOLS.length };
  await pulse();
  await host.agent.start();
  await eventually('all is as at the beginning', () => {
    const { exit, json, text } = look();
    expect(exit === 0 ? '' : text).toBe(''); // its output is then in the failure
    expect(json).toMatchObject({ people: 40, tools: 12, files: 40 });
    return true;
  });
});

async function distrusts(why: RegExp): Promise<void> {
  await eventually(`it says ${why}`, () => {
    expect(look().json.why).toMatch(why);
    return true;
  });
  const { exit, json, text } = await status();
  expect([exit, json.why]).toEqual([4, expect.stringMatching(why)]);
  expect(text).toContain('not trusted for');
}

describe('a directory that is trusted', () => {
  test('gives each person a key file, and all of them accounts', async () => {
    for (const name of NAMES) expect(bare(file(name))).toBe(`${KEYS[name]}\n`);
    expect(list('passwd').trim().split('\n')).toHaveLength(52);
    expect(readFileSync(inside(PLACES.sudoers), 'utf8')).toContain('%tools.t11 ');
    const { text } = await status();
    expect(text).toMatch(/^directory +trusted$/m);
    expect(text).toMatch(/^people +40, 40 of them with a key file$/m);
    expect(text).toMatch(/^tools +12$/m);
  });

  test('is followed: keys, suspensions, membership, deletions with a floor', async () => {
    const second = newKey();
    const begin = performance.now();
    await change(reseal('p1', { keys: [KEYS['p1'] ?? '', `restrict ${second}`] }));
    await eventually('two lines', () => file('p1')?.includes(`${second}\n`));
    // all entries are compared every minute
    expect(performance.now() - begin).toBeLessThan(50_000);
    expect(file('p1')).toMatch(/^restrict,expiry-time="\d{14}Z" ssh-ed25519 \S+$/m);
    await change(
      reseal('p2', { state: 'suspended' }) +
        reseal('p3', { member: false }) +
        reseal('p4', { keys: [] }),
    );
    await eventually('no files', () => !('p2' in files() || 'p3' in files() || 'p4' in files()));
    const closed = join(inside(PLACES.login), 'closed'); // written after the key files
    await eventually('two closed', () => readFileSync(closed, 'utf8') === 'p2\np3\n');
    await change(['p1', 'p2', 'p3', 'p4'].map((name) => reseal(name)).join(''));
    await eventually('all files', () => Object.keys(files()).length === 40);

    const uid = entries.personUid(99);
    await change(entries.addPerson('gone', uid, entries.personSeal('gone', uid)));
    await eventually('a file', () => 'gone' in files());
    beat = { ...beat, floors: [[uid, 2]] };
    await change(entries.remove(entries.personDn('gone')));
    await pulse();
    await eventually('no file', () => !('gone' in files()));
    await host.agent.stop();
    await host.agent.start();
    await eventually('no account', () => !list('passwd').includes('gone:'));
  });

  test('is trusted again after restarts of the agent and of the helper: no file is rewritten', async () => {
    const inodes = () => NAMES.map((name) => statSync(join(inside(PLACES.keys), name)).ino);
    const before = inodes();
    for (const daemon of [host.agent, host.helper]) {
      await daemon.stop('SIGKILL');
      await daemon.start();
      await eventually('trust', () => look().exit === 0);
    }
    expect(inodes()).toEqual(before);
    await change(reseal('p5', { keys: [] }));
    await eventually('no file', () => !('p5' in files()));
    await change(reseal('p5'));
  });

  test('killed in the middle of a thousand changes, both end up in line with it', async () => {
    const wanted: Record<string, string> = {};
    let changes = '';
    for (let n = 0; n < 1000; n += 1) {
      const name = NAMES[(n * 7) % NAMES.length] ?? '';
      wanted[name] = newKey();
      changes += reseal(name, { keys: [wanted[name]] });
    }
    const changing = change(changes);
    for (let kills = 0; kills < 4; kills += 1) {
      const daemon = kills % 2 === 0 ? host.agent : host.helper;
      await daemon.stop('SIGKILL');
      await daemon.start();
      for (const text of Object.values(files())) expect(text).toMatch(/^(?:[^\n]+\n)+$/);
    }
    await changing;
    await eventually('the last keys', () =>
      NAMES.every((name) => bare(file(name)) === `${wanted[name]}\n`),
    );
    await change(NAMES.map((name) => reseal(name)).join(''));
    await eventually('the first keys', () =>
      NAMES.every((name) => bare(file(name)) === `${KEYS[name]}\n`),
    );
  });
});

describe('a directory that is not trusted', () => {
  test('because its heartbeat is old: what a seal takes counts, and what it gives waits', async () => {
    await fallSilent();
    const old = new Date(Date.now() - 61_000).toISOString();
    const people = { people: 40, tools: 12 };
    await change(entries.beat(entries.heartbeat({ ...people, clock: old })));
    await distrusts(/has published no heartbeat for (?:\d{2,3} s|\d min)/);
    const key = newKey();
    const kept = KEYS['p12'] ?? '';
    await change(
      reseal('p10', { keys: [key] }) +
        reseal('p11', { state: 'suspended' }) +
        reseal('p12', { keys: [kept, key] }),
    );
    await eventually('what is taken away', () => !('p10' in files() || 'p11' in files()));
    expect(bare(file('p12'))).toBe(`${kept}\n`);
    await eventually('what waits to be told', () => {
      expect(look().text).toMatch(/^p12 +\d+ s +what its seal gives does not count until/m);
      return true;
    });
    beat = people;
    await pulse();
    await eventually('what is given', () => bare(file('p12'))?.split('\n').length === 3);
    await eventually('the other key', () => bare(file('p10')) === `${key}\n`);
    await change(reseal('p10') + reseal('p11') + reseal('p12'));
  });

  test('because seals are hidden: all keep what they have', async () => {
    const before = files();
    const hide = (operation: 'add' | 'delete') => {
      const rule = `{0}to dn.onelevel="ou=people,${world.config.ldap.base}" attrs=chamberlainSeal by * none`;
      const args = ['-Q', '-Y', 'EXTERNAL', '-H', world.slapd.uri];
      const ldif = `dn: olcDatabase={1}mdb,cn=config\nchangetype: modify\n${operation}: olcAccess\nolcAccess: ${rule}\n`;
      execFileSync('ldapmodify', args, { input: ldif, stdio: ['pipe', 'ignore', 'pipe'] });
    };
    await host.agent.stop();
    hide('add');
    try {
      await host.agent.start();
      await distrusts(/40 entries have disappeared/);
      const { json, text } = await status();
      expect(json.held).toMatchObject({ inAll: 40 });
      expect(text).toContain('keys-agent accept');
      expect(files()).toEqual(before);
    } finally {
      hide('delete');
    }
    // it looks again each minute
    await host.agent.stop();
    await host.agent.start();
    await eventually('trust', () => look().exit === 0);
    expect(files()).toEqual(before);
  });

  test('because it is an older copy: no older seal is accepted, and new seals give nothing', async () => {
    const backup = backUp(world);
    const key = newKey();
    await pulse();
    // reported with the heartbeat of that time
    await change(reseal('p13', { keys: [key] }));
    await eventually('the new key', () => bare(file('p13')) === `${key}\n`);
    await fallSilent();
    await restore(world, backup);
    await distrusts(/older copy/);
    expect(bare(file('p13'))).toBe(`${key}\n`);
    // the heartbeat may be read before the seal is
    await eventually('the seal of before to be named', () => {
      const { json, text } = look();
      expect(json.refused).toEqual([
        expect.objectContaining({ entry: 'p13', why: expect.stringMatching(/number.*older copy/) }),
      ]);
      expect(text).toMatch(/^p13 +\d+ s +its seal has the number/m);
      return true;
    });
    expect(bare(file('p13'))).toBe(`${key}\n`);
    const another = newKey();
    await change(reseal('p13', { keys: [another] }));
    await eventually('the key is taken', () => !('p13' in files()));
    beat = { people: NAMES.length, tools: TOOLS.length };
    await pulse();
    await eventually('another key', () => bare(file('p13')) === `${another}\n`);
    await change(reseal('p13'));
    await eventually('its first key', () => bare(file('p13')) === `${KEYS['p13']}\n`);
  });

  test('because it is silent: files stay, and work goes on when the server is back', async () => {
    const before = files();
    const pid = runningPid(world.slapd) ?? 0;
    signalTree(pid, 'SIGSTOP');
    try {
      await distrusts(/reading|binding/);
      expect((await status()).text).toMatch(/^ +cannot be read: /m);
      expect(files()).toEqual(before);
    } finally {
      signalTree(pid, 'SIGCONT');
    }
    await eventually('trust', () => look().exit === 0);
  });
});

describe('an entry that does not belong there', () => {
  test('is refused, is named with its reason and since when, and affects nobody else', async () => {
    const forger = sealedEntries(world, newSealKey());
    const uid = (n: number) => entries.personUid(50 + n);
    await change(
      entries.addPerson('unsealed', uid(0), '') +
        entries.addPerson('forged', uid(1), forger.personSeal('forged', uid(1))) +
        entries.addPerson('other', uid(2), entries.personSeal('p1', uidOf('p1'))) +
        entries.addPerson('daemon', uid(3)) +
        // next to people, where no overlay compares it with accounts
        entries
          .addPerson('tools.t1', uid(4), entries.toolSeal('t1', entries.toolUid(1)))
          .replace('objectClass: posixAccount', 'objectClass: inetOrgPerson')
          .replaceAll(/^(uidNumber|gidNumber|homeDirectory):.*\n/gm, '') +
        entries.addPerson(
          'weak',
          uid(5),
          entries.personSeal('weak', uid(5), { keys: ['ssh-rsa AAAA', KEYS['p1'] ?? ''] }),
        ),
    );
    const all = ['unsealed', 'forged', 'other', 'daemon', 'tools.t1', 'weak'];
    await eventually('they are named', () => look().json.refused.length === all.length);
    const { exit, json, text } = await status();
    expect(json.refused).toHaveLength(all.length);
    expect(exit).toBe(3);
    const why = Object.fromEntries(
      json.refused.map((each) => [each.entry.replace(/^uid=([^,]+),.*/, '$1'), each.why]),
    );
    expect(why['unsealed']).toBe('its entry has no seal');
    expect(why['forged']).toMatch(/does not know the key/);
    expect(why['other']).toMatch(/p1/);
    expect(why['daemon']).toMatch(/local account/);
    expect(why['tools.t1']).toMatch(/./);
    expect(why['weak']).toMatch(/key/);
    for (const sentence of Object.values(why)) expect(text).toContain(sentence.slice(0, 40));
    expect(list('group')).toMatch(/^tools\.t1:/m);
    await change(reseal('p15', { keys: [] }));
    await eventually('others go on', () => !('p15' in files()));
    await change(
      reseal('p15') + all.map((name) => entries.remove(entries.personDn(name))).join(''),
    );
    await host.agent.stop();
    await host.agent.start();
  });
});

describe('keys-agent require-seals', () => {
  const nsswitch = () => readFileSync(inside('/etc/nsswitch.conf'), 'utf8');
  const sh = (script: string) => host.machine.must(['/bin/sh', '-ec', script]);
  const isLetIn = async (key: string): Promise<boolean> => {
    const args = [...host.sshOptions(key), 'p20@127.0.0.1', 'true'];
    const child = spawn('/usr/bin/ssh', args, { stdio: 'ignore' });
    return (await once(child, 'exit'))[0] === 0;
  };

  test('removes sssd once everybody has a seal, and changes nothing before', async () => {
    const { file: key, line } = await host.newKey('p20');
    const canonical = line.replace(/ p20$/, '');
    await change(reseal('p20', { keys: [canonical] }));
    await eventually('the key', () => file('p20')?.includes(canonical));
    await host.sshd.start();
    expect(await isLetIn(key)).toBe(true);

    // as it was set up with sssd, which has stopped and left its sockets
    await sh(`
      perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Local => $_, Listen => 1) or die for @ARGV' \\
        /var/lib/sss/pipes/pam /var/lib/sss/pipes/private/pam
      sed -i -E 's/^(passwd|group|shadow|sudoers):.*/& sss [NOTFOUND=return]/' /etc/nsswitch.conf
      DEBIAN_FRONTEND=noninteractive pam-auth-update --enable sss
      mv /usr/bin/systemctl /usr/bin/systemctl.real; mkdir -p /run/systemd/system
      printf '#!/bin/sh\\necho "$*" >>/tmp/systemctl\\n[ "$1" != list-unit-files ] || printf "%%s\\\\n" \\
        "sssd.service enabled enabled" "sssd-nss.socket enabled enabled" "sssd-nss.service indirect enabled"\\n' >/usr/bin/systemctl
      chmod 755 /usr/bin/systemctl`);
    expect(nsswitch()).toMatch(/^passwd:.* sss \[NOTFOUND=return\]$/m);
    expect(await isLetIn(key)).toBe(false); // refused by pam_sss
    const before = nsswitch();
    const refusal = await host.machine.run(['/usr/sbin/keys-agent', 'require-seals'], {
      user: 'nobody',
    });
    expect(refusal).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/^USAGE: only root may run `require-seals`\./),
    });

    await change(entries.addPerson('late', entries.personUid(90), ''));
    await eventually('it is named', () => look().json.refused.length === 1);
    const refused = await agentCommand('require-seals');
    expect(refused.code).toBe(3);
    expect(refused.stdout).toMatch(
      /^Nothing is changed, because the host is not ready:\n {2}1 entry has no seal that this host accepts\n/,
    );
    expect(refused.stdout).toMatch(/^late +\d+ s +its entry has no seal$/m);
    expect(nsswitch()).toBe(before);

    // one more entry, which is not ours and needs no login
    await change(
      entries.remove(entries.personDn('late')) +
        entries.addPerson(
          'late',
          entries.personUid(90),
          entries.personSeal('late', entries.personUid(90)),
        ) +
        entries.addPerson('unmanaged', entries.personUid(91), ''),
    );
    await eventually('it is the only one', () => {
      const { exit, json } = look();
      return exit === 3 && json.refused.length === 1 && json.refused[0]?.entry === 'unmanaged';
    });
    expect((await agentCommand('require-seals', '--without', 'other')).code).toBe(3);
    const done = await agentCommand('require-seals', '--without', 'other,unmanaged');
    expect([done.code, done.stderr]).toEqual([0, '']);
    expect(done.stdout.trim().split('\n')).toEqual([
      '/etc/nsswitch.conf no longer asks sssd for accounts, groups or sudo rules',
      'PAM no longer asks sssd',
      'stopped, and no longer started at boot: sssd.service, sssd-nss.socket',
    ]);
    expect(nsswitch()).toBe(before.replaceAll(/ +sss \[NOTFOUND=return\]$/gm, ''));
    expect(await sh('grep -l "^[^#]*pam_sss" /etc/pam.d/common-* || :')).toBe('');
    expect(readFileSync(inside('/tmp/systemctl'), 'utf8')).toContain(
      'disable --now sssd.service sssd-nss.socket\n',
    );
    expect(await isLetIn(key)).toBe(true);
    expect(await host.machine.must(['getent', 'passwd', 'p20'])).toMatch(/^p20:/);
    writeFileSync(inside('/usr/bin/systemctl'), '#!/bin/sh\n');
    expect(await agentCommand('require-seals', '--without', 'unmanaged')).toMatchObject({
      code: 0,
      stdout: 'this host does not use sssd\n',
    });
    await change(
      ['late', 'unmanaged'].map((name) => entries.remove(entries.personDn(name))).join('') +
        reseal('p20'),
    );
    await host.agent.stop();
    await host.agent.start();
  });
});

describe('keys-agent', () => {
  test('accept: entries that disappeared are gone once root accepts it', async () => {
    const gone = TOOLS.slice(0, 11).map((tool) => entries.toolDn(`tools.${tool}`));
    const kept = backUp(world);
    await change(gone.map((dn) => entries.remove(dn)).join(''));
    await host.agent.stop();
    await host.agent.start();
    await distrusts(/have disappeared/);
    expect(list('group')).toMatch(/^tools\.t1:/m);
    const refusal = await host.machine.run(['/usr/sbin/keys-agent', 'accept'], { user: 'nobody' });
    expect(refusal).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/^USAGE: only root may run `accept`\./),
    });
    expect(list('group')).toMatch(/^tools\.t1:/m);
    const accepted = await agentCommand('accept');
    expect([accepted.code, accepted.stderr]).toEqual([0, '']);
    for (const tool of TOOLS.slice(0, 11)) expect(accepted.stdout).toContain(`tools.${tool}`);
    expect(list('group')).not.toMatch(/^tools\.t1:/m);
    expect((await status()).json).toMatchObject({ trusted: true, held: null });
    await host.agent.stop();
    await restore(world, kept);
  });

  test('accept: without a helper it says so, and removes its request', async () => {
    await host.helper.stop();
    const { code, stderr } = await agentCommand('accept');
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /^NOT_ACCEPTED: the login helper did not answer within 10 s\. Run `keys-agent status`/,
    );
    expect(existsSync(join(inside(PLACES.login), 'accept'))).toBe(false);
    const { exit, text } = await status();
    expect(exit).toBe(1);
    expect(text).toMatch(
      /^helper +is not running: it last wrote its status \d+ s ago; start chamberlain-login-helper$/m,
    );
    await host.helper.start();
  });
});
