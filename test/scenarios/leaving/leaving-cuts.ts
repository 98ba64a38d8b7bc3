/**
 * Kills the workers at each action of a role during each move of a subject that leaves; other workers continue.
 * In the end everything is as if none had been killed, and at no moment is anything gone that is not archived.
 * Shared by the short and the long tests.
 */
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from '@jest/globals';
import { Queue } from 'bullmq';
import { Redis } from 'ioredis';
import { slowQueue } from '../../../src/backends/redis/queue.ts';
import type { Role } from '../../../src/reconcile/wanted.ts';
import type { World, WorldOptions } from '../../stack.ts';
import type { Cut, Order } from '../processes/dying-work.ts';
import { eventually, within } from '../eventually.ts';
import { fill, snapshotOf, treasureOf, type Treasure } from './leaving-snapshot.ts';
import {
  archivesOf,
  askDeletion,
  isWhole,
  LEAVING_ROLES,
  type LeavingWorld,
  owedOf,
  stateOf,
  type Subject,
  withdrawnIn,
} from './leaving-world.ts';
import { homeOf, query, settled } from '../outside.ts';

const PROGRAM = join(import.meta.dirname, '../processes/dying-work.ts');

/** A process of workers: started, told where to die, or ended. */
interface DyingWork {
  child: ChildProcess;
  tell(order: Order): Promise<void>;
  /** Returns when it is dead. */
  death: Promise<void>;
}

function startDyingWork(world: World, logFile: string): DyingWork {
  const child = fork(PROGRAM, [world.configFile, logFile], { stdio: 'inherit', execArgv: [] });
  const death = once(child, 'exit').then(() => undefined);
  /** Its next message. */
  const heard = (): Promise<unknown> =>
    Promise.race([
      once(child, 'message'),
      death.then(() => {
        throw new Error('workers died that nobody has told to');
      }),
    ]);
  const ready = heard();
  ready.catch(() => {}); // it is thrown when it is told something
  return {
    child,
    death,
    async tell(order) {
      await within('workers that can be told something', ready);
      const told = heard();
      child.send(order);
      await within('the answer of workers', told);
    },
  };
}

/** A move: how a subject comes to its beginning, how it is started, and when it is over. */
interface Move {
  kind: 'tool' | 'person';
  /** before anything is killed */
  prepare?(cuts: Cuts, subject: Subject): Promise<void>;
  /** after `prepare`, something is not applied */
  leavesWork?: true;
  begin(cuts: Cuts, subject: Subject): Promise<void>;
  /** the state that it ends in */
  ends: string;
  /** whether it is over, for a move that ends in the state that it begins in */
  isMade?(cuts: Cuts, subject: Subject): Promise<boolean>;
}

const asTool = (kind: string, more: object = {}) => ({
  begin: async ({ leaving }: Cuts, { name }: Subject) =>
    void (await leaving.portal.send({ kind, requestedBy: 'alice', tool: name, ...more })),
});
const asAdmin = (kind: string, more: object = {}) => ({
  begin: async ({ leaving }: Cuts, { name, leaver }: Subject) => {
    const of = 'tool' in leaver ? { tool: name } : { person: name };
    await leaving.portal.send({ kind, requestedBy: 'steward', ...of, ...more });
  },
});

type Ending = Pick<Move, 'ends' | 'isMade'>;

/** As long as it takes until everything that was requested is done. */
async function inPeace(cuts: Cuts, move: Ending & Pick<Move, 'begin'>, subject: Subject) {
  await move.begin(cuts, subject);
  await isOver(cuts, move, subject);
}

async function isOver(cuts: Cuts, { ends, isMade }: Ending, subject: Subject): Promise<void> {
  const { leaving } = cuts;
  if (isMade !== undefined) await eventually('the move', () => isMade(cuts, subject));
  await leaving.becomes(subject, ends);
  await settled(leaving.world, 60_000);
}

const goes: Pick<Move, 'begin' | 'ends'> = {
  begin: ({ leaving }, subject) => leaving.endGrace(subject),
  ends: 'deleted',
};
const disabled: Pick<Move, 'begin' | 'ends'> = {
  ...asTool('tool.disable', { reason: 'a trial' }),
  ends: 'disabled',
};
const suspended: Pick<Move, 'begin' | 'ends'> = {
  ...asAdmin('person.suspend', { reason: 'a trial' }),
  ends: 'suspended',
};

async function deleteTool(cuts: Cuts, subject: Subject): Promise<void> {
  await askDeletion(cuts.leaving, subject);
  await inPeace(cuts, goes, subject);
}

/** Sends the request, has it approved, and waits until all access is revoked. */
async function askPersonDeletion({ leaving }: Cuts, { name }: Subject): Promise<void> {
  const wish = { kind: 'person.delete', requestedBy: name, person: name };
  const id = await leaving.portal.send(wish);
  await leaving.portal.hear('request.waiting', id);
  await leaving.askAsAdmin({ kind: 'request.approve', request: id });
  await leaving.portal.hear('request.done', id);
}

const restored: Pick<Move, 'begin' | 'ends'> = { ...asAdmin('tool.restore'), ends: 'active' };

/** The archives have been kept for long enough. */
const expires: Pick<Move, 'begin' | 'isMade'> = {
  async begin({ leaving }, { uid }) {
    await query(
      leaving.world,
      `UPDATE archivals SET keep_until = now() - interval '1 min' WHERE subject = $1`,
      [uid],
    );
  },
  async isMade({ leaving }, { uid }) {
    const rows = await query(
      leaving.world,
      'SELECT FROM archivals WHERE subject = $1 AND expired_at IS NOT NULL',
      [uid],
    );
    return rows.length > 0;
  },
};

/** For each subject, what ends the hold on its role. */
const releases = new Map<number, () => Promise<void>>();

/** By name of the move. */
export const MOVES: Record<string, Move> = {
  suspend: { kind: 'person', ...suspended },
  reinstate: {
    kind: 'person',
    prepare: (cuts, subject) => inPeace(cuts, suspended, subject),
    ...asAdmin('person.reinstate'),
    ends: 'active',
  },
  'delete a person': { kind: 'person', prepare: askPersonDeletion, ...goes },
  'restore a person': {
    kind: 'person',
    async prepare(cuts, subject) {
      await askPersonDeletion(cuts, subject);
      await inPeace(cuts, goes, subject);
    },
    async begin({ leaving }, { name }) {
      const named = { displayName: `The ${name} again`, email: `${name}@example.org` };
      const wish = { kind: 'person.restore', requestedBy: 'steward', person: name, ...named };
      await leaving.portal.send(wish);
    },
    ends: 'active',
  },
  disable: { kind: 'tool', ...disabled },
  enable: {
    kind: 'tool',
    prepare: (cuts, subject) => inPeace(cuts, disabled, subject),
    ...asTool('tool.enable'),
    ends: 'active',
  },
  'delete a tool': {
    kind: 'tool',
    prepare: ({ leaving }, subject) => askDeletion(leaving, subject),
    ...goes,
  },
  'enable what is archived': {
    kind: 'tool',
    async prepare({ leaving }, subject) {
      await askDeletion(leaving, subject);
      // one archive exists, the other does not
      const release = await leaving.hold(subject, 'databases');
      await leaving.endGrace(subject);
      await eventually('one archive', async () => {
        return (await archivesOf(leaving.world, subject)).length === 1;
      });
      const wish = { kind: 'tool.enable', requestedBy: 'alice', tool: subject.name };
      const { verdict } = await leaving.portal.ask(wish);
      expect(verdict).toBe('accepted');
      // what this touches at once, or it would be counted among the actions of the move in some runs
      await eventually('the other roles', async () => {
        return (await owedOf(leaving.world, subject)).every((line) =>
          line.startsWith('databases '),
        );
      });
      releases.set(subject.uid, release);
    },
    leavesWork: true,
    begin: async (_, { uid }) => await releases.get(uid)?.(),
    ends: 'active',
  },
  restore: { kind: 'tool', prepare: deleteTool, ...restored },
  expire: { kind: 'tool', prepare: deleteTool, ...expires, ends: 'deleted' },
  'expire what came back': {
    kind: 'tool',
    async prepare(cuts, subject) {
      await deleteTool(cuts, subject);
      await inPeace(cuts, restored, subject);
    },
    ...expires,
    ends: 'active',
  },
};

/** In a world in which each trial suspends somebody. */
export const OPTIONS: WorldOptions = {
  adjust: (config) => ({ ...config, leaving: { mostSuspensionsPerHour: 1000 } }),
};

export interface Cuts {
  leaving: LeavingWorld;
  /** What roles did in a move in which nothing was killed, and the result. */
  run(name: string): Promise<Run>;
  /** The same, with the workers killed there, and others going on. */
  runCut(name: string, cut: Cut, whole: Run): Promise<void>;
  close(): Promise<void>;
}

export interface Run {
  actions: Record<Role, string[]>;
  snapshot: string[];
}

export async function openCuts(leaving: LeavingWorld): Promise<Cuts> {
  const { world } = leaving;
  await leaving.stopWork();
  const redis = new Redis(world.config.redis.url, { maxRetriesPerRequest: null });
  redis.on('error', () => {});
  const logFile = join(world.dir, 'actions');
  let count = 0;
  let working = startDyingWork(world, logFile);
  await working.tell({ start: LEAVING_ROLES });
  // start the next process early, so that no test waits for its start
  let next = startDyingWork(world, logFile);

  /** With names of the same length, so that nothing in a snapshot changes its order. */
  async function make({ kind }: Move): Promise<Subject> {
    const name = `cut-${String((count += 1)).padStart(4, '0')}`;
    if (kind === 'tool') return leaving.makeTool(name, { maintainers: ['bob'] });
    await admitOne(leaving, name);
    await leaving.makeTool(`${name}-t`, { maintainers: [name] });
    return leaving.find({ person: name });
  }

  async function begun(move: Move): Promise<{ subject: Subject; treasure: Treasure }> {
    const subject = await make(move);
    await fill(world, subject);
    const treasure = await treasureOf(world, subject);
    await move.prepare?.(cuts, subject);
    if (move.prepare !== undefined && move.leavesWork !== true) await settled(world);
    // the second passwords that earlier suspensions have left for later: actions for others, in between
    await query(world, 'UPDATE credentials SET again_at = NULL, again_by = NULL');
    return { subject, treasure };
  }

  const cuts: Cuts = {
    leaving,
    async run(name) {
      const move = MOVES[name] as Move;
      const { subject, treasure } = await begun(move);
      rmSync(logFile, { force: true });
      await inPeace(cuts, move, subject);
      await expectNothingLost(world, subject, treasure);
      const done = existsSync(logFile) ? readFileSync(logFile, 'utf8').trim().split('\n') : [];
      const of = (role: Role) =>
        done.filter((line) => line.startsWith(`${role} `)).map((line) => line.split(' ')[1] ?? '');
      return {
        actions: { directory: of('directory'), homes: of('homes'), databases: of('databases') },
        snapshot: await snapshotOf(world, subject),
      };
    },
    async runCut(name, cut, whole) {
      const move = MOVES[name] as Move;
      const { subject, treasure } = await begun(move);
      await working.tell({ cut });
      // its answers may not come if the workers die on the way
      const beginning = move.begin(cuts, subject);
      const death = eventually('the death of the workers', () => working.child.signalCode, 30_000);
      await Promise.all([death, beginning]);
      await expectNothingLost(world, subject, treasure);
      // BullMQ returns active jobs of slow work after 10 s; here they are asked for at once, as after a flush
      for (const role of ['homes', 'databases']) await forgetQueue(redis, slowQueue(role));
      working = next;
      await working.tell({ start: LEAVING_ROLES });
      next = startDyingWork(world, logFile);
      await isOver(cuts, move, subject);
      await expectNothingLost(world, subject, treasure);
      expect(await snapshotOf(world, subject)).toEqual(whole.snapshot);
    },
    async close() {
      for (const { child, death } of [working, next]) {
        child.kill('SIGKILL');
        await death;
      }
      redis.disconnect();
    },
  };
  return cuts;
}

async function forgetQueue(redis: Redis, name: string): Promise<void> {
  const queue = new Queue(name, { connection: redis });
  await queue.obliterate({ force: true });
  await queue.close();
}

async function admitOne({ portal }: LeavingWorld, name: string): Promise<void> {
  const wish = { kind: 'person.create', requestedBy: name, shellName: name };
  await portal.get({ ...wish, displayName: `The ${name}`, email: `${name}@example.org` });
  await portal.get({ kind: 'access.grant', requestedBy: 'steward', person: name });
}

/** What is recorded is complete; and everything that is not recorded, or not to be destroyed, exists. */
async function expectNothingLost(
  world: World,
  subject: Subject,
  treasure: Treasure,
): Promise<void> {
  const archives = await archivesOf(world, subject);
  const [expired] = await query<{ expired: boolean }>(
    world,
    `SELECT expired_at IS NOT NULL AS expired FROM archivals
     WHERE subject = $1 AND back_at IS NULL`,
    [subject.uid],
  );
  if (expired?.expired === true) return;
  expect(archives.filter((each) => !isWhole(each))).toEqual([]);
  const state = await stateOf(world, subject);
  if (state === 'deleted') {
    expect(archives).toHaveLength(2);
    return;
  }
  const isIn = (role: string) => archives.some((each) => each.role === role);
  // what is being restored comes from its archive
  const [left = homeOf(world, subject.leaver)] = withdrawnIn(world, subject).filter((path) =>
    path.endsWith('.left'),
  );
  const now = await treasureOf(world, subject, left);
  if (!isIn('homes')) expect(now.home).toEqual(treasure.home);
  if (!isIn('databases')) expect(now.databases).toEqual(treasure.databases);
}

/** Each place in a move at which the workers can be killed. */
export function placesOf({ actions }: Run): (Cut & { verb: string })[] {
  return (Object.keys(actions) as Role[]).flatMap((role) =>
    actions[role].flatMap((verb, n) =>
      (['before', 'after'] as const).map((when) => ({ role, n, when, verb })),
    ),
  );
}
