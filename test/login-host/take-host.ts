/**
 * A login host for `take` alone: /etc, /usr and /run as a private mount namespace has them, with
 * accounts, configuration and sudo rule of the test's own. The machine's own are only read.
 */
import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { programWrapper } from '../../deploy/login-host/contents.ts';
import { newSealKey } from './seal-key.ts';

const PROJECT = join(import.meta.dirname, '../..');
const TAKE = join(PROJECT, 'src/login-host/programs/take.ts');

/** Of the host's tools and people; the tool x is a maintainer of the tool y, and alice of both. */
export const X = 53_001;
export const Y = 53_002;
export const ALICE = 3001;
export const BOB = 3002;
export const REALM_GID = 500;
/** a uid in no range */
export const DAEMON = 200;

const PASSWD = `root:*:0:0:root:/root:/bin/sh
daemon:*:${DAEMON}:${DAEMON}::/:/bin/sh
alice:*:${ALICE}:${REALM_GID}::/:/bin/sh
bob:*:${BOB}:${REALM_GID}::/:/bin/sh
tools.x:*:${X}:${X}::/:/bin/sh
tools.y:*:${Y}:${Y}::/:/bin/sh
`;
const GROUP = `root:x:0:
daemon:*:${DAEMON}:
project-tools:*:${REALM_GID}:
tools.x:*:${X}:alice,bob
tools.y:*:${Y}:alice,tools.x
`;
const CONFIG = `realm: tools
ids:
  people: [{ first: 3001, last: 3010 }, { first: 3090, last: 3099 }]
  tools: [{ first: 53001, last: 53099 }]
ldap: { uris: ['ldapi://%2Fnowhere'], base: 'dc=example,dc=org' }
sealKeys: [${JSON.stringify(newSealKey().publicPem)}]
`;

export interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

const deployed = (name: string) => readFileSync(join(PROJECT, 'deploy/login-host', name), 'utf8');

export type TakeHost = Awaited<ReturnType<typeof startTakeHost>>;

/** Starts it; `path` gives paths in its folder, which all may enter. */
export async function startTakeHost() {
  const root = mkdtempSync(join(tmpdir(), 'chamberlain-take-'));
  chmodSync(root, 0o755);
  const put = (name: string, text: string, mode = 0o644): void => {
    mkdirSync(dirname(join(root, name)), { recursive: true, mode: 0o755 });
    writeFileSync(join(root, name), text, { mode });
  };
  put('etc/passwd', PASSWD);
  put('etc/group', GROUP);
  put('etc/nsswitch.conf', 'passwd: files\ngroup: files\nsudoers: files\n');
  put('etc/chamberlain/login-host.yaml', CONFIG);
  put(
    'etc/sudoers',
    'Defaults env_reset, env_keep += "NODE_OPTIONS"\n@includedir /etc/sudoers.d\n',
    0o440,
  );
  put('etc/sudoers.d/chamberlain', deployed('templates/sudoers'), 0o440);
  put('usr/lib/chamberlain/take', programWrapper(PROJECT, 'take.ts'), 0o755);
  put('usr/bin/take', deployed('take'), 0o755);
  mkdirSync(join(root, 'work-etc'));
  mkdirSync(join(root, 'work-usr'));

  const script = `set -e
for each in etc usr; do
  mount -t overlay overlay -o "lowerdir=/$each,upperdir=$1/$each,workdir=$1/work-$each" "/$each"
done
mount -t tmpfs tmpfs /run
mount -t tmpfs -o mode=755 tmpfs /opt
mkdir /opt/chamberlain
mount --bind "$2" /opt/chamberlain
echo ready
exec cat`;
  const holder = spawn('unshare', ['--mount', 'sh', '-c', script, 'sh', root, PROJECT], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const [first] = (await once(holder.stdout, 'data')) as [Buffer];
  if (first.toString() !== 'ready\n') throw new Error('the mount namespace was not made');

  const enter = (cwd: string): string[] => [`--mount=/proc/${holder.pid}/ns/mnt`, `--wdns=${cwd}`];
  const ended = (words: string[], env: Record<string, string>): Ended => {
    const { status, stdout, stderr } = spawnSync('nsenter', words, {
      encoding: 'utf8',
      env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', ...env },
      timeout: 60_000, // far less than what waits for a FIFO, or looks at all files for each
      killSignal: 'SIGKILL',
    });
    return { code: status, stdout, stderr };
  };
  // what Node has compiled, of programs that root starts
  const compiled = { NODE_COMPILE_CACHE: process.env['NODE_COMPILE_CACHE'] ?? '' };
  const command = (meddling?: string): string[] => [
    process.execPath,
    ...(meddling === undefined ? [] : ['--import', meddling]),
    TAKE,
  ];

  return {
    path: (name: string) => join(root, name),
    /** The program with a name to take, for `as`: by a way that is open to all, as the clone may not be. */
    command:
      '/opt/chamberlain/node_modules/.bin/node /opt/chamberlain/src/login-host/programs/take.ts f',
    /** Runs the program as sudo would: as root, with SUDO_UID. */
    take(uid: number | undefined, cwd: string, words: string[], meddling?: string): Ended {
      const env = uid === undefined ? compiled : { ...compiled, SUDO_UID: String(uid) };
      return ended([...enter(cwd), ...command(meddling), ...words], env);
    },
    /** The same, by a line of shell that is given the program as shell words. */
    takeByShell(
      uid: number,
      cwd: string,
      line: (take: string) => string,
      meddling?: string,
    ): Ended {
      const take = command(meddling).map(quote).join(' ');
      return ended([...enter(cwd), 'sh', '-c', line(take)], { ...compiled, SUDO_UID: String(uid) });
    },
    /** Runs a line of shell with the rights of an account. */
    as(uid: number, cwd: string, line: string, env: Record<string, string> = {}): Ended {
      const gid = uid === ALICE || uid === BOB ? REALM_GID : uid;
      const who = [`--reuid=${uid}`, `--regid=${gid}`, '--init-groups'];
      return ended([...enter(cwd), 'setpriv', ...who, 'sh', '-c', line], env);
    },
    /** Runs a line of shell as root, where mounts are the host's alone. */
    asRoot(line: string): Ended {
      return ended([...enter('/'), 'sh', '-ec', line], {});
    },
    async stop(): Promise<void> {
      await endOf(holder);
      rmSync(root, { recursive: true, force: true });
    },
  };
}

/** One word for the shell. */
export function quote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}

async function endOf(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = once(child, 'exit');
  child.stdin?.end();
  await exit;
}

/** Makes a directory or a file with an owner, a group and a mode. */
export function makeDirectory(path: string, uid: number, gid: number, mode = 0o2775): string {
  mkdirSync(path, { recursive: true });
  return own(path, uid, gid, mode);
}

export function makeFile(path: string | Buffer, uid: number, gid: number, mode = 0o664): void {
  writeFileSync(path, 'x');
  own(path, uid, gid, mode);
}

function own<Path extends string | Buffer>(
  path: Path,
  uid: number,
  gid: number,
  mode: number,
): Path {
  chownSync(path, uid, gid);
  chmodSync(path, mode);
  return path;
}

/** `uid:gid mode` of a path, or of a link itself. */
export function ownership(path: string | Buffer): string {
  const { uid, gid, mode } = lstatSync(path);
  return `${uid}:${gid} ${(mode & 0o7777).toString(8)}`;
}

/** The owner alone. */
export function ownerOf(path: string | Buffer): number {
  return lstatSync(path).uid;
}

/**
 * What another does at one instant, for `--import`: once, just before or after the program's own
 * call of `fs.<call>` on a path that ends so. That is the narrowest place: a system call.
 */
export function meddleAt(
  when: { before: string } | { after: string },
  ending: string,
  act: string,
): string {
  const call = 'before' in when ? when.before : when.after;
  const code = `
    import fs from 'node:fs';
    import { syncBuiltinESMExports } from 'node:module';
    const { ${call}: real, ...others } = fs;
    let isDone = false;
    fs.${call} = (...words) => {
      const isNow = !isDone && String(words[0]).endsWith(${JSON.stringify(ending)});
      isDone ||= isNow;
      const act = () => { with_(others); };
      if (isNow && ${'before' in when}) act();
      const result = real(...words);
      if (isNow && ${'after' in when}) act();
      return result;
    };
    function with_(fs) { ${act} }
    syncBuiltinESMExports();`;
  return `data:text/javascript,${encodeURIComponent(code)}`;
}
