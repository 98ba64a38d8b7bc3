/**
 * kill -9 of the API, of Redis and of PostgreSQL at some moment of a POST that waits. A client that sends the same token
 * again gets one verdict, and there is one tool.
 */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type { ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from '../../dev/servers/redis.ts';
import { eventually } from '../scenarios/eventually.ts';
import { endProcess, randomFrom, startWorkers } from '../scenarios/processes/crash.ts';
import { asSuperuser, runningPid, signalTree, startServer } from '../stack.ts';
import { type ApiWorld, openApiWorld } from './api-world.ts';

const ROUNDS = Number(process.env['CHAMBERLAIN_ROUNDS'] ?? 20);
/** A tool is done within this time, mostly: the kill comes before. */
const MOMENT_MS = 80;

let api: ApiWorld;
let port: number;
let configFile: string;
let child: ChildProcess;
const seed = Number(process.env['CHAMBERLAIN_SEED'] ?? Date.now() % 1_000_000);
const random = randomFrom(seed);

beforeAll(async () => {
  process.stdout.write(`crashes of the API: CHAMBERLAIN_SEED=${seed}\n`);
  api = await openApiWorld('api crashes', {
    own: true,
    roles: ['intake', 'relay', 'directory', 'homes', 'databases'],
  });
  // the one in this process stays, and the one that is killed is another
  port = await freePort();
  configFile = join(api.world.dir, 'api.yaml');
  const text = readFileSync(api.world.configFile, 'utf8');
  writeFileSync(configFile, text.replace('127.0.0.1:0', `127.0.0.1:${port}`), { mode: 0o600 });
  await startApiProcess();
  await untilDone(api.requestToken('portal', person('alice')));
  await untilDone(api.requestToken('portal', { kind: 'access.request', requestedBy: 'alice' }));
  const granted = { kind: 'access.grant', requestedBy: 'steward', person: 'alice' };
  await untilDone(api.requestToken('admin.steward', granted), 'admin.steward');
}, 180_000);
afterAll(async () => {
  await endProcess(child, 'SIGTERM');
  await api.close();
}, 60_000);

const person = (shellName: string) => ({
  ...{ kind: 'person.create', requestedBy: shellName, shellName },
  ...{ displayName: `The ${shellName}`, email: `${shellName}@example.org` },
});

async function startApiProcess(): Promise<void> {
  ({ child } = await startWorkers({ configFile }, ['api']));
}

/** One POST that waits. Undefined for a connection that broke. */
function post(
  token: string,
  as: 'portal' | 'admin.steward',
): Promise<{ status: number; body: any } | undefined> {
  const target = '/v1/requests?wait=done&seconds=5';
  const headers = {
    authorization: api.tokenFor(as, 'POST', target),
    'content-type': 'application/jwt',
  };
  return new Promise((resolve) => {
    const sending = httpRequest(
      { host: '127.0.0.1', port, method: 'POST', path: target, headers, agent: false },
      (response) => {
        let text = '';
        response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
        response.on('error', () => resolve(undefined));
        response.on('end', () => {
          resolve({ status: response.statusCode ?? 0, body: JSON.parse(text) });
        });
      },
    );
    sending.on('error', () => resolve(undefined));
    sending.end(token);
  });
}

/** Sends the same token again and again until it is done. Returns what went wrong on the way. */
async function untilDone(
  token: string,
  as: 'portal' | 'admin.steward' = 'portal',
): Promise<string[]> {
  const troubles: string[] = [];
  const deadline = performance.now() + 90_000;
  for (;;) {
    const answer = await post(token, as);
    if (answer?.status === 200) {
      expect(answer.body).toMatchObject({ verdict: 'accepted', done: true });
      return troubles;
    }
    troubles.push(answer === undefined ? 'broken' : String(answer.status));
    expect([undefined, 202, 503]).toContain(answer?.status);
    if (performance.now() > deadline) throw new Error(`never done: ${troubles.join(', ')}`);
    await sleep(100); // as the client that a portal would write
  }
}

async function survive(what: string, kill: () => Promise<void>): Promise<void> {
  const met = new Map<string, number>();
  let hits = 0;
  for (let round = 0; round < ROUNDS; round += 1) {
    const [id, name] = [randomUUID(), `${what}${round}`];
    const wish = { kind: 'tool.create', requestedBy: 'alice', name, title: 'A tool' };
    const token = api.requestToken('portal', wish, { jti: id });
    const done = untilDone(token);
    let isOver = false;
    const onEnd = () => void (isOver = true); // awaited below
    done.then(onEnd, onEnd);
    await sleep(random() * MOMENT_MS); // the moment is what is tested
    if (!isOver) hits += 1;
    await kill();
    for (const trouble of await done) met.set(trouble, (met.get(trouble) ?? 0) + 1);
    const { postgres, config } = api.world;
    const [verdicts, tools] = await asSuperuser(
      postgres,
      config.postgres.database,
      async (client) => [
        (await client.query('SELECT verdict FROM requests WHERE jti = $1', [id])).rows,
        (await client.query('SELECT FROM tools WHERE account = $1', [`tools.${name}`])).rows,
      ],
    );
    expect(verdicts).toEqual([{ verdict: 'accepted' }]);
    expect(tools).toHaveLength(1);
    // nothing else comes of what was sent twice
    expect(await untilDone(token)).toEqual([]);
  }
  const seen = [...met].map(([trouble, count]) => `${trouble} ${count}`).join(', ');
  process.stdout.write(
    `crashes of the API: ${what} ${ROUNDS} times, ${hits} before the answer; callers saw: ${seen}\n`,
  );
  expect(hits).toBeGreaterThan(ROUNDS / 4);
}

test('of the API', async () => {
  await survive('api', async () => {
    await endProcess(child, 'SIGKILL');
    await startApiProcess();
  });
}, 600_000);

test.each(['redis', 'postgres'] as const)(
  'of %s',
  async (name) => {
    await survive(name, async () => {
      const server = api.world[name];
      signalTree(runningPid(server) as number, 'SIGKILL');
      await eventually('its end', () => runningPid(server) === undefined);
      await startServer(server);
    });
  },
  600_000,
);
