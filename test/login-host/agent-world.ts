/**
 * A real directory with sealed people and tools in it, and the agent that follows it, in this process. In the
 * place of the root helper stands who only writes down what it is told.
 */
import { execFileSync } from 'node:child_process';
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { existsSync, rmSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { openLog } from '../../src/log.ts';
import { startAgent, type Agent } from '../../src/login-host/agent.ts';
import type { LoginHostConfig } from '../../src/login-host/config.ts';
import {
  parseReportLine,
  type ReportAnswer,
  type ReportLine,
} from '../../src/login-host/report-lines.ts';
import { signMarker, type Marker } from '../../src/model/marker.ts';
import {
  formatSeal,
  sealKeyId,
  signPayload,
  type PersonSeal,
  type SealKey,
  type ToolSeal,
} from '../../src/model/seal.ts';
import { eventually } from '../scenarios/eventually.ts';
import { changeDirectory } from '../scenarios/outside.ts';
import { openWorld, type World } from '../stack.ts';

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

/** A key of the directory role's, and its public half in PEM. */
export function newSealKey(): SealKey & { pem: string } {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  return { id: sealKeyId(publicKey), privateKey, pem: pemOf(publicKey) };
}

const pemOf = (key: KeyObject) => String(key.export({ type: 'spki', format: 'pem' }));

/** In a week, whole seconds. */
const nextWeek = () => new Date(Date.now() + 7 * 86_400_000).toISOString().replace(/\.\d+/, '');

/** The LDIF of a person, without a seal. */
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
  const entry = (dn: string, name: string, uid: number, home: string, seal: string | undefined) =>
    [
      `dn: ${dn}`,
      'changetype: add',
      ...['person', 'posixAccount', 'chamberlainSealed'].map((each) => `objectClass: ${each}`),
      ...[line('uid', name), line('cn', name), line('sn', name), `uidNumber: ${uid}`],
      ...[`gidNumber: ${dn === personDn(name) ? ids.realmGid : uid}`, line('homeDirectory', home)],
      ...(seal === undefined ? [] : [line('chamberlainSeal', seal)]),
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
    addPerson: (name: string, uid: number, seal: string | undefined = personSeal(name, uid)) =>
      entry(personDn(name), name, uid, `/home/${name}`, seal),
    addTool: (tool: string, uid: number, seal: string | undefined = toolSeal(tool, uid)) =>
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

export interface RecordingHelper {
  path: string;
  /** every line of every report that was answered, in order, without `trouble` */
  lines(): ReportLine[];
  /** the last of those */
  trouble(): { server: string; why: string };
  /** what it now knows of each name: its seal, '' where it has none */
  known(): Map<string, string>;
  /** lines of a report that was answered, or not */
  reports: { lines: ReportLine[]; answered: boolean }[];
  /** What it answers; undefined: it hangs up. */
  answer: (lines: readonly ReportLine[]) => AnswerOf | Promise<AnswerOf>;
  /** Another run, that knows nothing. */
  restart(): Promise<void>;
  stop(): void;
  start(): Promise<void>;
}
type AnswerOf = Partial<ReportAnswer> | string | undefined;

export function recordingHelper(path: string): RecordingHelper {
  let run = 1;
  let server: Server | undefined;
  const sockets = new Set<Socket>();
  let known = new Map<string, string>();
  let all: { token: string; named: Map<string, string> } | undefined;

  const take = (line: ReportLine) => {
    const [word, name, text] = line;
    if (word === 'seal' || word === 'unsealed') {
      for (const each of [known, all?.named]) each?.set(name, text ?? '');
    } else if (word === 'gone') known.delete(name);
    else if (word === 'all' && text === 'begin') all = { token: name, named: new Map() };
    else if (word === 'all' && all?.token === name) known = all.named;
  };
  const serve = async (socket: Socket, text: string) => {
    const lines = text.split('\n').slice(0, -1).map(parseReportLine) as ReportLine[];
    const report = { lines, answered: false };
    helper.reports.push(report);
    const said = await helper.answer(lines);
    if (said === undefined) {
      socket.destroy();
      return;
    }
    report.answered = true;
    for (const line of lines) take(line);
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
        socket.on('error', () => {}); // who told was ended
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
  /** uris in the order in which they are asked; by default slapd's */
  start(options?: { uris?: string[]; compareMs?: number }): void;
  stop(): Promise<void>;
  change(ldif: string, control?: string): Promise<void>;
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
    start({ uris = [world.slapd.uri], compareMs } = {}) {
      const config: LoginHostConfig = {
        realm,
        realmGid: ids.realmGid,
        ids,
        ldap: { uris, base: ldap.base, passwordFile: join(secrets, 'ldap-keys-agent') },
        offlineLimitSeconds: 86_400,
        homes: { people: '/home', tools: '/data/project' },
        knownBadKeys: [],
        sealKeys: [key.pem],
      };
      const log = openLog(process.env['CHAMBERLAIN_LOG_LEVEL'] ?? 'silent');
      agent = startAgent(config, log, { socket: helper.path }, compareMs);
    },
    stop,
    change: (ldif, control) => changeDirectory(world, 'ldapmodify', ldif, control),
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

// ---------------------------------------------------------------- what stands between

/** Stands between the agent and a server, and does harm. */
export function openProxy(world: World, name: string, target = world.slapd.uri) {
  const to = decodeURIComponent(target.replace(/^ldapi:\/\//, ''));
  const path = join(world.dir, `${name}.sock`);
  let cut: { at: Buffer; done: () => void } | undefined;
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const slapd = connect(to);
    const end = () => [client, slapd].forEach((socket) => socket.destroy());
    for (const socket of [client, slapd]) {
      sockets.add(socket);
      socket.on('error', end).on('close', end);
    }
    client.pipe(slapd);
    slapd.on('data', (data: Buffer) => {
      if (cut === undefined || !data.includes(cut.at)) {
        client.write(data);
        return;
      }
      end();
      cut.done();
      cut = undefined;
    });
  }).listen(path);
  return {
    uri: `ldapi://${encodeURIComponent(path)}`,
    /** Cuts the connection on which the server next sends this; resolves when that was done. */
    cutAt: (text: string): Promise<void> =>
      new Promise((done) => {
        cut = { at: Buffer.from(text), done };
      }),
    close() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
