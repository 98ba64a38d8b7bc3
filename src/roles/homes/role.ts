/** The role `homes`: root on the file server, and the one place where passwords are made. */
import { credentialsFile } from '../../targets/credentials-file.ts';
import { homeArchive } from '../../targets/home-archive.ts';
import { homeDirectory } from '../../targets/home-directory.ts';
import { accountColumns } from '../account-columns.ts';
import type { RoleDescriptor } from '../descriptor.ts';
import { HOMES_VERBS } from './verbs.ts';

export const HOMES_TARGETS = [homeArchive, homeDirectory, credentialsFile] as const;

export const homes: RoleDescriptor<'homes'> = {
  name: 'homes',
  targets: HOMES_TARGETS,
  verbs: HOMES_VERBS,
  wanted: accountColumns('homes'),
  touchedBy: { credentials: {}, archives: {} },
  archives: 'home',
  rights: `
    GRANT SELECT ON credentials, database_verifiers TO chamberlain_homes, chamberlain_homes_reader;
    GRANT INSERT, UPDATE ON database_verifiers TO chamberlain_homes;
    -- the markers of the areas
    GRANT SELECT (marker, key) ON directory_heartbeat TO chamberlain_homes;
    GRANT DELETE, INSERT (role, place, publishing_at), UPDATE (publishing_at, published_at, doubt, older, doubted_at)
      ON place_markers TO chamberlain_homes;
    GRANT EXECUTE ON FUNCTION freeze_older_than(text, text, timestamptz), take_away(text, integer[], text[])
      TO chamberlain_homes;`,
  places: ({ files, archives }) => [
    ['toolHomes', files.toolHomes],
    ['personHomes', files.personHomes],
    ['archives', archives.homes],
  ],
  stops: () => 'no home or database password is created, changed or revoked',
  loadParts: async () => (await import('./worker.ts')).HOMES,
  loadChecks: () => import('./checks.ts'),
};
