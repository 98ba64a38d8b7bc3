/** A login host's agent and login helper killed again and again in the middle of changes: the body of the tests, short and long. */
import { readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from '@jest/globals';
import { runningPid, signalTree } from '../../stack.ts';
import { newKey } from '../../login-host/seals.ts';
import { randomFrom } from '../processes/crash.ts';
import { eventually } from '../eventually.ts';
import { openLogin, type Login, untilSound } from './login.ts';
import { settled } from '../outside.ts';
import type { Wish } from '../portal.ts';
import { difference, filesBySeals, filesOf, malformed } from '../drift/sealed-files.ts';

/** For these people, only keys change; for the others, everything changes. */
const STEADY = Array.from({ length: 20 }, (_, n) => `p${n}`);
const OTHERS = Array.from({ length: 20 }, (_, n) => `q${n}`);
const TOOLS = Array.from({ length: 8 }, (_, n) => `t${n}`);
/** Between two kills. */
const STRETCH = 10;

export async function openCrashing(name: string): Promise<Login> {
  const login = await openLogin(name, {
    adjust: (config) => ({ ...config, leaving: { mostSuspensionsPerHour: 10_000 } }),
  });
  await Promise.all(
    [...STEADY, ...OTHERS].map(async (person) => {
      await login.create(person);
      await login.admit(person);
    }),
  );
  for (const tool of TOOLS) {
    const wish = { kind: 'tool.create', requestedBy: 'steward', name: tool, title: tool };
    await login.portal.get({ ...wish, maintainers: OTHERS.slice(0, 3) });
  }
  return login;
}

/** Requests that change what login hosts know, one after another, most of which can be granted. */
function* wishes(random: () => number): Generator<Wish> {
  const pick = <T>(of: readonly T[]): T => of[Math.floor(random() * of.length)] as T;
  const keys = new Map<string, string[]>();
  const isOff = new Set<string>();
  for (let n = 0; ; n += 1) {
    const person = pick(n % 2 === 0 ? STEADY : OTHERS);
    const other = pick(OTHERS);
    const tool = pick(TOOLS);
    const own = keys.get(person) ?? [];
    const by = { requestedBy: 'steward' };
    const toggle = (what: string, on: string, off: string) =>
      isOff.delete(what) ? on : (isOff.add(what), off);
    const kind = n % 2 === 0 ? 0 : 1 + Math.floor(random() * 4);
    if (kind === 0) {
      const key = own.length > 2 ? own.shift() : undefined;
      if (key !== undefined) yield { kind: 'key.remove', requestedBy: person, person, key };
      else {
        const added = newKey();
        keys.set(person, [...own, added]);
        yield { kind: 'key.add', requestedBy: person, person, key: added };
      }
    } else if (kind === 1) {
      const verb = toggle(`access ${other}`, 'access.grant', 'access.revoke');
      yield { kind: verb, ...by, person: other };
    } else if (kind === 2) {
      const verb = toggle(`person ${other}`, 'person.reinstate', 'person.suspend');
      yield { kind: verb, ...by, person: other, reason: 'for the test' };
    } else if (kind === 3) {
      const verb = toggle(`${other} of ${tool}`, 'maintainer.add', 'maintainer.remove');
      yield { kind: verb, ...by, tool, person: other };
    } else {
      const verb = toggle(`tool ${tool}`, 'tool.enable', 'tool.disable');
      yield { kind: verb, ...by, tool, reason: 'for the test' };
    }
  }
}

/** What somebody who reads the files all the time would see. */
function watchFiles(login: Login): { faults: string[]; end(): Promise<number> } {
  const faults: string[] = [];
  let isOver = false;
  let looks = 0;
  /** by person, keys that were in the file, and those that no longer are */
  const seen = new Map<string, Set<string>>();
  const gone = new Map<string, Set<string>>();
  const look = () => {
    faults.push(...malformed(login));
    for (const person of STEADY) {
      const lines = login.keyFile(person).map((line) => line.split(' ').at(-1) ?? '');
      // the lowest valid seal number may arrive before the seal: for that moment there is no file
      if (lines.length === 0) continue;
      const wereSeen = seen.get(person) ?? new Set();
      const areGone = gone.get(person) ?? new Set();
      for (const key of wereSeen) if (!lines.includes(key)) areGone.add(key);
      for (const key of lines) if (areGone.has(key)) faults.push(`${person} has again ${key}`);
      seen.set(person, new Set(lines));
      gone.set(person, areGone);
    }
    looks += 1;
  };
  const watching = (async () => {
    while (!isOver) {
      look();
      await sleep(5);
    }
  })();
  return {
    faults,
    async end() {
      isOver = true;
      await watching;
      return looks;
    },
  };
}

const equal = (login: Login) =>
  eventually('files that say what the seals say', async () => {
    const unlike = difference(filesOf(login), await filesBySeals(login));
    if (unlike === undefined) return true;
    throw new Error(unlike);
  });

/** Kills agent, helper, or both, in turn, after every ten of `changes`; in the end all files must equal the seals. */
export async function surviveKills(login: Login, changes: number, seed: number): Promise<void> {
  const { agent, helper } = login.host;
  const random = randomFrom(seed);
  const asked = wishes(random);
  const victims = [[agent], [helper], [agent, helper]];
  const restarts: number[] = [];
  const watch = watchFiles(login);
  let looks = 0;
  try {
    for (let round = 0; round < changes / STRETCH; round += 1) {
      for (let n = 0; n < STRETCH; n += 1) {
        const { value } = asked.next();
        await login.portal.send(value as Wish);
      }
      await sleep(random() * 400); // the moment is what is tested
      const killed = victims[round % victims.length] ?? [];
      for (const one of killed) await one.stop('SIGKILL');
      const began = performance.now();
      await helper.start();
      await agent.start();
      restarts.push(performance.now() - began);
    }
    await settled(login.world, 120_000);
    await equal(login);
  } finally {
    looks = await watch.end();
  }
  expect(watch.faults).toEqual([]);
  await untilSound(login);
  restarts.sort((a, b) => a - b);
  const [median, slowest] = [restarts[restarts.length >> 1], restarts.at(-1)].map((ms) =>
    Math.round(ms ?? Infinity),
  );
  process.stdout.write(
    `killed ${restarts.length} times in ${changes} changes (seed ${seed}): up again after ` +
      `${median} ms (median), ${slowest} ms (slowest); ${looks} looks\n`,
  );
}

/** While the directory is away, the helper alone writes all files again from what it has kept. */
export async function surviveLossOfFiles(login: Login): Promise<void> {
  const { machine, agent, helper } = login.host;
  const mustBe = await filesBySeals(login);
  for (const one of [agent, helper]) await one.stop('SIGKILL');
  for (const folder of ['var/lib/extrausers', 'var/lib/chamberlain/keys']) {
    for (const name of readdirSync(join(machine.root, folder))) {
      rmSync(join(machine.root, folder, name));
    }
  }
  rmSync(join(machine.root, 'etc/sudoers.d/chamberlain-tools'));
  rmSync(join(machine.root, 'var/lib/chamberlain/login/closed'));
  const slapd = runningPid(login.world.slapd) ?? 0;
  signalTree(slapd, 'SIGSTOP');
  try {
    await helper.start();
    await eventually('all files', () => difference(filesOf(login), mustBe) === undefined);
  } finally {
    signalTree(slapd, 'SIGCONT');
    await agent.start();
  }
}
