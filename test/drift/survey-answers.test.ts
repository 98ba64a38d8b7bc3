/** The caller of a survey waits as long as the roles give signs of life, and no longer. */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type { Role } from '../../src/reconcile/wanted.ts';
import type { Report } from '../../src/reconcile/report.ts';
import { openPool, type Pool } from '../../src/database/connection.ts';
import { openSurvey, type RoleProgress, type Survey } from '../../src/drift/survey-answers.ts';
import { readSurvey, writeReport } from '../../src/drift/surveys-table.ts';
import { openWorld, type World } from '../stack.ts';

let world: World;
const reader = new Map<Role, Pool>();

beforeAll(async () => {
  world = await openWorld('answers', { needs: ['postgres'] });
  for (const role of ['directory', 'homes'] as const) {
    reader.set(role, openPool(world.config, `${role}_reader`, { max: 1, durable: false }));
  }
});

afterAll(async () => {
  await Promise.all([...reader.values()].map((pool) => pool.end()));
  await world?.close();
});

async function asking(act: (id: string, asked: Survey) => Promise<void>): Promise<void> {
  const id = randomUUID();
  const asked = await openSurvey(world.config, id, undefined);
  try {
    await act(id, asked);
  } finally {
    await asked.close();
  }
}

async function move(role: Role, survey: string, done: number): Promise<void> {
  await reader.get(role)?.query(
    `INSERT INTO survey_progress (survey, role, done, total) VALUES ($1, $2, $3, 100)
     ON CONFLICT (survey, role) DO UPDATE SET done = excluded.done`,
    [survey, role, done],
  );
}

const REPORT: Report = { steps: [], findings: [], waiting: [], unreadable: [], subjects: 7 };

const report = (role: Role, survey: string) =>
  writeReport(reader.get(role) as Pool, survey, role, REPORT);

/** Far longer than a working role needs between two signs of life, even on a busy machine. */
const SILENT_MS = 3000;

/** Works on a survey for more than twice the timeout. */
async function workAt(survey: string): Promise<void> {
  const begin = performance.now();
  for (let done = 0; performance.now() - begin < 2.2 * SILENT_MS; done += 1) {
    await move('homes', survey, done);
    await sleep(100);
  }
}

test('progress extends the timeout, and an answer ends the wait', async () => {
  await asking(async (id, asked) => {
    const told: (RoleProgress | undefined)[] = [];
    const collected = asked.collect(['homes'], SILENT_MS, (far) => told.push(far.get('homes')));
    await workAt(id);
    await report('homes', id);
    expect((await collected).get('homes')).toEqual(REPORT);
    expect(told).toContainEqual({ done: expect.any(Number), total: 100 });
  });
});

test('progress with an earlier survey is a sign of life too', async () => {
  await asking(async (before) => {
    await asking(async (id, asked) => {
      const collected = asked.collect(['homes'], SILENT_MS);
      await workAt(before);
      await report('homes', id);
      expect((await collected).has('homes')).toBe(true);
    });
  });
});

test('a role without a connection is distinguished from a silent one', async () => {
  await asking(async (_id, asked) => {
    await reader.get('homes')?.query('SELECT');
    const told: (RoleProgress | undefined)[][] = [];
    await asked.collect(['homes', 'databases'], 3000, (far) =>
      told.push([far.get('homes'), far.get('databases')]),
    );
    expect(told[0]).toEqual([undefined, undefined]);
    expect(told.at(-1)).toEqual([undefined, 'absent']);
  });
});

test('a role without progress counts as not answering, whatever the others do', async () => {
  await asking(async (id, asked) => {
    await move('homes', id, 50);
    const start = performance.now();
    const collected = asked.collect(['directory', 'homes'], 1000);
    await report('directory', id);
    expect([...(await collected).keys()]).toEqual(['directory']);
    expect(performance.now() - start).toBeGreaterThanOrEqual(990);
  });
});

test('a report may take longer to write than any other statement, because it may be large', async () => {
  const owner = openPool(world.config, 'owner', { max: 1, durable: false });
  await owner.query(
    `CREATE FUNCTION stall() RETURNS trigger LANGUAGE plpgsql AS
       $$ BEGIN PERFORM pg_sleep(8); RETURN NEW; END $$;
     CREATE TRIGGER stall BEFORE INSERT ON reports FOR EACH ROW EXECUTE FUNCTION stall()`,
  );
  try {
    await asking(async (id, asked) => {
      await report('homes', id);
      expect((await asked.collect(['homes'], 1000)).get('homes')).toEqual(REPORT);
    });
  } finally {
    await owner.query('DROP TRIGGER stall ON reports');
    await owner.end();
  }
});

test('the survey is deleted when nobody waits any more, answered or not', async () => {
  let survey = '';
  await asking(async (id, asked) => {
    survey = id;
    await report('directory', id);
    expect((await asked.collect(['directory', 'homes'], 300)).size).toBe(1);
    expect(await readSurvey(reader.get('homes') as Pool, id)).toBeDefined();
  });
  expect(await readSurvey(reader.get('homes') as Pool, survey)).toBeUndefined();
});
