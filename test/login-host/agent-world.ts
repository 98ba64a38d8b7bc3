/** A real directory with people in it, and the real keys agent that follows it. */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { formatMarker, type Marker } from '../../src/model/marker.ts';
import { eventually } from '../scenarios/eventually.ts';
import { changeDirectory } from '../scenarios/outside.ts';
import { openWorld, type World } from '../stack.ts';

const PROJECT = join(import.meta.dirname, '../..');

export interface AgentWorld {
  world: World;
  people: string;
  realmGroup: string;
  /** the uid of the n-th person */
  uid(n: number): number;
  keys: string;
  state: string;
  /** the local accounts' file */
  passwd: string;
  /** cuts the connection by which the agent next asks for this person; resolves when that was done */
  cutAt(name: string): Promise<void>;
  start(): Promise<void>;
  kill(signal?: NodeJS.Signals): Promise<void>;
  /** the key files by name */
  files(): Record<string, string>;
  status(): { exit: number; json: AgentJson; text: string };
  change(ldif: string, control?: string): Promise<void>;
  /** changes slapd's own configuration of the database */
  configure(change: [string, string, ...string[]]): void;
  mark(marker: Partial<Marker>): Promise<void>;
  close(): Promise<void>;
}

export interface AgentJson {
  trusted: boolean;
  running: boolean;
  since: string | null;
  why: string | null;
  people: number;
  files: number;
  refusals: { entry: string; why: string }[];
}

/** An Ed25519 key of its own: type and base64. */
export function newKey(): string {
  const { publicKey } = generateKeyPairSync('ed25519');
  const point = publicKey.export({ type: 'spki', format: 'der' }).subarray(-32);
  const field = (bytes: Buffer) => {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bytes.length);
    return Buffer.concat([length, bytes]);
  };
  const blob = Buffer.concat([field(Buffer.from('ssh-ed25519')), field(point)]);
  return `ssh-ed25519 ${blob.toString('base64')}`;
}

/** The LDIF of a person. */
export function person(
  base: string,
  name: string,
  uid: number,
  keys: readonly string[],
  changes: Record<string, string> = {},
): string {
  const attributes: Record<string, string> = {
    uid: name,
    cn: `${name} of ${uid}`,
    sn: name,
    uidNumber: String(uid),
    gidNumber: '500',
    homeDirectory: `/home/${name}`,
    loginShell: '/bin/bash',
    ...changes,
  };
  return [
    `dn: uid=${name},ou=people,${base}`,
    'changetype: add',
    ...['person', 'inetOrgPerson', 'ldapPublicKey', 'posixAccount'].map((c) => `objectClass: ${c}`),
    ...Object.entries(attributes).map(([attribute, value]) => line(attribute, value)),
    ...keys.map((key) => line('sshPublicKey', key)),
    '',
    '',
  ].join('\n');
}

/** As LDIF, whatever the value holds. */
export function line(attribute: string, value: string): string {
  return `${attribute}:: ${Buffer.from(value).toString('base64')}`;
}

export function modify(dn: string, ...changes: [string, string, ...string[]][]): string {
  return [
    `dn: ${dn}`,
    'changetype: modify',
    ...changes.flatMap(([operation, attribute, ...values]) => [
      `${operation}: ${attribute}`,
      ...values.map((value) => line(attribute, value)),
      '-',
    ]),
    '',
    '',
  ].join('\n');
}

export async function openAgentWorld(
  name: string,
  { offlineLimitSeconds = 3600, byProxy = false } = {},
): Promise<AgentWorld> {
  const world = await openWorld(name, { needs: ['slapd'] });
  const base = world.config.ldap.base;
  const proxy = byProxy ? openProxy(world) : undefined;
  const folder = join(world.dir, 'login-host');
  const [keys, state] = [join(folder, 'keys'), join(folder, 'agent')];
  for (const each of [folder, keys, state]) mkdirSync(each, { mode: 0o755 });
  const configFile = join(folder, 'login-host.yaml');
  writeFileSync(join(folder, 'passwd'), 'root:x:0:0::/root:/bin/bash\nlocal:x:1:1::/:/bin/sh\n');
  writeFileSync(
    configFile,
    stringify({
      realm: world.config.realm,
      ids: { people: world.config.ids.people, tools: world.config.ids.tools },
      ldap: {
        uris: [proxy?.uri ?? world.slapd.uri],
        base,
        passwordFile: join(world.config.secrets, 'ldap-keys-agent'),
      },
      offlineLimitSeconds,
      keysFolder: keys,
      stateFolder: state,
      helperSocket: join(folder, 'nobody.sock'),
      passwdFile: join(folder, 'passwd'),
    }),
  );
  const node = [process.execPath, join(PROJECT, 'src/bin/keys-agent.ts'), '--config', configFile];
  let agent: ChildProcess | undefined;
  let log = '';
  const env = { ...process.env, NODE_OPTIONS: '' };

  const kill = async (signal: NodeJS.Signals = 'SIGKILL') => {
    const child = agent;
    agent = undefined;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    child.kill(signal);
    await once(child, 'exit');
  };

  return {
    world,
    people: `ou=people,${base}`,
    realmGroup: `cn=project-tools,ou=groups,${base}`,
    uid: (n) => (world.config.ids.people[1]?.first ?? 0) + n,
    keys,
    state,
    passwd: join(folder, 'passwd'),
    cutAt: (whom) => proxy?.cutAt(whom) ?? Promise.reject(new Error('there is no proxy')),
    async start() {
      await kill();
      rmSync(join(state, 'status.json'), { force: true });
      const child = spawn(node[0] ?? '', [...node.slice(1), 'run'], {
        env,
        stdio: ['ignore', 'ignore', 'pipe'],
      });
      agent = child;
      child.stderr.on('data', (chunk: Buffer) => (log += chunk.toString()));
      await eventually('the agent has looked', () => {
        if (child.exitCode !== null) throw new Error(`the agent ended:\n${log}`);
        return existsSync(join(state, 'status.json'));
      });
    },
    kill,
    files: () =>
      Object.fromEntries(
        readdirSync(keys)
          .filter((file) => !file.startsWith('.'))
          .map((file) => [file, readFileSync(join(keys, file), 'utf8')]),
      ),
    status() {
      const run = (...args: string[]) => {
        try {
          const text = execFileSync(node[0] ?? '', [...node.slice(1), 'status', ...args], {
            env,
            encoding: 'utf8',
          });
          return { exit: 0, text };
        } catch (error) {
          const { status, stdout } = error as { status: number; stdout: string };
          return { exit: status, text: stdout };
        }
      };
      const { exit, text } = run('--json');
      return { exit, json: JSON.parse(text) as AgentJson, text: run().text };
    },
    change: (ldif, control) => changeDirectory(world, 'ldapmodify', ldif, control),
    configure(change) {
      const args = ['-Q', '-Y', 'EXTERNAL', '-H', world.slapd.uri];
      execFileSync('ldapmodify', args, {
        input: modify('olcDatabase={1}mdb,cn=config', change),
        stdio: ['pipe', 'ignore', 'pipe'],
      });
    },
    mark: (marker) =>
      changeDirectory(
        world,
        'ldapmodify',
        modify(`cn=chamberlain,${base}`, [
          'replace',
          'description',
          formatMarker({
            at: new Date().toISOString(),
            people: 0,
            keyed: 0,
            overdue: [],
            ...marker,
          }),
        ]),
      ),
    async close() {
      await kill();
      proxy?.close();
      await world.close();
    },
  };
}

/** Stands between the agent and slapd, to cut a connection at a chosen question. */
function openProxy(world: World) {
  const target = decodeURIComponent(world.slapd.uri.replace(/^ldapi:\/\//, ''));
  const path = join(world.dir, 'proxy.sock');
  let cut: { at: Buffer; done: () => void } | undefined;
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const slapd = connect(target);
    const end = () => [client, slapd].forEach((socket) => socket.destroy());
    for (const socket of [client, slapd]) {
      sockets.add(socket);
      socket.on('error', end).on('close', end);
    }
    slapd.pipe(client);
    client.on('data', (data: Buffer) => {
      if (cut === undefined || !data.includes(cut.at)) {
        slapd.write(data);
        return;
      }
      end();
      cut.done();
      cut = undefined;
    });
  }).listen(path);
  return {
    uri: `ldapi://${encodeURIComponent(path)}`,
    /** `(uid=<name>)` as BER (RFC 4511, 4.5.1.7): two octet strings */
    cutAt(whom: string): Promise<void> {
      const word = (text: string) => [Buffer.from([4, text.length]), Buffer.from(text)];
      return new Promise((done) => {
        cut = { at: Buffer.concat([...word('uid'), ...word(whom)]), done };
      });
    },
    close() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
