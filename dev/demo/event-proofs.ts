/** Proves with redis-cli what the portal is told. */
import { output, type StackEnvironment } from './outside.ts';
import { attempt, chapter, check, checkSame, remark } from './telling.ts';

/** Looks into the portal's queue of events, as redis-cli shows it: numbered, in order, none left out. */
export async function proveEvents(env: StackEnvironment, request: string): Promise<void> {
  chapter('What the portal hears, in the queue events.portal');
  const redis = (input: string) => output('redis-cli', ['-u', env['REDIS_URL'] ?? ''], { input });
  await attempt('the events are numbered, and in order', async () => {
    const ids = (await redis('LRANGE bull:events.portal:wait 0 -1\n'))
      .trim()
      .split('\n')
      .toReversed();
    const jobs = await redis(ids.map((id) => `HGET bull:events.portal:${id} data\n`).join(''));
    const events = jobs
      .trim()
      .split('\n')
      .map((text) => JSON.parse(text) as { seq: number; event: string; request?: string });
    const about = events.filter((event) => event.request === request);
    for (const event of about) remark(JSON.stringify(event));
    checkSame(
      'a tool is accepted, ready, done',
      about.map(({ event }) => event).join(', '),
      'request.accepted, tool.ready, request.done',
    );
    const inOrder = events.every(({ seq }, index) => seq === index + 1);
    check('the events are numbered, and in order', inOrder, `1 to ${events.length}`);
  });
}
