/**
 * A whole login host in a private machine, for tests and figures: Debian's sshd, sssd and sudo, set up by the
 * project's own `install`, with the root helper and the keys agent. The clone is seen at /opt/chamberlain.
 */
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { ANSWER_TIMEOUT_MS } from './daemon.ts';
import {
  openMachine,
  type Bind,
  type Daemon,
  type Ended,
  type Machine,
} from './private-machine.ts';
import { run } from './processes.ts';
import { keepOrChoosePort } from './redis.ts';
import type { IdRange } from '../../deploy/ldap/render.ts';

const PROJECT = join(import.meta.dirname, '../..');
const CLONE = '/opt/chamberlain';
export const INSTALL = `${CLONE}/deploy/login-host/install`;

export interface LoginHostOptions {
  /** A folder of this machine for keys of clients and the like; made where it is missing. */
  readonly folder: string;
  /** By TCP: sockets of this machine's files are not seen inside. */
  readonly ldapUri: string;
  readonly base: string;
  readonly realm: string;
  readonly ids: { people: readonly IdRange[]; tools: readonly IdRange[]; realmGid: number };
  /** The folder with the files ldap-keys-agent and ldap-sssd. */
  readonly secrets: string;
  /** What stands for the file server's `/`: its homes are the host's. */
  readonly dataRoot: string;
  readonly offlineLimitSeconds?: number;
  /** Lines of sshd_config that come after all others. */
  readonly sshdOptions?: readonly string[];
}

export interface LoginHost {
  readonly machine: Machine;
  readonly sshPort: number;
  readonly sssd: Daemon;
  readonly sshd: Daemon;
  readonly helper: Daemon;
  readonly agent: Daemon;
  /** Runs the project's `install` with these arguments. */
  install(...args: string[]): Promise<Ended>;
  /** Starts the four, each once what it needs answers. */
  start(): Promise<void>;
  /** A key pair for clients: the private key's file on this machine, and the public line. */
  newKey(name: string, type?: string): Promise<{ file: string; line: string }>;
  /** The arguments of ssh and scp (`-P` instead of `-p`: say `port: '-P'`) that lead to this host. */
  sshOptions(key: string, port?: '-p' | '-P'): string[];
  close(): Promise<void>;
}

/** Opens a machine with the clone in it, where nothing is installed yet. */
export async function openBareHost(binds: readonly Bind[] = []): Promise<Machine> {
  const machine = await openMachine([{ from: PROJECT, at: CLONE, readOnly: true }, ...binds]);
  try {
    await ownClone(machine);
    await forgetOtherInstallations(machine);
    return machine;
  } catch (error) {
    await machine.close();
    throw error;
  }
}

/** Opens the machine and installs it; `start` starts its daemons. */
export async function openLoginHost(options: LoginHostOptions): Promise<LoginHost> {
  const { folder, dataRoot } = options;
  mkdirSync(folder, { recursive: true });
  const machine = await openBareHost([
    { from: join(dataRoot, 'home'), at: '/home' },
    { from: join(dataRoot, 'data/project'), at: '/data/project' },
  ]);
  try {
    return await furnish(machine, options);
  } catch (error) {
    await machine.close();
    throw error;
  }
}

async function furnish(machine: Machine, options: LoginHostOptions): Promise<LoginHost> {
  const { folder } = options;
  const inside = (path: string): string => join(machine.root, path);
  const install = (...args: string[]): Promise<Ended> => machine.run([INSTALL, ...args]);
  for (const account of ['keys-agent', 'sssd']) {
    const password = readFileSync(join(options.secrets, `ldap-${account}`));
    writeFileSync(inside(`/root/ldap-${account}`), password, { mode: 0o600 });
  }
  const { realm, ids, offlineLimitSeconds } = options;
  writeFileSync(
    inside('/root/login-host.yaml'),
    stringify({
      ...{ realm, realmGid: ids.realmGid, ids: { people: ids.people, tools: ids.tools } },
      ...(offlineLimitSeconds === undefined ? {} : { offlineLimitSeconds }),
    }),
  );
  await machine.must([
    ...[INSTALL, '--config', '/root/login-host.yaml'],
    ...['--ldap-uri', options.ldapUri, '--base', options.base],
    ...['--agent-password-file', '/root/ldap-keys-agent'],
    ...['--sssd-password-file', '/root/ldap-sssd'],
  ]);

  const sshPort = await keepOrChoosePort(join(folder, 'ssh-port'));
  const known = join(folder, 'known_hosts');
  const hostKey = readFileSync(inside('/etc/ssh/ssh_host_ed25519_key.pub'), 'utf8');
  writeFileSync(known, `[127.0.0.1]:${sshPort} ${hostKey}`);

  const sssd = machine.daemon({
    name: 'sssd',
    command: () => {
      // what one that was killed has left would be taken for this one's
      for (const pipe of SSSD_PIPES) rmSync(inside(pipe), { force: true });
      return ['/usr/sbin/sssd', '-i', '--logger=stderr'];
    },
    answers: () => Promise.resolve(SSSD_PIPES.every((pipe) => existsSync(inside(pipe)))),
  });
  const helper = machine.daemon({
    name: 'login-helper',
    command: () => ['/usr/lib/chamberlain/login-helper'],
    answers: async () => {
      const socket = '/run/chamberlain/login-helper.sock';
      const perl = 'use IO::Socket::UNIX; IO::Socket::UNIX->new($ARGV[0]) or exit 1';
      return (await machine.run(['/usr/bin/perl', '-e', perl, socket])).code === 0;
    },
  });
  const agent = machine.daemon({
    name: 'keys-agent',
    command: () => [
      ...['/usr/bin/setpriv', '--reuid=chamberlain-keys', '--regid=chamberlain-keys'],
      ...['--clear-groups', '--no-new-privs', '--bounding-set=-all'],
      '/usr/bin/env',
      ...unitEnvironment(),
      ...['/usr/sbin/keys-agent', 'run'],
    ],
    // what it writes first is of its own; an older one may have left the like
    answers: async () => (await statusOf(machine)).pid === agent.innerPid(),
  });
  const sshd = machine.daemon({
    name: 'sshd',
    command: () => {
      mkdirSync(inside('/run/sshd'), { recursive: true, mode: 0o755 });
      return [
        ...['/usr/sbin/sshd', '-D', '-e', '-p', String(sshPort)],
        ...['ListenAddress=127.0.0.1', 'PidFile=none', 'PerSourcePenalties=no', 'MaxStartups=200']
          .concat(options.sshdOptions ?? [])
          .flatMap((option) => ['-o', option]),
      ];
    },
    answers: () => greets(sshPort),
  });

  return {
    ...{ machine, sshPort, sssd, sshd, helper, agent, install },
    async start() {
      await Promise.all([sssd.start(), helper.start(), sshd.start()]);
      await agent.start();
    },
    async newKey(name, type = 'ed25519') {
      const file = join(folder, `key-${name}`);
      await run('/usr/bin/ssh-keygen', [...['-q', '-t', type, '-N', '', '-C', name, '-f', file]]);
      return { file, line: readFileSync(`${file}.pub`, 'utf8').trimEnd() };
    },
    sshOptions: (key, port = '-p') => [
      ...['-F', 'none', '-i', key, port, String(sshPort)],
      ...[
        ...['BatchMode=yes', 'IdentitiesOnly=yes', 'IdentityAgent=none', 'LogLevel=ERROR'],
        ...['StrictHostKeyChecking=yes', `UserKnownHostsFile=${known}`, 'ConnectTimeout=20'],
      ].flatMap((option) => ['-o', option]),
    ],
    close: () => machine.close(),
  };
}

const SSSD_PIPES = ['nss', 'sudo', 'pam'].map((name) => `/var/lib/sss/pipes/${name}`);

/** Root runs what lies in the clone, so that must be root's: in here it is, whoever has cloned it. */
async function ownClone(machine: Machine): Promise<void> {
  const places = ['', 'src/bin', 'deploy/login-host', 'node_modules'].map((at) =>
    statSync(join(PROJECT, at)),
  );
  if (places.every(({ uid, mode }) => uid === 0 && (mode & 0o022) === 0)) return;
  const layers = '/run/clone';
  await machine.must(['/bin/mkdir', '-p', `${layers}/upper`, `${layers}/work`]);
  const options = `metacopy=on,lowerdir=${CLONE},upperdir=${layers}/upper,workdir=${layers}/work`;
  await machine.must(['/bin/mount', '-t', 'overlay', '-o', options, 'overlay', CLONE]);
  await machine.must(['/bin/chown', '-R', 'root:root', CLONE]);
  await machine.must(['/bin/chmod', '-R', 'go-w,o+rX', CLONE]);
}

/** This machine may be a login host itself, or use sssd. */
async function forgetOtherInstallations(machine: Machine): Promise<void> {
  const places =
    '/etc/chamberlain /etc/sssd/sssd.conf /etc/sssd/conf.d/* /var/lib/chamberlain /var/lib/sss/db/* /var/lib/sss/mc/*';
  await machine.must(['/bin/sh', '-c', `rm -rf ${places} /var/lib/misc/passwd.db`]);
}

/** What the agent has last written of itself. */
async function statusOf(machine: Machine): Promise<{ pid?: number }> {
  const file = join(machine.root, 'var/lib/chamberlain/agent/status.json');
  return JSON.parse(await readFile(file, 'utf8')) as { pid?: number };
}

/** Whether an SSH server answers on a port of 127.0.0.1 (RFC 4253, section 4.2). */
function greets(port: number): Promise<boolean> {
  return new Promise((done) => {
    const client = connect({ port, host: '127.0.0.1', timeout: ANSWER_TIMEOUT_MS });
    const end = (answer: boolean): void => {
      client.destroy();
      done(answer);
    };
    client.once('data', (data) => end(String(data).startsWith('SSH-2.0-')));
    client.once('timeout', () => end(false));
    client.once('close', () => end(false));
    client.once('error', () => end(false));
  });
}

/** What the agent's unit sets, as `NAME=value`. */
function unitEnvironment(): string[] {
  const unit = join(PROJECT, 'deploy/login-host/templates/chamberlain-keys-agent.service');
  const [, line = ''] = /^Environment=(.*)$/m.exec(readFileSync(unit, 'utf8')) ?? [];
  return line.split(' ');
}
