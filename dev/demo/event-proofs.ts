/** Receives events as a portal does: by a BullMQ worker, and the public key of the relay. */
import { verify } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { Worker } from 'bullmq';
import type { StackEnvironment } from './outside.ts';
import { attempt, chapter, check, checkSame, remark } from './output.ts';

interface HeardEvent {
  seq: number;
  event: string;
  request?: string;
}

/** Checks the portal's events up to the end of that request: signed, numbered, in order, none missing. */
export async function proveEvents(env: StackEnvironment, request: string): Promise<void> {
  chapter('The events of the portal, in the queue events.portal');
  await attempt('the events are numbered, and in order', async () => {
    const events = await hearUntil(
      env,
      (each) => each.request === request && each.event === 'request.done',
    );
    const about = events.filter((event) => event.request === request);
    for (const event of about) remark(JSON.stringify(event));
    checkSame(
      'a tool is accepted, ready, done',
      about.map(({ event }) => event).join(', '),
      'request.accepted, tool.ready, request.done',
    );
    const inOrder = events.every(({ seq }, index) => seq === index + 1);
    check('the events are signed, numbered, and in order', inOrder, `1 to ${events.length}`);
  });
}

async function hearUntil(
  env: StackEnvironment,
  isLast: (event: HeardEvent) => boolean,
): Promise<HeardEvent[]> {
  const relay = readFileSync(env['EVENTS_KEY'] ?? '', 'utf8');
  const heard: HeardEvent[] = [];
  const { promise, resolve, reject } = Promise.withResolvers<HeardEvent[]>();
  const worker = new Worker(
    'events.portal',
    ({ data }: { data: { token: string } }) => {
      const [header = '', claims = '', signature = ''] = data.token.split('.');
      const isSigned = verify(
        null,
        Buffer.from(`${header}.${claims}`),
        relay,
        Buffer.from(signature, 'base64url'),
      );
      if (!isSigned) reject(new Error('a job is not signed by the relay'));
      const payload = JSON.parse(Buffer.from(claims, 'base64url').toString()) as {
        after: number;
        events: HeardEvent[];
      };
      if (payload.after <= heard.length)
        heard.push(...payload.events.slice(heard.length - payload.after));
      if (heard.some(isLast)) resolve(heard);
      return Promise.resolve({ have: heard.length });
    },
    { connection: { url: env['REDIS_URL'] ?? '', maxRetriesPerRequest: null } },
  );
  worker.on('error', reject);
  const timer = setTimeout(() => reject(new Error(`only ${heard.length} events in 10 s`)), 10_000);
  try {
    return await promise;
  } finally {
    clearTimeout(timer);
    await worker.close();
  }
}
