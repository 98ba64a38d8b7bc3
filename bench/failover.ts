/**
 * How long a realm has no verdicts when the leading process fails, while another one waits:
 *
 *   killed    kill -9
 *   hung      SIGSTOP
 *   vanished  its machine vanishes from the network, with a notification on its way there
 *
 * The time runs until the portal receives the verdict on a request that it sends afterwards: by then another
 * process leads both intake and relay. The floor is the bare loss of a PostgreSQL session: until another
 * session, which waits for it, has a lock that the first one held. A session that hangs keeps its lock forever,
 * so its floor is that of one that is killed.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { openFarMachine, serveFarMachine } from '../dev/servers/far-machine.ts';
import { signal } from '../dev/servers/processes.ts';
import { readSecret } from '../src/shared/config.ts';
import { connectionSettings } from '../src/database/connection.ts';
import { type Figure, judge, quantile, voidIfFailed } from './tools/figure.ts';
import { FAILOVER_GOALS as GOALS, type FailoverOptions } from './goals.ts';
import { MAKER, toolRequest } from './idle.ts';
import type { Portal } from './portal.ts';
import { closeAll, type Closers, type MeasuredRealm, openWorking, type Work } from './realm.ts';

/** Every channel on which a leader listens. */
const NOTIFY = 'NOTIFY chamberlain; NOTIFY chamberlain_sweep';
const LOCK = 4711;

/** Measures all takeovers. */
export async function measureFailover(options: FailoverOptions): Promise<Figure[]> {
  const closers: Closers = [];
  try {
    return await Promise.race([measureAll(options, closers), options.interrupted]);
  } finally {
    await closeAll(closers);
  }
}

async function measureAll(
  { size, say, show, void: why, ...options }: FailoverOptions,
  closers: Closers,
): Promise<Figure[]> {
  say('starting servers');
  const { realm, portal, work } = await openWorking(options, closers);
  let leader = work;
  let asked = 0;
  const verdict = async (): Promise<number> => {
    const begin = performance.now();
    await askForVerdict(portal, `asked-${asked++}`);
    return performance.now() - begin;
  };

  /** Ends the leader in that way, again and again. Another process always waits, and leads the next time. */
  async function replace(what: string, count: number, how: NodeJS.Signals): Promise<number[]> {
    const samples: number[] = [];
    for (let n = 0; n < count; n++) {
      const next = await realm.startWork();
      await verdict();
      await sleep(Math.random() * 1000); // a lease is renewed once a second
      signal(leader.pid, how);
      samples.push(await verdict());
      say(`${what} ${n + 1} of ${count}: ${samples.at(-1)?.toFixed(0)} ms`);
      signal(leader.pid, 'SIGKILL');
      await leader.stop();
      leader = next;
    }
    return samples;
  }

  let killedFloor: number | undefined;
  const killed = await voidIfFailed([GOALS.killed], say, async () => {
    const floors: number[] = [];
    for (let n = 0; n < size.killed; n++) floors.push(await measureFloor(realm));
    killedFloor = quantile(floors, 0.99);
    const samples = await replace('killed', size.killed, 'SIGKILL');
    show(renderSamples('killed', samples));
    return [judge(GOALS.killed, { value: quantile(samples, 0.99), floor: killedFloor, void: why })];
  });
  const hung = await voidIfFailed([GOALS.hung], say, async () => {
    const samples = await replace('hung', size.hung, 'SIGSTOP');
    show(renderSamples('hung', samples));
    return [judge(GOALS.hung, { value: quantile(samples, 0.99), floor: killedFloor, void: why })];
  });
  await leader.stop();
  const vanished = await voidIfFailed([GOALS.vanished], say, async () => {
    const [samples, floors]: [number[], number[]] = [[], []];
    for (let n = 0; n < size.vanished; n++) {
      const one = await vanish(realm, verdict, closers);
      samples.push(one.ms);
      floors.push(one.floorMs);
      say(`vanished ${n + 1} of ${size.vanished}: ${one.ms.toFixed(0)} ms`);
    }
    show(renderSamples('vanished', samples));
    const [value, floor] = [Math.max(...samples), Math.max(...floors)];
    return [judge(GOALS.vanished, { value, floor, void: why })];
  });
  return [...killed, ...hung, ...vanished];
}

/** Returns when the portal has received the verdict on a request. */
async function askForVerdict(portal: Portal, name: string): Promise<void> {
  const request = await portal.sign(MAKER, toolRequest(name));
  const heard = portal.until(request.jti, 'request.accepted');
  await portal.send([request]);
  await heard;
}

/** A leader, and a session that holds a lock, on a machine that vanishes; another process waits here. */
async function vanish(
  realm: MeasuredRealm,
  verdict: () => Promise<number>,
  closers: Closers,
): Promise<{ ms: number; floorMs: number }> {
  const { place } = realm.stack;
  const far = await openFarMachine();
  closers.push(() => far.close());
  const configFile = join(place.dir, 'far.yaml');
  const folder = join(place.dir, 'certificates');
  await serveFarMachine(realm.stack, far, { folder, from: place.configFile, to: configFile });
  const works: Work[] = [];
  const client = await realm.connect();
  try {
    works.push(await realm.startWork({ configFile, prefix: far.prefix }));
    await verdict();
    works.push(await realm.startWork());
    const holder = await holdLock(realm, { host: far.here, prefix: far.prefix });
    const free = client.query(`SELECT pg_advisory_lock(${LOCK})`);
    free.catch(() => {}); // in case something else fails first
    await far.vanish();
    const begin = performance.now();
    const notifying = await realm.connect();
    await notifying.query(NOTIFY);
    await notifying.end();
    const floor = free.then(() => performance.now() - begin);
    const ms = await verdict();
    const floorMs = await floor;
    holder.kill('SIGKILL');
    return { ms, floorMs };
  } finally {
    await client.end();
    for (const work of works) {
      signal(work.pid, 'SIGKILL');
      await work.stop();
    }
  }
}

/** Milliseconds from kill -9 of a session until another, which waits for it, has the lock. */
async function measureFloor(realm: MeasuredRealm): Promise<number> {
  const client = await realm.connect();
  try {
    const holder = await holdLock(realm, { host: realm.stack.postgres.host, prefix: [] });
    const free = client.query(`SELECT pg_advisory_lock(${LOCK})`);
    const begin = performance.now();
    holder.kill('SIGKILL');
    await free;
    return performance.now() - begin;
  } finally {
    await client.end();
  }
}

/** A session of the owner that listens and holds a lock, with the settings of ours. */
async function holdLock(
  { config }: MeasuredRealm,
  { host, prefix }: { host: string; prefix: readonly string[] },
): Promise<ChildProcess> {
  const { user, database, options } = connectionSettings(config, 'owner');
  const password = readSecret(config, 'postgres', 'owner');
  const words = [...prefix, 'psql', '-qAt', '-h', host, '-U', user ?? '', database ?? ''];
  const [program = '', ...args] = words;
  const holder = spawn(program, args, {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, PGPASSWORD: password, PGOPTIONS: options },
  });
  holder.stdin.write(`LISTEN chamberlain; SELECT pg_advisory_lock(${LOCK}); SELECT 'held';\n`);
  for (let said = ''; !said.includes('held');) {
    const [text] = (await once(holder.stdout, 'data')) as [Buffer];
    said += text.toString();
  }
  return holder;
}

function renderSamples(what: string, samples: readonly number[]): string {
  const at = (share: number) => quantile(samples, share).toFixed(0);
  return `${what}, ${samples.length} times, ms until the next verdict: p50 ${at(0.5)}, max ${at(1)}`;
}
