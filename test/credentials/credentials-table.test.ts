import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import {
  lookAtPasswords,
  openVerifiers,
  recordVerifier,
} from '../../src/credentials/credentials-table.ts';
import { openPool, type Pool, withClient } from '../../src/database/connection.ts';
import { wantTool } from '../laws-world.ts';
import { openWorld, type World } from '../stack.ts';

const [A, B, C] = ['A', 'B', 'C'].map((digit) => `*${digit.repeat(40)}`) as [
  string,
  string,
  string,
];
/** seconds */
const OVERLAP = 3600;

let world: World;
let owner: Pool;
let uid: number;
let statements = 0;
let readVerifier: ReturnType<typeof openVerifiers>;

beforeAll(async () => {
  world = await openWorld('credentials', { needs: ['postgres'] });
  owner = openPool(world.config, 'owner', { max: 2, durable: false });
  const query = ((...of: Parameters<Pool['query']>) => {
    statements += 1;
    return owner.query(...of);
  }) as unknown as Pool['query'];
  readVerifier = openVerifiers({ query });
});
afterAll(async () => {
  await owner.end();
  await world.close();
});

/** A new account for each test. */
beforeEach(async () => {
  ({ uid } = await wantTool(owner, world, []));
});

const record = (epoch: number, verifier: string, known = false) =>
  withClient(owner, (client) => recordVerifier(client, { account: uid, epoch, verifier, known }));
const want = (epoch: number, overlapSeconds: number) =>
  owner.query('UPDATE credentials SET wanted_epoch = $2, overlap_seconds = $3 WHERE account = $1', [
    uid,
    epoch,
    overlapSeconds,
  ]);
const previous = async () => {
  const { rows } = await owner.query(
    `SELECT previous_verifier AS verifier,
       round(extract(epoch FROM previous_until - recorded_at))::int AS seconds
     FROM database_verifiers WHERE account = $1`,
    [uid],
  );
  return rows[0] as { verifier: string | null; seconds: number | null };
};
const NONE = { verifier: null, seconds: null };

test('a verifier is found only for the epoch that it was made for', async () => {
  expect(await readVerifier(uid, 1)).toBeUndefined();
  await record(1, A);
  expect(await readVerifier(uid, 1)).toEqual({ verifier: A });
  expect(await readVerifier(uid, 2)).toBeUndefined();
  await want(2, 0);
  await record(2, B);
  expect(await readVerifier(uid, 1)).toBeUndefined();
  expect(await readVerifier(uid, 2)).toEqual({ verifier: B });
});

test('verifiers that are requested at the same time are read in one statement, and each caller gets its own', async () => {
  const one = uid;
  await record(1, A);
  const other = (uid = (await wantTool(owner, world, [])).uid);
  await record(1, B);
  const before = statements;
  const ask = [one, one, other, other].map((account) => readVerifier(account, 1));
  expect(await Promise.all([...ask, readVerifier(one, 2)])).toEqual([
    ...[{ verifier: A }, { verifier: A }, { verifier: B }, { verifier: B }],
    undefined,
  ]);
  expect(statements - before).toBe(1);
  await want(2, 0);
  await record(2, C);
  expect(await readVerifier(other, 2)).toEqual({ verifier: C });
});

describe('the previous password', () => {
  beforeEach(async () => {
    await record(1, A);
  });

  test('ends at once without an overlap', async () => {
    await want(2, 0);
    await record(2, B);
    expect(await previous()).toEqual(NONE);
  });

  test('goes on working during the overlap', async () => {
    await want(2, OVERLAP);
    await record(2, B);
    expect(await previous()).toEqual({ verifier: A, seconds: OVERLAP });
    expect(await readVerifier(uid, 2)).toEqual({ verifier: B, previous: A });
  });

  test('ends if others may know it, whatever the overlap', async () => {
    await want(2, OVERLAP);
    await record(2, B, true);
    expect(await previous()).toEqual(NONE);
  });

  test('ends in the middle of its overlap when the next password is rotated routinely', async () => {
    await want(2, OVERLAP);
    await record(2, B);
    await want(3, 2 * OVERLAP);
    await record(3, C);
    expect(await previous()).toEqual({ verifier: B, seconds: 2 * OVERLAP });
  });

  test('ends in the middle of its overlap when the next password is rotated at once', async () => {
    await want(2, OVERLAP);
    await record(2, B);
    await want(3, 0);
    await record(3, C);
    expect(await previous()).toEqual(NONE);
  });

  test('ends if its file was lost, and an older one that still works does so until its time', async () => {
    await want(2, OVERLAP);
    await record(2, B);
    await owner.query(
      `UPDATE database_verifiers SET previous_until = now() + interval '60 s' WHERE account = $1`,
      [uid],
    );
    await record(2, C);
    expect(await previous()).toEqual({ verifier: A, seconds: 60 });
    await record(2, B, true);
    expect(await previous()).toEqual(NONE);
  });

  test('ends if its file was lost and there is no older one', async () => {
    await want(1, OVERLAP);
    await record(1, B);
    expect(await previous()).toEqual(NONE);
  });

  test('touches the databases when its time is over, too', async () => {
    await want(2, OVERLAP);
    await record(2, B);
    const generation = async () => {
      const { rows } = await owner.query(
        "SELECT wanted FROM convergence WHERE subject = $1 AND role = 'databases'",
        [uid],
      );
      return Number((rows[0] as { wanted: string }).wanted);
    };
    const before = await generation();
    await owner.query(
      `UPDATE database_verifiers SET previous_verifier = NULL, previous_until = NULL
       WHERE account = $1`,
      [uid],
    );
    expect(await generation()).toBe(before + 1);
  });
});

test.each(['', 'password', `*${'a'.repeat(40)}`, `*${'A'.repeat(39)}`, `*${'A'.repeat(41)}`])(
  '%j is not a verifier, and is not stored',
  async (verifier) => {
    await record(1, A);
    await expect(record(2, verifier)).rejects.toThrow();
    expect(await readVerifier(uid, 1)).toEqual({ verifier: A });
  },
);

describe('verifiers recorded together', () => {
  const verifierOf = async (account: number, epoch: number) =>
    (await readVerifier(account, epoch))?.verifier;

  test('are all that arrive while one is being recorded, in few transactions', async () => {
    const accounts: number[] = [];
    for (let n = 0; n < 20; n += 1) accounts.push((await wantTool(owner, world, [])).uid);
    await withClient(owner, (client) =>
      Promise.all(
        accounts
          .toReversed()
          .map((account) =>
            recordVerifier(client, { account, epoch: 1, verifier: A, known: false }),
          ),
      ),
    );
    const { rows } = await owner.query(
      `SELECT count(*)::int AS accounts, count(DISTINCT xmin::text)::int AS transactions
       FROM database_verifiers WHERE account = ANY ($1)`,
      [accounts],
    );
    expect(rows).toEqual([{ accounts: 20, transactions: 1 }]);
  });

  test('fail together, and later ones do not', async () => {
    const [other, later] = [await wantTool(owner, world, []), await wantTool(owner, world, [])];
    await withClient(owner, async (client) => {
      const of = (account: number, verifier: string) =>
        recordVerifier(client, { account, epoch: 1, verifier, known: false });
      const ends = await Promise.allSettled([of(uid, 'no verifier'), of(other.uid, A)]);
      expect(ends.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
      await of(later.uid, B);
    });
    expect(await verifierOf(other.uid, 1)).toBeUndefined();
    expect(await verifierOf(later.uid, 1)).toBe(B);
  });
});

describe('a password that was changed on a server', () => {
  let reader: Pool;
  beforeAll(() => {
    reader = openPool(world.config, 'databases_reader', { max: 1, durable: false });
  });
  afterAll(() => reader.end());

  /** Tools that the databases role last worked on so many seconds ago. */
  async function rest(count: number, seconds: number): Promise<number[]> {
    const tools = await Promise.all(
      Array.from({ length: count }, () => wantTool(owner, world, [])),
    );
    const uids = tools.map((tool) => tool.uid);
    await owner.query(
      `INSERT INTO convergence (subject, role, applied, state, next_try_at)
       SELECT unnest($1::int[]), 'databases', 1, 'applied', now() - make_interval(secs => $2)`,
      [uids, seconds],
    );
    return uids;
  }
  /** The tools that are checked again if each password was changed so long ago. */
  async function lookedAt(uids: readonly number[], secondsAgo: number): Promise<number[]> {
    await lookAtPasswords(
      reader,
      uids.map((subject) => ({ subject, secondsAgo })),
    );
    const { rows } = await owner.query(
      'SELECT subject FROM convergence WHERE subject = ANY ($1) AND applied < wanted ORDER BY 1',
      [uids],
    );
    return (rows as { subject: number }[]).map(({ subject }) => subject);
  }

  test('by somebody else makes the role check the account again, once', async () => {
    const uids = await rest(1, 60);
    expect(await lookedAt(uids, 20)).toEqual(uids);
    await lookedAt(uids, 20);
    const { rows } = await owner.query('SELECT wanted FROM convergence WHERE subject = $1', uids);
    expect(rows).toEqual([{ wanted: '2' }]);
  });

  test('by the role itself, which was working on it then, does not', async () => {
    expect(await lookedAt(await rest(1, 60), 60)).toEqual([]);
    expect(await lookedAt(await rest(1, 60), 61)).toEqual([]);
  });

  test('is left to the sweep if there are more than ten', async () => {
    expect(await lookedAt(await rest(11, 60), 20)).toEqual([]);
    expect(await lookedAt(await rest(10, 60), 20)).toHaveLength(10);
  });
});
