import { afterAll, beforeAll, test } from '@jest/globals';
import { Redis } from 'ioredis';
import { surviveCrashes } from './crash.ts';
import { query } from './outside.ts';
import { admit, openRunning, type Running } from './running.ts';
let running: Running;
beforeAll(async () => {
  running = await openRunning('crashes');
  await admit(running.portal, 'alice');
  await running.stopWork();
}, 120_000);
afterAll(async () => { await running?.close(); }, 60_000);
test('x', async () => {
  const t = performance.now();
  const timer = setInterval(async () => {
    const { world } = running;
    const redis = new Redis(world.config.redis.url);
    const keys = await redis.keys('bull:requests:*');
    const out: Record<string, unknown> = {};
    for (const q of ['wait', 'active', 'failed', 'stalled', 'marker', 'paused']) {
      const k = `bull:requests:${q}`;
      const type = await redis.type(k);
      out[q] = type === 'list' ? await redis.lrange(k, 0, -1) : type === 'zset' ? await redis.zrange(k, '0', '-1') : type === 'set' ? await redis.smembers(k) : type;
    }
    out['locks'] = keys.filter((k) => k.endsWith(':lock'));
    out['stalled-check'] = await redis.pttl('bull:requests:stalled-check');
    redis.disconnect();
    const rows = await query(world, `SELECT count(*) FROM requests`);
    const conv = await query(world, `SELECT role,state,code,sentence,count(*), max(leased_until-now())::text AS lease FROM convergence WHERE applied<wanted GROUP BY 1,2,3,4`);
    process.stdout.write(`${Math.round(performance.now() - t)} ${JSON.stringify(out)} verdicts ${JSON.stringify(rows)} ${JSON.stringify(conv)}\n`);
  }, 2000);
  try {
    await surviveCrashes(running, { rounds: 15, toolsPerRound: 4, seed: Number(process.env['CHAMBERLAIN_SEED']) });
  } catch (error) {
    const { world, portal } = running;
    const seq = await query(world, `SELECT * FROM event_sequences`);
    const undone = await query(world, `SELECT id, jti, kind, subject, done_at, stuck_at FROM requests WHERE verdict='accepted' AND done_at IS NULL`);
    const raises = await query(world, `SELECT r.*, c.wanted, c.applied, c.state FROM request_raises r JOIN convergence c USING (subject, role)`);
    const redis = new Redis(world.config.redis.url);
    const ev: Record<string, unknown> = {};
    for (const k of (await redis.keys('bull:events.portal*')).filter((k) => !/:e\d+$/.test(k))) {
      const type = await redis.type(k);
      ev[k] = type === 'list' ? await redis.lrange(k, 0, -1) : type === 'zset' ? (await redis.zrange(k, '0', '-1')).length : type === 'set' ? await redis.smembers(k) : type;
    }
    redis.disconnect();
    process.stdout.write(JSON.stringify({ seq, undone, raises, ev, heard: portal.heard.length, last: portal.heard.at(-1), disorder: portal.disorder }, null, 1) + '\n');
    throw error;
  } finally { clearInterval(timer); }
}, 180_000);
