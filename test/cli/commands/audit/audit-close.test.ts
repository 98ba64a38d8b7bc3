/** A year of the audit in a file: what goes into it, how it is verified later, and what an interrupted run leaves. */
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  appendFileSync,
  copyFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  watch,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { Client as PgClient } from 'pg';
import { closeYear } from '../../../../src/cli/commands/audit/audit-close.ts';
import { verifyAll } from '../../../../src/cli/commands/audit/audit.ts';
import { encryptKey, openOwnKey } from '../../../../src/cli/own-key/own-key.ts';
import { readSigningKey } from '../../../../src/requests/token.ts';
import { lineOf } from '../../../../src/ssh-keys/ed25519-key.ts';
import { verifyAudit } from '../../../../src/audit/audit-verify.ts';
import { sealAudit } from '../../../../src/audit/audit-seals.ts';
import {
  connectionSettings,
  openPool,
  type Pool,
  withClient,
} from '../../../../src/database/connection.ts';
import { restoreDatabaseCopy, dumpDatabase } from '../../../scenarios/recovery/backup.ts';
import { onSmallDisk } from '../../../login-host/small-disk.ts';
import { eventually, within } from '../../../scenarios/eventually.ts';
import { asSuperuser, openWorld, type World } from '../../../stack.ts';
import { type Ended, endOf, runCli, startCli } from '../../run-cli.ts';

let world: World;
let owner: Pool;
let relay: Pool;
let admin: Pool;
let out: string;

beforeAll(async () => {
  world = await openWorld('audit-close', { needs: ['postgres'] });
  open();
});
afterAll(async () => {
  await shut();
  await world.close();
});
beforeEach(async () => {
  out = join(world.dir, `out-${process.hrtime.bigint()}`);
  mkdirSync(out);
  await empty();
});
afterEach(() => rmSync(out, { recursive: true }));

function open(): void {
  relay = openPool(world.config, 'relay', { max: 2, durable: false });
  admin = openPool(world.config, 'admin', { max: 2, durable: false });
  owner = openPool(world.config, 'owner', { max: 2, durable: false });
}
const shut = () => Promise.all([relay.end(), admin.end(), owner.end()]);

const tamper = (...statements: string[]) =>
  asSuperuser(world.postgres, world.config.postgres.database, async (client) => {
    await client.query('SET session_replication_role = replica');
    for (const sql of statements) await client.query(sql);
  });
const empty = () =>
  tamper('TRUNCATE audit, audit_seals, audit_unsealed, audit_closings, requests CASCADE');

/** Rows spread over a year, in the chain. The owner writes them in the place of the real writers. */
async function write(year: number, count: number): Promise<void> {
  await owner.query(
    `INSERT INTO audit (at, portal, kind, requested_by, subject, account, fields, verdict)
     SELECT make_timestamptz($1, 1, 1, 0, 0, 0, 'UTC') + interval '364 days' * n / $2,
            'portal', 'tool.create', 'alice', n, 'tools.t' || n, '{name,title}', 'accepted'
     FROM generate_series(0, $2::int - 1) AS n`,
    [year, count],
  );
  await sealAudit(relay);
}

const run = (...args: string[]): Promise<Ended> =>
  runCli(['audit', ...args], { config: world.configFile });
const close = (year: number) => run('close', String(year), '--out', out);
const fileOf = (year: number) => join(out, `audit-tools-${year}.jsonl`);
const verify = (head?: string) => withClient(admin, (client) => verifyAudit(client, { head }));
const good = { exit: 0 };
const quiet = { say: () => {} };
/** The same as `close`, without a process of its own. */
const done = (year: number) => closeYear(world.config, year, out, quiet);

async function rowsOf(table: string): Promise<number> {
  const { rows } = await owner.query(`SELECT count(*)::int AS count FROM ${table}`);
  return (rows[0] as { count: number }).count;
}

/** What `audit verify FILE…` says is wrong, one line each. */
async function faults(...paths: string[]): Promise<string[]> {
  const verdict = await verifyAll(world.config, paths, undefined, quiet);
  return verdict.faults.map(
    ({ kind, sentence }) => `${kind} ${sentence.replaceAll(`${out}/`, '')}`,
  );
}

test('the rows of a year are in its file and no longer in PostgreSQL; the chain continues', async () => {
  await write(2023, 2500);
  await write(2024, 30);
  const { head } = await verify();
  const closed = await close(2023);
  expect(closed).toMatchObject(good);
  expect(closed.out).toMatch(/^closed 2023: 2500 rows, 2500 of them removed/u);
  const text = readFileSync(fileOf(2023));
  expect(closed.out).toContain(createHash('sha256').update(text).digest('hex'));
  expect(readdirSync(out)).toEqual(['audit-tools-2023.jsonl']);
  expect(text.toString().trim().split('\n')).toHaveLength(2502);
  expect(await rowsOf('audit')).toBe(31);
  await sealAudit(relay);
  const verdict = await verify(head);
  expect(verdict).toMatchObject({ faultsInAll: 0, sealed: 31, toRemove: 0, headFound: true });
  expect(verdict.closed).toMatchObject([{ year: 2023, first: 1, last: 2500 }]);
  expect(await faults(fileOf(2023))).toEqual([]);
  const { rows } = await admin.query(`SELECT fields FROM audit WHERE kind = 'audit.close'`);
  expect(rows).toEqual([
    { fields: ['2023', `sha256:${createHash('sha256').update(text).digest('hex')}`] },
  ]);
  expect((await close(2023)).out).toMatch(
    /^2023 was already closed: 2500 rows\nfile   audit-tools-2023.jsonl\n/u,
  );
});

describe("the admin's own key", () => {
  const env = (file: string, more = {}) => ({
    ...{ config: world.configFile, terminal: true as const, input: 'a passphrase\n' },
    env: { CHAMBERLAIN_ADMIN_KEY: file, ...more },
  });
  const closeWith = (...of: Parameters<typeof env>) =>
    runCli(['audit', 'close', '2023', '--out', out], env(...of));
  beforeEach(async () => {
    await write(2023, 3);
    const key = readSigningKey(world.adminKey);
    writeFileSync(join(out, 'id'), encryptKey(key, 'a passphrase', ''), { mode: 0o600 });
    writeFileSync(join(out, 'id.pub'), `${lineOf(key)}\n`);
  });

  test('may have a passphrase', async () => {
    expect(await closeWith(join(out, 'id'))).toMatchObject(good);
    expect(await faults(fileOf(2023))).toEqual([]);
  });

  test('may be in an ssh-agent', async () => {
    const file = join(out, 'id');
    execFileSync('ssh-keygen', ['-pq', '-P', 'a passphrase', '-N', '', '-f', file]);
    const agent = { SSH_AUTH_SOCK: join(out, 'agent') };
    const running = spawn('ssh-agent', ['-D', '-a', agent.SSH_AUTH_SOCK], { stdio: 'ignore' });
    try {
      await eventually('the agent', () => {
        const added = spawnSync('ssh-add', ['-q', file], { env: { ...process.env, ...agent } });
        return Promise.resolve(added.status === 0);
      });
      expect(await closeWith(`${file}.pub`, agent)).toMatchObject(good);
      expect(await faults(fileOf(2023))).toEqual([]);
    } finally {
      running.kill();
    }
  });

  test('must be in the configuration', async () => {
    const { file } = world.makeKey('unlisted');
    const closed = await closeWith(file);
    expect(closed).toMatchObject({ exit: 2 });
    expect(closed.out).toMatch(
      /^USAGE: the configuration does not list the key .*unlisted\.pem for any admin\./mu,
    );
    expect(await rowsOf('audit_closings')).toBe(0);
  });
});

test('the chain continues too in a realm where nothing has happened since', async () => {
  await write(2023, 3);
  expect(await close(2023)).toMatchObject(good);
  expect(await rowsOf('audit_seals')).toBe(0);
  expect(await verify()).toMatchObject({ faultsInAll: 0, sealed: 0, waiting: 1 });
  await sealAudit(relay);
  expect(await verify()).toMatchObject({ faultsInAll: 0, sealed: 1, waiting: 0 });
  const { rows } = await admin.query('SELECT position::int FROM audit_seals');
  expect(rows).toEqual([{ position: 4 }]);
});

test('rows that a clock that went back dates into a closed year are in the file of the next year', async () => {
  await write(2022, 3);
  await done(2022);
  // as if 2022 had been closed then
  await tamper(`UPDATE audit SET at = '2023-01-02Z' WHERE kind = 'audit.close'`);
  await owner.query(`INSERT INTO audit (at, verdict) VALUES ('2022-12-31 23:59:59Z', 'again')`);
  await sealAudit(relay);
  await write(2023, 3);
  // with the row that says that 2022 was closed
  expect(await done(2023)).toMatchObject({ first: 4, last: 8, removed: 5 });
  await sealAudit(relay);
  expect(await faults(fileOf(2022), fileOf(2023))).toEqual([]);
});

test('rows of the next year that were sealed before the last of this one are in the file of this one', async () => {
  await write(2023, 5);
  await owner.query(`INSERT INTO audit (at, verdict) VALUES ('2024-01-01 00:00:01Z', 'new')`);
  await sealAudit(relay);
  await owner.query(`INSERT INTO audit (at, verdict) VALUES ('2023-12-31 23:59:59Z', 'late')`);
  await sealAudit(relay);
  await write(2024, 2);
  expect(await done(2023)).toMatchObject({ first: 1, last: 7, removed: 7 });
  await sealAudit(relay);
  expect(await done(2024)).toMatchObject({ first: 8, last: 9, removed: 2 });
  expect(await faults(fileOf(2024), fileOf(2023))).toEqual([]);
});

describe('faults of a file are reported with its name', () => {
  let heads: string[];
  beforeEach(async () => {
    await write(2022, 20);
    await write(2023, 20);
    heads = [(await verify()).head];
    for (const year of [2022, 2023]) await done(year);
    await sealAudit(relay);
  });

  const linesOf = (year: number) => readFileSync(fileOf(year), 'utf8').split(/(?<=\n)/u);
  const put = (year: number, lines: readonly string[]) => {
    rmSync(fileOf(year));
    writeFileSync(fileOf(year), lines.join(''));
  };
  const all = () => faults(fileOf(2022), fileOf(2023));

  test('on the command line, with exit code 1', async () => {
    put(2022, linesOf(2022).slice(0, 15));
    const ended = await run('verify', fileOf(2022), fileOf(2023));
    expect(ended).toMatchObject({
      exit: 1,
      err: expect.stringMatching(/^AUDIT_BROKEN: one fault in the audit\./mu),
    });
    expect(ended.out).toMatch(/^- +- +file +\/.*2022.jsonl: it ends with line 15, /mu);
  });

  test('whatever byte of it was changed', async () => {
    const bytes = readFileSync(fileOf(2022));
    // each line's first, middle and last bytes
    const places = [...bytes.keys()]
      .filter((at) => bytes[at] === 10)
      .flatMap((at) => [at - 100, at - 1, at]);
    const { checkAuditFile } = await import('../../../../src/audit/audit-files.ts');
    const file = join(out, 'changed');
    for (const at of [0, ...places]) {
      const changed = Buffer.from(bytes);
      changed[at] = (changed[at] ?? 0) ^ 1;
      writeFileSync(file, changed);
      const checked = await checkAuditFile(file, 'tools');
      expect([at, 'fault' in checked && checked.fault.sentence]).toEqual([
        at,
        expect.stringContaining(`${file}: `),
      ]);
    }
    const row = Buffer.from(bytes);
    row[row.indexOf('alice')] = 'A'.charCodeAt(0);
    put(2022, [row.toString()]);
    expect(await all()).toEqual(
      [
        'file audit-tools-2022.jsonl: line 2, row 1, is not what was sealed after the line before it',
      ].map((text) => text.replace(/row \d+/u, `row ${idOf(linesOf(2022)[1])}`)),
    );
  });

  const idOf = (line = '') => (JSON.parse(line) as { row: { id: string } }).row.id;

  test('it was cut, or lines were exchanged, removed or inserted', async () => {
    const lines = linesOf(2022);
    put(2022, lines.slice(0, 15));
    expect(await all()).toEqual([
      'file audit-tools-2022.jsonl: it ends with line 15, without a signature: the rest was cut off',
    ]);
    put(2022, [...lines.slice(0, 4), lines[5] ?? '', lines[4] ?? '', ...lines.slice(6)]);
    expect(await all()).toEqual([
      expect.stringMatching(/2022.jsonl: line 5, row \d+, is not what was sealed/u),
    ]);
    put(2022, [...lines.slice(0, 4), ...lines.slice(5)]);
    expect(await all()).toEqual([
      expect.stringMatching(/2022.jsonl: line 5, row \d+, is not what was sealed/u),
    ]);
    put(2022, [...lines.slice(0, -2), lines.at(-1) ?? '']);
    expect(await all()).toEqual([
      'file audit-tools-2022.jsonl: it was changed after it was signed',
    ]);
    put(2022, [...lines.slice(0, 5), '{}\n', ...lines.slice(5)]);
    expect(await all()).toEqual(['file audit-tools-2022.jsonl: line 6 is not a row of the audit']);
    put(2022, lines);
    appendFileSync(fileOf(2022), '\n');
    expect(await all()).toEqual([
      expect.stringContaining('2022.jsonl: line 22 is not a row of the audit'),
    ]);
  });

  test('it was not given, or was given as another', async () => {
    const missing = (year: number) =>
      expect.stringContaining(
        `file-missing audit-tools-${year}.jsonl: the file of ${year} was not given`,
      );
    expect(await faults(fileOf(2023))).toEqual([missing(2022)]);
    expect(await faults(fileOf(2022))).toEqual([missing(2023)]);
    const posing = join(out, 'posing', basename(fileOf(2023)));
    mkdirSync(dirname(posing));
    copyFileSync(fileOf(2022), posing);
    expect(await faults(fileOf(2022), posing)).toContainEqual(missing(2023));
    expect(await all()).toEqual([]);
    expect((await run('verify', join(out, 'none'))).err).toMatch(
      /^USAGE: reading the file .*none: there is no such file \(ENOENT\)/u,
    );
  });

  test('nothing of it is left', async () => {
    put(2022, []);
    expect(await all()).toEqual([expect.stringContaining('audit-tools-2022.jsonl: ')]);
    const renamed = join(out, 'renamed');
    writeFileSync(renamed, ['damaged\n', ...linesOf(2023).slice(1)].join(''));
    expect(await faults(fileOf(2023), renamed)).toContain(
      'file renamed: it does not begin like a closed year of the audit',
    );
  });

  test('but not if it is another file: that is a wrong argument', async () => {
    for (const text of ['root:x:0:0:root:/root:/bin/bash\n', '{"a": 1}\n', '']) {
      const other = join(out, 'passwd');
      writeFileSync(other, text);
      expect(await run('verify', other, fileOf(2022))).toEqual({
        exit: 2,
        out: '',
        err: `USAGE: ${other} is not a file of the audit. Name only files that \`chamberlain audit close\` has written.\n`,
      });
    }
  });

  test('it was written and signed again, by an admin or by somebody else', async () => {
    const kept = linesOf(2022);
    await tamper('TRUNCATE audit, audit_seals, audit_unsealed, audit_closings CASCADE');
    await write(2022, 20);
    rmSync(fileOf(2022));
    await done(2022);
    const forged = linesOf(2022);
    // as if the record were still the first one
    await tamper(
      `UPDATE audit_closings SET sha256 = '${createHash('sha256').update(kept.join('')).digest('hex')}'`,
    );
    expect(await faults(fileOf(2022))).toEqual([
      'file audit-tools-2022.jsonl: it differs from the file that was recorded when 2022 was closed',
    ]);
    await tamper('TRUNCATE audit_closings');
    put(2022, forged);
    const own = await openOwnKey(world.makeKey('stranger').file);
    const { writeAuditFile } = await import('../../../../src/audit/audit-file.ts');
    const stranger = join(out, 'by-a-stranger');
    await writeAuditFile(
      stranger,
      { portal: 'admin.steward', ...own },
      JSON.parse(forged[0] ?? ''),
      rowsFrom(forged.slice(1, -1)),
    );
    expect((await faults(stranger))[0]).toBe(
      'file by-a-stranger: it is signed with a key that the configuration does not list for any admin (admin.steward)',
    );
  });

  async function* rowsFrom(lines: readonly string[]) {
    for (const line of lines) yield JSON.parse(line);
  }

  test('a head of a closed year is found with its file', async () => {
    const inside = (JSON.parse(linesOf(2022)[7] ?? '') as { hash: string }).hash;
    expect((await run('verify', '--head', heads[0] ?? '')).exit).toBe(0);
    const alone = await run('verify', '--head', inside);
    expect(alone.exit).toBe(1);
    expect(alone.out).toContain(
      'or the head is in the file of a closed year: give the files of closed years too',
    );
    const both = await run('verify', '--head', inside, fileOf(2022), fileOf(2023));
    expect(both).toMatchObject(good);
    expect(both.out).toContain('the given head is in the chain');
    expect(both.out).toContain('the years up to 2023 are closed: 40 rows, in files');
  });

  test('the rows in PostgreSQL do not join it', async () => {
    await write(2025, 2);
    await tamper(`UPDATE audit_closings SET hash = sha256('x') WHERE year = 2023`);
    const said = await all();
    expect(said).toContain('file audit-tools-2023.jsonl: the chain does not continue from its end');
    expect(said.some((text) => text.startsWith('edited '))).toBe(true);
  });
});

describe('a year is not closed', () => {
  const refused = async (year: number, words: string) => {
    const before = [await rowsOf('audit'), await rowsOf('audit_closings')];
    const ended = await close(year);
    expect(ended.exit).toBe(1);
    expect(ended.err).toContain(
      `AUDIT_NOT_CLOSABLE: the audit of ${year} cannot be closed: ${words}`,
    );
    expect(readdirSync(out)).toEqual([]);
    expect([await rowsOf('audit'), await rowsOf('audit_closings')]).toEqual(before);
  };

  test('that is not over', async () => {
    // the last year is closed from 2 January on
    const year = new Date(Date.now() - 24 * 3600 * 1000).getUTCFullYear();
    await write(year - 2, 1);
    await write(year - 1, 2);
    await owner.query(`INSERT INTO audit (verdict) VALUES ('accepted')`);
    await sealAudit(relay);
    const [first] = (await owner.query('SELECT min(id) AS id FROM audit')).rows as { id: string }[];
    await refused(year - 1, `row ${first?.id} belongs to ${year - 2}, which must be closed first`);
    await done(year - 2);
    rmSync(fileOf(year - 2));
    await done(year - 1);
    rmSync(fileOf(year - 1));
    await sealAudit(relay);
    await refused(year, `that is possible from ${year + 1}-01-02 on.\n`);
    await refused(year + 1, `that is possible from ${year + 2}-01-02 on.\n`);
    await refused(
      year - 3,
      'no row of that year or of an earlier one is left to be closed. Nothing needs to be done.\n',
    );
  });

  test('while a request of it is not done, or a row is not sealed', async () => {
    await write(2023, 4);
    const [{ id }] = (
      await owner.query(
        `INSERT INTO requests (body_sha256, verdict, at) VALUES ('x', 'accepted', '2023-05-05') RETURNING id`,
      )
    ).rows as [{ id: string }];
    await refused(2023, `the request ${id} is not done`);
    await owner.query('UPDATE requests SET done_at = now()');
    await owner.query(`INSERT INTO audit (at, verdict) VALUES ('2023-12-31', 'accepted')`);
    await refused(2023, 'a row of it is not sealed yet');
    await sealAudit(relay);
    await done(2023);
  });

  test('if its rows are not as they were sealed', async () => {
    await write(2023, 4);
    await tamper(`UPDATE audit SET verdict = 'x' WHERE subject = 2`);
    const ended = await close(2023);
    expect(ended.err).toMatch(/^AUDIT_BROKEN: the audit of 2023 is not as it was sealed/u);
    expect(readdirSync(out)).toEqual([]);
    expect(await rowsOf('audit')).toBe(4);
  });

  /** Writes sealed rows with these times, and returns their numbers. */
  async function writeAt(...times: string[]): Promise<string[]> {
    const { rows } = await owner.query(
      `INSERT INTO audit (at, verdict) SELECT unnest($1::timestamptz[]), 'accepted' RETURNING id`,
      [times],
    );
    await sealAudit(relay);
    return (rows as { id: string }[]).map(({ id }) => id);
  }

  test('if rows of a later year would go with it; that year takes both, when it is over', async () => {
    await write(2022, 2);
    const ids = await writeAt('2023-01-02Z', '2023-05-05Z', '2023-04-04Z', '2022-12-31Z');
    await writeAt('2023-06-06Z');
    await refused(
      2022,
      `row ${ids[1]} of 2023-05-05T00:00:00.000000Z was sealed before row ${ids[3]} of ` +
        '2022-12-31T00:00:00.000000Z, and would be closed with it. Nothing was removed. Look at both rows, and run ' +
        '`chamberlain audit verify`. If neither was forged, run `chamberlain audit close 2023` once 2023 is over: ' +
        'its file holds the rows of both years.\n',
    );
    expect(await done(2023)).toMatchObject({ first: 1, last: 7, removed: 7 });
    expect(await faults(fileOf(2023))).toEqual([]);
    rmSync(fileOf(2023));
    await refused(2022, 'no row of that year or of an earlier one is left to be closed');
  });

  test('if a clock was years ahead in it, until that year is over', async () => {
    await write(2021, 2);
    await writeAt('2024-02-02Z', '2021-12-31Z', '2022-02-02Z');
    await refused(2021, 'row ');
    await refused(2022, 'row ');
    expect(await done(2024)).toMatchObject({ first: 1, last: 5, removed: 5 });
  });

  test('with rows of the first day of the next year, by themselves', async () => {
    await write(2022, 2);
    await writeAt('2023-01-01 23:59Z', '2022-12-31 23:59Z', '2023-05-05Z');
    const [{ id }] = (await owner.query('SELECT min(id) AS id FROM audit')).rows as [
      { id: string },
    ];
    await refused(2023, `row ${id} belongs to 2022, which must be closed first`);
    expect(await done(2022)).toMatchObject({ first: 1, last: 4, removed: 4 });
  });

  test.each(['2024-03-03Z BC', '2023-03-03Z'])(
    'if a row of a later year was changed to %s: that is a broken audit',
    async (time) => {
      await write(2023, 3);
      const [, id] = await writeAt('2024-02-02Z', '2024-03-03Z');
      await tamper(`UPDATE audit SET at = '${time}' WHERE id = ${id}`);
      const ended = await close(2023);
      expect(ended.err).toMatch(/^AUDIT_BROKEN: the audit of 2023 is not as it was sealed/u);
      expect([readdirSync(out), await rowsOf('audit')]).toEqual([[], 5]);
    },
  );

  test.each([
    ['2023-02-02Z BC', '2023-02-02T00:00:00.000000Z BC'],
    ['-infinity', '-infinity'],
    ['infinity', 'infinity'],
    ['12023-02-02Z', '12023-02-02T00:00:00.000000Z'],
  ])('with a row that was sealed with the time %s', async (time, shown) => {
    await write(2022, 2);
    await done(2022);
    rmSync(fileOf(2022));
    const [id] = await writeAt(time, '2023-03-03Z');
    await refused(
      2023,
      `row ${id} has the time ${shown}, which is in no year that can be closed. Nothing was removed. ` +
        'Find out who wrote it: only the owner of the database can choose the time of a row. Until then ' +
        'the rows stay in PostgreSQL.\n',
    );
  });

  test('onto a full disk, or into a folder that does not exist', async () => {
    await write(2023, 600);
    const small = join(out, 'small');
    await onSmallDisk(small, '64k', async () => {
      const ended = await run('close', '2023', '--out', small);
      expect(ended).toMatchObject({
        exit: 1,
        err: expect.stringMatching(
          /^AUDIT_NOT_CLOSABLE: writing .*2023.jsonl: ENOSPC: no space left/u,
        ),
      });
      expect(readdirSync(small)).toEqual([]);
    });
    const nowhere = await run('close', '2023', '--out', join(out, 'none'));
    expect(nowhere).toMatchObject({
      exit: 2,
      err: `USAGE: there is no folder ${join(out, 'none')}. Create it, or name another one with --out.\n`,
    });
    expect([await rowsOf('audit'), await rowsOf('audit_closings')]).toEqual([600, 0]);
    await done(2023);
  });

  test('over another file, which is left as it is', async () => {
    await write(2023, 4);
    writeFileSync(fileOf(2023), 'mine\n');
    expect((await close(2023)).err).toMatch(
      /^AUDIT_NOT_CLOSABLE: .*2023.jsonl: it ends with line 1, without/u,
    );
    expect(readFileSync(fileOf(2023), 'utf8')).toBe('mine\n');
    expect(await rowsOf('audit')).toBe(4);
  });

  test.each(['23', '1999', 'last'])('that is %s', async (word) => {
    expect(await run('close', word)).toMatchObject({
      exit: 2,
      err: expect.stringContaining('such as 2025'),
    });
  });
});

describe('cut', () => {
  const COUNT = 4500;
  let session: PgClient;
  beforeEach(async () => {
    await write(2023, COUNT);
    await write(2024, 10);
    const settings = connectionSettings(world.config, 'owner');
    // it holds a lock while a command starts, which takes long on a busy machine
    session = new PgClient({ ...settings, idle_in_transaction_session_timeout: 0 });
    await session.connect();
  });
  afterEach(() => session.end());

  /** Starts it, and returns when it has begun to write the file: a look now and then could miss the part of it. */
  async function startWriting(): Promise<{ child: ChildProcess; ended: Promise<Ended> }> {
    const watcher = watch(out);
    const begun = new Promise<void>((resolve) => {
      watcher.on('change', (_, name) => String(name).endsWith('.new') && resolve());
    });
    const child = startCli(['audit', 'close', '2023', '--out', out], { config: world.configFile });
    const ended = endOf(child);
    await within('a part of the file', begun).finally(() => watcher.close());
    return { child, ended };
  }

  /** Starts it, and kills it when it waits for what the session holds. */
  async function killWaiting(): Promise<void> {
    const child = startCli(['audit', 'close', '2023', '--out', out], { config: world.configFile });
    const ended = endOf(child);
    await eventually('it to wait', async () => {
      const { rows } = await owner.query(
        `SELECT FROM pg_stat_activity WHERE application_name = 'chamberlain owner' AND datname = current_database()
           AND wait_event_type = 'Lock'`,
      );
      return rows.length > 0;
    });
    child.kill('SIGKILL');
    await ended;
    // otherwise its last statement is done when it has waited long enough
    await owner.query(
      `SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted AND database =
         (SELECT oid FROM pg_database WHERE datname = current_database()) OR pid IN (
           SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database())`,
    );
    await session.query('ROLLBACK');
  }

  async function expectWhole(): Promise<void> {
    expect(await close(2023)).toMatchObject(good);
    expect(readdirSync(out)).toEqual(['audit-tools-2023.jsonl']);
    await sealAudit(relay);
    expect(await verify()).toMatchObject({ faultsInAll: 0, sealed: 11, toRemove: 0 });
    expect(await faults(fileOf(2023))).toEqual([]);
    expect(await rowsOf('audit_closings')).toBe(1);
  }

  test('while it writes the file: the file is written again', async () => {
    const { child, ended } = await startWriting();
    child.kill('SIGKILL');
    await ended;
    expect(await rowsOf('audit')).toBe(COUNT + 10);
    await expectWhole();
  });

  test('between the file and the record: the file counts', async () => {
    const { child, ended } = await startWriting();
    child.kill('SIGSTOP');
    await session.query('BEGIN; LOCK TABLE audit_closings IN SHARE MODE');
    child.kill('SIGCONT');
    await eventually('it to wait', async () => {
      const { rows } = await owner.query(
        `SELECT FROM pg_locks WHERE NOT granted AND relation = 'audit_closings'::regclass`,
      );
      return rows.length > 0;
    });
    child.kill('SIGKILL');
    await ended;
    await session.query('ROLLBACK');
    const written = readFileSync(fileOf(2023));
    expect(await rowsOf('audit_closings')).toBe(0);
    expect(await rowsOf('audit')).toBe(COUNT + 10);
    await expectWhole();
    expect(readFileSync(fileOf(2023)).equals(written)).toBe(true);
  });

  test.each([
    ['between the record and the removal', 1, COUNT],
    ['between two pieces of the removal', 2500, COUNT - 2000],
  ])(
    '%s: the rest is removed',
    async (_what, place, left) => {
      await session.query('BEGIN');
      await session.query(
        `SELECT FROM audit WHERE id = (SELECT audit_id FROM audit_seals WHERE position = ${place}) FOR UPDATE`,
      );
      await killWaiting();
      expect(await rowsOf('audit_closings')).toBe(1);
      expect(await verify()).toMatchObject({
        faultsInAll: 0,
        toRemove: left,
        closed: [{ year: 2023 }],
      });
      expect((await run('verify')).out).toContain(
        `still in PostgreSQL: ${left} of those: run \`chamberlain audit close 2023 --out FOLDER\` again`,
      );
      const moved = `${fileOf(2023)}.elsewhere`;
      copyFileSync(fileOf(2023), moved);
      rmSync(fileOf(2023));
      expect((await close(2023)).err).toMatch(
        /^AUDIT_NOT_CLOSABLE: 2023 is closed, .* give the folder with --out/u,
      );
      writeFileSync(fileOf(2023), readFileSync(moved).subarray(0, -10));
      expect((await close(2023)).err).toMatch(/^AUDIT_NOT_CLOSABLE: /u);
      rmSync(fileOf(2023));
      copyFileSync(moved, fileOf(2023));
      rmSync(moved);
      expect((await verify()).toRemove).toBe(left);
      await expectWhole();
    },
    60_000,
  );

  test('after the record: no other year is closed before its rows are removed, which needs its file', async () => {
    await session.query('BEGIN');
    await session.query('SELECT FROM audit ORDER BY id LIMIT 1 FOR UPDATE');
    await killWaiting();
    rmSync(fileOf(2023));
    await expect(done(2024)).rejects.toMatchObject({
      code: 'AUDIT_NOT_CLOSABLE',
      message: expect.stringContaining('2023 is closed, and its rows are still in PostgreSQL'),
    });
    expect([await rowsOf('audit'), await rowsOf('audit_closings')]).toEqual([COUNT + 11, 1]);
  });

  test('after the record: a row that was lost since is in the file, and blocks nothing', async () => {
    await session.query('BEGIN');
    await session.query('SELECT FROM audit ORDER BY id LIMIT 1 FOR UPDATE');
    await killWaiting();
    await tamper(
      'DELETE FROM audit WHERE id IN (SELECT audit_id FROM audit_seals WHERE position IN (1, 1500, 4500))',
    );
    await expectWhole();
  });

  test('two at once: one of them closes it, and nothing is lost', async () => {
    const ended = await Promise.all([close(2023), close(2023)]);
    expect(ended.map(({ exit }) => exit)).toContain(0);
    await expectWhole();
  });

  test('while another reads the rows, nobody removes them', async () => {
    const { child, ended } = await startWriting();
    child.kill('SIGSTOP');
    const elsewhere = join(world.dir, 'elsewhere');
    mkdirSync(elsewhere);
    const other = await run('close', '2023', '--out', elsewhere);
    child.kill('SIGCONT');
    expect(await ended).toMatchObject(good);
    expect(other).toMatchObject({
      exit: 1,
      err: expect.stringContaining('another `chamberlain audit close` is running'),
    });
    expect(readdirSync(elsewhere)).toEqual([]);
    await expectWhole();
  });

  test('by a process whose pid the next one has', async () => {
    writeFileSync(`${fileOf(2023)}.${process.pid}.new`, 'half');
    await done(2023);
    expect(readdirSync(out)).toEqual(['audit-tools-2023.jsonl']);
  });
});

describe('a database that was restored from a backup', () => {
  test('made before the year was closed has the rows again, and is closed with the same file', async () => {
    await write(2023, 50);
    await write(2024, 5);
    const backup = await dumpDatabase(world);
    await done(2023);
    const written = readFileSync(fileOf(2023));
    await shut();
    await restoreDatabaseCopy(world, backup);
    open();
    expect(await faults(fileOf(2023))).toEqual([]);
    expect(await verify()).toMatchObject({ sealed: 55, closed: [] });
    await done(2023);
    expect(readFileSync(fileOf(2023)).equals(written)).toBe(true);
    expect(await faults(fileOf(2023))).toEqual([]);
  });

  test('made in the middle of that year does not match its file, and the file stays', async () => {
    await write(2023, 50);
    const backup = await dumpDatabase(world);
    await owner.query(
      `INSERT INTO audit (at, verdict) VALUES ('2023-12-31', 'lost with the backup')`,
    );
    await sealAudit(relay);
    await write(2024, 5);
    await done(2023);
    const written = readFileSync(fileOf(2023));
    await shut();
    await restoreDatabaseCopy(world, backup);
    open();
    await write(2024, 5);
    expect(await faults(fileOf(2023))).toEqual([
      'file audit-tools-2023.jsonl: the chain does not continue from its end',
    ]);
    const again = await close(2023);
    expect(again.err).toMatch(
      /^AUDIT_NOT_CLOSABLE: .* exists, and holds other rows than PostgreSQL: move it away/u,
    );
    expect(readFileSync(fileOf(2023)).equals(written)).toBe(true);
    expect(await rowsOf('audit')).toBe(55);
  });
});

describe('the guard in PostgreSQL', () => {
  beforeEach(async () => {
    await write(2022, 5);
    await write(2023, 5);
  });
  const closing = (columns: Record<string, string> = {}) => {
    const values = {
      year: '2022',
      first: '1',
      last: '5',
      audit_id: '(SELECT audit_id FROM audit_seals WHERE position = 5)',
      hash: '(SELECT hash FROM audit_seals WHERE position = 5)',
      file: `'f'`,
      sha256: `repeat('0', 64)`,
      closed_by: `'x'`,
      ...columns,
    };
    return `INSERT INTO audit_closings (${Object.keys(values).join()}) SELECT ${Object.values(values).join()}`;
  };

  test('allows the removal of the rows of a recorded year, and of no others, to anybody', async () => {
    await owner.query(closing());
    for (const sql of [
      'DELETE FROM audit',
      'DELETE FROM audit_seals WHERE position = 6',
      'DELETE FROM audit WHERE id NOT IN (SELECT audit_id FROM audit_seals WHERE position <= 5)',
      'UPDATE audit SET verdict = verdict',
      'UPDATE audit_seals SET position = position',
      'UPDATE audit_closings SET last = 10',
      'DELETE FROM audit_closings',
      'TRUNCATE audit_closings',
      'TRUNCATE audit CASCADE',
    ]) {
      await expect(owner.query(sql)).rejects.toThrow('append-only');
    }
    await owner.query(`INSERT INTO audit (at, verdict) VALUES ('2022-06-06', 'not sealed')`);
    await expect(owner.query(`DELETE FROM audit WHERE verdict = 'not sealed'`)).rejects.toThrow(
      'append-only',
    );
    expect(await rowsOf('audit')).toBe(11);
  });

  test.each<[string, Record<string, string>]>([
    ['that is not over', { year: 'extract(year FROM now())::int' }],
    [
      'whose last row is of another year',
      {
        last: '6',
        audit_id: '(SELECT audit_id FROM audit_seals WHERE position = 6)',
        hash: '(SELECT hash FROM audit_seals WHERE position = 6)',
      },
    ],
    ['of another hash', { hash: `sha256('x')` }],
    ['that does not begin where the chain does', { first: '2' }],
  ])('records no year %s', async (_what, columns) => {
    await expect(owner.query(closing(columns))).rejects.toMatchObject({ code: '55000' });
    await owner.query(closing());
    await expect(owner.query(closing())).rejects.toMatchObject({ code: '55000' });
  });

  test('none of our roles may record a closing, or delete rows', async () => {
    for (const pool of [admin, relay]) {
      await expect(pool.query(closing())).rejects.toMatchObject({ code: '42501' });
      await expect(pool.query('DELETE FROM audit')).rejects.toMatchObject({ code: '42501' });
    }
  });
});
