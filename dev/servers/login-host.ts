/**
 * A whole login host in a private machine, for tests and benchmarks: Debian's sshd and sudo, set up by the
 * project's own `install`, with the login helper and the keys agent. The clone is visible at /opt/chamberlain.
 */
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
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
import { PLACES } from '../../src/login-host/places.ts';
import { replaceFile } from '../../src/shared/durable-file.ts';
import type { IdRange } from '../../deploy/ldap/render.ts';

const PROJECT = join(import.meta.dirname, '../..');
const CLONE = '/opt/chamberlain';
const HELPER_UNIT = 'chamberlain-login-helper';
const AGENT_UNIT = 'chamberlain-keys-agent';
const CLOCK = '/run/clock';
const CLOCK_ENVIRONMENT = [
  ...['LD_PRELOAD=/usr/$LIB/faketime/libfaketimeMT.so.1', `FAKETIME_TIMESTAMP_FILE=${CLOCK}`],
  ...['FAKETIME_DONT_FAKE_MONOTONIC=1', 'NO_FAKE_STAT=1', 'FAKETIME_DISABLE_SHM=1'],
];
/**
 * The file is read each time that a program asks for the time, except in sshd, whose sandbox would end it for
 * that.
 */
const AT_ONCE = 'FAKETIME_NO_CACHE=1';
export const INSTALL = `${CLONE}/deploy/login-host/install`;

export interface LoginHostOptions {
  /** A folder of this machine for keys of clients and the like; created if missing. */
  readonly folder: string;
  /** By TCP: sockets in this machine's file system are not visible inside. */
  readonly ldapUri: string;
  /** Tried if that one does not serve. */
  readonly moreLdapUris?: readonly string[];
  readonly base: string;
  readonly realm: string;
  readonly ids: { people: readonly IdRange[]; tools: readonly IdRange[]; realmGid: number };
  /** The folder with the file ldap-keys-agent. */
  readonly secrets: string;
  /** PEM: the public keys that verify the directory role's seals. */
  readonly sealKeys: readonly string[];
  /** Stands for the file server's `/`: its homes are the host's. */
  readonly dataRoot: string;
  readonly offlineLimitSeconds?: number;
  /** Installs the host in another way than by hand with the values above. */
  readonly setUp?: (machine: Machine) => Promise<void>;
  /** Lines of sshd_config that come after all others. */
  readonly sshdOptions?: readonly string[];
  /** Its daemons and `keys-agent` have a clock of their own (libfaketime): `setClock` sets it. */
  readonly hasOwnClock?: boolean;
}

export interface LoginHost {
  readonly machine: Machine;
  readonly sshPort: number;
  readonly sshd: Daemon;
  readonly helper: Daemon;
  readonly agent: Daemon;
  /** Runs the project's `install` with these arguments. */
  install(...args: string[]): Promise<Ended>;
  /** Sets its own clock: this many seconds ahead of this machine's. The monotonic clock stays as it is. */
  setClock(aheadSeconds: number): void;
  /** Runs `keys-agent` as root, by the host's clock. */
  keysAgent(...args: string[]): Promise<Ended>;
  /** Starts the three daemons, each once what it needs answers. */
  start(): Promise<void>;
  /** A key pair for clients: the private key's file on this machine, and the public line. */
  newKey(name: string, type?: string): Promise<{ file: string; line: string }>;
  /** The arguments with which ssh and scp (`port: '-P'` for scp) connect to this host. */
  sshOptions(key: string, port?: '-p' | '-P'): string[];
  close(): Promise<void>;
}

/** Opens a machine with the clone in it, and nothing installed yet. */
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
  await (options.setUp ?? ((bare) => installByHand(bare, options)))(machine);

  const sshPort = await keepOrChoosePort(join(folder, 'ssh-port'));
  const known = join(folder, 'known_hosts');
  const hostKey = readFileSync(inside('/etc/ssh/ssh_host_ed25519_key.pub'), 'utf8');
  writeFileSync(known, `[127.0.0.1]:${sshPort} ${hostKey}`);

  const [ownClock, clock] =
    options.hasOwnClock === true ? [CLOCK_ENVIRONMENT, [...CLOCK_ENVIRONMENT, AT_ONCE]] : [[], []];
  const setClock = (aheadSeconds: number): void => {
    replaceFile(inside(CLOCK), aheadSeconds < 0 ? String(aheadSeconds) : `+${aheadSeconds}`, {
      mode: 0o644,
    });
  };
  setClock(0);
  const helper = machine.daemon({
    name: 'login-helper',
    // with only the rights that its unit gives it
    command: () => [
      ...['/usr/bin/setpriv', '--no-new-privs', `--bounding-set=-all${capabilities(HELPER_UNIT)}`],
      ...['/usr/bin/env', ...unitEnvironment(HELPER_UNIT), ...clock],
      '/usr/lib/chamberlain/login-helper',
    ],
    answers: () => accepts(inside(PLACES.socket)),
  });
  let logBegins = 0;
  const agent: Daemon = machine.daemon({
    name: 'keys-agent',
    command: () => {
      logBegins = agent.log().length;
      return [
        ...['/usr/bin/setpriv', '--reuid=chamberlain-keys', '--regid=chamberlain-keys'],
        ...['--clear-groups', '--no-new-privs', '--bounding-set=-all'],
        '/usr/bin/env',
        ...[...unitEnvironment(AGENT_UNIT), ...clock],
        ...['/usr/sbin/keys-agent', 'run'],
      ];
    },
    // status shows its reports up to five seconds later
    answers: () => Promise.resolve(agent.log().slice(logBegins).includes('following')),
  });
  const sshd = machine.daemon({
    name: 'sshd',
    command: () => {
      mkdirSync(inside('/run/sshd'), { recursive: true, mode: 0o755 });
      return [
        ...['/usr/bin/env', ...ownClock],
        ...['/usr/sbin/sshd', '-D', '-e', '-p', String(sshPort)],
        ...['ListenAddress=127.0.0.1', 'PidFile=none', 'PerSourcePenalties=no', 'MaxStartups=200']
          .concat(options.sshdOptions ?? [])
          .flatMap((option) => ['-o', option]),
      ];
    },
    answers: () => greets(sshPort),
  });

  return {
    ...{ machine, sshPort, sshd, helper, agent, install, setClock },
    keysAgent: (...args) =>
      machine.run(['/usr/bin/env', ...clock, '/usr/sbin/keys-agent', ...args]),
    async start() {
      await Promise.all([helper.start(), sshd.start()]);
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

/** As before hosts could join: with the password of the account that they share. */
async function installByHand(machine: Machine, options: LoginHostOptions): Promise<void> {
  const inside = (path: string): string => join(machine.root, path);
  const password = readFileSync(join(options.secrets, 'ldap-keys-agent'));
  writeFileSync(inside('/root/ldap-keys-agent'), password, { mode: 0o600 });
  const sealKeys = options.sealKeys.map((pem, index) => {
    writeFileSync(inside(`/root/seal-${index}.pub`), pem);
    return `/root/seal-${index}.pub`;
  });
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
    ...[options.ldapUri, ...(options.moreLdapUris ?? [])].flatMap((uri) => ['--ldap-uri', uri]),
    ...['--base', options.base],
    ...['--agent-password-file', '/root/ldap-keys-agent'],
    ...sealKeys.flatMap((file) => ['--seal-key', file]),
  ]);
}

/**
 * Root runs programs of the clone, so it must belong to root: inside the machine it does, whoever has cloned
 * it.
 */
async function ownClone(machine: Machine): Promise<void> {
  const places = ['', 'src/login-host/programs', 'deploy/login-host', 'node_modules'].map((at) =>
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
    '/etc/chamberlain /etc/sssd/sssd.conf /etc/sssd/conf.d/* /var/lib/chamberlain /var/lib/extrausers/* ' +
    '/var/lib/sss/db/* /var/lib/sss/mc/* /etc/sudoers.d/chamberlain*';
  await machine.must([
    ...['/bin/sh', '-ec'],
    `rm -rf ${places}
    sed -i -E 's/^((passwd|group|shadow|sudoers):.*) sss( |$)/\\1\\3/' /etc/nsswitch.conf
    DEBIAN_FRONTEND=noninteractive pam-auth-update --disable sss`,
  ]);
}

/** Whether a program listens at a socket. */
function accepts(path: string): Promise<boolean> {
  return new Promise((done) => {
    const client = connect(path);
    client.once('connect', () => done(true)).once('error', () => done(false));
    client.once('connect', () => client.destroy());
  });
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

/** The variables that a unit sets, as `NAME=value`. */
function unitEnvironment(unit: string): string[] {
  return unitSetting(unit, 'Environment').split(' ');
}

/** The rights that a unit leaves root, in the form of setpriv(1). */
function capabilities(unit: string): string {
  return unitSetting(unit, 'CapabilityBoundingSet')
    .toLowerCase()
    .replace(/(^| )cap_/g, ',+');
}

function unitSetting(unit: string, name: string): string {
  const file = join(PROJECT, `deploy/login-host/templates/${unit}.service`);
  const [, value] = new RegExp(`^${name}=(.*)$`, 'm').exec(readFileSync(file, 'utf8')) ?? [];
  if (value === undefined) throw new Error(`${file} does not set ${name}`);
  return value;
}
