/** Starts of the keys agent, timed. */
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Daemon } from '../dev/servers/private-machine.ts';
import { renderProfile } from './cpu-profile.ts';
import type { LoginRealm } from './login-realm.ts';
import { keyLine, personName } from './population-names.ts';

const START_TIMEOUT_MS = 120_000;

interface Status {
  pid: number;
  /** milliseconds since 1970 */
  at: number;
  trusted: boolean;
  files: number;
}

/**
 * Starts the agent on an empty folder: how many milliseconds until everybody's file is there, by the
 * time that the file system gives the last of them. (To watch for them would take a core from it.)
 */
export async function startCold(
  realm: LoginRealm,
  people: number,
  agent: Daemon = realm.host.agent,
): Promise<number> {
  const { keysFolder } = realm;
  await agent.stop();
  setAside(keysFolder);
  rmSync(stateFile(realm, 'state.json'), { force: true });
  const begin = await startAgent(realm, people, agent);
  const names = readdirSync(keysFolder);
  if (names.length !== people) throw new Error(`${names.length} files for ${people} people`);
  const last = names.reduce(
    (max, name) => Math.max(max, statSync(join(keysFolder, name)).ctimeMs),
    0,
  );
  return last - begin;
}

/**
 * Not deleted: ext4 without a journal gives no inode away again that was freed in the last minutes, and
 * passes over all of them for each new file (fs/ext4/ialloc.c, recently_deleted).
 */
function setAside(folder: string): void {
  const aside = mkdtempSync(join(folder, '../.aside-'));
  for (const name of readdirSync(folder)) renameSync(join(folder, name), join(aside, name));
}

/** Throws where a file has not the key with which the person was filled in. Looks at some of them. */
export function requireKeys({ keysFolder }: LoginRealm, people: number): void {
  for (let n = 0; n < people; n += Math.ceil(people / 100)) {
    const text = readFileSync(join(keysFolder, personName(n)), 'utf8');
    if (!text.includes(keyLine(n))) throw new Error(`the file of ${personName(n)} has other keys`);
  }
}

/** Ends the agent by SIGKILL and starts it again: how many milliseconds until it trusts what it has read. */
export async function startFilled(realm: LoginRealm, people: number): Promise<number> {
  await realm.host.agent.stop('SIGKILL');
  const begin = await startAgent(realm, people, realm.host.agent);
  return readStatus(realm).at - begin;
}

/** When it was started (milliseconds since 1970), once everybody has a file. */
async function startAgent(realm: LoginRealm, people: number, agent: Daemon): Promise<number> {
  // who asks for it looks through all processes; while there is none, it does not
  rmSync(stateFile(realm, 'status.json'), { force: true });
  const begin = Date.now();
  await agent.start();
  const deadline = performance.now() + START_TIMEOUT_MS;
  for (;;) {
    const status = readStatus(realm);
    if (status.trusted && status.files === people) return begin;
    if (performance.now() > deadline) {
      throw new Error(`the agent does not get there: ${JSON.stringify(status)}\n${agent.log()}`);
    }
    await sleep(50);
  }
}

function stateFile({ host }: LoginRealm, name: string): string {
  return join(host.machine.root, 'var/lib/chamberlain/agent', name);
}

function readStatus(realm: LoginRealm): Status {
  return JSON.parse(readFileSync(stateFile(realm, 'status.json'), 'utf8')) as Status;
}

/** Once more from an empty folder, by a process of its own that writes down what it does. */
export async function profileStart(
  realm: LoginRealm,
  people: number,
  profileDir: string,
): Promise<string> {
  const { machine, agent } = realm.host;
  await agent.stop();
  const inside = '/run/bench-profile';
  await machine.must(['/usr/bin/install', '-d', '-o', 'chamberlain-keys', inside]);
  const profiled = machine.daemon({
    name: 'keys-agent-profiled',
    command: () => [
      ...['/usr/bin/setpriv', '--reuid=chamberlain-keys', '--regid=chamberlain-keys'],
      ...['--clear-groups', '/usr/bin/env', `NODE_OPTIONS=--cpu-prof --cpu-prof-dir=${inside}`],
      ...['/usr/sbin/keys-agent', 'run'],
    ],
    answers: () => Promise.resolve(existsSync(stateFile(realm, 'status.json'))),
  });
  await startCold(realm, people, profiled);
  await profiled.stop();
  cpSync(join(machine.root, inside), profileDir, { recursive: true });
  return renderProfile(profileDir, {
    program: 'keys-agent, from its start on an empty folder,',
    clone: '/opt/chamberlain/',
  });
}
