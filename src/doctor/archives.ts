/** Looks at where archives are kept, and at the programs that make them, on the machine of each role. */
import { accessSync, constants, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Config } from '../shared/config.ts';
import { STAGING, STAGING_FORBIDS } from '../backends/files/file-mount.ts';
import { type Owned, statPaths } from '../shared/path-stat.ts';
import { isInPath } from '../backup/programs.ts';
import { elsewhere, expectThat, fix, type Line, ok, unreadable } from './line.ts';

/** Less than a check may take. */
const LIMIT_MS = 1500;

type ArchivingRole = 'homes' | 'databases';

/** What each role runs; ionice is used where it is there. */
const PROGRAMS: Record<ArchivingRole, readonly string[]> = {
  homes: ['bash', 'cmp', 'find', 'perl', 'rm', 'setpriv', 'tar', 'zstd'],
  databases: ['ionice', 'mariadb', 'mariadb-dump', 'nice', 'setpriv', 'zstd'],
};
/** The Debian package of a program that may be missing. */
const PACKAGES: Record<string, string> = {
  mariadb: 'mariadb-client',
  'mariadb-dump': 'mariadb-client',
  perl: 'perl-base',
  zstd: 'zstd',
};

/**
 * The lines on one role's archives. Where the role does not work on this machine, its secret is not here.
 *
 * @param path where programs are looked for, as in PATH
 */
export async function lookAtArchives(
  config: Config,
  role: ArchivingRole,
  path = process.env['PATH'] ?? '',
): Promise<Line[]> {
  const folder = config.archives[role];
  const owner = ownerOfSecret(config, role);
  if (owner === undefined) {
    return [elsewhere(`the archives of ${role} are not on this machine`, 'Look where that works.')];
  }
  return [await lookAtFolder(role, folder, owner), lookAtPrograms(role, path)];
}

async function lookAtFolder(role: ArchivingRole, folder: string, owner: number): Promise<Line> {
  const make =
    role === 'homes'
      ? 'Mount it, and run `chamberlain prepare` on the file server, once.'
      : `Mount it, or make it: \`install -d -m 700 -o ${owner} ${folder}\`.`;
  // the mark tells one that is not mounted; of databases the role would have no answer either way
  const paths = role === 'homes' ? [folder, join(folder, STAGING)] : [folder];
  const seen = await statPaths(paths, LIMIT_MS);
  switch (seen) {
    case 'no answer':
      return unreadable(
        `${folder}: no answer within ${LIMIT_MS / 1000} s`,
        'Look at the file server.',
      );
    case 'not for us':
      return elsewhere(`${folder} is not for this user to look at`, 'Run this as root.');
    case 'not there':
      return fix(`${folder} is not there: nothing can be put away`, make);
    default: {
      const why = seen.map((each) => whyUnfit(each, owner)).find((each) => each !== undefined);
      return why === undefined
        ? ok(`${folder} is there, for archives of ${role}`)
        : fix(`${folder}: ${why}`, `Run \`chown ${owner} ${folder}; chmod 700 ${folder}\`.`);
    }
  }
}

function whyUnfit({ uid, mode }: Owned, owner: number): string | undefined {
  if (uid !== owner) return `it belongs to uid ${uid}, not to ${owner === 0 ? 'root' : owner}`;
  if ((mode & 0o170000) !== 0o040000) return 'it is no folder';
  if ((mode & STAGING_FORBIDS) !== 0) return 'others have rights on it';
  return undefined;
}

function lookAtPrograms(role: ArchivingRole, path: string): Line {
  const missing = PROGRAMS[role].filter((program) => !isInPath(program, path));
  const packages = [...new Set(missing.map((program) => PACKAGES[program] ?? program))].join(' ');
  return expectThat(
    missing.length === 0,
    `the programs that put away ${role} are there`,
    `to put away ${role}, there is no ${missing.join(', ')}`,
    `Install them: \`apt-get install ${packages}\`.`,
  );
}

/** The user of the role on this machine: its secret is that user's. */
function ownerOfSecret(config: Config, role: ArchivingRole): number | undefined {
  const file = join(config.secrets, `postgres-${role}`);
  try {
    accessSync(file, constants.R_OK);
    return role === 'homes' ? 0 : statSync(file).uid;
  } catch {
    return undefined;
  }
}
