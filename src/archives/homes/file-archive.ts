/**
 * Archives homes, restores them, and removes what was archived: verbs of the role `homes`.
 *
 *   <area>/<name> ──withdraw──▶ .chamberlain/<name>.<n>.left ──archive──▶ <archives>/<account>.<n>
 *        ▲  ▲                        │      │                                  │
 *        │  ╰────────return──────────╯      ╰─destroy─▶ …<n>.gone ─▶           │
 *        ╰──────────────────restore── …<n>.back ◀──────────────────────────────╯
 *
 * `container.ts` describes the life of the archive, `file-archive-quarantine.ts` that of the withdrawn home. An
 * erasure by law removes what was withdrawn at any time, and all archives (`erase`). It is first noted in
 * `erasures.log`.
 */
import { fstatSync } from 'node:fs';
import { mkdir, readdir, rename } from 'node:fs/promises';
import { join } from 'node:path';
import type { HomePath } from '../../reconcile/action.ts';
import { ChamberlainError } from '../../shared/errors.ts';
import type { HomeManifest } from '../homes-manifest.ts';
import type { ArchiveName } from '../manifest.ts';
import { homeArchives } from './file-archive-mount.ts';
import {
  archiveDamaged,
  type ArchivedFile,
  type Archives,
  checkFile,
  eraseArchives,
  type FoundArchive,
  keepArchive,
  type Packer,
  removeArchive,
  removeUnrecorded,
  requireArchive,
  withArchives,
} from '../container.ts';
import { noteErasure } from '../../lifecycle/erasure-list.ts';
import {
  compareFolder,
  packedBy,
  packFolder,
  readBack,
  unpackInto,
} from './file-archive-pack-and-compare.ts';
import {
  type ActionOf,
  asideNames,
  lookAt,
  refuseIfThere,
  refuseMounts,
  removeFolder,
  removeWithdrawn,
  stagedOf,
} from './file-archive-quarantine.ts';
import { type ArchiveKeeping, asLongStep, type LongStep } from '../archive-keeping.ts';
import type { AskedStep } from '../archives-table.ts';
import {
  itself,
  OPEN_DIRECTORY,
  stale,
  within,
  withOpened,
  withSeen,
} from '../../backends/files/file-mount.ts';
import type { Mount, Opened } from '../../backends/files/file-mount.ts';

/** What the writer needs to archive homes. */
export interface ArchiveWriter extends ArchiveKeeping {
  /** `config.archives.homes` */
  folder: string;
  /** the realm, with which the name of a tool's account begins */
  realm: string;
}

interface Archived {
  home: HomePath;
  uid: number;
  archival: number;
}

const PACKED = 'home.tar.zst';

/** Does a long step with the archives, which are open meanwhile; passes on the archive of this home, too. */
async function inArchives(
  writer: ArchiveWriter,
  { home, uid, archival }: Archived,
  why: Pick<AskedStep, 'returning' | 'expired' | 'erases'>,
  closing: AbortSignal,
  act: (
    archives: Archives<HomeManifest>,
    archive: ArchiveName & { uid: number },
    step: LongStep,
  ) => Promise<void>,
): Promise<void> {
  const account = home.area === 'toolHomes' ? `${writer.realm}.${home.name}` : home.name;
  const asked = { subject: uid, archival, ...why };
  await asLongStep(writer, asked, closing, (step) =>
    withArchives(homeArchives(writer.folder), (archives) =>
      act(archives, { account, archival, uid }, step),
    ),
  );
}

/** Packs what was withdrawn, or states that there is nothing, and records the manifest. */
export async function archiveHome(
  { area, staging }: Mount,
  action: ActionOf<'home.archive'>,
  writer: ArchiveWriter,
  closing: AbortSignal,
): Promise<void> {
  const { home, uid } = action;
  const { left, gone } = asideNames(action);
  await refuseIfThere(staging, gone);
  const inPlace = await lookAt(within(area, home.name));
  // it must be withdrawn first
  if (inPlace?.isDirectory() === true && inPlace.uid === uid) throw stale(home.name);
  const why = { returning: false };
  await inArchives(writer, action, why, closing, async (archives, archive, step) => {
    const keep = async (folder: Opened | undefined) => {
      if (folder !== undefined) await refuseMounts(folder);
      const packer: Packer<HomeManifest> = {
        pack: async (part, head) => ({ ...head, ...(await packHome(part, home, folder, step)) }),
        compare: (made) => requireSame(made, folder, step),
      };
      await keepArchive(archives, archive, packer, writer, step);
    };
    const isThere = (await lookAt(within(staging, left))) !== undefined;
    await (isThere ? withSeen(staging, left, { uid }, keep) : keep(undefined));
  });
}

/** Packs a folder, if there is one, and reads the file back. */
async function packHome(
  part: string,
  home: HomePath,
  folder: Opened | undefined,
  step: LongStep,
): Promise<Pick<HomeManifest, 'what' | 'files' | 'programs'>> {
  const programs = await packedBy(step);
  if (folder === undefined) return { what: { kind: 'nothing' }, files: [], programs };
  const path = join(part, PACKED);
  const counted = await packFolder(folder, path, step);
  const file = await readBack(path, { folder, counted }, step);
  const { entries, sockets } = counted;
  // a tenant may have one hole of 8 EiB
  const bytes = Math.min(Number(counted.bytes), Number.MAX_SAFE_INTEGER);
  return {
    what: { kind: 'home', ...home, entries, bytes, leftOut: { sockets } },
    files: [{ name: PACKED, ...file }],
    programs,
  };
}

/** Throws ARCHIVE_DAMAGED if an archive that was not recorded is not one of what was withdrawn. */
async function requireSame(
  { path, manifest: { what, files } }: FoundArchive<HomeManifest>,
  folder: Opened | undefined,
  step: LongStep,
): Promise<void> {
  const [file] = files;
  if ((what.kind === 'nothing') !== (file === undefined)) {
    throw archiveDamaged(path, 'its manifest lists other files than it should');
  }
  if (folder !== undefined && file === undefined) {
    throw archiveDamaged(path, 'it says that there was no home, but there is one');
  }
  if (file === undefined) return;
  const differs = (cause: unknown) =>
    new ChamberlainError('ARCHIVE_DAMAGED', `reading the existing archive ${path}`, { cause });
  await compareFolder({ path: join(path, file.name) }, folder, { differs }, step);
}

/** The packed home of the recorded archive, which must have its length. Throws ARCHIVE_DAMAGED. */
async function requireHome(
  archives: Archives<HomeManifest>,
  archive: ArchiveName & { uid: number },
  recorded: string,
): Promise<{ folder: string; path: string; madeBy: string; file: ArchivedFile }> {
  const { path: folder, manifest } = requireArchive(archives, archive, recorded);
  const [file] = archives.filesOf(manifest);
  const path = join(folder, PACKED);
  const found = await lookAt(path);
  const isThere = found?.isFile() === true && found.size === file?.bytes;
  if (manifest.what.kind === 'home' && file !== undefined && isThere) {
    return { folder, path, madeBy: manifest.programs.tar, file };
  }
  throw archiveDamaged(folder, 'it does not hold the file that its manifest lists');
}

/**
 * Removes what was withdrawn if it is, byte for byte, what its archive holds: it may have come back from a
 * backup, or a process on another machine that had a file open may have written since it was packed.
 */
export async function destroyHome(
  { staging }: Mount,
  action: ActionOf<'home.destroy'>,
  writer: ArchiveWriter,
  closing: AbortSignal,
): Promise<void> {
  const why = { returning: undefined };
  await inArchives(writer, action, why, closing, async (archives, archive, step) => {
    const packed = await requireHome(archives, archive, action.manifest);
    await checkFile(packed.folder, packed.file, step);
    const act = 'comparing a quarantined home with its archive';
    const differs = (cause: unknown) => new ChamberlainError('ARCHIVE_DIFFERS', act, { cause });
    const check = (folder: Opened) => compareFolder(packed, folder, { differs }, step);
    await removeWithdrawn(staging, action, check, step);
  });
}

/**
 * Removes whatever was withdrawn of a home, and every archive of the account. The list of erasures is written
 * first.
 */
export async function eraseHome(
  { staging }: Mount,
  action: ActionOf<'home.erase'>,
  writer: ArchiveWriter,
  closing: AbortSignal,
): Promise<void> {
  const { home, uid, account, erasure } = action;
  const why = { returning: undefined, erases: true };
  await inArchives(writer, action, why, closing, async (archives, _, step) => {
    noteErasure(archives, { uid, account, erasure });
    step.report('removing', 0, undefined);
    for (const name of stagedOf(await readdir(itself(staging)), home)) {
      await removeFolder(staging, name, step);
    }
    await eraseArchives(archives, account, step);
  });
}

/** Unpacks the archive in the staging folder, compares, and moves the result to the home's place. */
export async function restoreHome(
  { area, staging }: Mount,
  action: ActionOf<'home.restore'>,
  writer: ArchiveWriter,
  closing: AbortSignal,
): Promise<void> {
  const { home, uid } = action;
  const { left, gone, back } = asideNames(action);
  await refuseIfThere(area, home.name);
  await refuseIfThere(staging, left);
  const why = { returning: true };
  await inArchives(writer, action, why, closing, async (archives, archive, step) => {
    const packed = await requireHome(archives, archive, action.manifest);
    const act = 'comparing what was unpacked with the archive';
    const differs = (cause: unknown) => new ChamberlainError('STEP_FAILED', act, { cause });
    const staged = within(staging, back);
    try {
      const { sha256 } = packed.file;
      await unpackBeside(staging, back, { path: packed.path, sha256 }, step).catch(
        async (error: unknown) => {
          // zstd and tar cannot say whether the archive is at fault
          await checkFile(packed.folder, packed.file, step);
          throw error;
        },
      );
      await withOpened(staged, OPEN_DIRECTORY, async (folder) => {
        await compareFolder(packed, folder, { differs, orCounts: true }, step);
        if (fstatSync(folder.fd).uid !== uid) throw stale(back);
      });
      // left by an interrupted removal: it is complete in the archive, and in `back`
      await removeFolder(staging, gone, step);
      step.signal.throwIfAborted();
      await refuseIfThere(area, home.name);
      await rename(staged, within(area, home.name));
      await area.sync();
      await staging.sync();
    } catch (error) {
      // not with the signal of the step, which may be what has ended it
      const last = { ...step, signal: AbortSignal.timeout(REMOVE_LIMIT_MS) };
      await removeFolder(staging, back, last).catch(() => {});
      throw error;
    }
  });
}

/** If removing what was unpacked takes longer, the next run removes it. */
const REMOVE_LIMIT_MS = 2000;

/** Unpacks into a new folder; again into another one, in pieces, if something in it is too deep for tar. */
async function unpackBeside(
  staging: Opened,
  name: string,
  packed: { path: string; sha256: string },
  step: LongStep,
): Promise<void> {
  for (const isDeep of [false, true]) {
    await removeFolder(staging, name, step);
    await mkdir(within(staging, name), 0o700);
    const isWhole = await withOpened(within(staging, name), OPEN_DIRECTORY, (folder) =>
      unpackInto(folder, { ...packed, isDeep }, step),
    );
    if (isWhole) return;
  }
}

/** Removes what exists of an archive that was never recorded, complete or not. */
export async function removeUnrecordedHome(
  action: ActionOf<'home.removePart'>,
  writer: ArchiveWriter,
  closing: AbortSignal,
): Promise<void> {
  await inArchives(writer, action, { returning: true }, closing, removeUnrecorded);
}

/** Removes an archive that was kept long enough, unless something of the home is still in quarantine. */
export async function removeHomeArchive(
  { staging }: Mount,
  action: ActionOf<'home.removeArchive'>,
  writer: ArchiveWriter,
  closing: AbortSignal,
): Promise<void> {
  const { left, gone } = asideNames(action);
  await refuseIfThere(staging, left);
  await refuseIfThere(staging, gone);
  const why = { returning: undefined, expired: true };
  await inArchives(writer, action, why, closing, (archives, archive) =>
    removeArchive(archives, archive, action.manifest),
  );
}
