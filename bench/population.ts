/**
 * Fills a realm with people and tools that are all as wanted, by the shortest way into each server:
 * what is there afterwards is what the chain would have left, less the time it takes.
 */
import { fillDatabases } from './population-databases.ts';
import { fillDirectory } from './population-directory.ts';
import { sealsUntil } from './population-names.ts';
import { fillHomes } from './population-homes.ts';
import { fillPostgres } from './population-postgres.ts';
import type { MeasuredRealm } from './realm.ts';

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

/** Fills all servers, side by side. No worker may run: slapd is restarted meanwhile. */
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
  // one that fails must not leave the others at work behind our back
  const ends = await Promise.allSettled(
    fills.map(async ([name, fill]) => {
      const begin = performance.now();
      await fill(realm, sealed);
      say(`${name}: filled in ${((performance.now() - begin) / 1000).toFixed(1)} s`);
    }),
  );
  for (const end of ends) if (end.status === 'rejected') throw end.reason;
}
