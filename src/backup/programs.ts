/** Whether programs are installed on this machine, such as those that make sets of backups. */
import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import { ChamberlainError } from '../shared/errors.ts';
import { hasPostgresProgram } from './postgres-programs.ts';

/**
 * Whether a program can be run by its name alone.
 *
 * @param path the folders to search, as in PATH
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

/** The Debian package of each program that makes or verifies sets. */
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

/** The programs that make a set. */
export const TO_MAKE: readonly Needed[] = ['age', 'pg_dump'];

function isHere(program: Needed): boolean {
  if (program === 'age') return isInPath(program);
  // slapd is not in the PATH of an ordinary user
  return program === 'slapd' ? isInPath(program, '/usr/sbin') : hasPostgresProgram(program);
}

/** The programs that are missing on this machine, and what to do. Undefined if none is missing. */
export function findLack(
  programs: readonly Needed[],
): { programs: string; todo: string } | undefined {
  const lacking = programs.filter((program) => !isHere(program));
  if (lacking.length === 0) return undefined;
  const packages = [...new Set(lacking.map((program) => PACKAGES[program]))].join(' ');
  return { programs: lacking.join(', '), todo: `Run \`apt-get install ${packages}\`.` };
}

/** Throws if one of these programs is not installed on this machine. */
export function requirePrograms(...programs: readonly Needed[]): void {
  const lack = findLack(programs);
  if (lack === undefined) return;
  const sentence = `nothing was done, because this machine does not have ${lack.programs}`;
  throw new ChamberlainError('STEP_FAILED', sentence, { action: lack.todo });
}
