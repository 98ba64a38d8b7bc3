/**
 * Reads of one tool among many, without a token and signed, and pages of all, next to the bare route. Only the API works
 * meanwhile.
 */
import { renderProfile } from '../tools/cpu-profile.ts';
import { type Figure, type Goal, judge, quantile } from '../tools/figure.ts';
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

const KINDS = ['bare', 'bareSigned', 'read', 'signed'] as const;
type Kind = (typeof KINDS)[number];
const WORDS: Record<Kind, string> = {
  bare: 'the bare route',
  bareSigned: 'the bare route with a check of one signature',
  read: 'the API, without a token',
  signed: 'the API, signed',
};

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
  const plain = (path: string) => async (count: number) =>
    names(count).map((name) => bytesOf('GET', `${path}/${name}`));
  const signed = async (count: number) =>
    names(count).map((name) => caller.sign('GET', `/v1/tools/${name}`));
  const kinds = {
    bare: { port: bare.port, calls: plain('/tools') },
    bareSigned: { port: bare.port, calls: plain('/signed') },
    read: { port, calls: plain('/v1/tools') },
    signed: { port, calls: signed },
  };
  const measured = Object.fromEntries(
    KINDS.map((kind) => [kind, { steady: [], rates: [] }]),
  ) as unknown as Record<Kind, { steady: number[]; rates: number[] }>;

  for (const { port: to, calls } of Object.values(kinds)) {
    await timeCalls(to, await calls(size.warm));
  }
  const count = (size.perSecond * size.turnMs) / 1000;
  const most = { connections: CONNECTIONS, ms: size.turnMs };
  for (let turn = 0; turn < size.turns; turn++) {
    say(`reads: turn ${turn + 1} of ${size.turns}`);
    for (const kind of KINDS) {
      const { port: to, calls } = kinds[kind];
      measured[kind].steady.push(...(await callSteadily(to, await calls(count), size.perSecond)));
    }
    for (const kind of KINDS) {
      const { port: to, calls } = kinds[kind];
      measured[kind].rates.push(await callAtOnce(to, await calls(size.atOnce), most));
    }
  }
  say(`reads: ${size.pages} pages of tools`);
  const lone = await timeCalls(bare.port, await kinds.bare.calls(size.pages));
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
  const lines = KINDS.map((kind) => {
    const { steady, rates } = measured[kind];
    return `${WORDS[kind]}: ${of(steady)}; ${rates.map(Math.round).join(', ')}`;
  });
  show(
    `Reads at ${size.perSecond} a second, p50 and p99, ms; as fast as possible, reads a second:\n${lines.join('\n')}\n` +
      `Pages of ${PAGE}, one after another, p50 and p99, ms: ${of(pages)}; one row by the bare route ${of(lone)}.`,
  );
  const quantiles = (kind: Kind) => {
    const { steady, rates } = measured[kind];
    return [quantile(steady, 0.5), quantile(steady, 0.99), quantile(rates, 0.5)] as const;
  };
  const [bareP50, bareP99, bareRate] = quantiles('bare');
  const beside = (
    goals: { p50: Goal; p99: Goal; rate: Goal },
    [p50, p99, rate]: readonly [number, number, number],
  ): Figure[] => [
    judge(goals.p50, { value: p50, floor: bareP50, void: why }),
    judge(goals.p99, { value: p99 / bareP99, floor: bareP99, ratio: p99 / bareP99, void: why }),
    judge(goals.rate, {
      ...{ value: rate / bareRate, floor: bareRate, ratio: rate / bareRate },
      void: why,
    }),
  ];
  return [
    ...beside({ p50: GOALS.read, p99: GOALS.readP99, rate: GOALS.readRatio }, quantiles('read')),
    ...beside(
      { p50: GOALS.signed, p99: GOALS.signedP99, rate: GOALS.signedRatio },
      quantiles('signed'),
    ),
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
