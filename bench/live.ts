/**
 * How soon a change of the configuration is in use everywhere, and a revoked key of an admin is refused everywhere. Each
 * role is a process of its own, as in production, and a portal sends requests during the reloads.
 *
 *   reload_ms    from the command until every process is on the new configuration; the floor is `chamberlain --version`
 *   reload_lost  requests that got no verdict, or another one than they should
 *   admin_key_dead_ms, portal_lines   see live/admin-key-dead.ts and portal-lines.ts
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { parse, stringify } from 'yaml';
import type { StackConfig } from '../dev/servers/config.ts';
import { openApiRealm } from './api/api-process.ts';
import { type BenchOptions, LIVE_GOALS as GOALS, type LiveSize } from './goals.ts';
import { STEWARD } from './idle.ts';
import { measureAdminKeyDead } from './live/admin-key-dead.ts';
import { countPortalLines } from './portal-lines.ts';
import { openPortal, type Portal } from './portal.ts';
import { closeAll, type Closers, closeSoon, type MeasuredRealm } from './realm.ts';
import { mustRun } from './tools/command.ts';
import { type Figure, judge, quantile } from './tools/figure.ts';

const PROCESSES = ['intake', 'relay', 'directory', 'homes', 'databases', 'sweep', 'api'];

export async function measureLive(options: BenchOptions<LiveSize>): Promise<Figure[]> {
  const closers: Closers = [];
  try {
    return await Promise.race([measureReloads(options, closers), options.interrupted]);
  } finally {
    await closeAll(closers);
  }
}

async function measureReloads(
  { parent, say, show, size, void: why }: BenchOptions<LiveSize>,
  closers: Closers,
): Promise<Figure[]> {
  say('reloads: starting servers');
  const { realm, port } = await openApiRealm(parent, closers, 0);
  await Promise.all(PROCESSES.map((role) => realm.startWork({ roles: [role] })));
  await reloadWith(realm, 0); // the first uses of what is loaded once
  const quiet: number[] = [];
  for (let n = 1; n <= size.reloads; n += 1) quiet.push(await reloadWith(realm, n));
  const [p50, p95] = [quantile(quiet, 0.5), quantile(quiet, 0.95)].map(Math.round);
  show(`Without requests, a reload takes: p50 ${p50} ms, p95 ${p95} ms`);
  const portal = await openPortal(realm);
  closers.push(() => closeSoon(portal.close()));
  const load = startLoad(portal);
  const reloads: number[] = [];
  const starts: number[] = [];
  for (let n = 1; n <= size.reloads; n += 1) {
    reloads.push(await reloadWith(realm, n));
    starts.push((await mustRun(realm, 0, '--version')).ms);
  }
  const { sent, lost } = await load.end();
  say(`reloads: ${reloads.length} during ${sent} requests`);
  say(`keys: ${size.revocations} are revoked`);
  const dead = await measureAdminKeyDead({ realm, port }, { rounds: size.revocations, show });
  return [
    judge(GOALS.reload, {
      ...{ value: quantile(reloads, 0.95), floor: quantile(starts, 0.95), void: why },
    }),
    judge(GOALS.lost, { value: lost, floor: undefined, void: why }),
    judge(GOALS.dead, { value: dead, floor: undefined, void: why }),
    judge(GOALS.lines, { value: countPortalLines(), floor: undefined, void: why }),
  ];
}

/** Changes what a portal may do and which names are reserved, and reloads. Returns how long the command took. */
async function reloadWith(realm: MeasuredRealm, n: number): Promise<number> {
  const { configFile } = realm.stack.place;
  const config = parse(readFileSync(configFile, 'utf8')) as StackConfig;
  const portals = config.portals.map((each) =>
    each.name === 'portal-1' ? { ...each, subjectEvents: n % 2 === 0 } : each,
  );
  writeFileSync(configFile, stringify({ ...config, portals, reservedNames: [`reserved-${n}`] }));
  const { ms, out } = await mustRun(realm, 0, 'reload', '--json');
  const { processes } = JSON.parse(out) as { processes: { why: string | null }[] };
  if (processes.length !== PROCESSES.length || processes.some(({ why }) => why !== null)) {
    throw new Error(`not every process is on the new configuration: ${out}`);
  }
  return ms;
}

/** Sends requests until it is ended; then says how many did not get the verdict that they should. */
function startLoad(portal: Portal) {
  let isEnded = false;
  let [sent, lost] = [0, 0];
  const verdicts: Promise<unknown>[] = [];
  const sending = (async () => {
    while (!isEnded) {
      const signed = await portal.sign(STEWARD, {
        ...{ kind: 'person.update', person: STEWARD, displayName: `Steward ${sent}` },
      });
      verdicts.push(portal.until(signed.jti, 'request.accepted').catch(() => (lost += 1)));
      await portal.send([signed]);
      sent += 1;
      await sleep(5);
    }
  })();
  return {
    async end() {
      isEnded = true;
      await sending;
      await Promise.all(verdicts);
      return { sent, lost };
    },
  };
}
