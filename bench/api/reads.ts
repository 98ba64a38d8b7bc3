/** Reads of one tool among many, and pages of all, next to the bare route. Only the API works meanwhile. */
import { renderProfile } from '../tools/cpu-profile.ts';
import { type Figure, judge, quantile } from '../tools/figure.ts';
import { API_GOALS as GOALS, type ApiOptions } from '../goals.ts';
import { toolName } from '../population/population-names.ts';
import { fillPostgres } from '../population/population-postgres.ts';
import { sealsUntil } from '../population/population-names.ts';
import { closeAll, type Closers } from '../realm.ts';
import { openApiRealm, startBare } from './api-process.ts';
import { openCaller } from './callers.ts';
import { bytesOf, callAtOnce, callSteadily, timeCalls } from './http-client.ts';

const PAGE = 100;
/** Of the load; the server is never idle with them. */
const CONNECTIONS = 16;

export async function measureReads(options: ApiOptions, outer: Closers): Promise<Figure[]> {
  const closers: Closers = [];
  outer.push(() => closeAll(closers.splice(0)));
  try {
    return await measure(options, closers);
  } finally {
    await closeAll(closers.splice(0));
  }
}

async function measure(
  { parent, size, profileDir, say, show, void: why }: ApiOptions,
  closers: Closers,
): Promise<Figure[]> {
  say(`reads: filling PostgreSQL with ${size.tools} tools and ${size.people} people`);
  const { realm, port } = await openApiRealm(parent, closers, 0);
  await realm.fill((it) => fillPostgres(it, { ...size, sealsUntil: sealsUntil() }));
  const bare = await startBare(realm, closers);
  const work = await realm.startWork({
    roles: ['api'],
    ...(profileDir === undefined ? {} : { profileDir }),
  });
  const caller = openCaller(realm, 'reader');
  let next = 0;
  // in another order than they were made in
  const names = (count: number) =>
    Array.from({ length: count }, () => toolName((next++ * 7919) % size.tools));
  const signed = (count: number) =>
    names(count).map((name) => caller.sign('GET', `/v1/tools/${name}`));
  const plain = (count: number) => names(count).map((name) => bytesOf('GET', `/tools/${name}`));

  await timeCalls(port, signed(size.warm));
  await timeCalls(bare.port, plain(size.warm));
  const steady = { api: [] as number[], bare: [] as number[] };
  const rates = { api: [] as number[], bare: [] as number[] };
  const count = (size.perSecond * size.turnMs) / 1000;
  const most = { connections: CONNECTIONS, ms: size.turnMs };
  for (let turn = 0; turn < size.turns; turn++) {
    say(`reads: turn ${turn + 1} of ${size.turns}`);
    steady.bare.push(...(await callSteadily(bare.port, plain(count), size.perSecond)));
    steady.api.push(...(await callSteadily(port, signed(count), size.perSecond)));
    rates.bare.push(await callAtOnce(bare.port, plain(size.atOnce), most));
    rates.api.push(await callAtOnce(port, signed(size.atOnce), most));
  }
  say(`reads: ${size.pages} pages of tools`);
  const lone = await timeCalls(bare.port, plain(size.pages));
  const pages = await timeCalls(
    port,
    names(size.pages).map((name) => caller.sign('GET', pageAfter(name))),
  );
  if (profileDir !== undefined) {
    await work.stop();
    show(renderProfile(profileDir, { program: 'chamberlain work api, over reads,' }));
  }
  const of = (samples: readonly number[]) =>
    [0.5, 0.99].map((share) => quantile(samples, share).toFixed(2)).join(' and ');
  show(
    `Reads at ${size.perSecond} a second, p50 and p99, ms: the API ${of(steady.api)}, the bare route ${of(steady.bare)}.\n` +
      `As fast as possible, reads a second: the API ${rates.api.map(Math.round).join(', ')}; the bare route ${rates.bare.map(Math.round).join(', ')}.\n` +
      `Pages of ${PAGE}, one after another, p50 and p99, ms: ${of(pages)}; one row by the bare route ${of(lone)}.`,
  );
  const [p99, bareP99] = [quantile(steady.api, 0.99), quantile(steady.bare, 0.99)];
  const [rate, bareRate] = [quantile(rates.api, 0.5), quantile(rates.bare, 0.5)];
  return [
    judge(GOALS.read, {
      value: quantile(steady.api, 0.5),
      floor: quantile(steady.bare, 0.5),
      void: why,
    }),
    judge(GOALS.readP99, { value: p99 / bareP99, floor: bareP99, ratio: p99 / bareP99, void: why }),
    judge(GOALS.readRatio, {
      value: rate / bareRate,
      floor: bareRate,
      ratio: rate / bareRate,
      void: why,
    }),
    judge(GOALS.page, {
      value: quantile(pages, 0.5),
      floor: quantile(lone, 0.5),
      void: why,
    }),
  ];
}

/** The page after a tool, as the page before it names it. */
function pageAfter(name: string): string {
  const cursor = Buffer.from(JSON.stringify(name)).toString('base64url');
  return `/v1/tools?limit=${PAGE}&after=${cursor}`;
}
