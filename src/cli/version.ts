/** `chamberlain --version`: the version of the program, and the last migration that it knows. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { listMigrations, ROOT } from '../shared/root.ts';
import { print, printJson } from './table.ts';

/** The version of package.json, and the last migration, such as `0010_unmanaged`. */
export function printVersion({ json }: { json: boolean }): void {
  const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
    version: string;
  };
  const migration = listMigrations(ROOT).at(-1)?.replace('.sql', '');
  if (json) printJson({ version, migration });
  else print(`chamberlain ${version}, with migrations up to ${migration}`);
}
