/** Starts of the login helper and the keys agent, timed. */
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Daemon } from '../../dev/servers/private-machine.ts';
import { type LoginStatus, readStatus } from '../../src/login-host/status.ts';
import { renderProfile } from '../tools/cpu-profile.ts';
import type { Population } from '../population/population.ts';
import type { LoginRealm } from './login-realm.ts';
import { keyLine, maintainersOf, personName, toolName } from '../population/population-names.ts';

const START_TIMEOUT_MS = 120_000;
const LOOK_EVERY_MS = 50;
/** The source without its types, as `install` leaves it. */
const COMPILED = 'compiled';

/** The programs to start: the host's own two, unless they should write a profile. */
export type Programs = Pick<LoginRealm['host'], 'helper' | 'agent'>;

/**
 * Starts both with nothing known. Returns the milliseconds until every file is right, by the time that the file
 * system records for the last of them, and the directory is trusted. (Watching for them would take a core from
 * the programs.)
 */
export async function startCold(
  realm: LoginRealm,
  population: Population,
  programs: Programs = realm.host,
): Promise<number> {
  const { places } = realm;
  await stop(programs);
  setAside(places.keys);
  for (const folder of [places.login, places.extrausers]) {
    for (const name of readdirSync(folder)) {
      if (name !== COMPILED) rmSync(join(folder, name), { recursive: true });
    }
  }
  rmSync(places.sudoers, { force: true });
  const { begin, trustedAt } = await start(realm, population, programs);
  const names = readdirSync(places.keys);
  if (names.length !== population.people) {
    throw new Error(`${names.length} files for ${population.people} people`);
  }
  const files = [
    ...names.map((name) => join(places.keys, name)),
    ...listsOf(realm).map(({ path }) => path),
  ];
  const last = files.reduce((max, path) => Math.max(max, statSync(path).ctimeMs), 0);
  return Math.max(last, trustedAt) - begin;
}

/**
 * The folder is not deleted: ext4 without a journal does not reuse inodes that were freed in the last minutes,
 * and skips all of them for each new file (fs/ext4/ialloc.c, recently_deleted).
 */
function setAside(folder: string): void {
  const aside = mkdtempSync(join(folder, '../.aside-'));
  for (const name of readdirSync(folder)) renameSync(join(folder, name), join(aside, name));
}

/** Ends both by SIGKILL and starts them again; returns the milliseconds until the directory is trusted. */
export async function startFilled(realm: LoginRealm, population: Population): Promise<number> {
  await stop(realm.host, 'SIGKILL');
  const { begin, trustedAt } = await start(realm, population, realm.host);
  return trustedAt - begin;
}

async function stop({ helper, agent }: Programs, signal?: NodeJS.Signals): Promise<void> {
  await Promise.all([helper.stop(signal), agent.stop(signal)]);
}

/**
 * When they were started, and when the directory was trusted: milliseconds since 1970. Returns once everybody
 * is there.
 */
async function start(
  realm: LoginRealm,
  { people, tools }: Population,
  { helper, agent }: Programs,
): Promise<{ begin: number; trustedAt: number }> {
  const begin = Date.now();
  await Promise.all([helper.start(), agent.start()]);
  const deadline = performance.now() + START_TIMEOUT_MS;
  for (;;) {
    const status = readStatus(realm.places.login);
    const isOfNow = status !== undefined && status.startedAt >= begin && status.trusted;
    if (isOfNow && isWhole(status, { people, tools })) {
      if (lacking(realm, { people, tools }) === undefined) {
        return { begin, trustedAt: trustedSince(helper, begin) };
      }
    }
    if (performance.now() > deadline) {
      const lists = lacking(realm, { people, tools });
      const said = `${JSON.stringify(status)} ${lists}\n${helper.log()}\n${agent.log()}`;
      throw new Error(`the login host does not become ready: ${said}`);
    }
    await sleep(LOOK_EVERY_MS);
  }
}

/** The status is written from time to time; the log has the exact moment. */
function trustedSince(helper: Daemon, begin: number): number {
  const times = helper
    .log()
    .split('\n')
    .filter((line) => line.includes('"the directory is trusted"'))
    .map((line) => Date.parse((JSON.parse(line) as { time: string }).time));
  const found = times.find((time) => time >= begin);
  if (found === undefined)
    throw new Error(`the helper does not log that it trusts the directory:\n${helper.log()}`);
  return found;
}

function isWhole({ people, tools, files }: LoginStatus, all: Population): boolean {
  return people === all.people && tools === all.tools && files === all.people;
}

/** The lists, and how many lines each has for us. */
function listsOf({ places, realm }: Pick<LoginRealm, 'places' | 'realm'>) {
  const extrausers = (name: string) => join(places.extrausers, name);
  return [
    { path: extrausers('passwd'), line: /^[^#\n]+$/gm, of: 'both' },
    { path: extrausers('shadow'), line: /^[^#\n]+$/gm, of: 'both' },
    { path: extrausers('group'), line: new RegExp(`^${realm}\\..+$`, 'gm'), of: 'tools' },
    { path: places.sudoers, line: new RegExp(`^%${realm}\\..+$`, 'gm'), of: 'tools' },
  ] as const;
}

/** Which list is not complete yet, in words; undefined if all are. */
function lacking(realm: LoginRealm, { people, tools }: Population): string | undefined {
  for (const { path, line, of } of listsOf(realm)) {
    if (!existsSync(path)) return `${path} does not exist`;
    const count = readFileSync(path, 'utf8').match(line)?.length ?? 0;
    const wanted = of === 'both' ? people + tools : tools;
    if (count !== wanted) return `${path} has ${count} lines instead of ${wanted}`;
  }
  return undefined;
}

/**
 * Throws if a file does not have the key with which the person was filled in, or a group not the members of its
 * tool. Checks some of them.
 */
export function requireFiles({ places, realm }: LoginRealm, population: Population): void {
  const { people, tools } = population;
  for (let n = 0; n < people; n += Math.ceil(people / 100)) {
    const text = readFileSync(join(places.keys, personName(n)), 'utf8');
    if (!text.includes(keyLine(n))) throw new Error(`the file of ${personName(n)} has other keys`);
  }
  const groups = readFileSync(join(places.extrausers, 'group'), 'utf8').split('\n');
  for (let n = 0; n < tools; n += Math.ceil(tools / 100)) {
    const line = groups.find((each) => each.startsWith(`${realm}.${toolName(n)}:`));
    const members = maintainersOf(n, population).map(personName).toSorted();
    if (line?.endsWith(`:${members.join(',')}`) !== true) {
      throw new Error(`the group of ${toolName(n)} has other members: ${line}`);
    }
  }
}

/** Starts once more with nothing known, with programs that write a profile. */
export async function profileStart(
  realm: LoginRealm,
  population: Population,
  profileDir: string,
): Promise<string> {
  const { machine, helper, agent } = realm.host;
  await stop(realm.host);
  const inside = '/run/bench-profile';
  const profiled = async (name: 'helper' | 'agent', user: string, command: string[]) => {
    const folder = `${inside}/${name}`;
    await machine.must(['/usr/bin/install', '-d', '-o', user, inside, folder]);
    return machine.daemon({
      name: `${name}-profiled`,
      command: () => [
        ...['/usr/bin/setpriv', `--reuid=${user}`, `--regid=${user}`, '--clear-groups'],
        ...['/usr/bin/env', `NODE_OPTIONS=--cpu-prof --cpu-prof-dir=${folder}`, ...command],
      ],
      answers: () => Promise.resolve(true),
    });
  };
  const programs = {
    helper: await profiled('helper', 'root', ['/usr/lib/chamberlain/login-helper']),
    agent: await profiled('agent', 'chamberlain-keys', ['/usr/sbin/keys-agent', 'run']),
  };
  await startCold(realm, population, programs);
  await stop(programs);
  cpSync(join(machine.root, inside), profileDir, { recursive: true });
  await Promise.all([helper.start(), agent.start()]);
  return (['helper', 'agent'] as const)
    .map((name) =>
      renderProfile(join(profileDir, name), {
        program: `the ${name}, from a start where nothing is known,`,
        clone: '/opt/chamberlain/',
      }),
    )
    .join('\n\n');
}
