/** Where the program is. */
import { existsSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** The folder that contains migrations/ and deploy/, whether the program runs from its sources or is built. */
export const ROOT = findRoot();

function findRoot(): string {
  for (let at = import.meta.dirname; at !== dirname(at); at = dirname(at)) {
    if (existsSync(join(at, 'migrations/roles.sql'))) return at;
  }
  throw new Error('looking for the folder of the program');
}

/** The migration files, in order. */
export function listMigrations(root: string): string[] {
  return readdirSync(join(root, 'migrations'))
    .filter((name) => /^\d{4}_.*\.sql$/u.test(name))
    .toSorted();
}
