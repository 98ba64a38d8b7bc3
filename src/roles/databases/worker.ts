/** The role `databases`: accounts on every configured MariaDB server, and the databases of subjects that leave. */
import { randomBytes } from 'node:crypto';
import type { Config } from '../../shared/config.ts';
import { markerName, secretReader } from '../../shared/config.ts';
import {
  openDatabasesReader,
  openDatabasesWriter,
  type OpenDatabasesReader,
} from '../../backends/mariadb/mariadb.ts';
import { isArchiveAction, openArchiveWriter } from '../../archives/databases/mariadb-archive.ts';
import {
  type OpenDatabaseArchiveReader,
  openDatabaseArchiveReader,
} from '../../archives/databases/mariadb-archive-reader.ts';
import type { ArchiveTerms } from '../../archives/databases/mariadb-archiving.ts';
import { openServerMarkers } from '../../backends/mariadb/mariadb-marker.ts';
import type { ListedUser } from '../../backends/mariadb/mariadb-reading.ts';
import { makePassword } from '../../credentials/credentials.ts';
import { readRecordedArchives } from '../../archives/archives-table.ts';
import { lookAtPasswords, openVerifiers } from '../../credentials/credentials-table.ts';
import { readArchiveNames, readNumbers } from '../../unmanaged/unmanaged-table.ts';
import { readWanted } from '../../reconcile/wanted-queries.ts';
import type { DatabaseArchiveReader, DatabasesReader } from '../../targets/databases-reader.ts';
import { numberOfUser } from '../../targets/everything.ts';
import { archiveOfName, archiveThings, isIn } from '../../unmanaged/unmanaged-things.ts';
import { keepArchives } from '../../archives/record-archives.ts';
import { type PlaceMarkers, readMarkedAt } from '../../seals/publish-place-markers.ts';
import type { RoleParts, RoleStore } from '../../reconcile/role.ts';
import { askPostgres, type Watch, type Watching } from '../../unmanaged/watch.ts';
import { DATABASES_TARGETS } from './role.ts';

type OpenReader = OpenDatabasesReader & OpenDatabaseArchiveReader;

export const DATABASES: RoleParts<DatabasesReader & DatabaseArchiveReader, OpenReader> = {
  role: 'databases',
  targets: DATABASES_TARGETS,
  concurrency: 4,
  openReader(config) {
    const { servers } = config.databases;
    const ofAccounts = openDatabasesReader(servers, login(config, 'databases-reader'));
    const ofArchives = openDatabaseArchiveReader(
      servers,
      login(config, 'databases-reader'),
      config.archives.databases,
    );
    return {
      ...ofAccounts,
      ...ofArchives,
      async close() {
        await Promise.all([ofAccounts.close(), ofArchives.close()]);
      },
    };
  },
  async readEverything(reader, throttle, { pool, config }) {
    const everything = await reader.readEverything(throttle);
    return {
      ...everything,
      reader: { ...everything.reader, ...reader.once() },
      async readDeletions() {
        return reader.readDeletions(await readRecordedArchives(pool));
      },
      readMarkedAt: () => readMarkedAt(openDatabasesMarkers(config, 'databases-reader')),
    };
  },
  openWatch: watchDatabases,
  openMarkers: openDatabasesMarkers,
  openWriter(config, store) {
    const { servers } = config.databases;
    const verifiers = openVerifiers(store.pool);
    const ofAccounts = openDatabasesWriter(servers, login(config, 'databases'), verifiers);
    const ofArchives = openArchiveWriter(
      { folder: config.archives.databases, places: servers, login: login(config, 'databases') },
      archiveTerms(store),
    );
    return {
      do: (action) => (isArchiveAction(action) ? ofArchives.do(action) : ofAccounts.do(action)),
      letGo: () => ofArchives.letGo(),
      async close() {
        await Promise.all([ofAccounts.close(), ofArchives.close()]);
      },
    };
  },
};

/** The markers of the servers, one by one; the account of surveys may read them only. */
export function openDatabasesMarkers(
  config: Config,
  account: 'databases' | 'databases-reader' = 'databases',
): PlaceMarkers {
  const { servers } = config.databases;
  const markers = openServerMarkers(servers, login(config, account), markerName(config), {
    // what surveys see is evidence, and absence would be some
    whenDenied: account === 'databases' ? 'none' : 'unreadable',
  });
  return {
    ...markers,
    places: servers.map(({ name }) => name),
    nameOf: (place) => `the server ${place}`,
    only: (place) => {
      const only = servers.filter(({ name }) => name === place);
      return { ...config, databases: { ...config.databases, servers: only } };
    },
    kinds: () => ['person', 'tool'],
  };
}

/** An earlier look has found an older change of a password, or the sweep will. */
const CHANGED_WITHIN_SECONDS = 120;

/**
 * Each server, and the folder of archives. A server is read whole after any of its accounts has changed. A password that
 * somebody else has changed on a server is corrected: its account is checked again.
 */
function watchDatabases(
  reader: OpenReader,
  { pool, others, config }: Watching,
): Watch<DatabasesReader & DatabaseArchiveReader> {
  // a number that was given once stays that account's
  const known = new Set<string>();
  /** by server: what its accounts were at the last look, and those that were not known */
  const seen = new Map<string, { digest: string; unknown: ListedUser[] }>();

  async function lookAtServer(server: string, isSurvey: boolean) {
    // read before the list, so that the next look lists again what changes meanwhile
    const digest = await reader.digestAccounts(server);
    const last = seen.get(server);
    const listed = last?.digest === digest ? last.unknown : await reader.listUsers(server);
    const users = listed.filter(
      ({ user }) => !known.has(user) && !isIn(others, numberOfUser(user) ?? 0),
    );
    const ours = await readNumbers(
      pool,
      users.flatMap(({ user }) => numberOfUser(user) ?? []),
    );
    for (const { user } of users) {
      const kind = ours.get(numberOfUser(user) ?? 0)?.kind;
      if (kind === (user.startsWith('s') ? 'tool' : 'person')) known.add(user);
    }
    // a survey changes nothing
    if (!isSurvey) await lookAtPasswords(pool, listed.flatMap(recentChange));
    const unmanaged = users.filter(({ user }) => !known.has(user));
    seen.set(server, { digest, unknown: unmanaged });
    return {
      gone: 'the rest' as const,
      // a server does not record who made it
      things: unmanaged.map(({ user, host, passwordAt }) => ({
        ...{ object: `${user}@${host}`, kind: 'database user' as const, name: user },
        ...{ number: numberOfUser(user), madeAt: passwordAt },
      })),
    };
  }

  function recentChange({ user, passwordSeconds: secondsAgo = Infinity }: ListedUser) {
    return known.has(user) && secondsAgo < CHANGED_WITHIN_SECONDS
      ? [{ subject: numberOfUser(user) as number, secondsAgo }]
      : [];
  }

  async function lookAtArchives() {
    const found = await reader.listUnmanaged(async () => {
      const ours = await askPostgres(readArchiveNames(pool));
      return (name) => ours.has(archiveOfName(name));
    });
    const folder = config.archives.databases;
    return { gone: 'the rest' as const, things: archiveThings(found, folder) };
  }

  return (everything) => [
    ...config.databases.servers.map(({ name }) => ({
      place: name,
      looking: lookAtServer(name, everything !== undefined),
    })),
    { place: 'archives', looking: lookAtArchives() },
  ];
}

function archiveTerms(store: RoleStore): ArchiveTerms {
  const role = 'databases';
  const { pool } = store;
  return {
    ...keepArchives(role, store),
    newPassword: () => makePassword(randomBytes),
    async readVerifiers(uid) {
      const [wanted] = await readWanted(pool, role, [uid]);
      const { verifier, previous } = wanted?.credentials?.recorded ?? {};
      return [verifier, previous].filter((each) => each !== undefined);
    },
  };
}

/** The MariaDB account of that name, the same on every server. */
function login(config: Config, account: 'databases' | 'databases-reader') {
  return {
    user: `chamberlain_${account.replace('-', '_')}`,
    password: secretReader(config, 'mariadb', account),
  };
}
