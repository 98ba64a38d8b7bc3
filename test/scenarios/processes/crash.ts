/** `chamberlain work` killed again and again: the body of the tests, short and long. */
import { once } from 'node:events';
import type { ChildProcess } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from '@jest/globals';
import { startCli } from '../../cli/run-cli.ts';
import type { World } from '../../stack.ts';
import { within } from '../eventually.ts';
import { query } from '../outside.ts';
import { expectWhole, tool } from './outage.ts';
import type { Wish } from '../portal.ts';
import type { Running } from '../running.ts';

/** A pseudo-random sequence in [0, 1): the same for the same seed (mulberry32). */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Starts `chamberlain work` as a process of its own; returns when it reports that it is running. */
export async function startWorkers(
  { configFile, prefix = [] }: Pick<World, 'configFile'> & { prefix?: readonly string[] },
  args: readonly string[] = [],
  env: Record<string, string> = {},
): Promise<{ child: ChildProcess; log: string[] }> {
  const child = startCli(['work', ...args], { config: configFile, env, prefix });
  const log: string[] = [];
  let isWorking = false;
  const working = new Promise<void>((resolve, reject) => {
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      log.push(text);
      if (isWorking || !log.join('').includes('"msg":"working"')) return;
      isWorking = true;
      resolve();
    });
    child.once('exit', () => reject(new Error(`work has ended: ${log.join('')}`)));
  });
  await within('workers that say that they work', working);
  return { child, log };
}

/** Ends a process, and waits for its end. */
export async function endProcess(
  child: ChildProcess,
  signal: NodeJS.Signals,
): Promise<number | null> {
  if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
  const exited = once(child, 'exit') as Promise<[number | null]>;
  child.kill(signal);
  return (await within(`the end of a process by ${signal}`, exited))[0];
}

/**
 * Sends `toolsPerRound` new tools (and a rotation of an older one) in each round, and kills the workers at some
 * moment. In the end everything must be complete, each request with one verdict and its events.
 */
export async function surviveCrashes(
  running: Running,
  { rounds, toolsPerRound, seed }: { rounds: number; toolsPerRound: number; seed: number },
): Promise<void> {
  const { world, portal } = running;
  const random = randomFrom(seed);
  const names: string[] = [];
  const ids: { id: string; told: string[] }[] = [];
  const send = async (wish: Wish, event: string) => {
    const id = await portal.send(wish);
    ids.push({ id, told: ['request.accepted', event, 'request.done'] });
  };
  for (let round = 0; round < rounds; round += 1) {
    // no order is guaranteed between a tool and a rotation that has not waited for it
    const ready = portal.heard.flatMap(({ event, data }) =>
      event === 'tool.ready' ? [data['tool'] as string] : [],
    );
    const old = ready.filter((name) => name.startsWith('crash-'))[
      Math.floor(random() * ready.length)
    ];
    if (old !== undefined) {
      const rotation = { kind: 'credentials.rotate', requestedBy: 'alice', tool: old };
      await send(rotation, 'credentials.rotated');
    }
    for (let n = 0; n < toolsPerRound; n += 1) {
      const name = `crash-${round}-${n}`;
      names.push(name);
      await send(tool(name), 'tool.ready');
    }
    const { child } = await startWorkers(world);
    await sleep(random() * 800); // the moment is what is tested
    await endProcess(child, 'SIGKILL');
  }
  const { child } = await startWorkers(world);
  try {
    for (const { id } of ids) await portal.finish(id);
    for (const { id, told } of ids) expect(portal.told(id)).toEqual(told);
    const verdicts = await query(
      world,
      'SELECT FROM requests WHERE jti = ANY ($1) GROUP BY jti HAVING count(*) <> 1',
      [ids.map(({ id }) => id)],
    );
    expect(verdicts).toEqual([]);
    await expectWhole(running, names);
  } finally {
    expect(await endProcess(child, 'SIGTERM')).toBe(0);
  }
}
