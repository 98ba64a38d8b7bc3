/**
 * How long an admin's own key still counts after it was revoked: from the time of the revocation until the queue and the
 * API have both refused something that it signed. Both are asked without a pause, so the figure contains one look at each.
 */
import { generateKeyPairSync, type KeyObject, randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { type Answer, openQueues, type Queues } from '../../src/backends/redis/queue.ts';
import { readSigningKey, signCall, signToken } from '../../src/requests/token.ts';
import { ADMINS_QUEUE } from '../../src/shared/config.ts';
import { fingerprintOf, lineOf } from '../../src/ssh-keys/ed25519-key.ts';
import { bytesOf, openConnection } from '../api/http-client.ts';
import { STEWARD } from '../idle.ts';
import type { MeasuredRealm } from '../realm.ts';
import { now, quantile } from '../tools/figure.ts';

const ADMIN = 'revoked';
/** It speaks for admins. */
const PORTAL = 'portal';
const WITHIN_MS = 10_000;
const LOOK_MS = 2;

/**
 * Revokes one key after another, and returns the 99th percentile in milliseconds.
 *
 * @param of.port of the API. Intake and the API must work.
 */
export async function measureAdminKeyDead(
  of: { realm: MeasuredRealm; port: number },
  { rounds, show }: { rounds: number; show: (text: string) => void },
): Promise<number> {
  const { config } = of.realm;
  const queues = openQueues(config, 'admin');
  const owner = await of.realm.connect();
  try {
    await makeAdmin(owner, config.admin);
    const times: number[] = [];
    for (let round = 0; round < rounds; round += 1) {
      times.push(await measureOnce({ ...of, queues, owner, key: await addKey(owner) }));
    }
    const [p50, p99] = [quantile(times, 0.5), quantile(times, 0.99)];
    show(`An admin's key is dead after: p50 ${p50.toFixed(1)} ms, p99 ${p99.toFixed(1)} ms`);
    return p99;
  } finally {
    await owner.end();
    await queues.close();
  }
}

interface Round {
  realm: MeasuredRealm;
  port: number;
  queues: Queues;
  owner: pg.Client;
  key: KeyObject;
}

async function measureOnce(of: Round): Promise<number> {
  const { realm, queues, owner, key } = of;
  const fingerprint = fingerprintOf(key);
  const stop = AbortSignal.timeout(WITHIN_MS);
  // each resolves with the time of its first refusal
  const refused = Promise.all([untilQueueRefuses(of, stop), untilApiRefuses(of, stop)]);
  refused.catch(() => {}); // awaited below
  await sleep(20);
  const revocation = await signToken(readSigningKey(realm.keyOf(PORTAL)), {
    ...{ portal: PORTAL, realm: realm.config.realm, kid: `${PORTAL}-1` },
    ...{ jti: randomUUID(), sub: STEWARD, now: new Date() },
    request: { kind: 'admin-key.revoke', requestedBy: STEWARD, fingerprint },
  });
  await queues.addRequest(PORTAL, revocation, true);
  const times = await refused;
  const { rows } = await owner.query('SELECT revoked_at FROM admin_keys WHERE fingerprint = $1', [
    fingerprint,
  ]);
  const { revoked_at: revokedAt } = rows[0] as { revoked_at: Date };
  return Math.max(...times) - revokedAt.getTime();
}

/** Asks one check after another, which intake decides like requests. */
async function untilQueueRefuses({ realm, queues, key }: Round, stop: AbortSignal) {
  for (;;) {
    stop.throwIfAborted();
    const token = await signToken(key, {
      ...{ portal: `admin.${ADMIN}`, realm: realm.config.realm, kid: fingerprintOf(key) },
      ...{ jti: randomUUID(), sub: ADMIN, now: new Date(), check: true },
      request: { kind: 'person.update', requestedBy: ADMIN, person: ADMIN, displayName: 'Again' },
    });
    const sent = await queues.addRequest(ADMINS_QUEUE, token, false);
    let verdict: Answer['verdict'];
    while (verdict === undefined) {
      stop.throwIfAborted();
      await sleep(LOOK_MS);
      ({ verdict } = await sent.readAnswer());
    }
    if (verdict.verdict === 'refused') return now();
  }
}

async function untilApiRefuses({ realm, port, key }: Round, stop: AbortSignal) {
  const connection = await openConnection(port);
  const [method, target] = ['GET', '/v1/admin-keys'];
  try {
    for (;;) {
      stop.throwIfAborted();
      const token = await signCall(key, {
        ...{ portal: `admin.${ADMIN}`, realm: realm.config.realm, kid: fingerprintOf(key) },
        ...{ jti: randomUUID(), now: new Date(), method, target },
      });
      const headers = { authorization: `Chamberlain ${token}` };
      const { status } = await connection.call(bytesOf(method, target, headers));
      if (status === 401) return now();
      if (status !== 200) throw new Error(`the API answers ${status}`);
    }
  } finally {
    connection.close();
  }
}

async function makeAdmin(owner: pg.Client, adminTool: string): Promise<void> {
  await owner.query(
    `WITH id AS (UPDATE id_ranges SET next = next + 1 WHERE kind = 'person' RETURNING next - 1 AS uid),
       made AS (INSERT INTO posix_ids (id, kind) SELECT uid, 'person' FROM id RETURNING id),
       named AS (INSERT INTO names (name, subject) SELECT $1, id FROM made)
     INSERT INTO people (uid, shell_name, display_name, display_name_key, email, admitted_at)
     SELECT id, $1, $1, $1, 'r@example.org', now() FROM made`,
    [ADMIN],
  );
  await owner.query(
    'INSERT INTO realm_members (person) SELECT uid FROM people WHERE shell_name = $1',
    [ADMIN],
  );
  await owner.query(
    `INSERT INTO maintainers (tool, maintainer) SELECT t.uid, p.uid FROM tools t, people p
     WHERE t.name = $1 AND p.shell_name = $2`,
    [adminTool, ADMIN],
  );
}

async function addKey(owner: pg.Client): Promise<KeyObject> {
  const { privateKey } = generateKeyPairSync('ed25519');
  await owner.query(
    `INSERT INTO admin_keys (fingerprint, person, line, label, expires_at, added_by, approved_by, added_at)
     SELECT $1, uid, $2, 'bench', now() + interval '1 day', 'bench', 'bench', now() FROM people WHERE shell_name = $3`,
    [fingerprintOf(privateKey), lineOf(privateKey), ADMIN],
  );
  return privateKey;
}
