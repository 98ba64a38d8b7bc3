/** A running world with a login host, and people who log in to it as people do: with ssh, scp and sftp. */
import { spawn, type ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  openLoginHost,
  type LoginHost,
  type LoginHostOptions,
} from '../../../dev/servers/login-host.ts';
import { PLACES } from '../../../src/login-host/places.ts';
import { statusOf } from '../../login-host/host-status.ts';
import type { WorldOptions } from '../../stack.ts';
import { eventually } from '../eventually.ts';
import { openRunning, type Running } from '../running.ts';

export interface Login extends Running {
  host: LoginHost;
  /** The private keys' files, by person. */
  keys: Map<string, string>;
  /** Creates a person with a key; `admit` grants access. */
  create(name: string): Promise<void>;
  admit(name: string): Promise<void>;
  /** Runs a command by `ssh name@host` with the person's key, or another. */
  ssh(
    name: string,
    command: string,
    options?: { key?: string; timeoutMs?: number },
  ): Promise<Ended>;
  /** Runs scp or sftp, with the arguments that lead to the host before `args`. */
  copy(program: 'scp' | 'sftp', name: string, args: string[], input?: string): Promise<Ended>;
  /** Opens a session that stays: a login shell that reads from us. */
  openSession(name: string): Promise<Session>;
  /** The lines of a person's key file; [] if there is none. */
  keyFile(name: string): string[];
  /** The text of a file of the host; '' if there is none. */
  file(path: string): string;
  /** What `keys-agent status` says. */
  agentStatus(): Promise<AgentStatus>;
}

interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
  tookMs: number;
}

export interface Session {
  /** Runs a command in the shell: what it wrote (standard error too), and its exit code. */
  run(command: string): Promise<{ code: number; output: string }>;
  readonly isOpen: boolean;
  close(): Promise<void>;
}

export interface AgentStatus {
  trusted: boolean;
  why: string | null;
  trouble: string | null;
  server: string;
  people: number;
  tools: number;
  refused: { entry: string; why: string }[];
  held: { names: string[] } | null;
}

export type HostOptions = Pick<
  Partial<LoginHostOptions>,
  'ldapUri' | 'moreLdapUris' | 'offlineLimitSeconds' | 'sshdOptions' | 'hasOwnClock' | 'setUp'
>;

export interface LoginOptions extends WorldOptions, HostOptions {}

export async function openLogin(name: string, options: LoginOptions = {}): Promise<Login> {
  const running = await openRunning(name, options);
  try {
    return await addLoginHost(running, options);
  } catch (error) {
    await running.close();
    throw error;
  }
}

/** Adds a login host to a running world; closing it closes the world. */
export async function addLoginHost(running: Running, options: HostOptions = {}): Promise<Login> {
  const { world, portal } = running;
  const host = await openLoginHost({
    folder: join(world.dir, 'login-host'),
    ldapUri: world.slapd.tcpUri(),
    base: world.config.ldap.base,
    realm: world.config.realm,
    ids: world.config.ids,
    secrets: world.config.secrets,
    sealKeys: [world.sealKey],
    dataRoot: world.dataRoot,
    ...options,
  });
  const keys = new Map<string, string>();
  const keyOf = (name: string): string => {
    const file = keys.get(name);
    if (file === undefined) throw new Error(`${name} has no key`);
    return file;
  };
  const login: Login = {
    ...running,
    host,
    keys,
    async create(name) {
      const key = await host.newKey(name);
      keys.set(name, key.file);
      await portal.get({
        kind: 'person.create',
        requestedBy: name,
        shellName: name,
        displayName: `The ${name}`,
        email: `${name}@example.org`,
        key: key.line,
      });
    },
    async admit(name) {
      await portal.get({ kind: 'access.grant', requestedBy: 'steward', person: name });
    },
    ssh: (name, command, { key = keyOf(name), timeoutMs = 20_000 } = {}) =>
      end(spawn('ssh', [...host.sshOptions(key), `${name}@127.0.0.1`, command]), timeoutMs),
    copy(program, name, args, input = '') {
      const child = spawn(program, [...host.sshOptions(keyOf(name), '-P'), ...args]);
      child.stdin.end(input);
      return end(child, 20_000);
    },
    async openSession(name) {
      const args = [...host.sshOptions(keyOf(name)), '-T', `${name}@127.0.0.1`];
      const session = sessionOf(spawn('ssh', args));
      await session.run(':'); // after the greeting
      return session;
    },
    keyFile: (name) => login.file(join(PLACES.keys, name)).split('\n').slice(0, -1),
    file(path) {
      try {
        return readFileSync(join(host.machine.root, path), 'utf8');
      } catch (cause) {
        if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return '';
        throw cause;
      }
    },
    async agentStatus() {
      // times are by the host's clock
      if (options.hasOwnClock !== true) return statusOf(host.machine).json as AgentStatus;
      const { stdout } = await host.keysAgent('status', '--json');
      return JSON.parse(stdout) as AgentStatus;
    },
    async close() {
      await host.close();
      await running.close();
    },
  };
  try {
    await host.start();
  } catch (error) {
    await host.close();
    throw error;
  }
  return login;
}

/** Returns the first status for which `is` is true. A status is written up to half a second after the files. */
export async function untilStatus(
  login: Login,
  what: string,
  is: (status: AgentStatus) => boolean,
): Promise<AgentStatus> {
  return eventually(what, async () => {
    const status = await login.agentStatus();
    if (is(status)) return status;
    throw new Error(JSON.stringify(status));
  });
}

/** Until the directory is trusted, and nothing in it is refused or missed. */
export async function untilSound(login: Login): Promise<void> {
  await untilStatus(login, 'trust without refusals', ({ trusted, refused, held }) => {
    return trusted && refused.length === 0 && held === null;
  });
}

function end(child: ChildProcess, timeoutMs: number): Promise<Ended> {
  const began = performance.now();
  return new Promise((done, fail) => {
    let [stdout, stderr] = ['', ''];
    child.stdout?.on('data', (chunk) => (stdout += String(chunk)));
    child.stderr?.on('data', (chunk) => (stderr += String(chunk)));
    const timer = setTimeout(() => child.kill('SIGKILL'), timeoutMs);
    child.once('error', fail);
    child.once('close', (code) => {
      clearTimeout(timer);
      done({ code, stdout, stderr, tookMs: performance.now() - began });
    });
  });
}

/** A shell at the other end of a pipe; each answer ends with a line that only we know. */
function sessionOf(child: ChildProcess): Session {
  let output = '';
  let isOpen = true;
  let heard = (): void => {};
  const take = (chunk: Buffer): void => {
    output += String(chunk);
    heard();
  };
  child.stdout?.on('data', take);
  child.stderr?.on('data', take);
  child.stdin?.on('error', () => undefined);
  const closed = new Promise<void>((done) => {
    child.once('close', () => {
      isOpen = false;
      heard();
      done();
    });
  });
  let number = 0;
  return {
    get isOpen() {
      return isOpen;
    },
    async run(command) {
      const mark = `answered-${(number += 1)}-`;
      output = '';
      // the command must not read from our pipe
      child.stdin?.write(`{ ${command}\n} 2>&1 </dev/null; echo "${mark}$?"\n`);
      for (;;) {
        const at = output.search(new RegExp(`${mark}\\d+\n`));
        if (at !== -1) {
          return {
            code: Number.parseInt(output.slice(at + mark.length), 10),
            output: output.slice(0, at),
          };
        }
        if (!isOpen) throw new Error(`the session has ended: ${output}`);
        await new Promise<void>((done) => (heard = done));
      }
    },
    async close() {
      child.kill();
      await closed;
    },
  };
}
