/**
 * A survey of everything reads in bulk, and must say what looking at each subject by itself says, to the
 * byte: here of a world with every kind of drift in it. What it could not read to the end is UNREADABLE.
 *
 * The roles are the real ones; a test may stop one between two pieces of what it reads in bulk. It is a part of
 * drift.test.ts, whose world it leaves as it was.
 */
import { readSealKey } from '../../../src/shared/config.ts';
import { parseMarker, signMarker, type Marker } from '../../../src/seals/heartbeat.ts';
import { chmodSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { askRoles } from '../../../src/drift/asking.ts';
import { openLog } from '../../../src/shared/log.ts';
import type { Role } from '../../../src/reconcile/wanted.ts';
import { ROLES } from '../../../src/roles/index.ts';
import { renderPlan } from '../../../src/reconcile/render-plan.ts';
import { renderSurvey } from '../../../src/drift/render-survey.ts';
import { mergeReports, type Report } from '../../../src/reconcile/report.ts';
import { survey, type SubjectSurvey } from '../../../src/reconcile/engine.ts';
import { markerName, realmOf } from '../../../src/shared/config.ts';
import { openPool } from '../../../src/database/connection.ts';
import { readSubjects, readWanted } from '../../../src/reconcile/wanted-queries.ts';
import type { Throttle } from '../../../src/targets/everything.ts';
import { DATABASES } from '../../../src/roles/databases/worker.ts';
import { DIRECTORY } from '../../../src/roles/directory/worker.ts';
import { HOMES, openHomesMarkers } from '../../../src/roles/homes/worker.ts';
import { readMarkedAt } from '../../../src/seals/publish-place-markers.ts';
import type { Worker } from '../../../src/shared/loop.ts';
import { type RoleParts, startRole } from '../../../src/reconcile/role.ts';
import { watchingOf } from '../../../src/unmanaged/watch.ts';
import { endOf, startCli } from '../../cli/run-cli.ts';
import { administer, runningPid, signalTree, startServer, type World } from '../../stack.ts';
import { change } from './drift-case.ts';
import { type DriftWorld, ROLES as WORKING } from './drift-world.ts';
import { eventually } from '../eventually.ts';
import { query } from '../outside.ts';

let drift: DriftWorld;
let world: World;
const roles: Worker[] = [];

/** What happens after each piece that a role has read in bulk; by default nothing. */
const afterPiece = new Map<Role, (piece: number) => unknown>();
/** What happens when it has read all. */
const afterAllRead = new Map<Role, (pace: Throttle) => unknown>();

/** The role itself, but that it reads few at a time, and that a test hears of each piece. */
function heard<Reader, Open extends Reader>(
  parts: RoleParts<Reader, Open>,
): RoleParts<Reader, Open> {
  const { role } = parts;
  return {
    ...parts,
    async readEverything(reader, pace, reading) {
      let pieces = 0;
      const yieldTurn = async () => {
        await afterPiece.get(role)?.((pieces += 1));
        await pace.yieldTurn();
      };
      const everything = await parts.readEverything(reader, { piece: 40, yieldTurn }, reading);
      await afterAllRead.get(role)?.(pace);
      return everything;
    },
  };
}

const uidsOfAll = async () => {
  const rows = await query<{ uid: number }>(
    world,
    'SELECT uid FROM people UNION ALL SELECT uid FROM tools ORDER BY uid',
  );
  return rows.map(({ uid }) => uid);
};

async function ask(uids?: readonly number[], of: readonly Role[] = ROLES) {
  return await askRoles(world.config, uids, { roles: of, timeoutMs: 30_000 });
}

/** All that people and programs read of a report. */
function asRead(report: Report): string {
  return [
    renderSurvey(report, (text) => text),
    renderPlan(report, ''),
    JSON.stringify(report),
  ].join('\n');
}

function isDrifted({ steps, findings }: SubjectSurvey): boolean {
  return steps.length + findings.length > 0;
}

/** @param drifted the world, once there is drift in it; its servers are its own */
export function describeBulk(drifted: () => DriftWorld): void {
  beforeAll(async () => {
    drift = drifted();
    ({ world } = drift);
    await drift.stopWork();
    const log = openLog('silent');
    roles.push(
      startRole(heard(DIRECTORY), world.config, log),
      startRole(heard(HOMES), world.config, log),
      startRole(heard(DATABASES), world.config, log),
    );
  });

  afterEach(() => {
    afterPiece.clear();
    afterAllRead.clear();
  });

  afterAll(async () => {
    await Promise.all(roles.map((role) => role.close()));
    await drift.startWork(WORKING);
  });

  describe('a survey of everything', () => {
    test('it says the same as looking at few subjects at a time', async () => {
      const uids = await uidsOfAll();
      const slow: Report[] = [];
      for (let at = 0; at < uids.length; at += 30) {
        slow.push(...(await ask(uids.slice(at, at + 30))).values());
      }
      const fast = await ask();
      const whole = mergeReports([...fast.values()]);
      expect(whole.steps.length).toBeGreaterThan(80);
      expect(whole.findings.length).toBeGreaterThan(10);
      expect(whole.unreadable).toEqual([]);
      expect(whole.subjects).toBe(uids.length);
      expect(asRead(whole)).toBe(asRead({ ...mergeReports(slow), subjects: uids.length }));
    });

    test.each<[Role, () => Promise<void>]>([
      ['directory', () => expectSameInBulk(DIRECTORY)],
      ['homes', () => expectSameInBulk(HOMES)],
      ['databases', () => expectSameInBulk(DATABASES)],
    ])('what %s reads in bulk shows the same by itself, before it looks again', (_, look) =>
      look(),
    );

    async function expectSameInBulk<Reader, Open extends Reader>(
      parts: RoleParts<Reader, Open>,
    ): Promise<void> {
      const { role } = parts;
      const pool = openPool(world.config, `${role}_reader`, { max: 2, durable: false });
      const reader = parts.openReader(world.config);
      const realm = realmOf(world.config);
      try {
        const wanted = await readWanted(pool, role, await readSubjects(pool));
        const pace = { piece: 7, yieldTurn: async () => {} };
        const everything = await parts.readEverything(reader, pace, watchingOf(world.config, pool));
        const inBulk = await survey(parts.targets, wanted, realm, everything.reader);
        const direct = await survey(parts.targets, wanted, realm, reader);
        expect(inBulk.filter(isDrifted).length).toBeGreaterThan(10);
        expect(JSON.stringify(inBulk)).toBe(JSON.stringify(direct));
      } finally {
        await reader.close();
        await pool.end();
      }
    }

    test('two at once say the same', async () => {
      const [one, other] = await Promise.all([
        drift.ask('plan', '--all'),
        drift.ask('plan', '--all'),
      ]);
      expect(one.steps.length).toBeGreaterThan(80);
      expect(one).toEqual(other);
      expect(one.exit).toBe(3);
    });
  });

  describe('what changes between the reading and the look', () => {
    const shell = (to: string) =>
      drift.hand.ldif(change(drift.hand.neighbour.dn, ['replace', 'loginShell', to]));
    const ofNeighbour = async () => {
      const report = (await ask(undefined, ['directory'])).get('directory');
      return report?.steps.filter(({ subject }) => subject === drift.hand.neighbour.uid) ?? [];
    };

    test('drift that was mended meanwhile is none', async () => {
      await shell('/bin/false');
      afterAllRead.set('directory', () => shell('/bin/bash'));
      expect(await ofNeighbour()).toEqual([]);
    });

    test('drift that became another meanwhile is shown as it is now', async () => {
      await shell('/bin/false');
      afterAllRead.set('directory', () => shell('/bin/dash'));
      expect(JSON.stringify(await ofNeighbour())).toContain('/bin/dash');
      afterAllRead.set('directory', () => shell('/bin/bash'));
      expect(await ofNeighbour()).toEqual([]);
    });

    test('what became wanted and was made meanwhile is no drift', async () => {
      const { uid } = drift.hand.neighbour;
      const dn = `cn=${drift.hand.neighbour.account},ou=servicegroups,${drift.hand.base}`;
      const member = `uid=steward,ou=people,${drift.hand.base}`;
      afterAllRead.set('directory', async () => {
        await query(
          world,
          `INSERT INTO maintainers (tool, maintainer) SELECT $1, uid FROM people WHERE shell_name = 'steward'`,
          [uid],
        );
        await drift.hand.ldif(change(dn, ['add', 'member', member]));
      });
      // no verdict has given it the next seal
      const ofGroup = async () => (await ofNeighbour()).filter(({ target }) => target !== 'seal');
      expect(await ofGroup()).toEqual([]);
      // the look was at the new want indeed: without the value it is a step
      afterAllRead.clear();
      await drift.hand.ldif(change(dn, ['delete', 'member', member]));
      expect((await ofGroup()).map(({ target }) => target)).toEqual(['unix-group']);
      await drift.hand.ldif(change(dn, ['add', 'member', member]));
    });
  });

  describe('a server that fails in the middle of what is read in bulk', () => {
    const pid = (server: 'slapd' | 'replica') => {
      const found = runningPid(world[server]);
      if (found === undefined) throw new Error(`${server} does not run`);
      return found;
    };
    const everyStep = async (role: Role) => (await ask(undefined, [role])).get(role);

    test('a directory that hangs is UNREADABLE, and no step comes of it', async () => {
      afterPiece.set('directory', (piece) => {
        if (piece === 2) signalTree(pid('slapd'), 'SIGSTOP');
      });
      try {
        const report = await everyStep('directory');
        expect(report?.steps).toEqual([]);
        expect(new Set(report?.unreadable.map(({ target }) => target))).toEqual(
          new Set(DIRECTORY.targets.map(({ name }) => name)),
        );
        expect(report?.subjects).toBe((await uidsOfAll()).length);
      } finally {
        signalTree(pid('slapd'), 'SIGCONT');
      }
    });

    test('a directory that dies is UNREADABLE, and no step comes of it', async () => {
      afterPiece.set('directory', (piece) => {
        if (piece === 2) signalTree(pid('slapd'), 'SIGKILL');
      });
      try {
        const seen = await drift.ask('survey', '--role', 'directory');
        expect(seen).toMatchObject({ exit: 4, steps: [], findings: [] });
        expect(seen.unreadable.length).toBeGreaterThan(0);
      } finally {
        await startServer(world.slapd);
      }
    });

    test.each(['SIGSTOP', 'SIGKILL'] as const)(
      'a database server with %s is UNREADABLE for everybody, and the other is read',
      async (signal) => {
        const before = await everyStep('databases');
        afterPiece.set('databases', (piece) => {
          if (piece === 1) signalTree(pid('replica'), signal);
        });
        let report: Report | undefined;
        try {
          report = await everyStep('databases');
        } finally {
          if (signal === 'SIGSTOP') signalTree(pid('replica'), 'SIGCONT');
          else await startServer(world.replica);
        }
        const onTools = (of: Report | undefined) =>
          of?.steps.filter(({ object }) => object.includes('toolsdb'));
        expect(onTools(report)).toEqual(onTools(before));
        expect(report?.steps).toEqual(onTools(report));
        const uids = new Set(report?.unreadable.map(({ subject }) => subject));
        const wanted = await query<{ uid: number }>(
          world,
          'SELECT account AS uid FROM credentials',
        );
        expect(wanted.filter(({ uid }) => !uids.has(uid))).toEqual([]);
      },
      120_000,
    );

    test('what was read of a database server that died shows nobody, before it is looked at again', async () => {
      const reader = DATABASES.openReader(world.config);
      const pool = openPool(world.config, 'databases_reader', { max: 2, durable: false });
      const realm = realmOf(world.config);
      try {
        const wanted = await readWanted(pool, 'databases', await readSubjects(pool));
        const alive = pid('replica');
        let pieces = 0;
        const yieldTurn = async () => {
          if ((pieces += 1) === 1) signalTree(alive, 'SIGKILL');
        };
        const everything = await DATABASES.readEverything(
          reader,
          { piece: 7, yieldTurn },
          watchingOf(world.config, pool),
        );
        const found = await survey(DATABASES.targets, wanted, realm, everything.reader);
        const onReplica = found.flatMap(({ steps }) =>
          steps.filter(({ object }) => object.includes('replica')),
        );
        expect(onReplica).toEqual([]);
        expect(found.filter(({ unreadable }) => unreadable.length > 0).length).toBeGreaterThan(20);
      } finally {
        await startServer(world.replica);
        await reader.close();
        await pool.end();
      }
    });

    test('an area of homes that goes away is UNREADABLE, and no home is missing', async () => {
      const area = `${world.dataRoot}${world.config.files.personHomes}`;
      afterPiece.set('homes', () => {
        afterPiece.clear();
        renameSync(`${area}/.chamberlain`, `${area}/.gone`);
      });
      try {
        const report = await everyStep('homes');
        const people = new Set(
          (await query<{ uid: number }>(world, 'SELECT uid FROM people')).map(({ uid }) => uid),
        );
        expect(report?.steps.filter(({ subject }) => people.has(subject))).toEqual([]);
        expect(report?.unreadable.length).toBeGreaterThan(0);
      } finally {
        renameSync(`${area}/.gone`, `${area}/.chamberlain`);
        chmodSync(`${area}/.chamberlain`, 0o700);
      }
    });
  });

  describe('a marker that cannot be read', () => {
    const onTools = (grant: string) =>
      administer(world.tools.socket, `${grant} chamberlain_databases_reader@'%'; FLUSH PRIVILEGES`);

    test('of a server is not reported as absent', async () => {
      const report = async () => (await ask(undefined, ['databases'])).get('databases');
      expect(await report()).toHaveProperty('markedAt');
      await onTools('REVOKE SELECT ON mysql.chamberlain_marker FROM');
      try {
        const denied = await report();
        expect(denied).not.toHaveProperty('markedAt');
        expect(denied?.markersUnread).toMatch(/^reading the marker of toolsdb: .*denied/);
        expect(denied?.unreadable).toEqual([]);
      } finally {
        await onTools('GRANT SELECT ON mysql.chamberlain_marker TO');
      }
      expect(await report()).toHaveProperty('markedAt');
    });

    test('of an area is not taken as absent if something else is there', async () => {
      const config = { ...world.config, realm: 'other' };
      const area = `${world.dataRoot}${config.files.personHomes}`;
      const file = `${area}/.chamberlain/marker.${markerName(config)}`;
      expect(await readMarkedAt(openHomesMarkers(config))).toBeUndefined();
      writeFileSync(file, '{"at":"2026');
      try {
        await expect(readMarkedAt(openHomesMarkers(config))).rejects.toMatchObject({
          ...{ code: 'BACKEND_UNREADABLE', message: `reading the marker of the area ${area}` },
        });
      } finally {
        rmSync(file);
      }
    });
  });

  describe('a directory that shows too little, without an error', () => {
    const marker = () => `cn=chamberlain,${drift.hand.base}`;

    /** As if access rules hid so many people: the marker tells of as many more than are there. */
    async function whileMissing<T>(count: number, act: () => Promise<T>): Promise<T> {
      const reader = DIRECTORY.openReader(world.config);
      try {
        const [text = ''] = await reader.heartbeats();
        let there = 0;
        for await (const page of reader.list('people', ['uidNumber'])) {
          there += page.filter(({ attributes }) => attributes['uidNumber']?.length).length;
        }
        const told = parseMarker(text) as Marker;
        const more = signMarker({ ...told, people: there + count }, readSealKey(world.config));
        await drift.hand.ldif(change(marker(), ['replace', 'description', more]));
        try {
          return await act();
        } finally {
          await drift.hand.ldif(change(marker(), ['replace', 'description', text]));
        }
      } finally {
        await reader.close();
      }
    }
    const lookAtAll = async () => (await ask(undefined, ['directory'])).get('directory');

    test('is UNREADABLE where many people are missing, and no step comes of it', async () => {
      const report = await whileMissing(1000, lookAtAll);
      expect(report?.steps).toEqual([]);
      expect(report?.unreadable.map(({ target }) => target)).toEqual(
        DIRECTORY.targets.map(({ name }) => name),
      );
      expect(report?.unreadable[0]?.sentence).toContain('but its heartbeat says');
    });

    test('is read where a few are: they were removed by hand', async () => {
      const report = await whileMissing(10, lookAtAll);
      expect(report?.unreadable).toEqual([]);
      expect(report?.steps.length).toBeGreaterThan(10);
    });
  });

  describe('a long survey beside others', () => {
    /** Stops a role between two pieces until it is let go. */
    function stall(role: Role): { stalled: Promise<void>; letGo: () => void } {
      let letGo = () => {};
      let tell = () => {};
      const stalled = new Promise<void>((resolve) => (tell = resolve));
      const going = new Promise<void>((resolve) => (letGo = resolve));
      afterPiece.set(role, async () => {
        tell();
        await going;
      });
      return { stalled, letGo };
    }

    test('does not delay a survey of few', async () => {
      const { stalled, letGo } = stall('directory');
      const long = ask(undefined, ['directory']);
      try {
        await stalled;
        const few = await ask([drift.hand.neighbour.uid], ['directory']);
        expect(few.get('directory')).toMatchObject({ subjects: 1, unreadable: [] });
      } finally {
        letGo();
      }
      expect((await long).get('directory')?.subjects).toBe((await uidsOfAll()).length);
    });

    test.each(['SIGKILL', 'SIGINT'] as const)(
      'ends when its actor is ended by %s, and the next one is answered',
      async (signal) => {
        let pieces = 0;
        const ended = new Promise<unknown>((resolve) => {
          // a directory without end
          afterAllRead.set('directory', async ({ yieldTurn }) => {
            try {
              for (;;) {
                pieces += 1;
                await yieldTurn();
              }
            } catch (error) {
              resolve(error);
              throw error;
            }
          });
        });
        const actor = startCli(['survey', '--role', 'directory'], { config: world.configFile });
        const end = endOf(actor);
        await eventually('the role to begin', () => pieces > 0);
        actor.kill(signal);
        await end;
        expect(String(await ended)).toContain('nobody waits for the survey any more');
        afterAllRead.clear();
        expect((await ask(undefined, ['directory'])).get('directory')?.unreadable).toEqual([]);
      },
    );
  });
}
