/** What needs every server: the folders of homes and archives, the first admin and the workers. */
import { existsSync, mkdirSync } from 'node:fs';
import { folder } from '../../deploy/login-host/pieces.ts';
import { systemdRuns } from '../../deploy/login-host/services.ts';
import { prepareArchives } from '../archives/homes/file-archive-mount.ts';
import { prepareFileAreas } from '../backends/files/file-acls.ts';
import { areaPath } from '../backends/files/file-mount.ts';
import { CONFIG_FILE } from '../cli/command.ts';
import { openPool, type Pool, withClient } from '../database/connection.ts';
import { lookAtArchives } from '../doctor/archives.ts';
import { lookAtAreas } from '../doctor/areas.ts';
import { isRealmEmpty } from '../identity/people-table.ts';
import { directorySettings, openDirectoryReader } from '../backends/ldap/directory.ts';
import { bootstrap } from '../requests/bootstrap.ts';
import { countUnremembered, rememberUnmanaged } from '../unmanaged/sightings-table.ts';
import type { Sighting } from '../unmanaged/sightings.ts';
import { ARCHIVING_ROLES, ROLES } from '../roles/index.ts';
import { ChamberlainError } from '../shared/errors.ts';
import type { Answers } from './answers.ts';
import { readConfig, workerUnit } from './places.ts';
import { faultIn, service, unneeded } from './programs.ts';
import type { Differs, Piece } from './setup.ts';

/**
 * The folders that roles work in.
 *
 * @param isNew whether the realm is new, so that a folder without homes is no disk that was not mounted
 */
export function folderPieces(
  roles: readonly string[],
  needs: readonly Piece[],
  isNew = true,
): Piece[] {
  const archiving = ARCHIVING_ROLES.filter((role) => roles.includes(role));
  if (archiving.length === 0) return [];
  return [
    {
      name: 'the folders of homes and archives',
      does: isNew
        ? 'makes them, and prepares them as `chamberlain prepare` does'
        : 'makes that of archives of databases; homes must be mounted, or copied there',
      needs,
      check: () => faultOfFolders(roles),
      async make() {
        const { files, archives } = readConfig();
        if (roles.includes('homes') && !isNew) {
          if ((await faultOfFolders(['homes'])) !== undefined) throw new Error(MOUNT);
        } else if (roles.includes('homes')) {
          for (const area of ['toolHomes', 'personHomes'] as const) {
            mkdirSync(areaPath(files, area), { recursive: true, mode: 0o755 });
          }
          await prepareFileAreas(files);
          await prepareArchives(archives.homes);
        }
        if (!roles.includes('databases')) return;
        const user = 'chamberlain-databases';
        mkdirSync(archives.databases, { recursive: true });
        folder(archives.databases, { owner: user, group: user, mode: 0o700 }).mend?.();
      },
    },
  ];
}

async function faultOfFolders(roles: readonly string[]): Promise<Differs> {
  const config = readConfig();
  const lines = [];
  if (roles.includes('homes')) lines.push(...(await lookAtAreas(config)));
  for (const role of ['homes', 'databases'] as const) {
    if (roles.includes(role)) lines.push(...(await lookAtArchives(config, role)));
  }
  return faultIn(lines);
}

const MOUNT =
  'mount the homes and their archives, or copy them there with the folders .chamberlain; only if the realm has no homes, make the folders, and run `chamberlain prepare`';

/** The first admin, in an empty realm, and the workers. Without systemd, others start the workers. */
export function realmPieces(
  { admin, elsewhere, ldap }: Answers,
  { postgres, servers }: { postgres: readonly Piece[]; servers: readonly Piece[] },
): Piece[] {
  const { name, displayName = name, email = `${name}@localhost`, sshKey: key } = admin;
  const remembered = ldap === undefined ? [] : [rememberedPiece([...postgres, ...servers])];
  const first: Piece = {
    name: 'the first admin',
    does: `chamberlain bootstrap ${name}`,
    needs: [...postgres, ...remembered],
    check: async () =>
      (await asOwner((pool) => withClient(pool, isRealmEmpty)))
        ? 'is missing: the realm is empty'
        : undefined,
    async make() {
      if (name === '' || key === undefined) {
        throw new ChamberlainError('USAGE', 'nothing says who the first admin is, with which key', {
          action: 'Give admin.name and admin.sshKey in the file of --answers.',
        });
      }
      await asOwner((pool) => bootstrap(pool, readConfig(), name, { displayName, email, key }));
    },
  };
  if (!systemdRuns()) return [...remembered, first];
  const api = existsSync(CONFIG_FILE) && readConfig().api !== undefined ? ['api'] : [];
  const workers = ['intake', 'relay', ...ROLES, 'sweep', ...api].map((role) =>
    service(`chamberlain@${role}.service`, [...servers, first], [CONFIG_FILE]),
  );
  const isElsewhere = ({ name: of }: Piece) =>
    elsewhere.some((role) => of.endsWith(workerUnit(role)));
  const moved = elsewhere.map((role) => unneeded(workerUnit(role), []));
  return [...remembered, first, ...workers.filter((worker) => !isElsewhere(worker)), ...moved];
}

async function asOwner<T>(act: (pool: Pool) => Promise<T>): Promise<T> {
  const pool = openPool(readConfig(), 'owner', { max: 1, durable: true });
  try {
    return await act(pool);
  } finally {
    await pool.end();
  }
}

/** Later, sweeps do that. Before the first one, a request could get a name or a number of others. */
function rememberedPiece(needs: readonly Piece[]): Piece {
  return {
    name: 'the names and numbers of others in the directory',
    does: 'remembers them, so that no request gets one',
    needs,
    check: () =>
      asOwner(async (pool) => {
        if (!(await withClient(pool, isRealmEmpty))) return undefined;
        const count = await countUnremembered(pool, await readSightings());
        return count === 0 ? undefined : `are not remembered yet: ${count}`;
      }),
    make: () => asOwner(async (pool) => rememberUnmanaged(pool, await readSightings())),
  };
}

async function readSightings(): Promise<readonly Sighting[]> {
  const config = readConfig();
  const reader = openDirectoryReader(directorySettings(config, 'directory-reader'));
  try {
    const throttle = { piece: 1000, yieldTurn: () => Promise.resolve() };
    return (await reader.readEverything(throttle, config.ids.realmGid)).sightings;
  } finally {
    await reader.close();
  }
}
