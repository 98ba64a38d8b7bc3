/** Whether programs are installed on this machine, such as those that sets of backups are made with. */
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import { ChamberlainError } from '../shared/errors.ts';
import { hasPostgresProgram } from './postgres-programs.ts';

/**
 * Whether a program can be run by its name alone.
 *
 * @param path where it is looked for, as in PATH
 */
export function isInPath(program: string, path = process.env['PATH'] ?? ''): boolean {
  return path.split(':').some((folder) => {
    try {
      accessSync(join(folder, program), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** The Debian package of each program that sets are made or verified with. */
const PACKAGES = {
  age: 'age',
  pg_dump: 'postgresql-client',
  pg_restore: 'postgresql-client',
  psql: 'postgresql-client',
  initdb: 'postgresql',
  postgres: 'postgresql',
  slapd: 'slapd',
} as const;
type Needed = keyof typeof PACKAGES;

/** What a set is made with. */
export const TO_MAKE: readonly Needed[] = ['age', 'pg_dump'];

function isHere(program: Needed): boolean {
  if (program === 'age') return isInPath(program);
  // in no PATH of an ordinary user's
  return program === 'slapd' ? isInPath(program, '/usr/sbin') : hasPostgresProgram(program);
}

/** Which of these programs this machine has not, and what to do; undefined: none. */
export function findLack(
  programs: readonly Needed[],
): { programs: string; todo: string } | undefined {
  const lacking = programs.filter((program) => !isHere(program));
  if (lacking.length === 0) return undefined;
  const packages = [...new Set(lacking.map((program) => PACKAGES[program]))].join(' ');
  return { programs: lacking.join(', '), todo: `Run \`apt-get install ${packages}\`.` };
}

/** Throws where one of these programs is not installed here. */
export function requirePrograms(...programs: readonly Needed[]): void {
  const lack = findLack(programs);
  if (lack === undefined) return;
  const sentence = `nothing was done, since this machine has no ${lack.programs}`;
  throw new ChamberlainError('STEP_FAILED', sentence, { action: lack.todo });
}
