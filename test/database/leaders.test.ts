/**
 * The process that has the lease of a work leads it, as long as it makes progress; what another writes under an
 * older number is refused.
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { forgetErasures, numberEvents, writeDelivery } from '../../src/events/deliveries.ts';
import { sealAudit } from '../../src/audit/audit-seals.ts';
import {
  type Lease,
  openLease,
  openPool,
  type Pool,
  type PostgresRole,
  renewLease,
  transact,
} from '../../src/database/connection.ts';
import * as relay from '../../src/reconcile/relay-queries.ts';
import { wantTool } from '../laws-world.ts';
import { eventually } from '../scenarios/eventually.ts';
import { openWorld, type World } from '../stack.ts';

/** SQLSTATE: the object is not in the required state (another process has the lease). */
const REFUSED = { code: '55000', message: 'another has the lease of chamberlain_relay' };

let world: World;
let owner: Pool;
let open: { end(): Promise<void> }[] = [];

beforeAll(async () => {
  world = await openWorld('leaders', { needs: ['postgres'] });
  owner = openPool(world.config, 'owner', { max: 2, durable: false });
});
afterEach(async () => {
  await Promise.all(open.map((each) => each.end()));
  open = [];
  await owner.query(`UPDATE leases SET lasts = '10 s'`);
});
afterAll(async () => {
  await owner?.end();
  await world?.close();
});

/** Takes a lease as soon as the process that had it is gone. */
async function take(role: PostgresRole): Promise<Lease> {
  const lease = await eventually(`the lease of ${role}`, () => openLease(world.config, role));
  open.push(lease.client);
  return lease;
}

/** As if a leader had made no progress for as long as its lease lasts. */
const runOut = (role: string) =>
  owner.query(`UPDATE leases SET renewed_at = renewed_at - lasts WHERE name = $1`, [role]);

function poolOf({ epoch }: Lease): Pool {
  const pool = openPool(world.config, 'relay', { max: 2, durable: false, epoch });
  open.push(pool);
  return pool;
}

describe('a lease', () => {
  test('belongs to one process, until its session ends', async () => {
    const first = await take('sweep');
    expect(await openLease(world.config, 'sweep')).toBeUndefined();
    await first.client.end();
    const second = await take('sweep');
    expect(BigInt(second.epoch)).toBe(BigInt(first.epoch) + 1n);
  });

  test('expires without progress, and does not expire with progress', async () => {
    await owner.query(
      `UPDATE leases SET lasts = CASE name WHEN 'sweep' THEN interval '300 ms' ELSE '1 hour' END`,
    );
    const [idle, busy] = [await take('sweep'), await take('relay')];
    await take('sweep');
    await expect(renewLease(idle)).rejects.toMatchObject({ code: '55000' });
    // as if two hours passed; each time half an hour is left
    for (let turn = 0; turn < 4; turn += 1) {
      await owner.query(
        `UPDATE leases SET renewed_at = renewed_at - interval '30 min' WHERE name = 'relay'`,
      );
      expect(await openLease(world.config, 'relay')).toBeUndefined();
      await renewLease(busy);
    }
  });

  test('that has expired is renewed if nobody has taken it', async () => {
    const lease = await take('relay');
    await runOut('relay');
    await renewLease(lease);
    expect(await openLease(world.config, 'relay')).toBeUndefined();
  });

  test('expires while its leader hangs, even if PostgreSQL’s clock goes back', async () => {
    await take('sweep');
    expect(await openLease(world.config, 'sweep')).toBeUndefined();
    await owner.query(
      `UPDATE leases SET renewed_at = now() + interval '1 hour' WHERE name = 'sweep'`,
    );
    const { rows } = await owner.query(`SELECT hangs FROM leaders() WHERE work = 'sweep'`);
    expect(rows).toEqual([{ hangs: true }]);
    const second = await openLease(world.config, 'sweep');
    expect(second).toBeDefined();
    open.push(second!.client);
  });

  test('is not taken before the transaction of its last leader has ended', async () => {
    const first = await take('intake');
    await runOut('intake');
    await transact(first.client, async () => {
      await first.client.query('UPDATE junk SET count = count WHERE false');
      expect(await openLease(world.config, 'intake')).toBeUndefined();
    });
    await take('intake');
  });

  test('is free when PostgreSQL has ended the transaction in which its leader hangs', async () => {
    const first = await take('intake');
    await first.client.query('BEGIN; UPDATE junk SET count = count WHERE false');
    await runOut('intake');
    const began = performance.now();
    await take('intake');
    // 5 s; other connections of ours have 10
    expect(performance.now() - began).toBeLessThan(9900);
  });

  test('can be written only by the functions of the owner', async () => {
    const { client } = await take('relay');
    for (const sql of [
      `UPDATE leases SET epoch = 0`,
      `INSERT INTO leases (name, lasts) VALUES ('x', '1 s')`,
      `DELETE FROM leases`,
    ]) {
      await expect(client.query(sql)).rejects.toMatchObject({ code: '42501' });
    }
  });
});

describe('a process that has lost a lease', () => {
  test('can change nothing as the relay, on any connection; its successor can', async () => {
    const tool = await wantTool(owner, world, []);
    await owner.query(`SELECT touch_generation($1, 'homes')`, [tool.uid]);
    await owner.query(`INSERT INTO audit (kind, fields, verdict) VALUES ('x', '{}', 'accepted')`);
    await owner.query(`INSERT INTO events (portal, event, data) VALUES ('portal', 'x', '{}')`);
    const old = await take('relay');
    const pool = poolOf(old);
    const delivery = {
      portal: 'portal',
      completed: 0,
      job: 'a',
      sent: 1,
      since: null,
      wrong: null,
    };
    const writes: Record<string, (by: Pool) => Promise<unknown>> = {
      lease: (by) => relay.leaseDue(by, ['homes']),
      release: (by) => relay.releaseAllLeases(by),
      settle: (by) => relay.settle(by, () => [], undefined),
      number: (by) => numberEvents(by),
      delivery: (by) => writeDelivery(by, { ...delivery, last: 1 }),
      forget: (by) => forgetErasures(by, 'portal', [1]),
      seal: (by) => sealAudit(by),
    };
    await pool.query('SELECT 1'); // an older connection
    await runOut('relay');
    const successor = await take('relay');
    const state = async () =>
      (
        await owner.query(
          `SELECT (SELECT json_agg(c ORDER BY subject, role) FROM convergence c) AS convergence,
             (SELECT json_agg(e) FROM events e) AS events, (SELECT json_agg(d) FROM event_deliveries d) AS deliveries,
             (SELECT count(*) FROM audit_seals) AS seals`,
        )
      ).rows;
    const before = await state();
    for (const [name, write] of Object.entries(writes)) {
      expect([name, await write(pool).catch((error: object) => error)]).toEqual([
        name,
        expect.objectContaining(REFUSED),
      ]);
    }
    await expect(renewLease(old)).rejects.toMatchObject(REFUSED);
    expect(await state()).toEqual(before);
    for (const write of Object.values(writes)) await write(poolOf(successor));
    expect(await state()).not.toEqual(before);
  });

  test('is refused in every table', async () => {
    const { rows } = await owner.query(
      `SELECT relname AS name FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
         AND relname <> 'leases' ORDER BY 1`,
    );
    const late = openPool(world.config, 'owner', { max: 1, durable: false, epoch: '0' });
    open.push(late);
    expect(rows.length).toBeGreaterThan(40);
    for (const { name } of rows as { name: string }[]) {
      const write = late.query(`INSERT INTO ${name} DEFAULT VALUES`).then(() => 'done');
      expect([name, await write.catch(({ code }: { code: string }) => code)]).toEqual([
        name,
        '55000',
      ]);
    }
  });
});
