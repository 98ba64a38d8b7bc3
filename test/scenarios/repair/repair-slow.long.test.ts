/** `chamberlain repair` of what takes longer than anybody waits: it says that it goes on, and how far it is. */
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { administer } from '../../stack.ts';
import { eventually } from '../eventually.ts';
import { query } from '../outside.ts';
import { openRepairWorld, type RepairWorld } from './repair-world.ts';

const PATH = process.env['PATH'];
let repairs: RepairWorld;
const goOn = () => join(repairs.world.dir, 'go on');

beforeAll(async () => {
  repairs = await openRepairWorld('repair of what takes long', ['long']);
});
afterAll(async () => {
  process.env['PATH'] = PATH;
  if (repairs !== undefined) writeFileSync(goOn(), '');
  await repairs?.close();
});

test('a repair that nobody waits for goes on, and is done when it is asked for again', async () => {
  const { world, uids } = repairs;
  const user = `s${uids['long']}`;
  await administer(
    world.tools.socket,
    `CREATE DATABASE ${user}__own; CREATE TABLE ${user}__own.t AS SELECT 1 AS a`,
  );
  await query(world, 'INSERT INTO archivals (subject, archival) VALUES ($1, 1)', [uids['long']]);
  await query(world, `UPDATE tools SET state = 'archived' WHERE uid = $1`, [uids['long']]);
  const doubles = join(world.dir, 'double programs');
  mkdirSync(doubles);
  writeFileSync(
    join(doubles, 'mariadb-dump'),
    `#!/bin/sh\n/usr/bin/mariadb-dump "$@" | { head -c 300; until [ -e '${goOn()}' ]; do sleep 0.1; done; cat; }\n`,
  );
  chmodSync(join(doubles, 'mariadb-dump'), 0o755);
  process.env['PATH'] = `${doubles}:${PATH}`;

  const words = ['repair', 'long', '--role', 'databases', '--yes', '--timeout'];
  const late = await repairs.cli(...words, '10');
  expect(late.out).toMatch(
    new RegExp(
      `tools\\.long +databases +unfinished +STILL_AT_WORK +dumping ${user}__own 300 B of `,
    ),
  );
  expect(late.out).toMatch(/\n0 steps done, \d unfinished\n$/u);
  expect(late.err).toMatch(
    /^STILL_AT_WORK: not done yet for tools\.long\. See `chamberlain status SUBJECT` /mu,
  );
  expect(late.exit).toBe(1);
  expect((await repairs.cli('status', 'long')).out).toContain(`dumping ${user}__own`);

  writeFileSync(goOn(), '');
  await eventually('the archive', async () => {
    const rows = await query(world, 'SELECT FROM archives WHERE subject = $1', [uids['long']]);
    return rows.length === 1;
  });
  const again = await repairs.cli(...words, '30');
  expect([again.err, again.exit]).toEqual(['', 0]);
});
