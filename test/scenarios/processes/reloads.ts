/**
 * Reloads under load: eight portals send requests to `chamberlain work intake relay` while the configuration is changed
 * and reloaded again and again, also when it is broken or the process is killed.
 *
 * Half of the time a portal is missing: what it has sent meanwhile waits. The portal `mixed` sends what neither of two
 * configurations accepts, but a mixture of both would: one has its key, and reserves the name; the other has neither.
 */
import type { ChildProcess } from 'node:child_process';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { Queue } from 'bullmq';
import { Redis } from 'ioredis';
import { parse, stringify } from 'yaml';
import { portalWith, type StackConfig } from '../../../dev/servers/config.ts';
import { openWorld, type World } from '../../stack.ts';
import { runCli, startCli } from '../../cli/run-cli.ts';
import { endProcess } from './crash.ts';
import { eventually } from '../eventually.ts';
import { query } from '../outside.ts';
import { newPortalKey, openPortal, type Portal } from '../portal.ts';

const SENDERS = ['p0', 'p1', 'p2', 'p3', 'p4', 'p5', 'p6'];
const identities = [...SENDERS, 'mixed'].map(newPortalKey);
const otherKey = newPortalKey('mixed').publicKey;
const MOST_MIXED = 2500;
const MOST_SAID = 4000;
/** So many reloads one after another that the process does not follow: it hangs. */
const MOST_BEHIND = 5;

export interface Realm {
  world: World;
  portals: readonly Portal[];
  work(): ChildProcess;
  /** The last that it has written. */
  said(): string;
  /** Waits until it has read the file with which it starts. */
  started(): Promise<void>;
  /** Ends the process that works as SIGKILL does, and starts another. */
  kill(): Promise<void>;
  /** Writes the file: as it was at first, with what this changes. */
  write(change: (config: StackConfig) => StackConfig): void;
  /** What waits in the queues of requests of a portal. */
  waiting(portal: string): Promise<number>;
  close(): Promise<void>;
}

export async function openReloads(name: string): Promise<Realm> {
  const world = await openWorld(name, {
    needs: ['postgres', 'redis'],
    portals: () =>
      identities.map((each) => ({
        ...portalWith(each.name, each.publicKey),
        subjectEvents: false,
      })),
  });
  await world.chamberlain('bootstrap', 'steward');
  const first = parse(readFileSync(world.configFile, 'utf8')) as StackConfig;
  const portals = identities.map((each) => openPortal(world, each));
  const redis = new Redis(world.redis.urlOf('owner'), { maxRetriesPerRequest: null });
  let said = '';
  let isStarted = false;
  const start = () => {
    isStarted = false;
    const started = startCli(['work', 'intake', 'relay'], { config: world.configFile });
    for (const stream of [started.stdout, started.stderr]) {
      stream?.on('data', (bytes: Buffer) => {
        said = (said + bytes.toString()).slice(-MOST_SAID);
        isStarted ||= said.includes(
          `"pid":${started.pid},"roles":["intake","relay"],"msg":"working"`,
        );
      });
    }
    return started;
  };
  let work = start();
  const end = async () => {
    const already = work.exitCode ?? work.signalCode;
    if (already !== null) {
      throw new Error(
        `the process has ended (${already}) before the test ended it; it has said: ${said}`,
      );
    }
    await endProcess(work, 'SIGKILL');
  };
  return {
    ...{ world, portals, work: () => work, said: () => said },
    async started() {
      await eventually('the process to start', async () => isStarted);
    },
    async kill() {
      await end();
      work = start();
    },
    write(change) {
      const next = `${world.configFile}.next`;
      writeFileSync(next, stringify(change(first)));
      renameSync(next, world.configFile);
    },
    async waiting(portal) {
      const queue = new Queue(`requests.${portal}`, { connection: redis });
      const counts = await queue.getJobCounts('wait', 'active', 'prioritized', 'delayed');
      await queue.close();
      return Object.values(counts).reduce((sum, count) => sum + count, 0);
    },
    async close() {
      await end();
      await Promise.all(portals.map((portal) => portal.close()));
      redis.disconnect();
      await world.close();
    },
  };
}

/** Every second configuration reserves the names of `mixed`; the others have another key of it, and lack one portal. */
function variant(n: number): (config: StackConfig) => StackConfig {
  if (n % 2 === 0) {
    const names = Array.from({ length: MOST_MIXED }, (_, of) => `mixed-${of}`);
    return (config) => ({ ...config, reservedNames: names });
  }
  return (config) => ({
    ...config,
    portals: config.portals
      .filter((each) => each.name !== SENDERS[((n - 1) / 2) % 3])
      .map((each) =>
        each.name === 'mixed' ? { ...each, keys: [{ kid: 'mixed-1', publicKey: otherKey }] } : each,
      ),
  });
}

export interface Outcome {
  sent: number;
  /** of the senders */
  accepted: number;
  refused: number;
  /** events of the senders that came in the wrong order, or not */
  disorder: readonly string[];
  /** what each portal was told of, in all */
  told: number;
  /** of `mixed` */
  mixed: { accepted: number; waiting: number };
  /** how reloads ended, by exit code; of a wrong file 2 */
  exits: Record<string, number>;
}

/** @param options.killAt kills the process after these reloads */
export async function reloadUnderLoad(
  realm: Realm,
  options: { each: number; reloads: number; killAt: readonly number[]; withinMs: number },
): Promise<Outcome> {
  const { world, portals } = realm;
  const { each, reloads, killAt, withinMs } = options;
  const exits: Record<string, number> = {};
  let isSent = false;
  let behind = 0;
  const reload = () => runCli(['reload'], { config: world.configFile });
  realm.write(variant(0));
  await reload();
  const sending = Promise.all(
    portals.map(async (portal) => {
      for (let n = 0; n < each; n += 1) {
        await portal.send(
          portal.name === 'mixed'
            ? { kind: 'person.create', requestedBy: `mixed-${n}`, shellName: `mixed-${n}`, displayName: 'x', email: 'x@example.org' } // prettier-ignore
            : { kind: 'person.update', requestedBy: 'steward', person: 'steward', displayName: `${portal.name} ${n}` }, // prettier-ignore
        );
      }
    }),
  ).finally(() => (isSent = true));
  for (let n = 1; n <= reloads || !isSent; n += 1) {
    const isWrong = n % 10 === 5;
    // a process that starts with a wrong file ends, as it should
    if (isWrong) await realm.started();
    realm.write(isWrong ? (config) => ({ ...config, reservedNames: ['Wrong!'] }) : variant(n));
    const { exit, out, err } = await reload();
    exits[String(exit)] = (exits[String(exit)] ?? 0) + 1;
    behind = exit === 3 ? behind + 1 : 0;
    if (isWrong !== (exit === 2) || behind === MOST_BEHIND) {
      throw new Error(
        `reload ${n} ended with ${exit}: ${out}${err}; the process has said: ${realm.said()}`,
      );
    }
    if (killAt.includes(n)) {
      realm.write(variant(n)); // a process that starts reads the whole file
      await realm.kill();
    }
  }
  await sending;
  realm.write(variant(0));
  await eventually('the last reload', async () => (await reload()).exit === 0);
  const sent = each * SENDERS.length;
  const read = async (text: string): Promise<number> =>
    Number((await query(world, text))[0]?.['count']);
  await eventually(
    'every verdict and every event',
    async () =>
      (await read(`SELECT count(*) FROM requests WHERE portal ~ '^p[0-9]'`)) >= sent &&
      (await realm.waiting('mixed')) === 0 &&
      portals.every(({ name, heard }) => name === 'mixed' || heard.length >= each),
    withinMs,
  );
  const senders = portals.filter(({ name }) => name !== 'mixed');
  const verdict = (name: string, of: string) =>
    read(`SELECT count(*) FROM requests WHERE portal ~ '${of}' AND verdict = '${name}'`);
  return {
    ...{ sent, exits },
    accepted: await verdict('accepted', '^p[0-9]'),
    refused: await verdict('refused', '^p[0-9]'),
    disorder: senders.flatMap(({ disorder }) => disorder),
    told: senders.reduce((sum, { heard }) => sum + heard.length, 0),
    mixed: { accepted: await verdict('accepted', '^mixed'), waiting: await realm.waiting('mixed') },
  };
}
