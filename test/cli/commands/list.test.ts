/** `chamberlain list people`, `tools` and `keys`: each page, each filter. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { EXIT } from '../../../src/cli/exit.ts';
import { openPool, type Pool } from '../../../src/database/connection.ts';
import { openWorld, type World } from '../../stack.ts';
import { type Ended, runCli } from '../run-cli.ts';

const PEOPLE = 7;

let world: World;
let owner: Pool;

beforeAll(async () => {
  world = await openWorld('list', { needs: ['postgres'] });
  owner = openPool(world.config, 'owner', { max: 1, durable: false });
  await owner.query(`
    INSERT INTO posix_ids (id, kind)
      SELECT 3000000 + n, 'person' FROM generate_series(1, ${PEOPLE}) n UNION ALL
      SELECT 4000000 + n, 'tool' FROM generate_series(1, 3) n;
    INSERT INTO people (uid, shell_name, display_name, display_name_key, email, state)
      SELECT 3000000 + n, 'p' || n, 'P ' || n, 'p ' || n, 'p' || n || '@example.org',
             CASE n WHEN 2 THEN 'suspended' ELSE 'active' END
      FROM generate_series(1, ${PEOPLE - 1}) n UNION ALL
      SELECT 3000000 + ${PEOPLE}, 'gone', NULL, NULL, NULL, 'deleted';
    INSERT INTO realm_members (person) VALUES (3000001);
    INSERT INTO tools (uid, name, account, title, state) VALUES
      (4000001, 'bridge', 'tools.bridge', 'A bridge', 'active'),
      (4000002, 'bridgebot', 'tools.bridgebot', 'Another', 'disabled'),
      (4000003, 'zoo', 'tools.zoo', 'A zoo', 'active');
    INSERT INTO maintainers (tool, maintainer)
      SELECT 4000001, 3000000 + n FROM generate_series(1, 5) n UNION ALL SELECT 4000002, 4000001;
    INSERT INTO ssh_keys (person, fingerprint, line, label, expires_at, removed_at) VALUES
      (3000001, 'SHA256:one', 'ssh-ed25519 AAAA', 'laptop', NULL, NULL),
      (3000001, 'SHA256:two', 'ssh-rsa AAAA', '', now() - interval '1 day', NULL),
      (3000002, 'SHA256:three', 'ssh-ed25519 AAAB', '', now() + interval '1 day', NULL),
      (3000001, 'SHA256:four', '', '', NULL, now())`);
});
afterAll(async () => {
  await owner.end();
  await world.close();
});

function run(...args: string[]): Promise<Ended> {
  return runCli(args, { config: world.configFile });
}

async function read(noun: string, ...flags: string[]): Promise<[rows: unknown[], next: unknown]> {
  const { exit, out, err } = await run('list', noun, '--json', ...flags);
  expect({ exit, err }).toEqual({ exit: EXIT.done, err: '' });
  const { next, ...lists } = JSON.parse(out) as Record<string, unknown>;
  expect(Object.keys(lists)).toEqual([noun]);
  return [lists[noun] as unknown[], next];
}

async function names(noun: string, key: string, ...flags: string[]): Promise<unknown[]> {
  const [rows] = await read(noun, ...flags);
  return rows.map((row) => (row as Record<string, unknown>)[key]);
}

describe('list people', () => {
  test('shows each with number, state, access and keys, aligned, quiet when piped', async () => {
    const { exit, out } = await run('list', 'people', '--prefix', 'p');
    expect(exit).toBe(EXIT.done);
    const [head = '', ...lines] = out.trimEnd().split('\n');
    expect(head).toMatch(
      /^person +number +state +access +keys +created +mail +verified +display name$/u,
    );
    expect(lines).toHaveLength(PEOPLE - 1);
    expect(lines[0]).toMatch(/^p1 +3000001 +active +yes +2 +[\d-]{10} +p1@example\.org +- +P 1$/u);
    expect(lines[1]).toMatch(/^p2 +3000002 +suspended +no +1 /u);
    const [rows] = await read('people', '--prefix', 'g');
    expect(rows).toMatchObject([
      { account: 'gone', uid: 3_000_007, state: 'deleted', displayName: null, email: null },
    ]);
  });

  test('shows how to get the next page; all pages together hold each row once', async () => {
    const seen: string[] = [];
    let args = ['list', 'people', '--state', 'active', '--prefix', 'p', '--limit', '2'];
    for (;;) {
      const { out } = await run(...args);
      seen.push(...[...out.matchAll(/^(p\d)/gmu)].map(([name]) => name));
      const more = /^there are more: chamberlain (.*)$/mu.exec(out)?.[1];
      if (more === undefined) break;
      args = more.split(' ');
      expect(args.slice(0, 2)).toEqual(['list', 'people']);
    }
    expect(seen).toEqual(['p1', 'p3', 'p4', 'p5', 'p6']);
    expect((await read('people', '--limit', '2'))[1]).toBe('p1');
    expect((await read('people', '--limit', '7'))[1]).toBeNull();
    expect((await run('list', 'people', '--after', 'z')).out).toBe('no people\n');
  });

  test('refuses an unknown state, and a page without a limit', async () => {
    const state = await run('list', 'people', '--state', 'disabled');
    expect(state.exit).toBe(EXIT.usage);
    expect(state.err).toContain('Allowed choices are active, suspended, archived, deleted.');
    expect((await run('list', 'people', '--limit', '10001')).exit).toBe(EXIT.usage);
  });
});

describe('list tools', () => {
  test('shows a few maintainers, and all in JSON; a name may be given as the account', async () => {
    const { out } = await run('list', 'tools');
    expect(out).toMatch(
      /^tools\.bridge +4000001 +active +[\d-]{10} +p1, p2, p3, and 2 more +A bridge$/mu,
    );
    expect(await read('tools', '--state', 'active', '--limit', '1')).toMatchObject([
      [{ account: 'tools.bridge', maintainers: ['p1', 'p2', 'p3', 'p4', 'p5'] }],
      'bridge',
    ]);
    const named = (...flags: string[]) => names('tools', 'name', ...flags);
    expect(await named('--prefix', 'bridge')).toEqual(['bridge', 'bridgebot']);
    expect(await named('--prefix', 'tools.bridgeb')).toEqual(['bridgebot']);
    expect(await named('--after', 'tools.bridge')).toEqual(['bridgebot', 'zoo']);
    expect(await named('--state', 'disabled')).toEqual(['bridgebot']);
  });
});

describe('list keys', () => {
  test('shows the person and the expiry of each; removed keys only with --removed', async () => {
    const { out } = await run('list', 'keys');
    expect(out).toMatch(/^1 +p1 +ssh-ed25519 +SHA256:one +[\d-]{10} +- +laptop$/mu);
    const of = (...flags: string[]) => names('keys', 'fingerprint', ...flags);
    expect(await of()).toEqual(['SHA256:one', 'SHA256:two', 'SHA256:three']);
    expect(await of('--person', 'p1')).toEqual(['SHA256:one', 'SHA256:two']);
    expect(await of('--expired')).toEqual(['SHA256:two']);
    expect(await of('--removed')).toEqual(['SHA256:four']);
    expect((await run('list', 'keys', '--removed')).out).toMatch(
      /^4 +p1 +- +SHA256:four +[\d-]{10} +- +[\d-]{10} [\d:]{8}Z +-$/mu,
    );
    expect(await of('--after', '2')).toEqual(['SHA256:three']);
    expect(await read('keys', '--limit', '2', '--person', 'p1')).toMatchObject([
      [{ id: 1 }, { id: 2, type: 'ssh-rsa' }],
      null,
    ]);
  });

  test('shows how to get the next page, with the same filters', async () => {
    const { out } = await run('list', 'keys', '--person', 'p1', '--limit', '1');
    expect(out).toMatch(
      /^there are more: chamberlain list keys --limit 1 --person p1 --after 1$/mu,
    );
  });

  test('of an unknown person ends with 1', async () => {
    expect(await run('list', 'keys', '--person', 'p9')).toEqual({
      exit: EXIT.failed,
      out: '',
      err: expect.stringMatching(
        /^PERSON_UNKNOWN: no person or tool is called 'p9' \(did you mean p1 or .*\)\. Check the name\.\n$/u,
      ),
    });
  });
});
