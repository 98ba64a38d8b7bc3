/**
 * A real directory with sealed people and tools, and the agent that follows it, in this process. The root
 * helper is replaced by one that only records what is reported.
 */
import { execFileSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { slapdServer } from '../../dev/servers/slapd.ts';
import { openLog } from '../../src/shared/log.ts';
import { startAgent, type Agent } from '../../src/login-host/agent/agent.ts';
import type { LoginHostConfig } from '../../src/login-host/config.ts';
import {
  parseReportLine,
  type ReportAnswer,
  type ReportLine,
} from '../../src/login-host/report-lines.ts';
import { signMarker, type Marker } from '../../src/seals/heartbeat.ts';
import {
  formatSeal,
  signPayload,
  type PersonSeal,
  type SealKey,
  type ToolSeal,
} from '../../src/seals/seal.ts';
import { eventually } from '../scenarios/eventually.ts';
import { changeDirectory } from '../scenarios/outside.ts';
import { openWorld, startServer, stopServer, type World } from '../stack.ts';
import { newSealKey } from './seal-key.ts';

// ---------------------------------------------------------------- what stands in the directory

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

/** In a week, whole seconds. */
const nextWeek = () => new Date(Date.now() + 7 * 86_400_000).toISOString().replace(/\.\d+/, '');

/** As LDIF, whatever the value contains. */
export function line(attribute: string, value: string | Buffer): string {
  return `${attribute}:: ${Buffer.from(value).toString('base64')}`;
}

export function modify(dn: string, ...changes: [string, string, ...(string | Buffer)[]][]): string {
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

const remove = (dn: string) => `dn: ${dn}\nchangetype: delete\n\n`;

/** LDIF of entries that the directory role has sealed with a key of the test's. */
export function sealedEntries(world: World, key: SealKey) {
  const { realm, ids, ldap } = world.config;
  const { base } = ldap;
  const personDn = (name: string) => `uid=${name},ou=people,${base}`;
  const toolDn = (name: string) => `uid=${name},ou=people,ou=servicegroups,${base}`;
  const personSeal = (name: string, uid: number, changes: Partial<PersonSeal> = {}): string =>
    signPayload(
      formatSeal({
        ...{ kind: 'person', realm, name, uid, home: `/home/${name}`, shell: '/bin/bash' },
        ...{ state: 'active', member: true, keys: [newKey()], number: 1, until: nextWeek() },
        ...changes,
      }),
      key,
    );
  const toolSeal = (tool: string, uid: number, changes: Partial<ToolSeal> = {}): string =>
    signPayload(
      formatSeal({
        ...{ kind: 'tool', realm, name: `${realm}.${tool}`, uid, home: `/data/project/${tool}` },
        ...{ shell: '/bin/bash', state: 'active', gecos: '', members: [] },
        ...{ number: 1, until: nextWeek() },
        ...changes,
      }),
      key,
    );
  const entry = (dn: string, name: string, uid: number, home: string, seal: string) =>
    [
      `dn: ${dn}`,
      'changetype: add',
      ...['person', 'posixAccount', 'chamberlainSealed'].map((each) => `objectClass: ${each}`),
      ...[line('uid', name), line('cn', name), line('sn', name), `uidNumber: ${uid}`],
      ...[`gidNumber: ${dn === personDn(name) ? ids.realmGid : uid}`, line('homeDirectory', home)],
      ...(seal === '' ? [] : [line('chamberlainSeal', seal)]),
      '',
      '',
    ].join('\n');
  return {
    personDn,
    toolDn,
    personUid: (n: number) => (ids.people[1]?.first ?? 0) + n,
    toolUid: (n: number) => (ids.tools[0]?.first ?? 0) + n,
    personSeal,
    toolSeal,
    /** '': without a seal */
    addPerson: (name: string, uid: number, seal = personSeal(name, uid)) =>
      entry(personDn(name), name, uid, `/home/${name}`, seal),
    addTool: (tool: string, uid: number, seal = toolSeal(tool, uid)) =>
      entry(toolDn(`${realm}.${tool}`), `${realm}.${tool}`, uid, `/data/project/${tool}`, seal),
    /** Gives an entry another seal, or none. */
    reseal: (dn: string, seal: string | Buffer | undefined) =>
      modify(dn, ['replace', 'chamberlainSeal', ...(seal === undefined ? [] : [seal])]),
    remove,
    heartbeat(changes: Partial<Marker> = {}): string {
      const now = new Date().toISOString();
      const all = { kind: 'heartbeat', realm, at: now, clock: now, people: 0, tools: 0 } as const;
      return signMarker({ ...all, floors: [], ...changes }, key);
    },
    beat: (text: string) => modify(`cn=chamberlain,${base}`, ['replace', 'description', text]),
  };
}

// ---------------------------------------------------------------- who stands in the helper's place

interface RecordingHelper {
  path: string;
  /** every line of every report that was answered, in order, without `trouble` */
  lines(): ReportLine[];
  /** the last of those */
  trouble(): { server: string; why: string };
  /** what it now knows of each name: its seal, '' if it has none */
  known(): Map<string, string>;
  /** lines of a report that was answered, or not */
  reports: { at: number; lines: ReportLine[]; answered: boolean }[];
  /** its answer; undefined: it hangs up */
  answer: (lines: readonly ReportLine[]) => AnswerOf | Promise<AnswerOf>;
  /** Another run, which knows nothing. */
  restart(): Promise<void>;
  stop(): void;
  start(): Promise<void>;
}
type AnswerOf = Partial<ReportAnswer> | string | undefined;

function recordingHelper(path: string): RecordingHelper {
  let run = 1;
  let server: Server | undefined;
  const sockets = new Set<Socket>();
  let known = new Map<string, string>();
  let all: { token: string; named: Map<string, string> } | undefined;

  const take = ([word, name, text]: ReportLine) => {
    if (word === 'seal' || word === 'unsealed') {
      for (const each of [known, all?.named]) each?.set(name, text ?? '');
    } else if (word === 'gone') known.delete(name);
    else if (word === 'all' && text === 'begin') all = { token: name, named: new Map() };
    else if (word === 'all' && all?.token === name) known = all.named;
  };
  const serve = async (socket: Socket, text: string) => {
    const lines = text.split('\n').slice(0, -1).map(parseReportLine) as ReportLine[];
    const report = { at: performance.now(), lines, answered: false };
    helper.reports.push(report);
    const said = await helper.answer(lines);
    if (said === undefined) {
      socket.destroy();
      return;
    }
    report.answered = true;
    lines.forEach(take);
    const answer = { run: `run ${run}`, trusted: true, ...(typeof said === 'string' ? {} : said) };
    socket.end(typeof said === 'string' ? said : `${JSON.stringify(answer)}\n`);
  };
  const answered = () => helper.reports.flatMap((each) => (each.answered ? each.lines : []));
  const helper: RecordingHelper = {
    path,
    reports: [],
    lines: () => answered().filter(([word]) => word !== 'trouble'),
    trouble() {
      const [, where = '', why = ''] = answered().findLast(([word]) => word === 'trouble') ?? [];
      return { server: where, why };
    },
    known: () => known,
    answer: () => ({}),
    async restart() {
      run += 1;
      known = new Map();
      all = undefined;
      await Promise.resolve();
    },
    stop() {
      server?.close();
      for (const socket of sockets) socket.destroy();
      sockets.clear();
      rmSync(path, { force: true });
    },
    async start() {
      server = createServer({ allowHalfOpen: true }, (socket) => {
        sockets.add(socket);
        let text = '';
        socket.on('error', () => {}); // the reporting agent was stopped
        socket.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
        socket.on('end', () => void serve(socket, text));
      }).listen(path);
      await eventually('it listens', () => existsSync(path));
    },
  };
  return helper;
}

// ---------------------------------------------------------------- the world

export interface AgentWorld extends ReturnType<typeof sealedEntries> {
  world: World;
  helper: RecordingHelper;
  /** uris in the order in which they are tried; by default slapd's */
  start(options?: { uris?: string[]; passwordFile?: string; compareMs?: number }): void;
  stop(): Promise<void>;
  agentPassword(): string;
  /** as the directory's administrator; `of` another server than the first */
  change(ldif: string, of?: World): Promise<void>;
  /** changes slapd's own configuration of the database */
  configure(change: [string, string, ...string[]]): void;
  close(): Promise<void>;
}

export async function openAgentWorld(name: string): Promise<AgentWorld> {
  const world = await openWorld(name, { needs: ['slapd'] });
  const { realm, ids, ldap, secrets } = world.config;
  const helper = recordingHelper(join(world.dir, 'helper.sock'));
  await helper.start();
  let agent: Agent | undefined;
  const stop = async () => {
    await agent?.close();
    agent = undefined;
  };
  const key = newSealKey();
  return {
    ...sealedEntries(world, key),
    world,
    helper,
    start({
      uris = [world.slapd.uri],
      passwordFile = join(secrets, 'ldap-keys-agent'),
      compareMs,
    } = {}) {
      const config: LoginHostConfig = {
        realm,
        realmGid: ids.realmGid,
        ids,
        ldap: { uris, base: ldap.base, passwordFile },
        offlineLimitSeconds: 86_400,
        homes: { people: '/home', tools: '/data/project' },
        knownBadKeys: [],
        sealKeys: [key.publicPem],
      };
      const log = openLog(process.env['CHAMBERLAIN_LOG_LEVEL'] ?? 'silent');
      agent = startAgent(config, log, { socket: helper.path }, compareMs);
    },
    stop,
    agentPassword: () => readFileSync(join(secrets, 'ldap-keys-agent'), 'utf8').trim(),
    change: (ldif, of = world) => changeDirectory(of, 'ldapmodify', ldif),
    configure(change) {
      const args = ['-Q', '-Y', 'EXTERNAL', '-H', world.slapd.uri];
      execFileSync('ldapmodify', args, {
        input: modify('olcDatabase={1}mdb,cn=config', change),
        stdio: ['pipe', 'ignore', 'pipe'],
      });
    },
    async close() {
      await stop();
      helper.stop();
      await world.close();
    },
  };
}

// ---------------------------------------------------------------- other servers

/** Another slapd of the same realm. It has what `like` copies from the first one, or only the seed. */
export async function openOther(world: World, name: string, like?: string): Promise<World> {
  const { ldap, realm, ids, secrets } = world.config;
  const slapd = slapdServer(join(world.dir, name), { base: ldap.base, realm, ids, secrets });
  const other = { ...world, slapd, config: { ...world.config, ldap: { ...ldap, uri: slapd.uri } } };
  await startServer(slapd);
  if (like !== undefined) await restore(other, like);
  return other;
}

/** Everything on a server, including operational attributes. */
export function backUp({ slapd }: World): string {
  return execFileSync('slapcat', ['-F', join(slapd.folder, 'config'), '-n', '1'], {
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  });
}

/** Replaces everything on a server by it, whatever the schema says. */
export async function restore({ slapd }: World, backup: string): Promise<void> {
  await stopServer(slapd);
  const data = join(slapd.folder, 'data');
  for (const file of readdirSync(data)) rmSync(join(data, file));
  const unchecked = ['-q', '-o', 'schema-check=no'];
  execFileSync('slapadd', [...unchecked, '-F', join(slapd.folder, 'config'), '-n', '1'], {
    input: backup,
    stdio: ['pipe', 'ignore', 'pipe'],
  });
  await startServer(slapd);
}

/** A proxy between the agent and a server. */
export function openProxy(world: World, name: string, { slapd } = world) {
  const to = decodeURIComponent(slapd.uri.replace(/^ldapi:\/\//, ''));
  const path = join(world.dir, `${name}.sock`);
  let cut: { at: string; done: () => void } | undefined;
  const connections: number[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    connections.push(performance.now());
    const upstream = connect(to);
    const end = () => [client, upstream].forEach((socket) => socket.destroy());
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on('error', end).on('close', end);
    }
    client.pipe(upstream);
    upstream.on('data', (data: Buffer) => {
      const at = cut === undefined ? -1 : data.indexOf(cut.at);
      client.write(at < 0 ? data : data.subarray(0, at));
      if (at < 0) return;
      setImmediate(end);
      cut?.done();
      cut = undefined;
    });
  }).listen(path);
  return {
    uri: `ldapi://${encodeURIComponent(path)}`,
    /** when it was connected to, by performance.now() */
    connections,
    /** Cuts the connection on which the server next sends this, before it; resolves when that was done. */
    cutAt: (at: string): Promise<void> => new Promise((done) => (cut = { at, done })),
    close() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
