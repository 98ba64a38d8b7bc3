/** The role `homes`: root on the file server, and the one place where passwords are born. */
import { randomBytes } from 'node:crypto';
import { type Config, markerName } from '../src/shared/config.ts';
import { type Area, areaPath } from '../src/backends/files/file-mount.ts';
import { openFilesWriter } from '../src/backends/files/file-writer.ts';
import type { FolderMemory, ListedPath } from '../src/backends/files/file-listing.ts';
import { openAreaMarkers } from '../src/backends/files/file-marker.ts';
import { type OpenFilesReader, openFilesReader } from '../src/backends/files/files.ts';
import { makePassword } from '../src/credentials/credentials.ts';
import { readRecordedArchives, reportArchiveProgress } from '../src/archives/archives-table.ts';
import { recordVerifier } from '../src/credentials/credentials-table.ts';
import type { SeenThing } from '../src/unmanaged/unmanaged.ts';
import { readAccounts, readArchiveNames, readNumbers } from '../src/unmanaged/unmanaged-table.ts';
import { sightingOfHome } from '../src/targets/everything.ts';
import { archiveOfName } from '../src/unmanaged/unmanaged-things.ts';
import type { FilesReader } from '../src/targets/files-reader.ts';
import type { Sighting } from '../src/unmanaged/sightings.ts';
import { TARGETS } from '../src/targets/index.ts';
import { keepArchives } from '../src/archives/record-archives.ts';
import { readMarkedAt } from '../src/seals/marked-at.ts';
import type { PlaceMarkers } from '../src/seals/publish-place-markers.ts';
import type { RoleParts } from '../src/reconcile/role.ts';
import { askPostgres, type Watch, type Watching } from '../src/unmanaged/watch.ts';

export const HOMES: RoleParts<FilesReader, OpenFilesReader> = {
  role: 'homes',
  targets: TARGETS.homes,
  concurrency: 4,
  openReader: (config) => openFilesReader(config.files, config.archives.homes),
  // looking at homes one by one is fast enough: beforehand only their names and owners are read
  async readEverything(reader, throttle, { realm, pool, config }) {
    const numbers = new Set<number>();
    const sightings: Sighting[] = [];
    for await (const piece of reader.listHomes(throttle.piece)) {
      for (const home of piece) {
        numbers.add(home.uid).add(home.gid);
        sightings.push(sightingOfHome(home, realm));
      }
      await throttle.yieldTurn();
    }
    return {
      ...{ reader, sightings, numbers },
      readErased: () => reader.readErased(),
      async readDeletions() {
        return reader.readDeletions(await readRecordedArchives(pool));
      },
      readMarkedAt: () => readMarkedAt(openHomesMarkers(config)),
    };
  },
  openWatch: watchHomes,
  openMarkers: openHomesMarkers,
  openWriter: (config, store) =>
    openFilesWriter(
      config.files,
      {
        newPassword: () => makePassword(randomBytes),
        recordVerifier: (made) => recordVerifier(store.holderOf(made.account), made),
      },
      {
        folder: config.archives.homes,
        realm: config.realm,
        ...keepArchives('homes', store),
        report: (progress) => reportArchiveProgress(store.pool, { ...progress, role: 'homes' }),
      },
    ),
};

/** The markers of both areas. */
export function openHomesMarkers(config: Config): PlaceMarkers<Area> {
  return {
    ...openAreaMarkers(config.files, markerName(config)),
    places: ['toolHomes', 'personHomes'],
    nameOf: (area) => `the area ${areaPath(config.files, area)}`,
    only: () => config,
    kinds: (area) => [area === 'toolHomes' ? 'tool' : 'person'],
  };
}

/** Both areas of homes, and the folder of archives. An area is read whole after a name in it has changed. */
function watchHomes(
  reader: OpenFilesReader,
  { pool, realm, config }: Watching,
): Watch<FilesReader> {
  // a name that was given once stays that account's
  const known = new Map([
    ['toolHomes' as const, { ours: new Set<string>(), memory: {} }],
    ['personHomes' as const, { ours: new Set<string>(), memory: {} }],
  ]);
  const accountOf = (area: 'toolHomes' | 'personHomes', name: string) =>
    area === 'toolHomes' ? `${realm.realm}.${name}` : name;

  async function lookAtArea(
    area: 'toolHomes' | 'personHomes',
    { ours, memory }: { ours: Set<string>; memory: FolderMemory },
  ) {
    const isOurs = async (names: readonly string[]) => {
      const unknown = names.filter((name) => !ours.has(name));
      const accounts = await askPostgres(
        readAccounts(
          pool,
          unknown.map((name) => accountOf(area, name)),
        ),
      );
      for (const name of unknown) if (accounts.has(accountOf(area, name))) ours.add(name);
      return (name: string) => ours.has(name);
    };
    const found = await reader.listUnmanaged(area, isOurs, memory);
    const owners = await readNumbers(
      pool,
      found.map(({ uid }) => uid),
    );
    return {
      gone: 'the rest' as const,
      things: found.map(({ name, uid, changedAt, identity }) => ({
        ...{ object: `${config.files[area]}/${name}`, kind: 'home' as const, identity },
        name: sightingOfHome({ area, name, uid, gid: uid }, realm).name,
        ...{ number: uid, madeBy: describeOwner(uid, owners.get(uid)?.account), madeAt: changedAt },
      })),
    };
  }

  async function lookAtArchives() {
    const found = await reader.listUnmanaged('archives', async () => {
      const ours = await askPostgres(readArchiveNames(pool));
      return (name) => ours.has(archiveOfName(name));
    });
    return { gone: 'the rest' as const, things: archiveThings(found, config.archives.homes) };
  }

  return () => [
    ...[...known].map(([area, its]) => ({ place: area, looking: lookAtArea(area, its) })),
    { place: 'archives', looking: lookAtArchives() },
  ];
}

function describeOwner(uid: number, account?: string): string {
  if (uid === 0) return 'root';
  return account === undefined ? `uid ${uid}` : `uid ${uid} (${account})`;
}

/** What stands in a folder of archives and is none of ours. */
export function archiveThings(found: readonly ListedPath[], folder: string): SeenThing[] {
  return found.map(({ name, uid, changedAt, identity }) => ({
    ...{ object: `${folder}/${name}`, kind: 'archive', identity },
    ...{ madeBy: describeOwner(uid), madeAt: changedAt },
  }));
}
