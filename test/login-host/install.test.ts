/** `install`, on machines that it may change, with Debian's own checkers. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { INSTALL, openBareHost } from '../../dev/servers/login-host.ts';
import type { Ended, Machine } from '../../dev/servers/private-machine.ts';

const SECRETS = ['keys-agents-Secret', 'sssds-Secret'] as const;
const TOLD = [
  ...['--ldap-uri', 'ldaps://one.example.org', '--ldap-uri', 'ldaps://two.example.org'],
  ...['--base', 'dc=example,dc=org', '--ca', '/root/ca.pem'],
  ...['--agent-password-file', '/root/agent', '--sssd-password-file', '/root/sssd'],
];
const DROP_IN = '/etc/ssh/sshd_config.d/00-chamberlain.conf';

let machine: Machine;

async function openReady(): Promise<void> {
  machine = await openBareHost();
  put('/root/agent', `${SECRETS[0]}\n`);
  put('/root/sssd', SECRETS[1]);
  put('/root/ca.pem', '-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n');
}

const install = (...args: string[]): Promise<Ended> => machine.run([INSTALL, ...args]);
const sh = (script: string): Promise<string> => machine.must(['/bin/sh', '-ec', script]);
const put = (path: string, text: string): void => {
  mkdirSync(dirname(join(machine.root, path)), { recursive: true });
  writeFileSync(join(machine.root, path), text);
};
const get = (path: string): string => readFileSync(join(machine.root, path), 'utf8');

/** Says what is changed by `act`; not where those of this machine show through. */
async function changes(act: () => Promise<unknown>): Promise<string[]> {
  await sh('touch /root/stamp');
  await act();
  const places = '/etc /usr /opt /root /run /tmp /var/lib/chamberlain /var/lib/sss /var/lib/misc';
  const found = await sh(
    `find ${places} -xdev ! -path /tmp ! -path '/usr/lib/mysql/*' -cnewer /root/stamp 2>/dev/null || :`,
  );
  return found.split('\n').filter((path) => path !== '');
}

describe('on a bare machine', () => {
  beforeEach(openReady);
  afterEach(() => machine.close());

  test('--check says what is missing, and changes nothing', async () => {
    let checked: Ended | undefined;
    const changed = await changes(async () => {
      checked = await install('--check', ...TOLD);
    });
    expect(checked).toMatchObject({ code: 1, stderr: '' });
    for (const line of [
      'account chamberlain-keys: is missing',
      '/etc/sssd/sssd.conf: is missing',
      '/etc/nsswitch.conf: line 7 is `passwd:         files sss`, not `passwd:         files db sss`',
      `${DROP_IN}: is missing`,
    ]) {
      expect(checked?.stdout.split('\n')).toContain(line);
    }
    expect(changed).toEqual([]);
  });

  test('it makes all of it, root its owner wherever a secret or a program lies', async () => {
    const { code, stdout, stderr } = await install(...TOLD);
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).toContain('systemd does not run here');
    const seen = await sh(`
      find /etc/chamberlain /usr/lib/chamberlain /var/lib/chamberlain /etc/ssh/authorized_keys.d ${DROP_IN} \
        /etc/sudoers.d/chamberlain /etc/sssd/sssd.conf /usr/sbin/keys-agent /usr/bin/become /usr/bin/take \
        /usr/bin/chamberlain-whoami /bin/disabledtoolshell /etc/systemd/system/chamberlain-*.service \
        /usr/share/bash-completion/completions/become -printf '%m %u:%g %p\\n' | LC_ALL=C sort -k3`);
    expect(seen.trimEnd().split('\n')).toEqual([
      '755 root:root /bin/disabledtoolshell',
      '711 root:root /etc/chamberlain',
      '644 root:root /etc/chamberlain/ldap-ca.pem',
      '644 root:root /etc/chamberlain/login-host.yaml',
      '711 root:root /etc/chamberlain/secrets',
      '400 chamberlain-keys:chamberlain-keys /etc/chamberlain/secrets/ldap-keys-agent',
      '400 root:root /etc/chamberlain/secrets/ldap-sssd',
      '755 root:root /etc/ssh/authorized_keys.d',
      `644 root:root ${DROP_IN}`,
      '600 root:root /etc/sssd/sssd.conf',
      '440 root:root /etc/sudoers.d/chamberlain',
      '644 root:root /etc/systemd/system/chamberlain-keys-agent.service',
      '644 root:root /etc/systemd/system/chamberlain-login-helper.service',
      '755 root:root /usr/bin/become',
      '755 root:root /usr/bin/chamberlain-whoami',
      '755 root:root /usr/bin/take',
      '755 root:root /usr/lib/chamberlain',
      '755 root:root /usr/lib/chamberlain/authorized-keys',
      '755 root:root /usr/lib/chamberlain/login-helper',
      '755 root:root /usr/lib/chamberlain/take',
      '755 root:root /usr/lib/chamberlain/whoami',
      '755 root:root /usr/sbin/keys-agent',
      '644 root:root /usr/share/bash-completion/completions/become',
      '755 root:root /var/lib/chamberlain',
      '700 chamberlain-keys:chamberlain-keys /var/lib/chamberlain/agent',
      '2750 chamberlain-keys:chamberlain-lookup /var/lib/chamberlain/keys',
    ]);
    expect(get('/usr/bin/become')).not.toContain('@REALM@');
    expect(await machine.must(['/usr/sbin/keys-agent', '--help'])).toContain('keys-agent');
  });

  test('a second run, and one without options, find nothing to do and change nothing', async () => {
    await install(...TOLD);
    const runs: Ended[] = [];
    const changed = await changes(async () => {
      for (const args of [TOLD, [], [...TOLD, '--check'], ['--check'], ['--check', '--json']]) {
        runs.push(await install(...args));
      }
    });
    const done = 'nothing to do: this machine is a login host\n';
    const outputs = [done, done, '', '', '{"differences":[]}\n'];
    expect(runs).toEqual(outputs.map((stdout) => ({ code: 0, stdout, stderr: '' })));
    expect(changed).toEqual([]);
  });

  test('what it installs passes the checks of those who read it', async () => {
    await install(...TOLD);
    await sh('visudo -c');
    await sh('sssctl config-check');
    await sh('sshd -t');
    await sh(
      '! command -v systemd-analyze || systemd-analyze verify /etc/systemd/system/chamberlain-*.service',
    );
    expect(get('/etc/sssd/sssd.conf')).toContain(
      'ldap_uri = ldaps://one.example.org, ldaps://two.example.org\n',
    );
    expect(get('/etc/sssd/sssd.conf')).toContain(
      'ldap_tls_cacert = /etc/chamberlain/ldap-ca.pem\n',
    );
  });

  test('the passwords are told to nobody', async () => {
    const { stdout, stderr } = await install(...TOLD);
    put('/etc/sssd/sssd.conf', `${get('/etc/sssd/sssd.conf')}# and something else`);
    put('/etc/chamberlain/secrets/ldap-sssd', 'another');
    const checked = await install('--check', ...TOLD);
    const said = [stdout, stderr, checked.stdout, checked.stderr].join();
    const open = await sh(
      `find /etc /usr /var /run /tmp -xdev -cnewer /root/ca.pem -type f -perm /044 -exec grep -lE '${SECRETS.join('|')}' {} + || :`,
    );
    expect([SECRETS.filter((secret) => said.includes(secret)), open]).toEqual([[], '']);
    expect(checked.stdout).toContain('/etc/sssd/sssd.conf: holds something else\n');
  });

  test('what others have written stays', async () => {
    put(
      '/etc/nsswitch.conf',
      '# mine\npasswd: files systemd # kept?\ngroup:\tfiles [SUCCESS=merge] systemd sss\nhosts: dns\n',
    );
    put('/etc/sudo.conf', 'Path askpass /bin/x\n Set group_source static\nDebug sudo /x all@warn');
    put('/etc/pam.d/cron', '# mine\n@include common-account\n');
    await sh('rm -f /etc/pam.d/atd');
    put(
      '/root/begin.yaml',
      '# ours\nrealm: wiki\nids: { people: [{ first: 7000, last: 7999 }], tools: [{ first: 8000, last: 8999 }] }\nofflineLimitSeconds: 3600 # an hour\n',
    );
    expect(await install('--config', '/root/begin.yaml', ...TOLD)).toMatchObject({ code: 0 });
    expect(get('/etc/nsswitch.conf').replaceAll(/ +/g, ' ')).toBe(
      '# mine\npasswd: files db sss systemd\ngroup:\tfiles [SUCCESS=merge] systemd sss\nhosts: dns\nsudoers: files sss\n',
    );
    expect(get('/etc/sudo.conf')).toBe(
      'Path askpass /bin/x\nSet group_source dynamic\nDebug sudo /x all@warn',
    );
    expect(get('/etc/pam.d/cron')).toMatch(
      /^# Chamberlain: .*\naccount \[success=1 .*\naccount required pam_listfile.so .*\n# mine\n@include common-account\n$/,
    );
    expect(await sh('[ -e /etc/pam.d/atd ] || echo none')).toBe('none\n');
    expect(get('/etc/chamberlain/login-host.yaml')).toContain('realm: wiki\n');
    expect(get('/etc/chamberlain/login-host.yaml')).toContain('offlineLimitSeconds: 3600');
    expect(get('/usr/bin/become')).toContain('wiki');
    expect(get('/etc/sssd/sssd.conf')).toContain('cn=wiki,ou=projects,dc=example,dc=org');
    // what an admin then writes into it is kept, word for word
    const written = `${get('/etc/chamberlain/login-host.yaml')}# more\n`.replace(
      'offlineLimitSeconds: 3600',
      'offlineLimitSeconds: 7200 # two hours',
    );
    put('/etc/chamberlain/login-host.yaml', written);
    expect(await install()).toMatchObject({ code: 0 });
    expect(get('/etc/chamberlain/login-host.yaml')).toBe(written);
    // another file says the rest; the servers are those that are installed
    expect(await install('--config', '/root/begin.yaml')).toMatchObject({ code: 0 });
    expect(get('/etc/chamberlain/login-host.yaml')).toContain('base: dc=example,dc=org');
    expect(get('/etc/chamberlain/login-host.yaml')).toContain('offlineLimitSeconds: 3600');
  });

  test('a wrong command line or file is told in a sentence, and changes nothing', async () => {
    put('/root/odd.yaml', 'odd: 1\n');
    const wrong: [args: string[], sentence: string][] = [
      [[], '--ldap-uri is missing'],
      [['--ldap-uri', 'ldaps://x'], '--base is missing'],
      [TOLD.slice(0, 8), '--agent-password-file is missing, and '],
      [[...TOLD, '--ldap-uri', 'ldap://far.example.org'], 'ldap.uris.2'],
      [[...TOLD, '--base', 'dc=x?sub?(uid=*)'], 'not a base of plain names'],
      [[...TOLD, '--sssd-password-file', '/root/ca.pem'], 'does not hold a password'],
      [[...TOLD, '--ca', '/root/agent'], 'holds no certificate'],
      [[...TOLD, '--force'], "Unknown option '--force'"],
      [[...TOLD, '--json'], '--json goes with --check'],
      [[...TOLD, '--config', '/root/odd.yaml'], 'Unrecognized key: "odd"'],
    ];
    const changed = await changes(async () => {
      for (const [args, sentence] of wrong) {
        const { code, stdout, stderr } = await install(...args);
        expect([code, stdout, stderr]).toEqual([2, '', expect.stringMatching(/^install: .+\n$/)]);
        expect(stderr).toContain(sentence);
      }
    });
    expect(changed).toEqual([]);
  });

  test('who is not root is told so', async () => {
    const ended = await machine.run([INSTALL, ...TOLD], { user: 'nobody' });
    expect(ended).toEqual({ code: 2, stdout: '', stderr: 'install: run it as root\n' });
  });

  test.each([
    [
      'keys in a home that would not count any more',
      'mkdir -m 700 /root/.ssh; echo ssh-ed25519 AAAA >/root/.ssh/authorized_keys',
      'install -D -m 644 /root/.ssh/authorized_keys /etc/ssh/authorized_keys.d/root',
      'install -D -m 644 /root/.ssh/authorized_keys /etc/ssh/authorized_keys.d/root',
    ],
    [
      'a sssd.conf for another directory',
      "printf '[sssd]\\ndomains = corp\\n' >/etc/sssd/sssd.conf",
      '/etc/sssd/sssd.conf: is of somebody else',
      'mv /etc/sssd/sssd.conf /root/',
    ],
    [
      'a clone that others can write',
      'chmod 777 /opt',
      '/opt can be written by others than root',
      'chmod 755 /opt',
    ],
    [
      'a clone of another',
      'chown nobody /opt',
      '/opt belongs to the account 65534',
      'chown root /opt',
    ],
    [
      'a clone that is closed',
      'chmod 700 /opt',
      '/opt is closed to the keys agent',
      'chmod 755 /opt',
    ],
  ])('%s: it does not begin', async (_, damage, sentence, remedy) => {
    await sh(damage);
    let ended: Ended | undefined;
    const changed = await changes(async () => {
      ended = await install(...TOLD);
    });
    expect(ended).toMatchObject({ code: 1, stdout: '' });
    expect(ended?.stderr).toContain(sentence);
    expect(ended?.stderr.endsWith('install: nothing was changed\n')).toBe(true);
    expect(changed).toEqual([]);
    await sh(remedy);
    expect(await install(...TOLD)).toMatchObject({ code: 0 });
  });

  test('an sshd that would not start by the new drop-in keeps the old one', async () => {
    await install(...TOLD);
    const before = get(DROP_IN);
    await sh('useradd --system somebody; echo Nonsense yes >>/etc/ssh/sshd_config');
    const { code, stderr } = await install();
    expect([code, stderr]).toEqual([
      1,
      expect.stringContaining('Bad configuration option: Nonsense'),
    ]);
    expect(get(DROP_IN)).toBe(before);
    expect(await sh('ls -A /etc/ssh/sshd_config.d')).toBe('00-chamberlain.conf\n');
  });
});

describe('on a login host', () => {
  beforeAll(async () => {
    await openReady();
    put('/etc/pam.d/cron', '@include common-account\n');
    await install(...TOLD);
  });
  afterAll(() => machine.close());

  const DAMAGES: [what: string, damage: string, differs: RegExp][] = [
    ['PAM', 'pam-auth-update --disable sss', /^sssd is not asked in \/etc\/pam.d\/common-account/],
    [
      'account chamberlain-lookup',
      'usermod -s /bin/sh chamberlain-lookup',
      /^has the shell \/bin\/sh$/,
    ],
    ['/etc/chamberlain/secrets/ldap-keys-agent', 'chmod 444 WHAT', /^has the mode 0444, not 0400$/],
    ['/var/lib/chamberlain/keys', 'chmod g+w WHAT', /^has the mode 2770, not 2750$/],
    ['/var/lib/chamberlain/agent', 'chown root WHAT', /^belongs to 0:\d+, not chamberlain-keys:/],
    ['/usr/sbin/keys-agent', 'rm WHAT', /^is missing$/],
    ['/usr/lib/chamberlain/authorized-keys', 'sed -i 2d WHAT', /^line 2 is /],
    ['/usr/bin/become', 'rm WHAT; ln -s /bin/true WHAT', /^is no regular file$/],
    ['/etc/sssd/sssd.conf', 'sed -i s/^min_id.*// WHAT', /^holds something else$/],
    [
      '/etc/nsswitch.conf',
      'sed -i "s/^passwd:.*/passwd: sss files/" WHAT',
      /is `passwd: sss files`/,
    ],
    ['/etc/sudo.conf', 'sed -i s/dynamic$/static/ WHAT', /is `Set group_source static`/],
    ['/etc/sudoers.d/chamberlain', 'chmod 666 WHAT', /^has the mode 0666, not 0440$/],
    ['/etc/pam.d/cron', 'sed -i s/sense=deny/sense=allow/ WHAT', /^line 3 is `.*allow/],
    [DROP_IN, 'useradd --system new-daemon', /^line \d+ is `….*, not `….*,new-daemon`$/],
  ];

  test('it sees and mends whatever has been changed', async () => {
    for (const [what, damage] of DAMAGES) await sh(damage.replaceAll('WHAT', what));
    const { code, stdout } = await install('--check', '--json');
    const { differences } = JSON.parse(stdout) as {
      differences: { what: string; differs: string }[];
    };
    // the new account is seen twice: it is in no file, and sshd would ask for its keys
    const seen = differences.filter(({ what }) => what !== 'sshd for local accounts');
    expect([code, seen.map(({ what }) => what).sort(), differences.length - seen.length]).toEqual([
      ...[1, DAMAGES.map(([what]) => what).sort(), 1],
    ]);
    for (const [what, , differs] of DAMAGES) {
      expect(seen.find((each) => each.what === what)?.differs).toMatch(differs);
    }
    const mended = await install();
    expect(mended).toMatchObject({ code: 0, stderr: '' });
    for (const [what] of DAMAGES) expect(mended.stdout).toContain(`mended: ${what}: `);
    expect(await install('--check')).toEqual({ code: 0, stdout: '', stderr: '' });
  });

  test('sssd.conf may have the mode that its service gives it', async () => {
    await sh('chmod 640 /etc/sssd/sssd.conf');
    expect(await install('--check')).toMatchObject({ code: 0 });
  });

  test.each([
    [
      'another word on the command, in a file before ours',
      'echo AuthorizedKeysCommand /bin/true >/etc/ssh/sshd_config.d/00-a.conf',
      'rm /etc/ssh/sshd_config.d/00-a.conf',
      'sshd for people: authorizedkeyscommand is `/bin/true`, not `/usr/lib/chamberlain/authorized-keys %u`',
    ],
    [
      'a block that gives root our keys',
      String.raw`printf 'Match User root\n AuthorizedKeysCommand /usr/lib/chamberlain/authorized-keys %%u\n' >/etc/ssh/sshd_config.d/00-a.conf`,
      'rm /etc/ssh/sshd_config.d/00-a.conf',
      'sshd for local accounts: for root, authorizedkeyscommand is ',
    ],
    [
      'an sshd_config that does not read the drop-ins',
      "sed -i 's/^Include/#&/' /etc/ssh/sshd_config",
      "sed -i 's/^#Include/Include/' /etc/ssh/sshd_config",
      'sshd for people: authorizedkeyscommand is `none`',
    ],
    [
      'a local account with a number of a person',
      'useradd -u 1234 -g nogroup local',
      'userdel local',
      "local numbers: in the realm's ranges, so a person or tool could get them: account local 1234",
    ],
    [
      'a local group with a number of a tool',
      'groupadd -g 50007 local',
      'groupdel local',
      "local numbers: in the realm's ranges, so a person or tool could get them: group local 50007",
    ],
  ])('%s is for an admin to mend', async (_, damage, remedy, sentence) => {
    await sh(damage);
    const checked = await install('--check');
    expect(checked.code).toBe(1);
    expect(checked.stdout).toContain(sentence);
    const { code, stderr } = await install();
    expect([code, stderr]).toEqual([1, expect.stringContaining(`install: ${sentence}`)]);
    await sh(remedy);
    await install();
    expect(await install('--check')).toEqual({ code: 0, stdout: '', stderr: '' });
  });
});
