/** Requests that wait at the same time: decided together, and told together. */
import { readFileSync, writeFileSync } from 'node:fs';
import { parse, stringify } from 'yaml';
import { fixedConfig, openConfigInUse } from '../../src/configuration/config-in-use.ts';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { openLog } from '../../src/shared/log.ts';
import { bootstrap } from '../../src/requests/bootstrap.ts';
import { openPool, type Pool } from '../../src/database/connection.ts';
import { startIntake } from '../../workers/intake.ts';
import type { Worker } from '../../src/shared/loop.ts';
import { eventually } from '../scenarios/eventually.ts';
import { query } from '../scenarios/outside.ts';
import { openPortal, type Portal } from '../scenarios/portal.ts';
import { openWorld, type World } from '../stack.ts';

let world: World;
let owner: Pool;
let portal: Portal;
let intake: Worker | undefined;

beforeAll(async () => {
  world = await openWorld('intake-batch', { needs: ['postgres', 'redis'] });
  owner = openPool(world.config, 'owner', { max: 1, durable: false });
  await bootstrap(owner, world.config, 'steward', {
    displayName: 'Steward',
    email: 's@example.org',
  });
  portal = openPortal(world);
});
afterAll(async () => {
  await intake?.close();
  await portal?.close();
  await owner?.end();
  await world?.close();
});

test('32 that wait have their verdicts in one transaction, and all their events in one statement', async () => {
  const people = Array.from({ length: 40 }, (_, n) => `person-${n}`);
  const ids: string[] = [];
  for (const name of people) {
    // what is refused comes among them
    const email = name === 'person-7' ? 'nowhere' : `${name}@example.org`;
    const person = { shellName: name, displayName: name, email };
    ids.push(await portal.send({ kind: 'person.create', requestedBy: name, ...person }));
  }
  intake = startIntake(fixedConfig(world.config), openLog('silent'));
  const rows = await eventually('40 verdicts', async () => {
    const seen = await owner.query(
      `SELECT r.jti, r.at, r.verdict, r.code, e.event, e.xmin::text AS written
       FROM requests r JOIN events e ON e.request = r.jti ORDER BY e.row_id`,
    );
    return seen.rows.length >= people.length ? seen.rows : undefined;
  });
  expect(rows.map(({ jti }) => jti)).toEqual(ids);
  for (const [n, { verdict, code, event }] of rows.entries()) {
    expect([n, verdict, code, event]).toEqual(
      n === 7
        ? [n, 'refused', 'REQUEST_INVALID', 'request.refused']
        : [n, 'accepted', null, 'request.accepted'],
    );
  }
  const sizesBy = (of: (row: (typeof rows)[number]) => unknown) =>
    [...Map.groupBy(rows, of).values()].map(({ length }) => length);
  expect(sizesBy(({ at }) => at.getTime())).toEqual([32, 8]);
  expect(sizesBy(({ written }) => written)).toEqual([32, 8]);
});

test('what is decided together and recorded together is as if it had been decided one after another', async () => {
  await intake?.close();
  const requestedBy = 'steward';
  const create = (name: string) => ({ kind: 'tool.create', requestedBy, name, title: name });
  const disable = { kind: 'tool.disable', requestedBy, tool: 'one', reason: 'x' };
  const id = await portal.send(create('one'));
  await portal.send(create('one'), { id });
  const others: string[] = [];
  // it looks for a tool that is not recorded yet
  const ofTwo = { ...create('of-two'), maintainers: ['tools.two'] };
  for (const wish of [
    create('two'),
    ofTwo,
    disable,
    create('three'),
    create('four'),
    create('one'),
  ]) {
    others.push(await portal.send(wish, { queue: 'requests' }));
  }
  // each as before: what is recorded meanwhile is looked at
  await portal.send(create('four'), { id: others.at(-2)! });
  await portal.send(create('one'), { id: others.at(-1)! });
  intake = startIntake(fixedConfig(world.config), openLog('silent'));
  const recorded = await eventually('seven verdicts', async () => {
    const { rows } = await owner.query(
      `SELECT q.jti, q.verdict, q.code, q.done_at IS NOT NULL AS done, a.kind, a.account, q.at,
         ARRAY(SELECT concat_ws(' ', coalesce(p.shell_name, t.account), i.role, i.generation = c.wanted)
               FROM request_touches i JOIN convergence c USING (subject, role)
                 LEFT JOIN people p ON p.uid = i.subject LEFT JOIN tools t ON t.uid = i.subject
               WHERE i.request = q.id ORDER BY 1) AS touched
       FROM requests q JOIN audit a ON a.request = q.id WHERE q.jti = ANY ($1) ORDER BY a.id`,
      [[id, ...others]],
    );
    return rows.length === 7 ? rows : undefined;
  });
  expect(new Set(recorded.map(({ at }) => at.getTime())).size).toBe(1);
  const created = (tool: string, steward: string, ...touched: string[]) => {
    const own = touched.map((each) => `tools.${tool} ${each}`);
    return ['tool.create', `tools.${tool}`, null, false, [steward, ...own]];
  };
  expect(recorded.map((row) => [row.kind, row.account, row.code, row.done, row.touched])).toEqual([
    // t: nothing has touched it since, f: something has
    created('one', 'steward directory f', 'databases f', 'directory f', 'homes t'),
    created('two', 'steward directory f', 'databases t', 'directory f', 'homes t'),
    [
      ...['tool.create', 'tools.of-two', null, false],
      ['databases', 'directory', 'homes']
        .map((role) => `tools.of-two ${role} t`)
        .concat('tools.two directory t'),
    ],
    [
      ...['tool.disable', 'tools.one', null, false],
      ['tools.one databases t', 'tools.one directory t'],
    ],
    // these are recorded together
    created('three', 'steward directory t', 'databases t', 'directory t', 'homes t'),
    created('four', 'steward directory t', 'databases t', 'directory t', 'homes t'),
    ['tool.create', null, 'NAME_TAKEN', true, []],
  ]);
});

test('where the writes of one fail, it is tried alone, and the others have their verdicts', async () => {
  await intake?.close();
  await owner.query(
    `CREATE FUNCTION refuse_tool() RETURNS trigger LANGUAGE plpgsql AS
     $$ BEGIN RAISE EXCEPTION 'a check of the table' USING ERRCODE = 'check_violation'; END $$`,
  );
  await owner.query(
    `CREATE TRIGGER refuse_tool BEFORE INSERT ON tools FOR EACH ROW WHEN (NEW.name = 'bad')
     EXECUTE FUNCTION refuse_tool()`,
  );
  const ids: string[] = [];
  for (const name of ['good', 'bad', 'better']) {
    const tool = { kind: 'tool.create', requestedBy: 'steward', name, title: name };
    ids.push(await portal.send(tool));
  }
  intake = startIntake(fixedConfig(world.config), openLog('silent'));
  const verdicts = await eventually('three verdicts', async () => {
    const { rows } = await owner.query(
      'SELECT jti, verdict, code FROM requests WHERE jti = ANY ($1)',
      [ids],
    );
    return rows.length === 3 ? new Map(rows.map((row) => [row.jti, row])) : undefined;
  });
  expect(ids.map((id) => [verdicts.get(id).verdict, verdicts.get(id).code])).toEqual([
    ['accepted', null],
    ['refused', 'INTERNAL'],
    ['accepted', null],
  ]);
});

test('a configuration that comes during a batch decides all of it but the request in hand', async () => {
  await intake?.close();
  const inUse = openConfigInUse(world.configFile, ['intake']);
  const before = inUse.current();
  const update = { kind: 'person.update', requestedBy: 'steward', person: 'steward' };
  const create = (shellName: string) => {
    const person = { shellName, displayName: shellName, email: 'x@example.org' };
    return { kind: 'person.create', requestedBy: shellName, ...person };
  };
  const queue = 'requests';
  const ids = [
    await portal.send({ ...update, displayName: 'In hand' }, { queue }),
    await portal.send(create('late'), { queue }),
    await portal.send(create('early'), { queue }),
  ];
  const client = await owner.connect();
  await client.query(`BEGIN; SELECT FROM people WHERE shell_name = 'steward' FOR UPDATE`);
  intake = startIntake(inUse, openLog('silent'));
  await eventually('the request in hand waits', async () => {
    const waiting = `SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`;
    return (await query(world, waiting)).length > 0;
  });
  const file = parse(readFileSync(world.configFile, 'utf8')) as object;
  writeFileSync(world.configFile, stringify({ ...file, reservedNames: ['late'] }));
  const loaded = inUse.load();
  await eventually('the new configuration', async () => inUse.current() !== before);
  await client.query('ROLLBACK');
  client.release();
  await loaded;
  const rows = await eventually('three verdicts', async () => {
    const seen = await query(
      world,
      `SELECT jti, verdict, code FROM requests WHERE jti = ANY ($1) ORDER BY id`,
      [ids],
    );
    return seen.length === 3 ? seen : undefined;
  });
  expect(rows.map(({ jti, verdict, code }) => [jti, verdict, code])).toEqual([
    [ids[0], 'accepted', null],
    [ids[1], 'refused', 'NAME_RESERVED'],
    [ids[2], 'accepted', null],
  ]);
});
