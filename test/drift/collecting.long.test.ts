/** The caller of a survey waits as long as the roles give signs of life, and no longer. */
import { randomBytes, randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type { Role } from '../../src/reconcile/wanted.ts';
import type { Report } from '../../src/reconcile/report.ts';
import { type Client, openPool, type Pool, withClient } from '../../src/database/connection.ts';
import { collectReports, type Waited } from '../../src/drift/collecting.ts';
import { readAbsent } from '../../src/drift/reports-table.ts';
import {
  deleteSurvey,
  readSurvey,
  recordSurvey,
  writeReport,
} from '../../src/drift/surveys-table.ts';
import { openWorld, type World } from '../stack.ts';

let world: World;
let admin: Pool;
const reader = new Map<Role, Pool>();

beforeAll(async () => {
  world = await openWorld('answers', { needs: ['postgres'] });
  admin = openPool(world.config, 'admin', { max: 2, durable: false });
  for (const role of ['directory', 'homes'] as const) {
    reader.set(role, openPool(world.config, `${role}_reader`, { max: 1, durable: false }));
  }
});

afterAll(async () => {
  await Promise.all([admin, ...reader.values()].map((pool) => pool?.end()));
  await world?.close();
});

interface Asked {
  client: Client;
  collect(
    roles: readonly Role[],
    silentMs: number,
    given?: { mostPutOff?: number; onLook?: (waited: readonly Waited[]) => Promise<void> },
  ): Promise<Map<Role, Report>>;
}

async function asking(act: (id: string, asked: Asked) => Promise<void>): Promise<void> {
  const id = randomUUID();
  await withClient(admin, async (client) => {
    await recordSurvey(client, id, undefined);
    try {
      await act(id, {
        client,
        collect: (roles, silentMs, { mostPutOff = Infinity, onLook } = {}) =>
          collectReports(client, id, roles, { silentMs, mostPutOff }, onLook),
      });
    } finally {
      await deleteSurvey(client, id);
    }
  });
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
    const told: Waited[] = [];
    const collected = asked.collect(['homes'], SILENT_MS, {
      onLook: async (waited) => void told.push(...waited),
    });
    await workAt(id);
    await report('homes', id);
    expect((await collected).get('homes')).toEqual(REPORT);
    expect(told).toContainEqual({
      role: 'homes',
      quietMs: expect.any(Number),
      progress: expect.objectContaining({ done: expect.any(Number), total: 100 }),
    });
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

test('unless the caller waits no longer because of that', async () => {
  await asking(async (before) => {
    await asking(async (_id, asked) => {
      const working = workAt(before);
      const start = performance.now();
      expect((await asked.collect(['homes'], SILENT_MS, { mostPutOff: 1 })).size).toBe(0);
      expect(performance.now() - start).toBeLessThan(2 * SILENT_MS);
      await working;
    });
  });
});

test('what a look throws ends the wait', async () => {
  await asking(async (_id, asked) => {
    const onLook = () => Promise.reject(new Error('the lease is lost'));
    await expect(asked.collect(['homes'], SILENT_MS, { onLook })).rejects.toThrow('lease is lost');
  });
});

test('a connection that breaks ends the wait', async () => {
  const owner = openPool(world.config, 'owner', { max: 1, durable: false });
  try {
    await expect(
      asking(async (_id, asked) => {
        const { rows } = await asked.client.query('SELECT pg_backend_pid() AS pid');
        const collected = asked.collect(['homes'], 60_000);
        await owner.query('SELECT pg_terminate_backend($1)', [(rows[0] as { pid: number }).pid]);
        await collected;
      }),
    ).rejects.toThrow();
  } finally {
    await owner.end();
  }
});

test('a role without a connection is distinguished from a silent one', async () => {
  await asking(async (_id, asked) => {
    await reader.get('homes')?.query('SELECT');
    expect(await readAbsent(asked.client, ['homes', 'databases'])).toEqual(['databases']);
  });
});

test('a role without progress counts as not answering, whatever the others do', async () => {
  await asking(async (id, asked) => {
    await move('homes', id, 50);
    await reader.get('directory')?.query('SELECT'); // a new connection could take long
    const start = performance.now();
    const collected = asked.collect(['directory', 'homes'], SILENT_MS);
    await report('directory', id);
    expect([...(await collected).keys()]).toEqual(['directory']);
    expect(performance.now() - start).toBeGreaterThanOrEqual(SILENT_MS - 10);
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

test('a large report arrives whole, with the small ones', async () => {
  const sentence = randomBytes(2 ** 20).toString('base64');
  const large: Report = { ...REPORT, unreadable: [{ target: 'home-directory', sentence }] };
  await asking(async (id, asked) => {
    await writeReport(reader.get('homes') as Pool, id, 'homes', large);
    await report('directory', id);
    const reports = await asked.collect(['directory', 'homes'], SILENT_MS);
    expect(reports.get('homes')).toEqual(large);
    expect(reports.get('directory')).toEqual(REPORT);
  });
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
