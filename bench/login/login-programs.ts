/**
 * The login helper and the keys agent among all people and tools: how soon everything is complete, and what they
 * take at rest.
 */
import { spawn } from 'node:child_process';
import { createPublicKey, sign, verify } from 'node:crypto';
import { mkdtempSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { run } from '../../dev/servers/daemon.ts';
import { type Figure, judge, quantile } from '../tools/figure.ts';
import { LOGIN_GOALS, type LoginOptions } from '../goals.ts';
import type { LoginRealm } from './login-realm.ts';
import { requireFiles, startCold, startFilled } from './login-start.ts';
import { personName } from '../population/population-names.ts';
import type { Population } from '../population/population.ts';
import { cpuSeconds, peakMemoryMib, type Rest, untilQuiet, watchRest } from '../tools/processes.ts';
import type { Closers } from '../realm.ts';

interface Both<T> {
  helper: T;
  agent: T;
}

/** The figures of starts, memory and rest. Afterwards both are running, and everything is complete. */
export async function measurePrograms(
  realm: LoginRealm,
  { size, say, show, void: why }: LoginOptions,
  closers: Closers,
): Promise<Figure[]> {
  const starts: number[] = [];
  const writes: number[] = [];
  for (let n = 0; n < size.coldStarts; n++) {
    say(`cold start ${n + 1} of ${size.coldStarts}`);
    // alternating, because the disk may be busy with writes that others have left to it
    writes.push(writeFiles(realm, size.people));
    starts.push(await startCold(realm, size));
  }
  requireFiles(realm, size);
  await untilBothQuiet(realm);
  const startSeconds = ofBoth(realm, cpuSeconds);
  say(`at rest for ${size.restMs / 1000} s`);
  const watched = ofBoth(realm, (pid) => watchRest(pid, size.restMs));
  const rest = { helper: await watched.helper, agent: await watched.agent };
  const restarts: number[] = [];
  for (let n = 0; n < size.restarts; n++) {
    say(`restart ${n + 1} of ${size.restarts}`);
    restarts.push(await startFilled(realm, size));
    await untilBothQuiet(realm);
  }
  const restartMib = ofBoth(realm, peakMemoryMib);
  say('the time of the directory, the disk and the processors alone');
  const floor = {
    ...(await measureNode(realm, size.floorRestMs, closers)),
    readMs: await readSeals(realm),
    verifyMs: await verifySeals(realm, size),
    writeMs: quantile(writes, 0.5),
  };
  show(renderPrograms({ starts, startSeconds, restarts, restartMib, rest, floor }));
  const sum = (of: keyof Rest) => rest.helper[of] + rest.agent[of];
  const startFloor = Math.max(floor.readMs, floor.verifyMs, floor.writeMs) + floor.nodeMs;
  return [
    judge(LOGIN_GOALS.coldStart, { value: quantile(starts, 0.5), floor: startFloor, void: why }),
    judge(LOGIN_GOALS.restart, {
      value: quantile(restarts, 0.5),
      floor: floor.readMs + floor.nodeMs,
      void: why,
    }),
    judge(LOGIN_GOALS.resident, {
      value: Math.max(sum('peakBeforeMib'), sum('peakMib'), restartMib.helper + restartMib.agent),
      floor: floor.mib,
      void: why,
    }),
    judge(LOGIN_GOALS.rest, { value: sum('cpuPercent'), floor: floor.cpuPercent, void: why }),
  ];
}

function ofBoth<T>({ host }: LoginRealm, look: (pid: number) => T): Both<T> {
  const of = (name: keyof Both<T>) => {
    const pid = host[name].pid();
    if (pid === undefined) throw new Error(`the ${name} is not running`);
    return look(pid);
  };
  return { helper: of('helper'), agent: of('agent') };
}

async function untilBothQuiet(realm: LoginRealm): Promise<void> {
  const { helper, agent } = ofBoth(realm, untilQuiet);
  await Promise.all([helper, agent]);
}

// ---- what the machine alone takes ---------------------------------------------------------------

interface Floor {
  /** a Node program has asked the directory for one thing */
  nodeMs: number;
  /** of a Node program that asks for the contextCSN as often as the agent, and of one that does nothing */
  cpuPercent: number;
  mib: number;
  /** ldapsearch has read every seal */
  readMs: number;
  /** as many signatures have been verified on all processors */
  verifyMs: number;
  /** a plain loop has written as many files, in the median */
  writeMs: number;
}

async function measureNode(
  { slapd, base, realm, secrets }: LoginRealm,
  restMs: number,
  closers: Closers,
): Promise<Pick<Floor, 'nodeMs' | 'cpuPercent' | 'mib'>> {
  const start = (...words: string[]) => {
    const node = spawn(process.execPath, words, { stdio: ['ignore', 'pipe', 'inherit'] });
    closers.push(() => Promise.resolve(void node.kill()));
    return node;
  };
  const script = join(import.meta.dirname, 'login-floor.ts');
  const begin = performance.now();
  const poller = start(script, slapd.tcpUri(), base, realm, join(secrets, 'ldap-keys-agent'));
  await new Promise<void>((resolve, reject) => {
    poller.stdout.once('data', () => resolve());
    poller.once('exit', () => reject(new Error('login-floor.ts ended')));
  });
  const nodeMs = performance.now() - begin;
  const idle = start('--eval', 'setInterval(() => {}, 60_000)');
  const rests = await Promise.all([poller, idle].map(({ pid = 0 }) => watchRest(pid, restMs)));
  poller.kill();
  idle.kill();
  const sum = (of: keyof Rest) => rests.reduce((all, rest) => all + rest[of], 0);
  return { nodeMs, cpuPercent: sum('cpuPercent'), mib: sum('peakMib') };
}

async function readSeals({ slapd, base, secrets }: LoginRealm): Promise<number> {
  const begin = performance.now();
  for (const place of ['ou=people', 'ou=people,ou=servicegroups']) {
    await run('/usr/bin/ldapsearch', [
      ...['-x', '-LLL', '-o', 'ldif-wrap=no', '-H', slapd.tcpUri(), '-E', 'pr=500/noprompt'],
      ...['-D', `cn=keys-agent,ou=chamberlain,${base}`, '-y', join(secrets, 'ldap-keys-agent')],
      ...['-s', 'one', '-b', `${place},${base}`, '(objectClass=*)', 'entryCSN', 'chamberlainSeal'],
    ]);
  }
  return performance.now() - begin;
}

async function verifySeals(
  { sealing }: LoginRealm,
  { people, tools }: Population,
): Promise<number> {
  const text = Buffer.alloc(SEAL_BYTES, 'x');
  const { privateKey } = sealing.key;
  const [publicKey, signature] = [createPublicKey(privateKey), sign(null, text, privateKey)];
  const verifyOne = promisify<boolean>((done) => verify(null, text, publicKey, signature, done));
  const begin = performance.now();
  for (let left = people + tools; left > 0; left -= VERIFIED_AT_ONCE) {
    await Promise.all(Array.from({ length: Math.min(left, VERIFIED_AT_ONCE) }, () => verifyOne()));
  }
  return performance.now() - begin;
}

/** Of a person with one key. */
const SEAL_BYTES = 330;
const VERIFIED_AT_ONCE = 500;

/** Writes as many files by a plain loop, into a folder next to the helper's; returns how long it took. */
function writeFiles({ places }: LoginRealm, people: number): number {
  const folder = mkdtempSync(join(places.keys, '../.floor-'));
  const text = 'x'.repeat(118); // expiry-time, type and base64 of one Ed25519 key
  const begin = performance.now();
  for (let n = 0; n < people; n++) {
    writeFileSync(`${folder}/.new`, text);
    renameSync(`${folder}/.new`, `${folder}/${personName(n)}`);
  }
  return performance.now() - begin;
}

function renderPrograms({
  starts,
  startSeconds,
  restarts,
  restartMib,
  rest,
  floor,
}: {
  starts: readonly number[];
  startSeconds: Both<number>;
  restarts: readonly number[];
  restartMib: Both<number>;
  rest: Both<Rest>;
  floor: Floor;
}): string {
  const ms = (value: number, what: string) => `${value.toFixed(0).padStart(8)}  ${what}`;
  const both = (of: (program: keyof Both<unknown>) => number, what: string) => {
    const [helper, agent] = [of('helper'), of('agent')];
    const row = [helper, agent, helper + agent].map((value) => value.toFixed(1).padStart(8));
    return `${row.join('')}  ${what}`;
  };
  return [
    'The login helper and the keys agent, ms:',
    ...starts.map((start) =>
      ms(start, 'a first start, until all files are complete and the directory is trusted'),
    ),
    ...restarts.map((restart) => ms(restart, 'a restart of both, until the directory is trusted')),
    ms(floor.nodeMs, 'the floor: a Node program asks the directory for one thing'),
    ms(floor.readMs, 'the floor: ldapsearch reads every seal'),
    ms(floor.verifyMs, 'the floor: as many signatures are verified, on all processors'),
    ms(floor.writeMs, 'the floor: a plain loop writes and renames as many key files'),
    '  helper   agent    both',
    both(
      (of) => startSeconds[of],
      's of processor time: the last first start, until both are at rest',
    ),
    both((of) => rest[of].peakBeforeMib, 'MiB resident, the peak at a first start'),
    both((of) => restartMib[of], 'MiB resident, the peak at a restart'),
    both((of) => rest[of].peakMib, 'MiB resident, the peak at rest'),
    both((of) => rest[of].endMib, 'MiB resident, at the end of the rest'),
    both((of) => rest[of].cpuPercent, '% of a core at rest'),
    `The floor of both: a Node program that asks for the contextCSN as often, and one that does nothing: ` +
      `${floor.mib.toFixed(1)} MiB, ${floor.cpuPercent.toFixed(2)} % of a core.`,
  ].join('\n');
}
