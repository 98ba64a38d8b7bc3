/** What an outage of a server must not do to the chain: the body of the tests, short and long. */
import { expect } from '@jest/globals';
import { runningPid, signalTree, startServer, type World } from '../../stack.ts';
import { eventually } from '../eventually.ts';
import {
  faultsOf,
  query,
  readAccounts,
  readCredentials,
  readDirectory,
  settled,
} from '../outside.ts';
import type { Wish } from '../portal.ts';
import type { Running } from '../running.ts';

/**
 * From a server's return until everything is done: a second or two, several on a busy machine, a minute if
 * nobody notices.
 */
const RETURN_MS = 20_000;

export type ServerKey = 'postgres' | 'redis' | 'slapd' | 'replica' | 'tools';
export type Ending = 'frozen' | 'killed';

/** What goes on while a server is away, for requests that come meanwhile. */
const GOES_ON: Record<ServerKey, string[]> = {
  slapd: ['home', 'replica', 'tools'],
  replica: ['directory', 'home', 'tools'],
  tools: ['directory', 'home', 'replica'],
  postgres: [],
  redis: [],
};

/** Each server frozen (SIGSTOP), and killed and started again. */
export const OUTAGES = (Object.keys(GOES_ON) as ServerKey[]).flatMap((server) => [
  { server, how: 'frozen' as const },
  { server, how: 'killed' as const },
]);

const LOOKS: Record<string, (world: World, name: string) => boolean | Promise<boolean>> = {
  directory: async (world, name) => {
    const rule = `cn=runas-tools.${name},ou=sudoers,cn=tools,ou=projects,${world.config.ldap.base}`;
    return (await readDirectory(world)).has(rule);
  },
  home: (world, name) => readCredentials(world, { tool: name }).user !== '',
  replica: (world, name) => isOnServer(world, 'replica', name),
  tools: (world, name) => isOnServer(world, 'tools', name),
};

async function isOnServer(
  world: World,
  server: 'replica' | 'tools',
  name: string,
): Promise<boolean> {
  const [row] = await query<{ uid: number }>(world, 'SELECT uid FROM tools WHERE name = $1', [
    name,
  ]);
  return row !== undefined && (await readAccounts(world, server)).has(`s${row.uid}`);
}

export const tool = (name: string): Wish => ({
  kind: 'tool.create',
  requestedBy: 'alice',
  name,
  title: `The tool ${name}`,
});

function end(world: World, server: ServerKey, how: Ending): void {
  const pid = runningPid(world[server]);
  if (pid === undefined) throw new Error(`${server} does not run`);
  signalTree(pid, how === 'frozen' ? 'SIGSTOP' : 'SIGKILL');
}

async function restoreCopies(world: World, server: ServerKey, how: Ending): Promise<void> {
  if (how === 'killed') return await startServer(world[server]);
  const pid = runningPid(world[server]);
  if (pid !== undefined) signalTree(pid, 'SIGCONT');
}

/**
 * Takes a server away for some time while requests come, brings it back, and expects everything to be done
 * soon. `name` is the prefix of the new tools' names. Returns their names.
 */
export async function surviveOutage(
  { world, portal }: Running,
  {
    server,
    how,
    outageMs,
    name,
  }: { server: ServerKey; how: Ending; outageMs: number; name: string },
): Promise<string[]> {
  const names = [0, 1, 2, 3].map((n) => `${name}-${n}`) as [string, string, string, string];
  const [rotated, one, two, late] = names;
  await portal.get(tool(rotated));
  const rotation: Wish = { kind: 'credentials.rotate', requestedBy: 'alice', tool: rotated };
  // in progress at the moment of the fault
  const wishes = [rotation, tool(one), tool(two)];
  const ids = await Promise.all(wishes.map((wish) => portal.send(wish)));
  end(world, server, how);
  const began = performance.now();
  let returned = Number.POSITIVE_INFINITY;
  try {
    const sending = portal.send(tool(late)); // while Redis is away it lies with the portal
    for (const part of GOES_ON[server]) {
      await eventually(`${part} of ${late}`, () => LOOKS[part]?.(world, late));
    }
    // time-outs must come and go: there is nothing to look at meanwhile
    await eventually('the outage', () => performance.now() - began > outageMs, outageMs + 60_000);
    await restoreCopies(world, server, how);
    returned = performance.now();
    ids.push(await sending);
  } finally {
    if (returned === Number.POSITIVE_INFINITY) await restoreCopies(world, server, how);
  }
  if (server === 'redis' && how === 'killed') {
    // it may lose what it took in the two seconds before (`appendfsync everysec`); sending again is safe
    await Promise.all(wishes.map((wish, n) => portal.send(wish, { id: ids[n] as string })));
  }
  for (const id of ids) await portal.finish(id);
  const tookMs = performance.now() - returned;
  process.stdout.write(
    `${server} ${how} for ${outageMs / 1000} s: all done ${Math.round(tookMs)} ms after its return\n`,
  );
  expect(await faultsOf(world, names)).toEqual([]);
  await settled(world);
  expect(
    await query(world, `SELECT code, sentence FROM requests WHERE verdict = 'refused'`),
  ).toEqual([]);
  expect(tookMs).toBeLessThan(RETURN_MS);
  return names;
}

/** Everything is complete in the end: tools, passwords, numbers, the portal's events. */
export async function expectWhole(
  { world, portal }: Running,
  names: readonly string[],
): Promise<void> {
  await settled(world);
  expect(await faultsOf(world, names)).toEqual([]);
  const ids = await query<{ uid: number }>(world, 'SELECT uid FROM tools ORDER BY uid');
  const first = ids[0]?.uid ?? 0;
  expect(ids.map(({ uid }) => uid)).toEqual(ids.map((_, n) => first + n)); // none twice, none skipped
  await eventually("the portal's last event", async () => {
    const [row] = await query<{ last: string }>(
      world,
      'SELECT last FROM event_sequences WHERE portal = $1',
      [portal.name],
    );
    return portal.heard.length === Number(row?.last);
  });
  expect(portal.disorder).toEqual([]);
  // fails if there is a step, a finding, or something that could not be read
  await expect(world.chamberlain('plan', '--all')).resolves.toContain('nothing to do');
}
