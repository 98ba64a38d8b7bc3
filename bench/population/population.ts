/**
 * Fills a realm with people and tools that are all as wanted, by the shortest way into each server: the result
 * is the same as the chain's, in less time.
 */
import { fillDatabases } from './population-databases.ts';
import { fillDirectory } from './population-directory.ts';
import { sealsUntil } from './population-names.ts';
import { fillHomes } from './population-homes.ts';
import { fillPostgres } from './population-postgres.ts';
import type { MeasuredRealm } from '../realm.ts';

export interface Population {
  tools: number;
  people: number;
  /** of each tool; by default one to three */
  maintainers?: number;
}

export interface SealedPopulation extends Population {
  /** UTC, whole seconds */
  sealsUntil: string;
}

/** Fills all servers, in parallel. No worker may be running, because slapd is restarted meanwhile. */
export async function populate(
  realm: MeasuredRealm,
  population: Population,
  say: (line: string) => void,
): Promise<void> {
  const sealed: SealedPopulation = { ...population, sealsUntil: sealsUntil() };
  const fills = [
    ['PostgreSQL', fillPostgres],
    ['the directory', fillDirectory],
    ['homes', fillHomes],
    ['MariaDB', fillDatabases],
  ] as const;
  // if one fails, wait for the others that are still working
  const ends = await Promise.allSettled(
    fills.map(async ([name, fill]) => {
      const begin = performance.now();
      await fill(realm, sealed);
      say(`${name}: filled in ${((performance.now() - begin) / 1000).toFixed(1)} s`);
    }),
  );
  for (const end of ends) if (end.status === 'rejected') throw end.reason;
}
