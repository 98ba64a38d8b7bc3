/** Requests and checks over HTTP, one after another, in a realm that does nothing else. */
import { type KeyObject, randomUUID, sign as signBytes } from 'node:crypto';
import { MAKER, toolRequest } from '../idle.ts';
import { API_GOALS as GOALS, type ApiOptions } from '../goals.ts';
import type { MeasuredRealm } from '../realm.ts';
import type { Portal } from '../portal.ts';
import { type Figure, judge, quantile } from '../tools/figure.ts';
import { openCaller } from './callers.ts';
import { mustBe, openConnection } from './http-client.ts';

const PORTAL = 'portal';
const WAIT = { verdict: '/v1/requests?wait=verdict', done: '/v1/requests?wait=done' } as const;

export async function measurePosts(
  { realm, portal, port }: { realm: MeasuredRealm; portal: Portal; port: number },
  bareP50: () => Promise<number>,
  { size, say, show, void: why }: ApiOptions,
): Promise<Figure[]> {
  const caller = openCaller(realm, PORTAL);
  const connection = await openConnection(port);
  const post = async (target: string, token: string): Promise<number> => {
    const bytes = caller.sign('POST', target, token);
    const begin = performance.now();
    mustBe(200, await connection.call(bytes));
    return performance.now() - begin;
  };
  const times = {
    verdict: [] as number[],
    done: [] as number[],
    queue: [] as number[],
    check: [] as number[],
  };
  try {
    for (let n = -size.warmPosts; n < size.posts; n++) {
      if (n % 50 === 0) say(`posts: ${n} of ${size.posts}`);
      const sign = (what: string) =>
        portal.sign(MAKER, toolRequest(`${what}-${n + size.warmPosts}`));
      const first = await sign('verdict');
      const verdict = await post(WAIT.verdict, first.token);
      // the same request again: it is idle when it is done
      await post(WAIT.done, first.token);
      const done = await post(WAIT.done, (await sign('done')).token);
      const queued = await sign('queue');
      const ended = portal.until(queued.jti, 'request.done');
      const begin = performance.now();
      await portal.send([queued]);
      await ended;
      const queue = performance.now() - begin;
      const check = await post(
        '/v1/checks',
        checkToken(realm, caller.key, `check-${n + size.warmPosts}`),
      );
      if (n < 0) continue;
      times.verdict.push(verdict);
      times.done.push(done);
      times.queue.push(queue);
      times.check.push(check);
    }
  } finally {
    connection.close();
  }
  const rows = Object.entries(times).map(([what, samples]) => {
    const [p50, p95] = [quantile(samples, 0.5), quantile(samples, 0.95)];
    return `${p50.toFixed(1).padStart(8)}${p95.toFixed(1).padStart(8)}  ${NAMES[what as keyof typeof NAMES]}`;
  });
  show(['One after another, ms:', '     p50     p95', ...rows].join('\n'));
  const floor = await bareP50();
  const [done, queue] = [quantile(times.done, 0.5), quantile(times.queue, 0.5)];
  return [
    judge(GOALS.verdict, { value: quantile(times.verdict, 0.5), floor, void: why }),
    judge(GOALS.done, { value: done - queue, floor: queue, ratio: done / queue, void: why }),
    judge(GOALS.check, { value: quantile(times.check, 0.5), floor, void: why }),
  ];
}

const NAMES = {
  verdict: 'POST /v1/requests, until the verdict',
  done: 'POST /v1/requests, until the request is done',
  queue: 'the same through the queue, until `request.done` is received',
  check: 'POST /v1/checks',
};

/** A request with the claim `check`, which our own code never signs. */
function checkToken({ config }: MeasuredRealm, key: KeyObject, name: string): string {
  const iat = Math.floor(Date.now() / 1000);
  const claims = {
    ...{ iss: PORTAL, aud: config.realm, jti: randomUUID(), sub: MAKER, check: true },
    ...{ iat, exp: iat + 600, request: { ...toolRequest(name), requestedBy: MAKER } },
  };
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const text = `${part({ alg: 'EdDSA', kid: `${PORTAL}-1` })}.${part(claims)}`;
  return `${text}.${signBytes(null, Buffer.from(text), key).toString('base64url')}`;
}
