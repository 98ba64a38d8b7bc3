/** `install`, on machines that it may change, with Debian's own checkers. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { generateKeyPairSync } from 'node:crypto';
import { INSTALL, openBareHost } from '../../dev/servers/login-host.ts';
import type { Ended, Machine } from '../../dev/servers/private-machine.ts';

const SECRET = 'keys-agents-Secret';
const TOLD = [
  ...['--ldap-uri', 'ldaps://one.example.org', '--ldap-uri', 'ldaps://two.example.org'],
  ...['--base', 'dc=example,dc=org', '--ca', '/root/ca.pem'],
  ...['--agent-password-file', '/root/agent', '--seal-key', '/root/seal.pub'],
];
const KEYS = '/var/lib/chamberlain/keys';
const PASSWORD = '$6$salt$hash';
const SSS_PROFILE = `Name: SSS authentication
Default: yes
Priority: 128
Account-Type: Additional
Account:
	[default=bad success=ok user_unknown=ignore] pam_sss.so
`;
const DROP_IN = '/etc/ssh/sshd_config.d/00-chamberlain.conf';

let machine: Machine;

async function openReady(): Promise<void> {
  machine = await openBareHost();
  put('/root/agent', `${SECRET}\n`);
  put('/root/seal.pub', newSealKey());
  put('/root/ca.pem', '-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n');
}

const newSealKey = (): string =>
  String(generateKeyPairSync('ed25519').publicKey.export({ type: 'spki', format: 'pem' }));
const install = (...args: string[]): Promise<Ended> => machine.run([INSTALL, ...args]);
const sh = (script: string): Promise<string> => machine.must(['/bin/sh', '-ec', script]);
const put = (path: string, text: string): void => {
  mkdirSync(dirname(join(machine.root, path)), { recursive: true });
  writeFileSync(join(machine.root, path), text);
};
const get = (path: string): string => readFileSync(join(machine.root, path), 'utf8');

/** Shows what `act` changes, without the places where this machine's own files show through. */
async function changes(act: () => Promise<unknown>): Promise<string[]> {
  await sh('touch /root/stamp');
  await act();
  const places =
    '/etc /usr /opt /root /run /tmp /var/lib/chamberlain /var/lib/extrausers /var/lib/misc';
  const found = await sh(
    `find ${places} -xdev ! -path /tmp ! -path '/usr/lib/mysql/*' -cnewer /root/stamp 2>/dev/null || :`,
  );
  return found.split('\n').filter((path) => path !== '');
}

describe('on a bare machine', () => {
  beforeAll(openReady);
  afterAll(() => machine.close());

  test('--check lists what is missing, and changes nothing', async () => {
    let checked: Ended | undefined;
    const changed = await changes(async () => {
      checked = await install('--check', ...TOLD);
    });
    expect(checked).toMatchObject({ code: 1, stderr: '' });
    for (const line of [
      'account chamberlain-keys: is missing',
      '/etc/nsswitch.conf: line 7 is `passwd:         files`, not `passwd:         files extrausers`',
      `${DROP_IN}: is missing`,
    ]) {
      expect(checked?.stdout.split('\n')).toContain(line);
    }
    expect(changed).toEqual([]);
  });

  test('a wrong command line or file is reported in a sentence, and changes nothing', async () => {
    put('/root/odd.yaml', 'odd: 1\n');
    put('/root/low.yaml', 'realmGid: 499\n');
    const pem = { type: 'pkcs8', format: 'pem' } as const;
    put('/root/private.pem', String(generateKeyPairSync('ed25519').privateKey.export(pem)));
    const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey;
    put('/root/rsa.pub', String(rsa.export({ type: 'spki', format: 'pem' })));
    const wrong: [args: string[], sentence: string][] = [
      [[], '--ldap-uri is missing'],
      [['--ldap-uri', 'ldaps://x'], '--base is missing'],
      [TOLD.slice(0, 8), '--seal-key is missing'],
      [[...TOLD.slice(0, 8), ...TOLD.slice(-2)], '--agent-password-file is missing, and '],
      [[...TOLD, '--ldap-uri', 'ldap://far.example.org'], 'ldap.uris.2'],
      [[...TOLD, '--base', 'dc=x?sub?(uid=*)'], 'the base must consist of plain names'],
      [[...TOLD, '--agent-password-file', '/root/ca.pem'], 'must contain a password'],
      [[...TOLD, '--seal-key', '/root/ca.pem'], '/root/ca.pem contains no public key'],
      [[...TOLD, '--seal-key', '/root/private.pem'], '/root/private.pem contains a private key'],
      [[...TOLD, '--seal-key', '/root/rsa.pub'], 'sealKeys.1'],
      [[...TOLD, ...TOLD.slice(-2), ...TOLD.slice(-2)], 'sealKeys'],
      [[...TOLD, '--config', '/root/low.yaml'], 'realmGid and ids must be 500 or higher'],
      [[...TOLD, '--ca', '/root/agent'], 'contains no certificate'],
      [[...TOLD, '--force'], "Unknown option '--force'"],
      [[...TOLD, '--json'], '--json requires --check'],
      [['setup'], 'setup needs either --request or --join FILE'],
      [['setup', '--request', '--join', 'x'], 'setup needs either --request or --join FILE'],
      [['--join', 'x'], '--request and --join need the word `setup`'],
      [['setup', '--join', 'x', '--base', 'dc=x'], '--base is for a host that is set up by hand'],
      [['setup', '--join', '/root/agent'], 'this machine has no join request'],
      [[...TOLD, '--config', '/root/odd.yaml'], '"odd" is unknown here'],
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

  test('only root may run it', async () => {
    const ended = await machine.run([INSTALL, ...TOLD], { user: 'nobody' });
    expect(ended).toEqual({ code: 2, stdout: '', stderr: 'install: only root may run this\n' });
  });

  test.each([
    [
      'keys in a home that would no longer count',
      'mkdir -m 700 /root/.ssh; echo ssh-ed25519 AAAA >/root/.ssh/authorized_keys',
      'install -D -m 644 /root/.ssh/authorized_keys /etc/ssh/authorized_keys.d/root',
      'install -D -m 644 /root/.ssh/authorized_keys /etc/ssh/authorized_keys.d/root',
    ],
    [
      'a password that would no longer count',
      `useradd --system -s /bin/bash -p '${PASSWORD}' local`,
      'first write public keys to /etc/ssh/authorized_keys.d/local (',
      'install -D -m 644 /dev/null /etc/ssh/authorized_keys.d/local',
    ],
    [
      'a clone that others can write',
      'chmod 777 /opt',
      'accounts other than root can write to /opt',
      'chmod 755 /opt',
    ],
    [
      'a clone that belongs to somebody else',
      'chown nobody /opt',
      '/opt belongs to the account 65534',
      'chown root /opt',
    ],
    [
      'a clone that the agent cannot enter',
      'chmod 700 /opt',
      'the keys agent cannot enter /opt',
      'chmod 755 /opt',
    ],
  ])('%s: it changes nothing', async (_, damage, sentence, remedy) => {
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
  });

  test('once each is remedied as it says, it begins', async () => {
    expect(await install(...TOLD)).toMatchObject({ code: 0 });
  });
});

describe('on a machine with something of others', () => {
  beforeEach(openReady);
  afterEach(() => machine.close());

  test('lines that others have written stay', async () => {
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
      '# mine\npasswd: files extrausers systemd\n' +
        'group: files [SUCCESS=merge] extrausers [SUCCESS=merge] systemd sss\n' +
        'hosts: dns\nshadow: files extrausers\nsudoers: files\n',
    );
    expect(get('/etc/sudo.conf')).toBe(
      'Path askpass /bin/x\nSet group_source dynamic\nDebug sudo /x all@warn',
    );
    expect(get('/etc/pam.d/cron')).toMatch(
      /^# Chamberlain: .*\naccount \[success=1 .*\naccount requisite pam_listfile.so .*\n# mine\n@include common-account\n$/,
    );
    expect(await sh('[ -e /etc/pam.d/atd ] || echo none')).toBe('none\n');
    expect(get('/etc/chamberlain/login-host.yaml')).toContain('realm: wiki\n');
    expect(get('/etc/chamberlain/login-host.yaml')).toContain('offlineLimitSeconds: 3600');
    expect(get('/etc/chamberlain/realm')).toBe('wiki\n');
    // what an admin then writes into it is kept, word for word
    const written = `${get('/etc/chamberlain/login-host.yaml')}# more\n`.replace(
      'offlineLimitSeconds: 3600',
      'offlineLimitSeconds: 7200 # two hours',
    );
    put('/etc/chamberlain/login-host.yaml', written);
    expect(await install()).toMatchObject({ code: 0 });
    expect(get('/etc/chamberlain/login-host.yaml')).toBe(written);
    // another file gives the rest; the installed servers stay
    expect(await install('--config', '/root/begin.yaml')).toMatchObject({ code: 0 });
    expect(get('/etc/chamberlain/login-host.yaml')).toContain('base: dc=example,dc=org');
    expect(get('/etc/chamberlain/login-host.yaml')).toContain('offlineLimitSeconds: 3600');
  });

  test('passwords that do not count are no obstacle', async () => {
    await sh(`mkdir /run/sshd
      usermod -p '${PASSWORD}' root
      useradd --system -s /usr/sbin/nologin -p '${PASSWORD}' noshell
      useradd --system -s /bin/bash -p '!${PASSWORD}' locked
      useradd --system -s /bin/bash -p '${PASSWORD}' local`);
    expect((await install('--check', ...TOLD)).stdout).toMatch(
      /^passwords of local accounts: .* first write public keys to \/etc\/ssh\/authorized_keys.d\/local \(/m,
    );
    // sshd accepts a password of root only if it is configured so
    await sh('echo PermitRootLogin yes >/etc/ssh/sshd_config.d/root.conf');
    expect((await install(...TOLD)).stderr).toContain('authorized_keys.d/root, /etc/ssh/');
    await sh(
      `printf 'PasswordAuthentication no\nKbdInteractiveAuthentication no\n' >/etc/ssh/sshd_config.d/no.conf`,
    );
    expect(await install(...TOLD)).toMatchObject({ code: 0, stderr: '' });
    // nor do they on a login host, whatever account is added
    await sh('rm /etc/ssh/sshd_config.d/no.conf');
    expect(await install('--check')).toEqual({ code: 0, stdout: '', stderr: '' });
  });
});

describe('on a machine that it has made a login host', () => {
  let installed: Ended;
  beforeAll(async () => {
    await openReady();
    put('/etc/pam.d/cron', '@include common-account\n');
    installed = await install(...TOLD);
  });
  afterAll(() => machine.close());

  test('it creates everything, owned by root wherever there is a secret or a program', async () => {
    const { code, stdout, stderr } = installed;
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).toContain('systemd is not running here');
    expect(stdout.split('\n')).toEqual(
      expect.arrayContaining([
        'created: account chamberlain-keys',
        `created: ${DROP_IN}`,
        'changed: /etc/nsswitch.conf; before: line 7 is `passwd:         files`, not `passwd:         files extrausers`',
      ]),
    );
    const seen = await sh(`
      find /etc/chamberlain /usr/lib/chamberlain /var/lib/chamberlain /etc/ssh/authorized_keys.d ${DROP_IN} \
        /etc/sudoers.d/chamberlain /var/lib/extrausers /usr/sbin/keys-agent /usr/bin/become /usr/bin/take \
        /usr/bin/chamberlain-whoami /bin/disabledtoolshell /etc/systemd/system/chamberlain-*.service \
        /usr/share/bash-completion/completions/become -not -path '*/compiled/*' -printf '%m %u:%g %p\\n' |
        LC_ALL=C sort -k3`);
    expect(seen.trimEnd().split('\n')).toEqual([
      '755 root:root /bin/disabledtoolshell',
      '711 root:root /etc/chamberlain',
      '644 root:root /etc/chamberlain/ldap-ca.pem',
      '644 root:root /etc/chamberlain/login-host.yaml',
      '644 root:root /etc/chamberlain/realm',
      '711 root:root /etc/chamberlain/secrets',
      '400 chamberlain-keys:chamberlain-keys /etc/chamberlain/secrets/ldap-keys-agent',
      '755 root:root /etc/ssh/authorized_keys.d',
      `644 root:root ${DROP_IN}`,
      '440 root:root /etc/sudoers.d/chamberlain',
      '644 root:root /etc/systemd/system/chamberlain-keys-agent.service',
      '644 root:root /etc/systemd/system/chamberlain-login-helper.service',
      '755 root:root /usr/bin/become',
      '755 root:root /usr/bin/chamberlain-whoami',
      '755 root:root /usr/bin/take',
      '755 root:root /usr/lib/chamberlain',
      '755 root:root /usr/lib/chamberlain/authorized-keys',
      '755 root:root /usr/lib/chamberlain/login-helper',
      '755 root:root /usr/lib/chamberlain/own-keys',
      '755 root:root /usr/lib/chamberlain/take',
      '755 root:root /usr/sbin/keys-agent',
      '644 root:root /usr/share/bash-completion/completions/become',
      '755 root:root /var/lib/chamberlain',
      '700 chamberlain-keys:chamberlain-keys /var/lib/chamberlain/agent',
      '755 chamberlain-keys:chamberlain-keys /var/lib/chamberlain/agent/compiled',
      '2750 root:chamberlain-lookup /var/lib/chamberlain/keys',
      '755 root:root /var/lib/chamberlain/login',
      '755 root:root /var/lib/chamberlain/login/compiled',
      '755 root:root /var/lib/extrausers',
    ]);
    expect(get('/etc/chamberlain/realm')).toBe('tools\n');
    expect(await machine.must(['/usr/sbin/keys-agent', '--help'])).toContain('keys-agent');
  });

  test('a second run, and one without options, find nothing to do and change nothing', async () => {
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

  test('the installed files pass the checks of the programs that read them', async () => {
    await sh('visudo -c');
    await sh('sshd -t');
    await sh(
      '! command -v systemd-analyze || systemd-analyze verify --man=no /etc/systemd/system/chamberlain-*.service',
    );
  });

  test('the password is shown to nobody', async () => {
    const { stdout, stderr } = installed;
    const kept = get('/etc/chamberlain/secrets/ldap-keys-agent');
    put('/etc/chamberlain/secrets/ldap-keys-agent', 'another');
    const checked = await install('--check', ...TOLD);
    const said = [stdout, stderr, checked.stdout, checked.stderr].join();
    const open = await sh(
      `find /etc /usr /var /run /tmp -xdev -cnewer /root/ca.pem -type f -perm /044 -exec grep -lE '${SECRET}' {} + || :`,
    );
    expect([said.includes(SECRET), open]).toEqual([false, '']);
    expect(checked.stdout).toBe(
      '/etc/chamberlain/secrets/ldap-keys-agent: has different content\n',
    );
    put('/etc/chamberlain/secrets/ldap-keys-agent', kept);
  });

  test('the keys of seals are kept; one can be replaced by two, and two by one', async () => {
    const config = '/etc/chamberlain/login-host.yaml';
    const first = get('/root/seal.pub').split('\n')[1] ?? '';
    expect(get(config)).toContain(first);
    put('/root/next.pub', newSealKey());
    const both = ['--seal-key', '/root/seal.pub', '--seal-key', '/root/next.pub'];
    expect(await install(...both)).toMatchObject({ code: 0 });
    expect(get(config).match(/BEGIN PUBLIC KEY/g)).toHaveLength(2);
    expect(await install('--seal-key', '/root/next.pub')).toMatchObject({ code: 0 });
    expect(get(config).match(/BEGIN PUBLIC KEY/g)).toHaveLength(1);
    expect(get(config)).not.toContain(first);
  });

  const PLANT = 'touch WHAT/alice; chown chamberlain-keys WHAT/alice'.replaceAll('WHAT', KEYS);
  const DAMAGES: [what: string, damage: string, differs: RegExp][] = [
    ['PAM', 'pam-auth-update --enable sss', /^asks sssd, which is not set up, in .*common-account/],
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
    ['/usr/bin/become', 'rm WHAT; ln -s /bin/true WHAT', /^is not a regular file$/],
    [
      '/etc/nsswitch.conf',
      'sed -i "s/^passwd:.*/passwd: sss files/" WHAT',
      /is `passwd: sss files`, not `passwd: +files extrausers sss`/,
    ],
    ['/etc/pam.d/sshd', "sed -i '$d' WHAT", /^line \d+ is ``, not `session requisite pam_listfile/],
    ['/var/lib/extrausers', 'chmod o+w WHAT', /^has the mode 0757, not 0755$/],
    ['/var/lib/chamberlain/login', 'chmod o+w WHAT', /^has the mode 0757, not 0755$/],
    ['files in /var/lib/chamberlain/keys', PLANT, /^1 does not belong to root$/],
    ['/usr/lib/chamberlain/whoami', 'touch WHAT', /^is no longer needed$/],
    ['/var/lib/chamberlain/agent/state.json', 'touch WHAT', /^is no longer needed$/],
    ['/etc/sudo.conf', 'sed -i s/dynamic$/static/ WHAT', /is `Set group_source static`/],
    ['/etc/sudoers.d/chamberlain', 'chmod 666 WHAT', /^has the mode 0666, not 0440$/],
    ['/etc/pam.d/cron', 'sed -i s/sense=deny/sense=allow/ WHAT', /^line 3 is `.*allow/],
    [DROP_IN, 'useradd --system new-daemon', /^line \d+ is `….*, not `….*,new-daemon`$/],
  ];

  test('it notices and corrects whatever was changed', async () => {
    // from the package libpam-sss
    put('/usr/share/pam-configs/sss', SSS_PROFILE);
    for (const [what, damage] of DAMAGES) await sh(damage.replaceAll('WHAT', what));
    const { code, stdout } = await install('--check', '--json');
    const { differences } = JSON.parse(stdout) as {
      differences: { what: string; differs: string }[];
    };
    // the new account is noticed twice: it is in no file, and sshd would look up its keys
    const seen = differences.filter(({ what }) => what !== 'sshd for local accounts');
    expect([code, seen.map(({ what }) => what).sort(), differences.length - seen.length]).toEqual([
      ...[1, DAMAGES.map(([what]) => what).sort(), 1],
    ]);
    for (const [what, , differs] of DAMAGES) {
      expect(seen.find((each) => each.what === what)?.differs).toMatch(differs);
    }
    const mended = await install();
    expect(mended).toMatchObject({ code: 0, stderr: '' });
    for (const [what, , differs] of DAMAGES) {
      const isOf = (word: string): boolean => differs.source.includes(word);
      const done = isOf('missing') ? 'created' : isOf('no longer needed') ? 'removed' : 'changed';
      expect(mended.stdout).toMatch(new RegExp(`^${done}: ${what}(;|$)`, 'm'));
    }
    expect(await install('--check')).toEqual({ code: 0, stdout: '', stderr: '' });
  });

  test.each([
    [
      'another setting of the command, in a file before ours',
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
      'a block that accepts a password',
      String.raw`printf 'Match User root\n PasswordAuthentication yes\n' >/etc/ssh/sshd_config.d/50-a.conf`,
      'rm /etc/ssh/sshd_config.d/50-a.conf',
      'sshd for local accounts: for root, passwordauthentication is `yes`, not `no`',
    ],
    [
      'an sshd_config that does not read the drop-ins',
      "sed -i 's/^Include/#&/' /etc/ssh/sshd_config",
      "sed -i 's/^#Include/Include/' /etc/ssh/sshd_config",
      'sshd for people: authorizedkeyscommand is `none`',
    ],
    [
      'a sudoers that reads no other files',
      "sed -i 's/^@includedir/#&/' /etc/sudoers",
      "sed -i 's/^#@includedir/@includedir/' /etc/sudoers",
      '/etc/sudoers: does not read /etc/sudoers.d: add `@includedir /etc/sudoers.d`',
    ],
    [
      'a local account with a number of a person',
      'useradd -u 1234 -g nogroup local',
      'userdel local',
      "local numbers: in the realm's ranges, so that a person or tool could get them: account local 1234",
    ],
    [
      'a local group with a number of a tool',
      'groupadd -g 50007 local',
      'groupdel local',
      "local numbers: in the realm's ranges, so that a person or tool could get them: group local 50007",
    ],
  ])('%s must be corrected by an admin', async (_, damage, remedy, sentence) => {
    await sh(damage);
    const checked = await install('--check');
    expect(checked.code).toBe(1);
    expect(checked.stdout).toContain(sentence);
    const { code, stderr } = await install();
    expect([code, stderr]).toEqual([1, expect.stringContaining(`install: ${sentence}`)]);
    await sh(remedy);
    // it looks at everything again in the end, and says what is left
    expect(await install()).toMatchObject({ code: 0, stderr: '' });
  });

  test('an sshd that would not start by the new drop-in keeps the old one', async () => {
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

describe('on a login host that was set up with sssd', () => {
  const list = '/var/lib/chamberlain/agent/closed';
  const left = `/etc/sssd/sssd.conf /etc/chamberlain/secrets/ldap-sssd /var/lib/misc/passwd.db ${list}`;
  const thereOf = async (): Promise<string[]> =>
    (await sh(`ls -d ${left} 2>/dev/null || :`)).split('\n').slice(0, -1);

  beforeAll(async () => {
    await openReady();
    await install(...TOLD);
    await sh(`sed -i '/^sealKeys/,$d' /etc/chamberlain/login-host.yaml
      cd /var/lib/chamberlain; chown chamberlain-keys keys; echo a-key >keys/alice; chown chamberlain-keys keys/alice
      touch ${left.replace('/etc/sssd/sssd.conf', '')}
      printf 'auth required pam_permit.so\n' >/etc/pam.d/atd
      sed -i -E 's/^(passwd|group|sudoers):.*/\\1: files db sss/; s/^(group|sudoers): files db/\\1: files/' /etc/nsswitch.conf`);
    put('/usr/share/pam-configs/sss', SSS_PROFILE);
    await sh('pam-auth-update --enable sss');
    put(
      '/etc/pam.d/cron',
      `# Chamberlain: nothing is started for accounts that are suspended, disabled or gone.
account [success=1 default=ignore] pam_localuser.so
account required pam_listfile.so onerr=succeed item=user sense=deny file=${list}
@include common-account
account [success=1 default=ignore] pam_localuser.so
account required pam_access.so
`,
    );
    put(
      '/etc/sssd/sssd.conf',
      "# Written by Chamberlain's install, which writes it anew after a change of login-host.yaml.\n[sssd]\n",
    );
  });
  afterAll(() => machine.close());

  test('it is given the key that verifies seals', async () => {
    expect(await install()).toMatchObject({ code: 2, stderr: 'install: --seal-key is missing\n' });
  });

  test('sssd is still asked, after our own files', async () => {
    const stillAsked =
      'sssd: is still asked, so this host trusts everyone who may write to the directory: run `keys-agent require-seals`\n';
    expect(await install('--seal-key', '/root/seal.pub')).toMatchObject({
      ...{ code: 1, stderr: `install: ${stillAsked}` },
    });
    const nsswitch = get('/etc/nsswitch.conf').replaceAll(/ +/g, ' ');
    expect(nsswitch).toContain('passwd: files extrausers sss\ngroup: files extrausers sss\n');
    expect(nsswitch).toContain('sudoers: files sss\n');
    expect(get('/etc/pam.d/common-account')).toContain('pam_sss.so');
    expect(await thereOf()).toEqual(['/etc/chamberlain/secrets/ldap-sssd', '/etc/sssd/sssd.conf']);
    expect(await install('--check')).toEqual({ code: 1, stdout: stillAsked, stderr: '' });
  });

  test('no file that sshd, cron or at trusts belongs to the agent any more', async () => {
    expect(await sh(`find ${KEYS} ! -user root; cat ${KEYS}/alice`)).toBe('a-key\n');
    expect(get('/etc/pam.d/cron')).not.toContain(list);
    expect(get('/etc/pam.d/cron').match(/pam_localuser/g)).toHaveLength(2);
    expect(get('/etc/pam.d/cron')).toContain('account required pam_access.so\n');
    for (const service of ['sshd', 'cron', 'atd']) {
      expect(get(`/etc/pam.d/${service}`)).toContain('file=/var/lib/chamberlain/login/closed');
    }
  });

  test('once nsswitch.conf does not name sssd, its remains are removed', async () => {
    await sh("sed -i 's/ sss$//' /etc/nsswitch.conf");
    expect((await install('--check')).stdout).toBe(
      '/etc/chamberlain/secrets/ldap-sssd: is no longer needed\n' +
        '/etc/sssd/sssd.conf: is no longer needed\n',
    );
    expect(await install()).toMatchObject({ code: 0 });
    expect(await thereOf()).toEqual([]);
    expect(get('/etc/pam.d/common-account')).not.toContain('pam_sss');
    expect(await install('--check')).toEqual({ code: 0, stdout: '', stderr: '' });
  });
});
