/**
 * The metrics of a process, as OpenMetrics at `/metrics`. Each number is measured by one process: the one that does what
 * is counted, or the one that leads the work and may read the table (docs/operations.md, "Metrics").
 *
 * A value that must be asked for is read only when somebody reads the metrics, at most every five seconds, and within a
 * time limit. A value that cannot be read is left out, and `chamberlain_up` says so: a number from before would be
 * taken for one of now.
 *
 * Labels hold roles, kinds, states, codes, places and the names of portals. None holds a person's or a tool's name: the
 * portal of an admin's own key is named after them, so all of those are `admin` (`portalLabel`).
 */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Counter, Gauge, Histogram, type OpenMetricsContentType, Registry } from 'prom-client';
import { adminOfPortal } from './config.ts';
import { ChamberlainError, describeError } from './errors.ts';
import type { MarkerDoubt, Publishing } from '../seals/heartbeat.ts';
import type { Role } from '../reconcile/wanted.ts';
import type { Log } from './log.ts';
import type { Worker } from './loop.ts';
import { openNews } from './news.ts';

const registry = new Registry<OpenMetricsContentType>();
registry.setContentType(Registry.OPENMETRICS_CONTENT_TYPE);
const registers = [registry];

type Labels = Readonly<Record<string, string>>;

/** A gauge that may have no value. */
export interface Measure {
  set(labels: Labels, value: number): void;
  remove(labels: Labels): void;
}

/** Makes a gauge, which has no value yet. */
export function newGauge(name: string, help: string, labelNames: string[] = []): Measure {
  const gauge = new Gauge({ name, help, labelNames, registers });
  // without labels it begins as 0
  if (labelNames.length === 0) gauge.remove({});
  return gauge;
}

/** Makes a counter. At least one label, so that it has no value in a process that does not count. */
export function newCounter(name: string, help: string, labelNames: string[]): Counter {
  return new Counter({ name, help, labelNames, registers });
}

/** Makes a histogram with these upper bounds. At least one label, as for a counter. */
export function newHistogram(
  name: string,
  help: string,
  { labelNames, buckets }: { labelNames: string[]; buckets: number[] },
): Histogram {
  return new Histogram({ name, help, labelNames, buckets, registers });
}

/** The label of a portal. */
export function portalLabel(portal: string): string {
  return adminOfPortal(portal) === undefined ? portal : 'admin';
}

const ofPlace = ['role', 'place'];
const placeOlder = newGauge(
  'chamberlain_place_older_seconds',
  'By how many seconds a server or an area of homes is older than the last marker published there, because it was restored from a backup. 0: it is not older; +Inf: it has no marker.',
  ofPlace,
);
const databaseOlder = newGauge(
  'chamberlain_database_older_seconds',
  'By how many seconds PostgreSQL is older than the marker of a server or an area of homes, because it was restored from a backup. 0: it is not older.',
  ofPlace,
);
const placePublished = newGauge(
  'chamberlain_place_published_timestamp_seconds',
  'When the marker of a server or an area of homes was last published: every 20 s, in the directory every 3 s.',
  ofPlace,
);
const leads = newGauge(
  'chamberlain_leads',
  'Whether this process leads the work (1), or another process does, or none (0).',
  ['work'],
);
const up = newGauge(
  'chamberlain_up',
  'Whether the server answered this process when it was last asked. 0: values that are read there are missing.',
  ['work', 'server'],
);

/** Records what a role has just seen of a place. */
export function noteMarker(
  of: { role: Role; place: string },
  { doubt, publishing }: { doubt: MarkerDoubt | undefined; publishing: Publishing },
): void {
  const seconds = (doubt?.byMs ?? 0) / 1000;
  placeOlder.set(of, doubt?.older === 'database' ? 0 : seconds);
  databaseOlder.set(of, doubt?.older === 'database' ? seconds : 0);
  if (publishing.publishedAt !== undefined)
    placePublished.set(of, publishing.publishedAt.getTime() / 1000);
}

/** Records whether this process leads a work; `work` may be the lease of a role's reader. */
export function noteLeads(work: string, isLeader: boolean): void {
  leads.set({ work: workLabel(work) }, Number(isLeader));
}

/** Records whether PostgreSQL has just answered the process that asks for the lease of a work. */
export function notePostgres(work: string, answers: boolean): void {
  up.set({ work: workLabel(work), server: 'postgresql' }, Number(answers));
}

/** Of a role's processes, the one that has the lease of its reader leads. */
function workLabel(work: string): string {
  return work.replace(/_reader$/u, '');
}

/** A value that was read. */
export interface Reading {
  gauge: Measure;
  labels?: Labels;
  value: number;
}

/** Values of one server that the leader of a work reads when somebody reads the metrics. */
export interface Source {
  work: string;
  server: 'postgresql' | 'redis';
  read(): Promise<readonly Reading[]>;
}

/** What was read counts for so long. Two Prometheus servers cost no more than one. */
const FRESH_MS = 5000;
/** The metrics are served after this time at the latest, with what there is. */
export const READ_WITHIN_MS = 2000;

interface OpenSource extends Source {
  log: Log;
  readings: readonly Reading[];
  readAt: number;
  /** at most one at a time, however long it takes */
  reading: Promise<void> | undefined;
}

const sources = new Set<OpenSource>();
const failures = openNews<string>();

/** Reads these values whenever somebody reads the metrics, until it is closed: then they have no value. */
export function openSource(source: Source, log: Log): { close(): void } {
  const open: OpenSource = {
    ...{ ...source, log },
    ...{ readings: [], readAt: -Infinity, reading: undefined },
  };
  sources.add(open);
  return {
    close() {
      sources.delete(open);
      show(open, []);
      up.remove({ work: source.work, server: source.server });
    },
  };
}

async function refresh(source: OpenSource): Promise<void> {
  if (performance.now() - source.readAt < FRESH_MS) return;
  source.reading ??= readSource(source).finally(() => (source.reading = undefined));
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<'late'>((resolve) => {
    timer = setTimeout(resolve, READ_WITHIN_MS, 'late');
  });
  if ((await Promise.race([source.reading, late])) === 'late') leaveOut(source);
  clearTimeout(timer);
}

async function readSource(source: OpenSource): Promise<void> {
  const { work, server, log } = source;
  const key = `${work} ${server}`;
  try {
    const readings = await source.read();
    if (!sources.has(source)) return; // it was closed meanwhile
    show(source, readings);
    up.set({ work, server }, 1);
    source.readAt = performance.now();
    failures.forget(key);
  } catch (error) {
    leaveOut(source);
    const why = describeError(error);
    if (failures.isNew(key, why)) log.warn({ work, error: why }, 'some metrics cannot be read');
  }
}

function leaveOut(source: OpenSource): void {
  if (!sources.has(source)) return;
  show(source, []);
  up.set({ work: source.work, server: source.server }, 0);
}

/** Replaces what it read before. */
function show(source: OpenSource, readings: readonly Reading[]): void {
  for (const { gauge, labels = {} } of source.readings) gauge.remove(labels);
  for (const { gauge, labels = {}, value } of readings) gauge.set(labels, value);
  source.readings = readings;
}

/** How long a client may hold a connection without completing its request. */
const ASKED_WITHIN_MS = 5000;
/** Prometheus uses one. */
const MOST_CONNECTIONS = 16;

/**
 * Serves the metrics at an address.
 *
 * @param address `HOST:PORT` or `[IPv6]:PORT`
 * @returns also the port, which the kernel chooses for port 0
 * @throws ChamberlainError USAGE if that is not an address, or if it cannot listen there
 */
export async function serveMetrics(address: string): Promise<Worker & { port: number }> {
  const server = createServer(
    { headersTimeout: ASKED_WITHIN_MS, requestTimeout: ASKED_WITHIN_MS },
    ({ method, url }, response) => {
      if (method !== 'GET' || url !== '/metrics') {
        response.writeHead(404).end();
        return;
      }
      readMetrics().then(
        (text) => response.writeHead(200, { 'content-type': registry.contentType }).end(text),
        () => response.writeHead(500).end(),
      );
    },
  );
  server.maxConnections = MOST_CONNECTIONS;
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) => reject(cannotListen(address, cause)));
    server.listen(addressOf(address), resolve);
  });
  return {
    port: (server.address() as AddressInfo).port,
    async close() {
      server.close();
      server.closeAllConnections();
    },
  };
}

async function readMetrics(): Promise<string> {
  await Promise.all([...sources].map(refresh));
  return registry.metrics();
}

function addressOf(address: string): { host: string; port: number } {
  const { host, v6, port } =
    /^(?:(?<host>[^:[\]]+)|\[(?<v6>[\d:a-f.]+)\]):(?<port>\d{1,5})$/i.exec(address)?.groups ?? {};
  if (port === undefined || Number(port) > 65_535) {
    throw new ChamberlainError(
      'USAGE',
      `--metrics ${address}: that is not an address; give HOST:PORT`,
    );
  }
  return { host: host ?? v6 ?? '', port: Number(port) };
}

function cannotListen(address: string, cause: Error): ChamberlainError {
  return new ChamberlainError('USAGE', `listening for /metrics at ${address}`, { cause });
}
