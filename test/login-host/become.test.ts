/**
 * `become`, with the real sudo and accounts as the login helper writes them, in a mount namespace in which those
 * files, sudo's rules and /run are the test's own.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { spawn } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { withSources } from '../../deploy/login-host/contents.ts';

const DEPLOY = join(import.meta.dirname, '../../deploy/login-host');
const REALM_GID = 500;

const OURS = ['passwd', 'group', 'nsswitch.conf', 'sudo.conf', 'sudoers', 'sudoers.d'];
const ENTER = `for name in ${OURS.join(' ')}; do mount --bind "$1/etc/$name" "/etc/$name" || exit; done
  mount --bind "$1/extrausers" /var/lib/extrausers &&
  mount -t tmpfs none /run && cd / && user=$2 groups=$3 && shift 3 &&
  exec setpriv --reuid="$user" --regid=${REALM_GID} --groups="$groups" env -i "$@"`;

const uids: Record<string, number> = {
  alice: 20_001,
  bob: 20_002,
  'tools.ruleless': 51_005,
  'tools.bridgebot': 51_001,
  'tools.archive': 51_002,
  'tools.off': 51_003,
  'tools.why': 51_008,
  'tools.hostile': 51_009,
  'tools.fresh': 51_004,
  // groups with a name that no tool may have
  'tools.Odd': 51_006,
  'tools.9th': 51_007,
  // a group without an account
  nobody: 20_003,
};
/** The fifth field of the disabled ones. */
const reasons: Record<string, string> = {
  'tools.off': 'Some gecos,,,',
  'tools.why': 'disabled - It floods; ask $(id) `id` %s\\n 100%',
  'tools.hostile': 'disabled - \u001b[2J\u202eroot\u0007',
};
const members = {
  'tools.ruleless': ['alice', 'tools.ruleless'],
  'tools.bridgebot': ['alice', 'tools.bridgebot'],
  'tools.archive': ['tools.bridgebot', 'tools.archive'],
  'tools.off': ['alice', 'tools.off'],
  'tools.why': ['alice', 'tools.why'],
  'tools.hostile': ['alice', 'tools.hostile'],
  'tools.fresh': ['alice', 'tools.fresh'],
  'tools.Odd': ['alice', 'tools.Odd'],
  'tools.9th': ['alice', 'tools.9th'],
  // names that contain the name of another
  'tools.bridgebots': ['bob'],
  'x.tools.bridgebot': ['bob'],
};

let root: string;
let become: string;
const etc = (name: string) => join(root, 'etc', name);
const extra = (name: string) => join(root, 'extrausers', name);

beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'chamberlain-become-'));
  chmodSync(root, 0o755);
  for (const folder of [
    'etc',
    'etc/sudoers.d',
    'extrausers',
    'bin',
    'evil',
    'evidence',
    'project',
  ]) {
    mkdirSync(join(root, folder), 0o755);
  }
  chmodSync(join(root, 'evidence'), 0o777);
  become = join(root, 'bin/become');
  writeFileSync(join(root, 'realm'), 'tools\n');
  const script = readFileSync(join(DEPLOY, 'become'), 'utf8');
  writeFileSync(become, script.replace('/etc/chamberlain/realm', join(root, 'realm')));
  chmodSync(become, 0o755);
  cpSync(join(DEPLOY, 'become-completion'), join(root, 'completion'));

  const accounts = Object.entries(uids)
    .filter(([name]) => name !== 'nobody')
    .map(([name, uid]) => {
      const tool = name.startsWith('tools.') ? name.slice('tools.'.length) : undefined;
      const gid = tool === undefined ? REALM_GID : uid;
      const home = tool === undefined ? '/nowhere' : join(root, 'project', tool);
      if (tool !== undefined && tool !== 'fresh') {
        mkdirSync(home);
        chownSync(home, uid, gid);
      }
      const gecos = reasons[name];
      const shell = gecos === undefined ? '/bin/bash' : '/bin/disabledtoolshell';
      return `${name}:*:${uid}:${gid}:${gecos ?? ''}:${home}:${shell}\n`;
    });
  writeFileSync(etc('passwd'), 'root:*:0:0:root:/root:/bin/bash\n');
  writeFileSync(etc('group'), 'root:x:0:\n');
  writeFileSync(extra('passwd'), accounts.join(''));
  writeFileSync(
    extra('shadow'),
    accounts.map((line) => `${line.split(':')[0]}:*:::::::\n`).join(''),
  );
  writeFileSync(etc('nsswitch.conf'), withSources('hosts: files\n'));
  writeFileSync(etc('sudo.conf'), 'Set group_source dynamic\n');
  writeFileSync(etc('sudoers'), 'Defaults !fqdn, !syslog\n@includedir /etc/sudoers.d\n', {
    mode: 0o440,
  });
});
beforeEach(() => {
  setMembers({});
  rmSync(etc('sudoers.d'), { recursive: true });
  mkdirSync(etc('sudoers.d'), 0o755);
  for (const tool of ['bridgebot', 'archive', 'fresh', 'Odd', '9th']) addRule(tool);
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

function setMembers(changed: Record<string, string[]>): void {
  const groups = Object.entries({ ...members, ...changed }).map(
    ([name, of], i) => `${name}:x:${uids[name] ?? 60_000 + i}:${of.join(',')}\n`,
  );
  writeFileSync(extra('group'), `project-tools:*:${REALM_GID}:\n${groups.join('')}`);
}

/** sudo skips files with a dot in their names. */
function addRule(tool: string): void {
  const file = etc(`sudoers.d/runas-${tool}`);
  writeFileSync(file, `%tools.${tool} ALL=(tools.${tool}) NOPASSWD: ALL\n`, { mode: 0o440 });
}

interface Session {
  user?: string;
  /** of the process, not of NSS: as they were when the session was opened */
  groups?: number[];
  input?: string;
}

/** Runs a command in a session of alice's, unless another is given. */
async function run(
  command: string[],
  { user = 'alice', groups = [REALM_GID], input = '' }: Session = {},
): Promise<{ exit: number | null; out: string; err: string }> {
  const setup = ['--mount', '--propagation', 'private', 'sh', '-c', ENTER, 'sh', root];
  const child = spawn('unshare', [...setup, String(uids[user]), groups.join(','), ...command], {
    stdio: 'pipe',
    timeout: 20_000,
  });
  const texts = [child.stdout, child.stderr].map(async (stream) => {
    let text = '';
    for await (const chunk of stream.setEncoding('utf8')) text += chunk as string;
    return text;
  });
  const exit = new Promise<number | null>((done, fail) => {
    child.once('error', fail).once('close', done);
  });
  // it may end before it has read anything
  child.stdin.on('error', () => {});
  child.stdin.end(input);
  const [out = '', err = ''] = await Promise.all(texts);
  return { exit: await exit, out, err };
}

const notAMember = (tool: string) => ({
  exit: 1,
  out: '',
  err:
    `You are not a member of the group tools.${tool}.\n` +
    `Any existing member of the tool's group can add you to that.\n`,
});

describe('a member', () => {
  test.each(['bridgebot', 'tools.bridgebot'])('becomes %s, in its home', async (name) => {
    const { exit, out } = await run([become, name, 'sh', '-c', 'id -un; pwd']);
    expect({ exit, out }).toEqual({ exit: 0, out: `tools.bridgebot\n${root}/project/bridgebot\n` });
  });

  test('without a command has a login shell', async () => {
    const { exit, out } = await run([become, 'bridgebot'], { input: 'id -un; echo "$0"; pwd\n' });
    expect({ exit, out }).toEqual({
      exit: 0,
      out: `tools.bridgebot\n-bash\n${root}/project/bridgebot\n`,
    });
  });

  test('has arguments passed as they are, even if they look like options', async () => {
    const odd = ['a b', '*', ';id', '-n', '--help', `it's`, '\\', 'ß'];
    const { out } = await run([become, 'bridgebot', 'printf', '[%s]', ...odd]);
    expect(out).toBe(odd.map((word) => `[${word}]`).join(''));
  });

  test('gives sudo no options', async () => {
    const { exit, out } = await run([become, 'bridgebot', '-l']);
    expect({ exit, out }).toEqual({ exit: 2, out: '' });
  });

  test('has the exit code of the command', async () => {
    const { exit } = await run([become, 'bridgebot', 'sh', '-c', 'exit 7']);
    expect(exit).toBe(7);
  });

  test('may be a tool: a person reaches one tool through another by both', async () => {
    expect(await run([become, 'archive', 'id', '-un'])).toEqual(notAMember('archive'));
    const { exit, out } = await run([become, 'bridgebot', become, 'archive', 'id', '-un']);
    expect({ exit, out }).toEqual({ exit: 0, out: 'tools.archive\n' });
  });

  test('is whoever NSS says, even in an older session', async () => {
    // alice's session has only the realm's group in all of these tests; this one still has the tool's
    const session = { user: 'bob', groups: [REALM_GID, uids['tools.bridgebot'] ?? 0] };
    expect(await run([become, 'bridgebot', 'id', '-un'], session)).toEqual(notAMember('bridgebot'));
    setMembers({ 'tools.bridgebot': ['bob'] });
    expect(await run([become, 'bridgebot', 'id', '-un'], { user: 'bob' })).toMatchObject({
      exit: 0,
      out: 'tools.bridgebot\n',
    });
    expect(await run([become, 'bridgebot', 'id', '-un'])).toEqual(notAMember('bridgebot'));
  });

  test('is one among a thousand', async () => {
    const many = Array.from({ length: 1000 }, (_, n) => `somebody-with-a-long-name-${n}`);
    const big = { 'tools.archive': many.concat('alice'), 'tools.bridgebot': many.concat('alice') };
    setMembers(big);
    for (const tool of ['archive', 'bridgebot']) {
      const { exit, out } = await run([become, tool, 'id', '-un']);
      expect({ exit, out }).toEqual({ exit: 0, out: `tools.${tool}\n` });
    }
    expect((await run([become, '--list'])).out).toBe('archive\nbridgebot\nfresh\nruleless\n');
  });

  test('is a whole name, not a part of one', async () => {
    setMembers({ 'tools.bridgebot': ['alic', 'alicea', 'xalice'] });
    expect(await run([become, 'bridgebot', 'id'])).toEqual(notAMember('bridgebot'));
  });
});

describe('no entry', () => {
  test.each([
    'nosuch',
    'tools.nosuch',
    'tools.',
    'tools.tools.bridgebot',
    'Odd',
    '9th',
    'bridgebot ',
    'bridgebot\n',
    '*',
    '../bridgebot',
    'bridgebot;id',
    '0',
    'ß',
  ])('for %j: no such tool', async (name) => {
    const own = name.startsWith('tools.') ? name.slice('tools.'.length) : name;
    const err = `become: no such tool '${own}'\n`;
    expect(await run([become, name, 'id'])).toEqual({ exit: 1, out: '', err });
  });

  test('where the tool is disabled', async () => {
    const { exit, out, err } = await run([become, 'off', 'id']);
    expect({ exit, out }).toEqual({ exit: 1, out: '' });
    expect(err).toBe("become: the tool 'off' is disabled; a maintainer can have it enabled\n");
    expect(await run([become, 'off'], { user: 'bob' })).toEqual(notAMember('off'));
  });

  test.each([
    ['why', 'It floods; ask $(id) `id` %s\\n 100%'],
    ['hostile', '[2Jroot'],
  ])('where the tool is disabled, with the reason: %s', async (tool, why) => {
    expect(await run([become, tool, 'id'])).toEqual({
      exit: 1,
      out: '',
      err: `become: the tool '${tool}' is disabled (${why}); a maintainer can have it enabled\n`,
    });
  });

  test('where the home is not created yet', async () => {
    expect(await run([become, 'fresh', 'id'])).toEqual({
      exit: 1,
      out: '',
      err: "become: the home of 'fresh' is not there. If the tool is new, try again in a moment; otherwise tell an operator\n",
    });
  });

  test('where sudo has no rule, in sudo’s words', async () => {
    expect(await run([become, 'ruleless', 'id'])).toEqual({
      exit: 1,
      out: '',
      err: 'sudo: a password is required\n',
    });
  });

  test('for an account that NSS does not know', async () => {
    const { exit, err } = await run([become, 'bridgebot', 'id'], { user: 'nobody' });
    expect({ exit, err }).toEqual({
      exit: 1,
      err: 'become: this host does not know your account at the moment; try again\n',
    });
  });
});

describe('--list', () => {
  test('names the tools that one may become, sorted, and no others', async () => {
    setMembers({
      'tools.$(id)': ['alice'],
      'tools.gone': ['alice'],
      'other.x': ['alice'],
      // as a pattern it would be the file below
      'tools.arch*': ['alice'],
    });
    writeFileSync(join(root, 'project/tools.archive'), '');
    expect(await run(['-C', join(root, 'project'), become, '--list'])).toEqual({
      exit: 0,
      out: 'bridgebot\nfresh\nruleless\n',
      err: '',
    });
  });

  test('does not name the caller, and is empty for a person in no group', async () => {
    const tool = { user: 'tools.bridgebot' };
    expect(await run([become, '--list'], tool)).toEqual({ exit: 0, out: 'archive\n', err: '' });
    expect(await run([become, '--list'], { user: 'bob' })).toEqual({ exit: 0, out: '', err: '' });
  });
});

test('--help explains the usage and the exit codes', async () => {
  const { exit, out, err } = await run([become, '--help']);
  expect({ exit, err }).toEqual({ exit: 0, err: '' });
  expect(out).toMatch(/^usage: become TOOL \[COMMAND/u);
  expect(out).toContain('such as tools.bridgebot');
  expect(out).toContain('Exit codes:');
});

test.each<[string, string[]]>([
  ['the name of a tool is missing', []],
  ['the name of a tool is missing', ['']],
  ["there is no option '-u'", ['-u', 'bridgebot']],
  ["there is no option '--lists'", ['--lists']],
  ['--list takes no other arguments', ['--list', 'bridgebot']],
  ['--help takes no other arguments', ['--help', 'bridgebot']],
])('wrong usage: %s', async (what, args) => {
  const err = `become: ${what}; see become --help\n`;
  expect(await run([become, ...args])).toEqual({ exit: 2, out: '', err });
});

test('only programs of the system are run, whatever PATH says', async () => {
  for (const name of ['id', 'getent', 'sudo', 'sort', 'cut', 'tr']) {
    const text = `#!/bin/sh\n: >${root}/evidence/${name}\n`;
    writeFileSync(join(root, 'evil', name), text, { mode: 0o755 });
  }
  const hostile = [`PATH=${root}/evil`, 'IFS=bt.', 'realm=x', `ENV=${root}/evil/id`];
  const { exit, out } = await run([...hostile, become, 'bridgebot', 'id', '-un']);
  expect({ exit, out }).toEqual({ exit: 0, out: 'tools.bridgebot\n' });
  expect(await run([...hostile, become, '--list'])).toMatchObject({
    exit: 0,
    out: 'bridgebot\nfresh\nruleless\n',
  });
  expect(() => readFileSync(join(root, 'evidence/id'))).toThrow('ENOENT');
});

test('bash completes the name of a tool', async () => {
  // a terminal, as a person has it
  const typed = `source ${root}/completion\nbecome bri\tid -un; exit\n`;
  const { out } = await run(
    [
      `PATH=${root}/bin:/usr/bin:/bin`,
      'TERM=dumb',
      'script',
      '-qec',
      'bash --noprofile --norc',
      '/dev/null',
    ],
    { input: typed },
  );
  // `script` may pass on the end of its input at any moment, which the terminal shows as ^@
  expect(out).toMatch(/^(\^@)?tools\.bridgebot\r$/mu);
});

test.each([
  ['tools.off', 'This tool is disabled.\n'],
  ['tools.why', 'This tool is disabled: It floods; ask $(id) `id` %s\\n 100%\n'],
  ['tools.hostile', 'This tool is disabled: [2Jroot\n'],
  ['nobody', 'This tool is disabled.\n'],
])('the shell of a disabled tool says so, and ends with 1: %s', async (user, out) => {
  const text = readFileSync(join(DEPLOY, 'disabledtoolshell'), 'utf8');
  expect(await run(['sh', '-c', text], { user })).toEqual({ exit: 1, out, err: '' });
});
