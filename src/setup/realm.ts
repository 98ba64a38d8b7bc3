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
import { bootstrap } from '../requests/bootstrap.ts';
import { ROLES } from '../roles/index.ts';
import { ChamberlainError } from '../shared/errors.ts';
import type { Answers } from './answers.ts';
import { readConfig } from './places.ts';
import { faultIn, service } from './programs.ts';
import type { Piece } from './setup.ts';

export function folderPieces(needs: readonly Piece[]): Piece[] {
  return [
    {
      name: 'the folders of homes and archives',
      does: 'makes them, and prepares them as `chamberlain prepare` does',
      needs,
      async check() {
        const config = readConfig();
        return faultIn([
          ...(await lookAtAreas(config)),
          ...(await lookAtArchives(config, 'homes')),
          ...(await lookAtArchives(config, 'databases')),
        ]);
      },
      async make() {
        const { files, archives } = readConfig();
        for (const area of ['toolHomes', 'personHomes'] as const) {
          mkdirSync(areaPath(files, area), { recursive: true, mode: 0o755 });
        }
        await prepareFileAreas(files);
        await prepareArchives(archives.homes);
        const user = 'chamberlain-databases';
        folder(archives.databases, { owner: user, group: user, mode: 0o700 }).mend?.();
      },
    },
  ];
}

/** The first admin, in an empty realm, and the workers. Without systemd, others start the workers. */
export function realmPieces(
  { admin }: Answers,
  { postgres, servers }: { postgres: readonly Piece[]; servers: readonly Piece[] },
): Piece[] {
  const { name, displayName = name, email = `${name}@localhost`, sshKey: key } = admin;
  const first: Piece = {
    name: 'the first admin',
    does: `chamberlain bootstrap ${name}`,
    needs: postgres,
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
  if (!systemdRuns()) return [first];
  const api = existsSync(CONFIG_FILE) && readConfig().api !== undefined ? ['api'] : [];
  const workers = ['intake', 'relay', ...ROLES, 'sweep', ...api].map((role) =>
    service(`chamberlain@${role}.service`, [...servers, first], [CONFIG_FILE]),
  );
  return [first, ...workers];
}

async function asOwner<T>(act: (pool: Pool) => Promise<T>): Promise<T> {
  const pool = openPool(readConfig(), 'owner', { max: 1, durable: true });
  try {
    return await act(pool);
  } finally {
    await pool.end();
  }
}
