/** `chamberlain work` ends when it is told to, also while a server hangs. */
import { fixedConfig } from '../../../src/configuration/config-in-use.ts';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { openLog } from '../../../src/shared/log.ts';
import { defaultRoles, startWork } from '../../../workers/main.ts';
import { READ_WITHIN_MS } from '../../../src/shared/metrics.ts';
import { openWorld, runningPid, signalTree, type World } from '../../stack.ts';
import { startCli } from '../../cli/run-cli.ts';
import { eventually } from '../eventually.ts';
import { query, settled } from '../outside.ts';
import { openPortal, type Portal } from '../portal.ts';
import { admit } from '../running.ts';

let world: World;
let portal: Portal;
let work: ChildProcess;
let log = '';

beforeAll(async () => {
  world = await openWorld('work ends', { own: true });
  portal = openPortal(world);
  await world.chamberlain('prepare');
  await world.chamberlain('bootstrap', 'steward');
  work = startCli(['work', '--metrics', '127.0.0.1:0'], { config: world.configFile });
  work.stderr?.setEncoding('utf8').on('data', (text: string) => (log += text));
  await admit(portal, 'alice');
  await settled(world);
});
afterAll(async () => {
  work?.kill('SIGKILL');
  await portal?.close();
  await world?.close();
});

async function readMetrics(): Promise<string> {
  const port = /"port":(\d+),"msg":"serving metrics"/.exec(log)?.[1];
  return (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
}

test('tells Prometheus how the places stand to what they were told', async () => {
  for (const place of ['role="directory",place="directory"', 'role="homes",place="toolHomes"']) {
    await eventually(place, async () =>
      (await readMetrics()).includes(`chamberlain_place_older_seconds{${place}} 0\n`),
    );
  }
});

test('tells Prometheus within its time that PostgreSQL hangs, and what else it knows', async () => {
  const isUp = 'chamberlain_up{work="relay",server="postgresql"}';
  await eventually('numbers', async () => (await readMetrics()).includes(`${isUp} 1\n`));
  const pid = runningPid(world.postgres) as number;
  signalTree(pid, 'SIGSTOP');
  try {
    const text = await eventually('the outage', async () => {
      const begin = performance.now();
      const now = await readMetrics();
      expect(performance.now() - begin).toBeLessThan(READ_WITHIN_MS + 3000);
      return now.includes(`${isUp} 0\n`) ? now : undefined;
    });
    expect(text).not.toContain('chamberlain_subjects{');
    expect(text).toContain('chamberlain_requests_total{kind="person.create",verdict="accepted"} 1');
    expect(text).toContain('chamberlain_place_older_seconds{role="directory"');
  } finally {
    signalTree(pid, 'SIGCONT');
  }
  await eventually('numbers again', async () =>
    (await readMetrics()).includes('chamberlain_subjects{'),
  );
});

/** Stops MariaDB, and calls `act` when a survey has begun and the role databases is at work on a new tool. */
async function whileMariadbHangs(name: string, act: () => Promise<void>): Promise<void> {
  await query(world, 'DELETE FROM surveys');
  const pids = [world.replica, world.tools].map((server) => runningPid(server) as number);
  for (const pid of pids) signalTree(pid, 'SIGSTOP');
  const survey = startCli(['survey', 'alice'], { config: world.configFile });
  try {
    const begun = `SELECT FROM surveys WHERE subjects IS NOT NULL AND cardinality(subjects) > 0`;
    await eventually('the survey', async () => (await query(world, begun)).length > 0);
    await portal.send({ kind: 'tool.create', name, title: 'x', requestedBy: 'alice' });
    await eventually('the role databases to be at it', async () => {
      const locks = `SELECT FROM pg_locks WHERE locktype = 'advisory' AND classid = 103`;
      return (await query(world, locks)).length > 0;
    });
    await act();
  } finally {
    for (const pid of pids) signalTree(pid, 'SIGCONT');
    survey.kill();
  }
}

test('within 5 s after SIGTERM while MariaDB hangs, with all roles at work and a survey begun', async () => {
  await whileMariadbHangs('wiki', async () => {
    const begin = performance.now();
    const ended = once(work, 'exit');
    work.kill('SIGTERM');
    expect(await ended).toEqual([0, null]);
    expect(performance.now() - begin).toBeLessThan(20_000);
  });
});

test('and it need not be cut after 5 s: nothing is waited for in vain', async () => {
  // in this process, where nothing cuts it, however slow the machine is
  const here = await startWork(fixedConfig(world.config), {
    roles: defaultRoles(world.config),
    log: openLog('fatal'),
  });
  let closed: Promise<void> | undefined;
  try {
    await settled(world);
    await whileMariadbHangs('docs', async () => {
      const begin = performance.now();
      await (closed = here.close());
      // work in progress has 3 s; a server that is asked then is given up on 5 s later
      expect(performance.now() - begin).toBeLessThan(8000);
    });
  } finally {
    await (closed ?? here.close());
  }
});
