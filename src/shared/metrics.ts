/**
 * The metrics of a process, as OpenMetrics at `/metrics`: how each server and each area of homes that its roles mark
 * compares with the marker that was published there (src/seals/heartbeat.ts). Labels hold roles and places, never a
 * person's name.
 */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Gauge, type OpenMetricsContentType, Registry } from 'prom-client';
import { ChamberlainError } from './errors.ts';
import type { MarkerDoubt, Publishing } from '../seals/heartbeat.ts';
import type { Role } from '../reconcile/wanted.ts';
import type { Worker } from './loop.ts';

const registry = new Registry<OpenMetricsContentType>();
registry.setContentType(Registry.OPENMETRICS_CONTENT_TYPE);
const ofPlace = { labelNames: ['role', 'place'] as const, registers: [registry] };

const placeOlder = new Gauge({
  name: 'chamberlain_place_older_seconds',
  help: 'By how many seconds a server or an area of homes is older than the last marker published there, because it was restored from a backup. 0: it is not older; +Inf: it has no marker.',
  ...ofPlace,
});
const databaseOlder = new Gauge({
  name: 'chamberlain_database_older_seconds',
  help: 'By how many seconds PostgreSQL is older than the marker of a server or an area of homes, because it was restored from a backup. 0: it is not older.',
  ...ofPlace,
});
const placePublished = new Gauge({
  name: 'chamberlain_place_published_timestamp_seconds',
  help: 'When the marker of a server or an area of homes was last published: every 20 s, in the directory every 3 s.',
  ...ofPlace,
});

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
      registry.metrics().then(
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
