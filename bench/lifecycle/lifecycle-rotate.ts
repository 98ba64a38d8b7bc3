/** Renews the passwords of every account by one request. */
import { chown, mkdir, open, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { administer } from '../../dev/servers/mariadb.ts';
import { renderCredentialsFile, verifierOf } from '../../src/credentials/credentials.ts';
import { STEWARD } from '../idle.ts';
import { PASSWORD, TOOLS_FIRST } from '../population/population-names.ts';
import type { Portal } from '../portal.ts';
import type { MeasuredRealm } from '../realm.ts';

/** A rotation in which nothing is applied for this long has failed. */
const STALL_MS = 30_000;
const LOOK_EVERY_MS = 100;
const SAY_EVERY_MS = 5000;

/** Rotates routinely; returns when both servers know every new password. */
export async function rotateAll(
  realm: MeasuredRealm,
  portal: Portal,
  say: (line: string) => void,
): Promise<{ accounts: number; seconds: number }> {
  const client = await realm.connect();
  try {
    const request = { kind: 'credentials.rotate', server: 'replica' };
    const signed = await portal.sign(STEWARD, request);
    let doneAt: number | undefined;
    portal.onHeard(({ event, jti }) => {
      if (jti === signed.jti && event === 'request.done') doneAt = performance.now();
    });
    const begin = performance.now();
    await portal.send([signed]);
    let [left, lastAt, said] = [Infinity, begin, begin];
    while (doneAt === undefined) {
      await sleep(LOOK_EVERY_MS);
      const { rows } = await client.query<{ verdict: string; left: number }>(
        `SELECT verdict, (SELECT count(*)::int FROM request_touches WHERE request = r.id) AS left
         FROM requests r WHERE jti = $1`,
        [signed.jti],
      );
      const [row] = rows;
      if (row?.verdict === 'refused') throw new Error('the rotation was refused');
      const now = performance.now();
      if (row !== undefined && row.left < left) [left, lastAt] = [row.left, now];
      if (now - lastAt > STALL_MS)
        throw new Error(`${left} generations are left, and there is no progress`);
      if (now - said > SAY_EVERY_MS) {
        said = now;
        say(`${left} generations are left`);
      }
    }
    const { rows } = await client.query<{ accounts: number }>(
      `SELECT count(*)::int AS accounts FROM credentials c JOIN database_verifiers v USING (account)
       WHERE c.wanted_epoch = 2 AND v.epoch = 2 AND v.previous_verifier = $1`,
      [verifierOf(PASSWORD)],
    );
    return { accounts: rows[0]?.accounts ?? 0, seconds: (doneAt - begin) / 1000 };
  } finally {
    await client.end();
  }
}

/**
 * The time that the disk and the database servers take for as many accounts, by plain loops in parallel, in ms.
 */
export async function rotationFloor(
  { config, stack }: MeasuredRealm,
  count: number,
): Promise<Record<string, number>> {
  // the same password that each account has
  const verifier = verifierOf(PASSWORD);
  const sql = Array.from(
    { length: count },
    (_, n) => `ALTER USER 's${TOOLS_FIRST + n}'@'%' IDENTIFIED BY PASSWORD '${verifier}';`,
  ).join('\n');
  const folder = join(config.files.root + config.files.toolHomes, '.bench-rotation');
  const parts: Record<string, () => Promise<unknown>> = {
    'files: written, fsynced, given away, renamed': () => writeFiles(folder, count),
    'MariaDB replica: ALTER USER': () => administer(stack.replica.socket, sql),
    'MariaDB toolsdb: ALTER USER': () => administer(stack.tools.socket, sql),
  };
  try {
    return Object.fromEntries(
      await Promise.all(
        Object.entries(parts).map(async ([name, act]) => {
          const begin = performance.now();
          await act();
          return [name, performance.now() - begin] as const;
        }),
      ),
    );
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function writeFiles(folder: string, count: number): Promise<void> {
  await mkdir(folder);
  for (let n = 0; n < count; n++) {
    const staged = join(folder, 'new');
    const file = await open(staged, 'wx', 0o600);
    try {
      await file.writeFile(renderCredentialsFile(`s${TOOLS_FIRST + n}`, PASSWORD));
      await file.sync();
    } finally {
      await file.close();
    }
    await chown(staged, TOOLS_FIRST + n, TOOLS_FIRST + n);
    await rename(staged, join(folder, String(n)));
  }
}
