/**
 * A login helper within this process, with paths of its own, and an agent that reports to it what the test says.
 */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openLog } from '../../src/shared/log.ts';
import type { Marker } from '../../src/seals/heartbeat.ts';
import type { PersonSeal, ToolSeal } from '../../src/seals/seal.ts';
import type { LoginHostConfig } from '../../src/login-host/config.ts';
import { startHelper, type Helper } from '../../src/login-host/helper/helper.ts';
import type { Places } from '../../src/login-host/places.ts';
import type { ReportAnswer, ReportLine } from '../../src/login-host/report-lines.ts';
import { ACCEPT_FILE, readStatus, type LoginStatus } from '../../src/login-host/status.ts';
import { eventually } from '../scenarios/eventually.ts';
import { heartbeat, IDS, newSigner, sign, type Signer } from './seals.ts';

const GROUP = 'root:x:0:\nshadow:x:42:\nchamberlain-keys:x:19900:\nchamberlain-lookup:x:19901:\n';

export interface HelperWorld {
  readonly places: Places;
  readonly signer: Signer;
  readonly config: LoginHostConfig;
  /** what it has logged as warnings and errors */
  readonly logged: string[];
  start(): Promise<void>;
  /** Stops the helper as a signal does; the same files are there at the next start. */
  stop(): Promise<void>;
  close(): Promise<void>;
  /** Sends bytes as they are, half-closes, and returns the answer. */
  ask(bytes: string | Buffer): Promise<string>;
  tell(...lines: ReportLine[]): Promise<ReportAnswer>;
  seal(...seals: (PersonSeal | ToolSeal)[]): ReportLine[];
  beat(more?: Partial<Marker>): ReportLine;
  /** Everything, with a heartbeat that counts it. */
  all(...seals: (PersonSeal | ToolSeal)[]): Promise<ReportAnswer>;
  /** The text of a file; undefined if there is none. */
  read(path: string): string | undefined;
  key(name: string): string | undefined;
  list(name: 'passwd' | 'group' | 'shadow' | 'sudoers' | 'closed'): string | undefined;
  status(): LoginStatus;
  accept(): Promise<string[]>;
}

export function openHelperWorld(settings: Partial<LoginHostConfig> = {}): HelperWorld {
  const root = mkdtempSync(join(tmpdir(), 'chamberlain-helper-'));
  const at = (name: string) => join(root, name);
  const places: Places = {
    keys: at('keys'),
    login: at('login'),
    extrausers: at('extrausers'),
    sudoers: at('sudoers.d/chamberlain-tools'),
    socket: at('run/helper.sock'),
    passwd: at('passwd'),
    group: at('group'),
  };
  mkdirSync(places.extrausers);
  mkdirSync(at('sudoers.d'));
  writeFileSync(places.passwd, 'root:x:0:0::/root:/bin/sh\n');
  writeFileSync(places.group, GROUP);
  const signer = newSigner();
  const config: LoginHostConfig = {
    realm: 'tools',
    realmGid: 1500,
    ids: IDS,
    ldap: { uris: ['ldapi://%2Fnowhere'], base: 'dc=x', passwordFile: '/nowhere' },
    offlineLimitSeconds: 86_400,
    homes: { people: '/home', tools: '/data/project' },
    knownBadKeys: [],
    sealKeys: [signer.pem],
    ...settings,
  };
  const logged: string[] = [];
  const log = openLog('warn', { write: (line) => void logged.push(line) });
  let helper: Helper | undefined;
  let lastAt = 0;

  const ask = (bytes: string | Buffer): Promise<string> =>
    new Promise((done, fail) => {
      let answer = '';
      const socket = connect(places.socket);
      socket.setEncoding('utf8').on('data', (text) => (answer += String(text)));
      socket.once('error', fail).once('end', () => done(answer));
      socket.once('close', () => done(answer));
      socket.end(bytes);
    });

  const tell: HelperWorld['tell'] = async (...lines) => {
    const answer = await ask(lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
    return JSON.parse(answer) as ReportAnswer;
  };

  const seal: HelperWorld['seal'] = (...seals) =>
    seals.map((each) => ['seal', each.name, sign(each, signer)] as const);

  const beat: HelperWorld['beat'] = (more = {}) => {
    lastAt = Math.max(lastAt + 1, Date.now());
    const text = heartbeat(Date.now(), signer, { at: new Date(lastAt).toISOString(), ...more });
    return ['heartbeat', text];
  };

  const read = (path: string) => (existsSync(path) ? readFileSync(path, 'utf8') : undefined);
  const status = () => {
    const found = readStatus(places.login);
    if (found === undefined) throw new Error('there is no status');
    return found;
  };
  const start = async () => {
    helper = await startHelper(config, log, places);
  };
  const stop = async () => {
    await helper?.close();
    helper = undefined;
  };

  return {
    ...{ places, signer, config, logged, start, stop, ask, tell, seal, beat, read, status },
    async close() {
      await stop();
      rmSync(root, { recursive: true, force: true });
    },
    all: (...seals) =>
      tell(
        beat({
          people: seals.filter(({ kind }) => kind === 'person').length,
          tools: seals.filter(({ kind }) => kind === 'tool').length,
        }),
        ['all', 'token', 'begin'],
        ...seal(...seals),
        ['all', 'token', 'end'],
      ),
    key: (name) => read(join(places.keys, name)),
    list(name) {
      if (name === 'sudoers') return read(places.sudoers);
      return read(join(name === 'closed' ? places.login : places.extrausers, name));
    },
    async accept() {
      const file = join(places.login, ACCEPT_FILE);
      writeFileSync(file, '');
      await eventually('it is accepted', () => !existsSync(file));
      return status().accepted?.what ?? [];
    },
  };
}
