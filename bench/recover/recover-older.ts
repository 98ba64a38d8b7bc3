/** Servers, and areas of homes, that come back in an older state: each by its own files, complete. */
import { rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { run, type Server, startServer, stopServer } from '../../dev/servers/daemon.ts';
import { administer } from '../../dev/servers/mariadb.ts';
import type { MeasuredRealm } from '../realm.ts';

/** A copy of an earlier state of a server or an area. */
interface Kept {
  /** From now on the place is older: it answers, and shows its earlier state. */
  lose(): Promise<void>;
  /** Ends that, if nothing else does. */
  end(): Promise<void>;
}

interface OlderPlace {
  /** as `status` names it */
  nameIn(config: MeasuredRealm['config']): string;
  keep(realm: MeasuredRealm): Promise<Kept>;
  /** Reads the marker by the place's own program, as fast as the machine can. */
  read(realm: MeasuredRealm): Promise<unknown>;
}

/** The places that carry a marker, except PostgreSQL itself. */
export const OLDER_PLACES: readonly OlderPlace[] = [
  {
    nameIn: () => 'the directory',
    // only an admin can accept an older directory, so the newer one is restored
    async keep({ stack: { slapd } }) {
      const older = await copyOf(slapd);
      const newer = `${older}.newer`;
      return {
        lose: () => whileStopped(slapd, (data) => swap(data, older, newer)),
        end: () => whileStopped(slapd, (data) => swap(data, newer, older)),
      };
    },
    read: ({ stack, config }) =>
      run('/usr/bin/ldapsearch', [
        ...[
          '-x',
          '-LLL',
          '-H',
          stack.slapd.uri,
          '-y',
          join(config.secrets, 'ldap-directory-reader'),
        ],
        ...['-D', `cn=directory-reader,ou=chamberlain,${config.ldap.base}`],
        ...['-s', 'base', '-b', `cn=chamberlain,${config.ldap.base}`, 'description'],
      ]),
  },
  {
    nameIn: () => 'the server replica',
    // with a new marker, it is the newer copy, and its former state is the older: they change places each time
    async keep({ stack: { replica } }) {
      const other = await copyOf(replica);
      return {
        lose: () => whileStopped(replica, (data) => exchange(data, other)),
        end: () => Promise.resolve(),
      };
    },
    read: ({ stack }) =>
      administer(stack.replica.socket, 'SELECT marker FROM mysql.chamberlain_marker;'),
  },
  {
    nameIn: ({ files }) => `the area ${files.root}${files.toolHomes}`,
    async keep({ config: { files } }) {
      const area = files.root + files.toolHomes;
      await run('/usr/bin/cp', ['-a', area, `${area}.other`]);
      return {
        lose: () => exchange(area, `${area}.other`),
        end: () => Promise.resolve(),
      };
    },
    read: ({ config: { files } }) =>
      run('/bin/sh', ['-c', `cat ${files.root}${files.toolHomes}/.chamberlain*/marker.*`]),
  },
];

/** Keeps the state of a server; returns a function that restores it. Nobody may use the server meanwhile. */
export async function keepOlder(server: Server): Promise<() => Promise<void>> {
  const older = await copyOf(server);
  return () =>
    whileStopped(server, async (data) => {
      await rm(data, { recursive: true });
      await rename(older, data);
    });
}

async function copyOf(server: Server): Promise<string> {
  const copy = join(server.folder, 'data.kept');
  await whileStopped(server, (data) => run('/usr/bin/cp', ['-a', data, copy]));
  return copy;
}

async function whileStopped(
  server: Server,
  act: (data: string) => Promise<unknown>,
): Promise<void> {
  await stopServer(server);
  await act(join(server.folder, 'data'));
  await startServer(server);
}

/** Renames what is there, and moves another into its place. */
async function swap(place: string, incoming: string, outgoing: string): Promise<void> {
  await rename(place, outgoing);
  await rename(incoming, place);
}

async function exchange(place: string, other: string): Promise<void> {
  await swap(place, other, `${place}.out`);
  await rename(`${place}.out`, other);
}
