/**
 * The figures of the HTTP API, each next to a bare Fastify route that reads one row of PostgreSQL by its key, in the same
 * run and on the same servers:
 *
 *   reads   one tool among 30,000, at a steady rate and as fast as possible; pages of all tools
 *   posts   requests one after another, until their verdict and until they are done; checks
 *   events  a thousand listeners: how soon an event arrives, and how much memory they need
 *
 * The API is a process of its own, as it is in production.
 */
import { openApiRealm, startBare } from './api/api-process.ts';
import { measureEvents } from './api/events.ts';
import { bytesOf, timeCalls } from './api/http-client.ts';
import { measurePosts } from './api/posts.ts';
import { measureReads } from './api/reads.ts';
import { API_GOALS as GOALS, type ApiOptions } from './goals.ts';
import { admitMaker } from './idle.ts';
import { openPortal } from './portal.ts';
import { closeAll, type Closers, closeSoon } from './realm.ts';
import { renderProfile } from './tools/cpu-profile.ts';
import { type Figure, quantile, voidIfFailed } from './tools/figure.ts';
import { untilQuiet } from './tools/processes.ts';

/** All but the API, which is a process of its own. */
const OTHERS = ['intake', 'relay', 'directory', 'homes', 'databases', 'sweep'];

export async function measureApi(options: ApiOptions): Promise<Figure[]> {
  const closers: Closers = [];
  try {
    return await Promise.race([measureAll(options, closers), options.interrupted]);
  } finally {
    await closeAll(closers);
  }
}

async function measureAll(options: ApiOptions, closers: Closers): Promise<Figure[]> {
  const { say, size, parent, show, profileDir } = options;
  const reads = await voidIfFailed(
    [
      ...[GOALS.read, GOALS.readP99, GOALS.readRatio],
      ...[GOALS.signed, GOALS.signedP99, GOALS.signedRatio, GOALS.page],
    ],
    say,
    () => measureReads(options, closers),
  );
  say('posts: starting servers');
  const { realm, port } = await openApiRealm(parent, closers, size.listeners);
  const work = await realm.startWork({ roles: OTHERS });
  let api = await realm.startWork({
    roles: ['api'],
    ...(profileDir === undefined ? {} : { profileDir }),
  });
  const portal = await openPortal(realm);
  closers.push(() => closeSoon(portal.close()));
  await admitMaker(portal);
  const bare = await startBare(realm, closers);
  const bareP50 = async () => {
    const calls = Array.from({ length: size.posts }, () => bytesOf('GET', '/tools/admin'));
    return quantile(await timeCalls(bare.port, calls), 0.5);
  };
  const posts = await voidIfFailed([GOALS.verdict, GOALS.done, GOALS.check], say, () =>
    measurePosts({ realm, portal, port }, bareP50, options),
  );
  // so that the memory is that of the listeners
  await api.stop();
  if (profileDir !== undefined)
    show(renderProfile(profileDir, { program: 'chamberlain work api, over posts,' }));
  api = await realm.startWork({
    roles: ['api'],
    ...(profileDir === undefined ? {} : { profileDir }),
  });
  await untilQuiet(work.pid);
  const events = await voidIfFailed([GOALS.sseDelay, GOALS.sseMemory], say, () =>
    measureEvents({ realm, port, api }, options),
  );
  if (profileDir !== undefined) {
    await api.stop();
    show(renderProfile(profileDir, { program: 'chamberlain work api, over events,' }));
  }
  return [...reads.slice(0, -1), ...posts, ...events, ...reads.slice(-1)];
}
