/** The role `homes`: root on the file server, and the one place where passwords are made. */
import { randomBytes } from 'node:crypto';
import { type Config, markerName } from '../../shared/config.ts';
import { type Area, areaPath } from '../../backends/files/file-mount.ts';
import { openFilesWriter } from '../../backends/files/file-writer.ts';
import type { FolderMemory } from '../../backends/files/file-listing.ts';
import { openAreaMarkers } from '../../backends/files/file-marker.ts';
import { type OpenFilesReader, openFilesReader } from '../../backends/files/files.ts';
import { makePassword } from '../../credentials/credentials.ts';
import { readRecordedArchives } from '../../archives/archives-table.ts';
import { recordVerifier } from '../../credentials/credentials-table.ts';
import { readAccounts, readArchiveNames, readNumbers } from '../../unmanaged/unmanaged-table.ts';
import { sightingOfHome } from '../../targets/everything.ts';
import { archiveOfName, archiveThings, describeOwner } from '../../unmanaged/unmanaged-things.ts';
import type { FilesReader } from '../../targets/files-reader.ts';
import type { Sighting } from '../../unmanaged/sightings.ts';
import { keepArchives } from '../../archives/record-archives.ts';
import { type PlaceMarkers, readMarkedAt } from '../../seals/publish-place-markers.ts';
import type { RoleParts } from '../../reconcile/role.ts';
import { askPostgres, type Watch, type Watching } from '../../unmanaged/watch.ts';
import { HOMES_TARGETS } from './role.ts';

export const HOMES: RoleParts<FilesReader, OpenFilesReader> = {
  role: 'homes',
  targets: HOMES_TARGETS,
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
