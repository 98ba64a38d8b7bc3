/** Checks the folders of archives, and the programs that make archives, on the machine of each role. */
import { accessSync, constants, statSync } from 'node:fs';
import { join } from 'node:path';
import { type Config, machineOf } from '../shared/config.ts';
import { STAGING, STAGING_FORBIDS } from '../backends/files/file-mount.ts';
import { type Owned, statPaths } from '../shared/path-stat.ts';
import { isInPath } from '../backup/programs.ts';
import { elsewhere, expectThat, fix, type Line, ok, unreadable } from './line.ts';

/** Less than the time limit of a check. */
const LIMIT_MS = 1500;

type ArchivingRole = 'homes' | 'databases';

/** The programs that each role runs. */
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
 * The lines on one role's archives. If the role does not run on this machine, its secret is not here.
 *
 * @param path the folders of programs, as in PATH
 */
export async function lookAtArchives(
  config: Config,
  role: ArchivingRole,
  path = process.env['PATH'] ?? '',
): Promise<Line[]> {
  const folder = config.archives[role];
  const owner = ownerOfSecret(config, role);
  if (owner === undefined) {
    return [
      elsewhere(
        `the archives of ${role} are not on this machine`,
        'Run this where that role runs.',
      ),
    ];
  }
  return [await lookAtFolder(role, folder, owner), lookAtPrograms(role, path)];
}

async function lookAtFolder(role: ArchivingRole, folder: string, owner: number): Promise<Line> {
  const make =
    role === 'homes'
      ? `Mount ${folder}. Only if it was never prepared, run \`chamberlain prepare\` on the file server.`
      : `Mount ${folder}, or create it: \`install -d -m 700 -o ${owner} ${folder}\`.`;
  // `.chamberlain` shows whether it is mounted; the role `databases` has no such folder
  const paths = role === 'homes' ? [folder, join(folder, STAGING)] : [folder];
  const seen = await statPaths(paths, LIMIT_MS);
  switch (seen) {
    case 'no answer':
      return unreadable(
        `${folder}: no answer within ${LIMIT_MS / 1000} s`,
        role === 'homes'
          ? 'Look at the file server.'
          : 'Look at the disk or the server that the folder is on.',
      );
    case 'not for us':
      return elsewhere(`this user may not look into ${folder}`, 'Run this as root.');
    case 'not there':
      return fix(`${folder} does not exist: nothing can be archived`, make);
    default: {
      for (const [n, at] of paths.entries()) {
        const each = seen[n];
        if (each !== undefined && !isFolder(each)) {
          return fix(`${at}: it is not a folder`, `Move that away. ${make}`);
        }
        const why = each === undefined ? undefined : whyUnfit(each, owner);
        if (why !== undefined) {
          return fix(`${at}: ${why}`, `Run \`chown ${owner} ${at}; chmod 700 ${at}\`.`);
        }
      }
      return ok(`${folder} is ready for archives of ${role}`);
    }
  }
}

function isFolder({ mode }: Owned): boolean {
  return (mode & 0o170000) === 0o040000;
}

function whyUnfit({ uid, mode }: Owned, owner: number): string | undefined {
  if (uid !== owner) return `it belongs to uid ${uid}, not to ${owner === 0 ? 'root' : owner}`;
  if ((mode & STAGING_FORBIDS) !== 0) return 'others have rights on it';
  return undefined;
}

function lookAtPrograms(role: ArchivingRole, path: string): Line {
  const missing = PROGRAMS[role].filter((program) => !isInPath(program, path));
  const packages = [...new Set(missing.map((program) => PACKAGES[program] ?? program))].join(' ');
  return expectThat(
    missing.length === 0,
    `the programs that archive ${role} are installed`,
    `${role} cannot be archived: ${missing.join(', ')} ${missing.length === 1 ? 'is' : 'are'} missing`,
    `Run \`apt-get install ${packages}\`.`,
  );
}

/** The user of the role on this machine, who owns its secret. The machine of the realm has all secrets. */
function ownerOfSecret(config: Config, role: ArchivingRole): number | undefined {
  if (machineOf(config, role) !== undefined) return undefined;
  const file = join(config.secrets, `postgres-${role}`);
  try {
    accessSync(file, constants.R_OK);
    return role === 'homes' ? 0 : statSync(file).uid;
  } catch {
    return undefined;
  }
}
