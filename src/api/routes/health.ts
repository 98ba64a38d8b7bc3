/** Whether the API is there, and whether what it depends on is. */
import * as z from 'zod';
import { withClient } from '../../database/connection.ts';
import { type Api, route } from '../route.ts';

const HEALTHY = z.object({ status: z.literal('ok') }).describe('the process answers');
const READY = z
  .object({
    ready: z.boolean(),
    dependsOn: z.array(z.object({ name: z.string(), answers: z.boolean() })),
  })
  .describe('what the API depends on, by name');

export const HEALTH_ROUTES = [
  route({
    method: 'GET',
    path: '/healthz',
    summary: 'whether the process answers',
    right: 'none',
    uncounted: true,
    replies: { 200: HEALTHY },
  }).handle(async () => ({ status: 200, body: { status: 'ok' } })),
  route({
    method: 'GET',
    path: '/readyz',
    summary: 'whether each server answers that the API depends on',
    description: 'Without Redis, reads continue, and requests cannot be sent.',
    right: 'none',
    uncounted: true,
    replies: { 200: READY, 503: READY },
  }).handle(async (api) => {
    const dependsOn = await askTogether(api);
    const ready = dependsOn.every(({ answers }) => answers);
    return ready
      ? { status: 200, body: { ready, dependsOn } }
      : { status: 503, body: { ready, dependsOn } };
  }),
];

const DEPENDS_ON: Record<string, (api: Api) => Promise<unknown>> = {
  PostgreSQL: ({ pool }) => withClient(pool, (client) => client.query('SELECT')),
  Redis: ({ queues }) => queues.ping(),
};

type Answers = { name: string; answers: boolean }[];
/** By the pool, because each call has an `Api` of its own. */
const asking = new WeakMap<Api['pool'], Promise<Answers>>();

/** Asks each server. Whoever asks meanwhile gets the same answer, so that many cannot keep the servers busy. */
function askTogether(api: Api): Promise<Answers> {
  const begun = asking.get(api.pool);
  if (begun !== undefined) return begun;
  const answered = Promise.all(
    Object.entries(DEPENDS_ON).map(async ([name, ask]) => {
      const answers = await ask(api).then(
        () => true,
        () => false,
      );
      return { name, answers };
    }),
  ).finally(() => asking.delete(api.pool));
  asking.set(api.pool, answered);
  return answered;
}
