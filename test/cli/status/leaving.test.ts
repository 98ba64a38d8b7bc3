/**
 * What the command line shows about leaving subjects, on a real PostgreSQL. The moves are simulated by
 * the test, so that each state lasts while it is checked.
 */
import type { ChildProcess } from 'node:child_process';
import { chownSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { openPool, type Pool } from '../../../src/database/connection.ts';
import { openWorld, type World } from '../../stack.ts';
import { endOf, runCli, startCli } from '../run-cli.ts';

const HASH = 'ab'.repeat(32);
const DAY = 24 * 3600 * 1000;

let world: World;
let owner: Pool;
const uids: Record<string, number> = {};

const run = (...args: string[]) => runCli(args, { config: world.configFile });
const json = async (...args: string[]) =>
  JSON.parse((await run(...args, '--json')).out) as Record<string, never>;
const sql = (text: string, ...values: unknown[]) => owner.query(text, values);

async function add(kind: 'person' | 'tool', name: string): Promise<number> {
  const { rows } = await sql(
    `INSERT INTO posix_ids (id, kind)
     SELECT coalesce(max(id), $2) + 1, $1 FROM posix_ids WHERE id > $2 RETURNING id`,
    kind,
    world.config.ids[kind === 'person' ? 'people' : 'tools'][0]?.first,
  );
  const { id } = rows[0] as { id: number };
  await (kind === 'person'
    ? sql(
        `INSERT INTO people (uid, shell_name, display_name, display_name_key, email)
         VALUES ($1, $2, 'The ' || $2, 'the ' || $2, $2 || '@example.org')`,
        id,
        name,
      )
    : sql(
        `INSERT INTO tools (uid, name, account, title) VALUES ($1, $2, 'tools.' || $2, 'A tool')`,
        id,
        name,
      ));
  await sql(
    'INSERT INTO names (name, subject) VALUES ($1, $2)',
    kind === 'tool' ? `tools.${name}` : name,
    id,
  );
  uids[name] = id;
  return id;
}

async function archiveAll(name: string): Promise<void> {
  await sql(
    `INSERT INTO archives (subject, archival, role, manifest_sha256, path, bytes)
     SELECT $1, 1, role, $2, '/srv/chamberlain/' || role || '/' || $3 || '.1', 2048
     FROM unnest(ARRAY['homes', 'databases']) AS role`,
    uids[name],
    HASH,
    name,
  );
}

beforeAll(async () => {
  world = await openWorld('leaving shown', { needs: ['postgres', 'redis'] });
  owner = openPool(world.config, 'owner', { max: 2, durable: false });
  await run('bootstrap', 'steward');
  await sql(`UPDATE convergence SET applied = wanted, state = 'applied'`);
  for (const name of ['alice', 'bob', 'carol', 'dora']) await add('person', name);
  for (const name of ['going', 'soon', 'gone', 'lonely']) await add('tool', name);
});

afterAll(async () => {
  await owner.end();
  await world.close();
});

describe('when nobody is leaving', () => {
  test('status has no section on it', async () => {
    const { out } = await run('status');
    expect(out).not.toContain('leaving');
    expect(await json('status')).toMatchObject({
      leaving: { totals: [], movers: [], count: 0, owed: [], orphaned: 0, held: [] },
    });
    expect((await run('status', '--orphaned')).out).toBe('no tool is orphaned\n');
  });
});

describe('when some are leaving', () => {
  const later = (days: number) => new Date(Date.now() + days * DAY);

  beforeAll(async () => {
    await sql(
      `UPDATE people SET state = 'suspended', suspended_at = now(), suspended_by = 'steward',
         suspension_reason = 'spam', suspended_until = CASE shell_name WHEN 'bob' THEN $1::timestamptz END
       WHERE shell_name IN ('alice', 'bob')`,
      later(3),
    );
    await sql(
      `UPDATE tools SET state = 'disabled', disabled_at = now(), disabled_by = 'dora',
         disabled_reason = 'unused', delete_requested_at = now(), delete_after = $1
       WHERE name = 'soon'`,
      later(30),
    );
    for (const name of ['going', 'gone', 'carol']) {
      await sql('INSERT INTO archivals (subject, archival) VALUES ($1, 1)', uids[name]);
    }
    await sql(
      `UPDATE tools SET state = 'archived', disabled_at = now() WHERE name IN ('going', 'gone')`,
    );
    await sql(
      `UPDATE people SET state = 'archived', suspended_at = now() WHERE shell_name = 'carol'`,
    );
    await archiveAll('gone');
    await archiveAll('carol');
    await sql(
      `UPDATE archivals SET left_at = now(), keep_until = $1 WHERE subject = ANY ($2)`,
      later(365),
      [uids['gone'], uids['carol']],
    );
    await sql(`UPDATE tools SET state = 'deleted' WHERE name = 'gone'`);
    await sql(
      `UPDATE people SET state = 'deleted', display_name = NULL, display_name_key = NULL, email = NULL,
         suspension_reason = NULL WHERE shell_name = 'carol'`,
    );
    await sql(
      `INSERT INTO archive_progress (subject, role, act, done, total) VALUES ($1, 'homes', 'packing', 1048576, 4194304)`,
      uids['going'],
    );
    await sql(
      `INSERT INTO convergence (subject, role, state, code, sentence) VALUES
         ($1, 'homes', 'due', NULL, NULL),
         ($1, 'databases', 'failing', 'STEP_FAILED', 'dumping x: the server has gone away'),
         ($2, 'databases', 'failing', 'BACKEND_UNAVAILABLE', 'the replica does not answer at all'),
         ($3, 'databases', 'failing', 'BACKEND_UNAVAILABLE', 'the replica does not answer at all')`,
      uids['going'],
      uids['gone'],
      uids['lonely'],
    );
    await sql(`UPDATE tools SET orphaned_at = now() - interval '5 days' WHERE name = 'lonely'`);
    await sql(
      `INSERT INTO maintainers (tool, maintainer) VALUES ($1, $2), ($1, $3), ($1, $4), ($4, $2), ($5, $2)`,
      uids['lonely'],
      uids['dora'],
      uids['alice'],
      uids['going'],
      uids['gone'],
    );
  });

  test('status shows who moves next, when, and the progress', async () => {
    const { out, exit } = await run('status');
    expect(exit).toBe(3);
    expect(out).toMatch(
      /^tools\.going +archived +- +delete +homes packing 1\.0 MiB of 4\.0 MiB; databases failing: STEP_FAILED$/mu,
    );
    expect(out).toMatch(/^bob +suspended +\d{4}-\d\d-\d\d, in 3 days +reinstate +-$/mu);
    expect(out).toMatch(/^tools\.soon +disabled +\d{4}-\d\d-\d\d, in 30 days +archive +-$/mu);
    // gone, except for what is owed to a server
    expect(out).toMatch(/^tools\.gone +deleted .*databases failing: BACKEND_UNAVAILABLE$/mu);
    // the reason is shown once, with the first subject that has it
    expect(out.match(/the replica does not answer at all/gu)).toHaveLength(1);
    expect(out).toMatch(
      /^tools\.lonely +databases .*BACKEND_UNAVAILABLE, as for tools\.gone; next/mu,
    );
    // a suspension without an end is not a move, and what is gone completely is at rest
    expect(out).not.toMatch(/^(alice|carol) /mu);
    expect(out).toContain(
      '1 person deleted, 2 people suspended (1 until a date), 1 tool archived, 1 tool deleted, 1 tool disabled (1 to be deleted)',
    );
    expect(out).toContain('1 tool orphaned: see `chamberlain status --orphaned`');
    const order = [...out.matchAll(/^(tools\.going|bob|tools\.soon|tools\.gone) .*(in|-)/gmu)];
    expect(order.map(([, name]) => name).slice(-4)).toEqual([
      'tools.going',
      'bob',
      'tools.soon',
      'tools.gone',
    ]);
  });

  test('its JSON has the same, for programs', async () => {
    const { leaving } = (await json('status')) as never as {
      leaving: {
        movers: { account: string; leaving: { next: { move: string } } }[];
        owed: { code: string }[];
      };
    };
    expect(leaving.movers.map((mover) => [mover.account, mover.leaving.next.move])).toEqual([
      ['tools.going', 'delete'],
      ['bob', 'reinstate'],
      ['tools.soon', 'archive'],
      ['tools.gone', 'remove archives'],
    ]);
    expect(leaving.owed.map(({ code }) => code)).toContain('BACKEND_UNAVAILABLE');
  });

  test('status of a subject shows who closed it, why, and what comes next', async () => {
    const { out } = await run('status', 'bob');
    expect(out).toMatch(/^ {2}suspended +since .* by steward “spam”, until /mu);
    expect(out).toMatch(/^ {2}next +reinstated: .*, in 3 days$/mu);
    expect(await json('status', 'soon')).toMatchObject({
      state: 'disabled',
      leaving: { closed: { by: 'dora', reason: 'unused' }, next: { move: 'archive' } },
    });
  });

  test('a hold is shown wherever the subject is shown, and in the overview of status', async () => {
    await sql(
      `INSERT INTO holds (subject, held_by, held_at, reason, until)
       VALUES ($1, 'steward', now(), 'a dispute', $3), ($2, 'steward', now(), 'over', now())`,
      uids['soon'],
      uids['dora'],
      later(60),
    );
    const { out } = await run('status');
    expect(out).toMatch(/^held .*\n(?:\S.*\n)+\nleaving /mu); // two tables, apart
    expect(out).toMatch(/^held +state +until +by +why$/mu);
    expect(out).toMatch(/^tools\.soon +disabled +\d{4}-\S+ \S+Z +steward +a dispute$/mu);
    expect(out).toMatch(/^tools\.soon +disabled +\d{4}-\d\d-\d\d, in 60 days +held +-$/mu);
    expect(out).not.toMatch(/^dora /mu);
    expect(await json('status')).toMatchObject({
      leaving: { held: [{ account: 'tools.soon', by: 'steward', reason: 'a dispute' }] },
    });
    for (const command of ['status', 'explain']) {
      const page = (await run(command, 'tools.soon')).out;
      expect(page).toMatch(
        /^ {2}held +since .* by steward “a dispute”, until .*; not archived or deleted before then$/mu,
      );
      expect(page).toMatch(/^ {2}next +nothing until the hold ends: .*, in 60 days$/mu);
    }
    await sql('DELETE FROM holds');
  });

  test('an orphaned tool is listed, with the reason, and with how to add a maintainer', async () => {
    const { out } = await run('status', '--orphaned');
    expect(out).toMatch(
      /^tools\.lonely +active +5 d +alice \(suspended\), dora \(not a realm member\), tools\.going \(archived\) +A tool$/mu,
    );
    expect(out).toContain('maintainer.add --tool NAME --person PERSON');
    expect(await json('status', '--orphaned')).toMatchObject({ orphans: [{ name: 'lonely' }] });
    // no longer listed when somebody can use it, or when it is to be deleted, though the mark still exists
    for (const [change, back] of [
      [
        `INSERT INTO realm_members (person) SELECT uid FROM people WHERE shell_name = 'dora'`,
        `DELETE FROM realm_members WHERE person IN (SELECT uid FROM people WHERE shell_name = 'dora')`,
      ],
      [
        `UPDATE tools SET state = 'disabled', delete_requested_at = now(),
           delete_after = now() + interval '1 day' WHERE name = 'lonely'`,
        `UPDATE tools SET state = 'active', delete_requested_at = NULL, delete_after = NULL
         WHERE name = 'lonely'`,
      ],
    ] as const) {
      await sql(change);
      expect(await json('status', '--orphaned')).toMatchObject({ orphans: [] });
      expect(await json('status')).toMatchObject({ leaving: { orphaned: 0 } });
      await sql(back);
    }
    expect(await json('status')).toMatchObject({ leaving: { orphaned: 1 } });
    expect(await run('status', '--orphaned', 'lonely')).toMatchObject({ exit: 2, out: '' });
  });

  test('explain UID of a deleted account shows whose it was, when, and where its archives are', async () => {
    const { out } = await run('explain', String(uids['gone']));
    expect(out).toMatch(
      new RegExp(
        `^${uids['gone']} was the number of tools\\.gone, a tool that was deleted .*\\. Neither the number nor the name will be given again\\. ` +
          'The archives: home in /srv/chamberlain/homes/gone\\.1, databases in /srv/chamberlain/databases/gone\\.1, kept until ',
        'u',
      ),
    );
    expect(out).toContain(`SHA-256 of manifest.json ${HASH}`);
    expect(out).toContain('nobody while tools.gone is deleted');
    expect(out).toMatch(/^ {2}to restore +until then: `chamberlain restore tools\.gone`$/mu);
    const database = `s${uids['gone']}__data`;
    const { known } = (await json('explain', database)) as never as { known: string[] };
    expect(known[0]).toBe(
      `${database} was a database of tools.gone: s${uids['gone']} is deleted, and so are its databases.`,
    );
    const locked = (await json('explain', `s${uids['soon']}__x`)) as never as { known: string[] };
    expect(locked.known[0]).toContain('is locked, because tools.soon is disabled.');
  });

  test('nobody can log in through a tool that is being archived', async () => {
    const { out } = await run('explain', 'tools.lonely');
    expect(out).toMatch(/through tools\.going, since .* no: .*tools\.going is archived/u);
  });

  test('a file of a deleted account is explained by the uid that owns it', async () => {
    const file = join(world.dir, 'found later');
    writeFileSync(file, '');
    chownSync(file, uids['gone'] ?? 0, 0);
    const { known, subjects } = await json('explain', file);
    expect(known).toEqual([
      `On this machine, ${file} belongs to uid ${uids['gone']}, which is tools.gone.`,
      expect.stringContaining('was deleted'),
    ]);
    expect(subjects).toMatchObject([{ account: 'tools.gone' }]);
    const home = join(world.dataRoot, 'data/project/soon');
    mkdirSync(home);
    chownSync(home, uids['soon'] ?? 0, 0);
    writeFileSync(join(home, 'x'), '');
    chownSync(join(home, 'x'), uids['gone'] ?? 0, 0);
    const inside = await json('explain', '/data/project/soon/x');
    expect(inside['subjects']).toMatchObject([
      { account: 'tools.soon' },
      { account: 'tools.gone' },
    ]);
    expect((inside['known'] as unknown as string[])[1]).toContain(
      `belongs to uid ${uids['gone']}, which is tools.gone`,
    );
    chownSync(file, 4_000_000, 0);
    expect((await json('explain', file))['known']).toEqual(
      expect.arrayContaining([
        expect.stringContaining('belongs to uid 4000000, which no person or tool has'),
      ]),
    );
  });

  test('an erased person shows nothing personal', async () => {
    for (const words of [
      ['explain', 'carol'],
      ['status', 'carol'],
    ]) {
      const { out } = await run(...words);
      expect(out).toContain('carol');
      expect(out).not.toMatch(/The carol|@example/u);
    }
  });
});

test('of many leaving subjects only the next are shown, but all are counted', async () => {
  for (let n = 0; n < 40; n += 1) await add('person', `many${n}`);
  await sql(
    `UPDATE people SET state = 'suspended', suspended_at = now(), suspended_until = now() + interval '9 days'
     WHERE shell_name LIKE 'many%'`,
  );
  const { out } = await run('status');
  expect(out.match(/^many\d+ /gmu)).toHaveLength(28);
  expect(out).toContain('… and 14 more\n1 person deleted, 42 people suspended (41 until a date), ');
});

describe('what waits for an admin', () => {
  const ID = '5f0c4c1e-0b6d-4f0e-9a57-0c3f6a1f2b11';

  beforeAll(async () => {
    await sql(
      `INSERT INTO requests (portal, jti, body_sha256, kind, requested_by, approved_by, subject, verdict)
       VALUES ('portal', $1, '\\x00', 'person.delete', 'dora', 'dora', $2, 'accepted')`,
      ID,
      uids['dora'],
    );
    await sql(
      `INSERT INTO approvals (request, portal, kind, subject, requested_by, body, why)
       VALUES ($1, 'portal', 'person.delete', $2, 'dora', '{"reason": "I leave"}', 'another admin has to approve a deletion')`,
      ID,
      uids['dora'],
    );
  });

  test('is listed with the requester, the reason, and the commands that decide it', async () => {
    const { out } = await run('requests');
    expect(out).toMatch(
      new RegExp(
        `^Waiting for an admin\\nnumber +id .*\\n\\d+ +${ID} +portal +person\\.delete +dora +dora +\\d+ s +another admin has to approve a deletion \\(“I leave”\\)\\n` +
          'chamberlain submit request\\.approve --request NUMBER --wait\\nchamberlain submit request\\.reject --request NUMBER --reason WHY --wait\\n\\n',
        'u',
      ),
    );
    expect(out).toMatch(new RegExp(`${ID} .*waiting +another admin has to approve`, 'u'));
    expect(await json('requests')).toMatchObject({ toApprove: [{ request: ID, account: 'dora' }] });
    expect((await run('status')).out).toContain(
      'waiting for an admin: 1 to be approved: see `chamberlain requests`',
    );
    expect((await run('status', 'dora')).out).toMatch(
      /^ {2}waits +person\.delete, requested by dora /mu,
    );
  });

  // the same request again: its verdict is there
  const submit = () =>
    run(
      ...['submit', 'person.delete', '--person', 'dora', '--id', ID, '--wait'],
      ...['--portal', 'portal', '--portal-key', world.portalKey, '--requestedBy', 'dora'],
    );

  test('submit --wait says so, and ends with 3', async () => {
    const { exit, err } = await submit();
    expect(exit).toBe(3);
    expect(err).toMatch(
      /WAITING: another admin has to approve a deletion\. To approve it, another admin runs `chamberlain submit request\.approve --request /u,
    );
  });

  test('it does not count as a request with which a role is behind', async () => {
    await sql(`DELETE FROM request_touches`);
    expect(await json('status')).toMatchObject({ oldestRequest: null });
  });

  test('once it is decided, the page shows by whom', async () => {
    await sql(
      `UPDATE approvals SET state = 'rejected', decided_by = 'steward', decided_at = now(), body = NULL`,
    );
    await sql('UPDATE requests SET done_at = now() WHERE jti = $1', ID);
    expect(await submit()).toMatchObject({
      exit: 1,
      err: expect.stringMatching(/^REJECTED: it was rejected by steward$/mu),
    });
    const { out } = await run('requests', ID);
    expect(out).toMatch(/approved by +-\n.*\n +verdict +rejected\n +why +rejected by steward/u);
    await sql(`UPDATE approvals SET state = 'approved'`);
    expect((await run('requests', ID)).out).toMatch(
      /requested by +dora\n +approved by +steward\n/u,
    );
    await sql(`UPDATE people SET state = 'suspended', suspended_at = (SELECT decided_at FROM approvals),
                 suspended_by = 'dora', delete_after = now() WHERE shell_name = 'dora'`);
    expect((await run('status')).out).toMatch(
      /people suspended \(\d+ until a date, 1 to be deleted\)/u,
    );
    for (const command of ['status', 'explain']) {
      expect((await run(command, 'dora')).out).toMatch(
        /^ {2}approved +person\.delete, requested by dora, approved by steward 20/mu,
      );
    }
    await sql(`UPDATE people SET state = 'active', delete_after = NULL WHERE shell_name = 'dora'`);
  });
});

test('a suspension of many is shown with their names', async () => {
  const { rows } = await sql(
    `INSERT INTO requests (portal, jti, body_sha256, kind, requested_by, approved_by, verdict)
     VALUES ('portal', gen_random_uuid(), '\\x01', 'person.suspend', 'steward', 'steward', 'accepted')
     RETURNING id, jti`,
  );
  const { id, jti } = rows[0] as { id: string; jti: string };
  const names = ['alice', 'bob', 'carol', 'dora', 'eve'];
  await sql(
    `INSERT INTO audit (request, kind, account, verdict)
     SELECT $1, 'person.suspend', n, 'accepted' FROM unnest($2::text[]) AS n`,
    id,
    names,
  );
  expect((await run('requests')).out).toMatch(/ steward +alice, bob, carol, and 2 more +accepted/u);
  expect((await run('requests', jti)).out).toMatch(/^ {2}subject +alice, bob, carol, dora, eve$/mu);
  expect(await json('requests', jti)).toMatchObject({ accounts: names });
});

describe('with intake running: restore', () => {
  let workers: ChildProcess;
  beforeAll(() => {
    workers = startCli(['work', 'intake', 'relay'], { config: world.configFile });
    workers.stderr?.resume();
  });
  afterAll(async () => {
    const ended = endOf(workers);
    workers.kill('SIGTERM');
    await ended;
  });

  test('a boolean field is an option without a value', async () => {
    const { err } = await run(
      ...['submit', 'credentials.rotate', '--person', 'dora', '--atOnce', '--wait'],
    );
    expect(err).toMatch(/^CREDENTIALS_NONE: /mu);
  });

  test('of a tool that is not deleted is refused, with the code', async () => {
    const { exit, out, err } = await run('restore', 'tools.lonely');
    expect({ exit, out }).toEqual({ exit: 1, out: '' });
    expect(err).toMatch(/^TOOL_NOT_DELETED: /mu);
    expect(await json('restore', 'nosuch')).toMatchObject({
      tool: 'nosuch',
      verdict: 'refused',
      done: false,
      code: 'TOOL_UNKNOWN',
    });
  });

  test('of a person is refused before anything is sent, with the right command', async () => {
    expect(await run('restore', 'dora')).toEqual({
      exit: 1,
      out: '',
      err:
        'TOOL_UNKNOWN: dora is a person, and no tool has this name. To restore a deleted person, run ' +
        '`chamberlain submit person.restore --person dora --displayName NAME --email ADDRESS --wait`.\n',
    });
  });

  test('is followed until the tool is active again and everything is in place', async () => {
    const ended = run('restore', 'tools.gone', '--json');
    await played('archived', `returning_at IS NOT NULL`);
    await sql(
      `UPDATE convergence SET applied = wanted, state = 'applied', leased_until = NULL
       WHERE subject = $1 OR role = 'directory'`,
      uids['gone'],
    );
    // once the calendar has made it active, everything else is made, and is followed too
    await played('active', 'back_at IS NOT NULL');
    const still = sleep(1500, 'followed still');
    expect(await Promise.race([ended, still])).toBe('followed still');
    await untilEnded(ended, () =>
      sql(
        `UPDATE convergence SET applied = wanted, state = 'applied', leased_until = NULL
       WHERE subject = $1 OR role = 'directory'`,
        uids['gone'],
      ),
    );
    const { exit, out } = await ended;
    expect({ exit, ...(JSON.parse(out) as object) }).toMatchObject({
      exit: 0,
      tool: 'gone',
      verdict: 'accepted',
      done: true,
    });
  });

  test('a restoration that takes longer than --timeout ends with 5, and continues', async () => {
    await sql(
      `UPDATE archivals SET back_at = NULL, returning_at = NULL WHERE subject = $1`,
      uids['gone'],
    );
    await sql(`UPDATE tools SET state = 'archived' WHERE uid = $1`, uids['gone']);
    await sql(`UPDATE tools SET state = 'deleted' WHERE uid = $1`, uids['gone']);
    const { exit, err } = await run('restore', 'gone', '--timeout', '6');
    expect(exit).toBe(5);
    expect(err).toMatch(
      /TIMEOUT: the role (homes|databases|directory) is not done with .*; the restoration continues\n$/u,
    );
  });
});

async function played(state: string, archival: string): Promise<void> {
  for (;;) {
    const { rowCount } = await sql(
      `SELECT FROM tools t JOIN archivals d ON d.subject = t.uid
       WHERE t.uid = $1 AND t.state = $2 AND ${archival}`,
      uids['gone'],
      state,
    );
    if (rowCount === 1) return;
    await sleep(25);
  }
}

async function untilEnded(ended: Promise<unknown>, act: () => Promise<unknown>): Promise<void> {
  let open = true;
  void ended.finally(() => (open = false));
  while (open) {
    await act();
    await sleep(50);
  }
}
