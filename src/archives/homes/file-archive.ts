/**
 * Archives homes, restores them, and removes what was archived: verbs of the role `homes`.
 *
 *   <area>/<name> ──withdraw──▶ .chamberlain/<name>.<n>.left ──archive──▶ <archives>/<account>.<n>
 *        ▲  ▲                        │      │                                  │
 *        │  ╰────────return──────────╯      ╰─destroy─▶ …<n>.gone ─▶           │
 *        ╰──────────────────restore── …<n>.back ◀──────────────────────────────╯
 *
 * An erasure by law removes what was withdrawn at any time, and all archives (`erase`). It is first noted in
 * `erasures.log`.
 *
 * A withdrawn home does not change: only root can reach it by a name. Somebody who still has a file open may
 * write to it, which reading back notices. Whatever is incomplete or partly removed has a name of its own
 * (`.part`, `.back`, `.gone`), so that it is never taken for complete, and the next run starts it anew or
 * finishes it. `.gone` is never returned.
 *
 * The order is as follows, each durable before the next: the file; read back whole; the manifest; the archive
 * gets its name; the manifest read back from there; recorded.
 */
import { closeSync, fstatSync, fsync } from 'node:fs';
import {
  lstat,
  mkdir,
  open,
  readdir,
  realpath,
  readFile,
  rename,
  rm,
  rmdir,
  unlink,
} from 'node:fs/promises';
import { promisify } from 'node:util';
import type { Action, HomePath } from '../../reconcile/action.ts';
import { ChamberlainError, codeOf } from '../../shared/errors.ts';
import { printable } from '../../shared/printable.ts';
import { type HomeManifest, parseManifest } from '../homes-manifest.ts';
import { type ArchiveName, archiveName, renderManifest, sha256Of } from '../manifest.ts';
import { isEmptied, MANIFEST, openArchives, partOf, readManifest } from './file-archive-mount.ts';
import { isArchiveOf } from '../../unmanaged/unmanaged-things.ts';
import { noteErasure } from '../../lifecycle/erasure-list.ts';
import {
  compareUnpacked,
  countFolder,
  hashFile,
  packedBy,
  packFolder,
  readBack,
  unpackInto,
} from './file-archive-pack-and-compare.ts';
import { IMMUTABLE, runScript, SCRIPTS } from './file-archive-programs.ts';
import { type ArchiveKeeping, asLongStep, type LongStep } from '../archive-keeping.ts';
import {
  errnoOf,
  itself,
  OPEN_DIRECTORY,
  stale,
  within,
  withOpened,
  withSeen,
} from '../../backends/files/file-mount.ts';
import type { Mount, Opened } from '../../backends/files/file-mount.ts';

type ActionOf<Verb extends Action['verb']> = Extract<Action, { verb: Verb }>;
interface Moved {
  home: HomePath;
  uid: number;
  archival: number;
}

/** What the writer needs to archive homes. */
export interface ArchiveWriter extends ArchiveKeeping {
  /** `config.archives.homes` */
  folder: string;
  /** the realm, with which the name of a tool's account begins */
  realm: string;
}

const PACKED = 'home.tar.zst';

/** The names of a withdrawn home in the staging folder. */
export function asideNames({ home, archival }: Pick<Moved, 'home' | 'archival'>) {
  const name = `${home.name}.${archival}`;
  return { left: `${name}.left`, gone: `${name}.gone`, back: `${name}.back` };
}

/** Those of the names in the staging folder that belong to a home that was withdrawn, at any time. */
export function stagedOf(names: readonly string[], { name }: HomePath): string[] {
  return names.filter((each) => /^(.+)\.\d+\.(?:left|gone|back)$/u.exec(each)?.[1] === name);
}

/** Renames a home into the staging folder. */
export async function moveHomeAside(
  { area, staging }: Mount,
  action: ActionOf<'home.withdraw'>,
): Promise<void> {
  const { home, seen } = action;
  const { left } = asideNames(action);
  await refuseIfThere(staging, left);
  await withSeen(area, home.name, seen, async (opened) => {
    const [ofHome, ofStaging] = [fstatSync(opened.fd), fstatSync(staging.fd)];
    if (ofHome.dev !== ofStaging.dev) throw new Error('the home is on a file system of its own');
    await rename(within(area, home.name), within(staging, left)).catch((cause: unknown) => {
      throw errnoOf(cause) === 'EPERM' ? new Error(IMMUTABLE, { cause }) : cause;
    });
    // first where it is now: a crash between the two leaves it with two names, or one
    await staging.sync();
    await area.sync();
  });
}

/** Returns a withdrawn home to its place. */
export async function returnHome(
  { area, staging }: Mount,
  action: ActionOf<'home.return'>,
): Promise<void> {
  const { home, uid } = action;
  const { left } = asideNames(action);
  await refuseIfThere(area, home.name);
  await withSeen(staging, left, { uid }, async () => {
    await rename(within(staging, left), within(area, home.name));
    await area.sync();
    await staging.sync();
  });
}

/** Removes what exists of an archive that was never recorded, complete or not. */
export async function removeUnrecorded(
  action: ActionOf<'home.removePart'>,
  writer: ArchiveWriter,
): Promise<void> {
  const archive = nameOf(writer, action);
  await withArchives(writer, async (archives) => {
    await rm(within(archives, archiveName(archive)), { recursive: true, force: true });
    await removePart(archives, archive);
  });
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
  const archive = nameOf(writer, action);
  await refuseIfThere(staging, gone);
  const inPlace = await lookAt(within(area, home.name));
  // it must be withdrawn first
  if (inPlace?.isDirectory() === true && inPlace.uid === uid) throw stale(home.name);
  await withArchives(writer, (archives) =>
    asLongStep(writer, { ...action, subject: uid, returning: false }, closing, async (step) => {
      const isThere = (await lookAt(within(staging, left))) !== undefined;
      const make = async (folder: Opened | undefined) => {
        if (folder !== undefined) await refuseMounts(folder);
        const bytes =
          (await readBackMade(archives, { ...archive, uid }, folder, step)) ??
          (await makeArchive(
            archives,
            { archive, action, folder, ...(await noteOf(writer, uid)) },
            step,
          ));
        await record(writer, archive, uid, bytes, step);
      };
      await (isThere ? withSeen(staging, left, { uid }, make) : make(undefined));
    }),
  );
}

/** What the manifest says besides what was packed. */
async function noteOf(writer: ArchiveWriter, uid: number): Promise<Noted> {
  return { madeAt: writer.now().toISOString(), fingerprints: await writer.readFingerprints(uid) };
}
type Noted = Pick<HomeManifest, 'madeAt' | 'fingerprints'>;

async function record(
  writer: ArchiveWriter,
  archive: ArchiveName,
  uid: number,
  manifest: Buffer,
  step: LongStep,
): Promise<void> {
  step.report('recording', 0, undefined);
  step.signal.throwIfAborted();
  const files = parseManifest(manifest, { ...archive, uid })?.files ?? [];
  await writer.record({
    subject: uid,
    archival: archive.archival,
    manifestSha256: sha256Of(manifest),
    path: `${writer.folder}/${archiveName(archive)}`,
    bytes: files.reduce((sum, { bytes }) => sum + bytes, 0),
  });
}

/**
 * Reads back an archive that an earlier run has made and not recorded. Undefined if there is none. Throws
 * ARCHIVE_DAMAGED if it is not an archive of what was withdrawn: nothing is overwritten.
 */
async function readBackMade(
  archives: { fd: number },
  archive: ArchiveName & { uid: number },
  folder: Opened | undefined,
  step: LongStep,
): Promise<Buffer | undefined> {
  const place = within(archives, archiveName(archive));
  if ((await lookAt(place)) === undefined) return undefined;
  const act = `reading the existing archive ${archiveName(archive)}`;
  const damaged = (cause: unknown) => new ChamberlainError('ARCHIVE_DAMAGED', act, { cause });
  const bytes = readManifest(archives, archive);
  const manifest = bytes && parseManifest(bytes, archive);
  if (manifest === undefined)
    throw damaged(new Error('its manifest does not belong to this archive'));
  const [file] = manifest.files;
  if ((manifest.what.kind === 'nothing') !== (file === undefined)) {
    throw damaged(new Error('its manifest lists other files than it should'));
  }
  if (folder !== undefined && file === undefined) {
    throw damaged(new Error('it says that there was no home, but there is one'));
  }
  if (file === undefined) return bytes;
  const made = folder && { folder, counted: await countFolder(folder, step) };
  const found = await readBack(`${place}/${file.name}`, made ?? {}, step).catch(
    (cause: unknown) => {
      throw codeOf(cause) === 'STILL_CHANGING' ? damaged(cause) : cause;
    },
  );
  if (found.sha256 !== file.sha256) throw damaged(new Error('a file in it has another SHA-256'));
  return bytes;
}

/**
 * Makes an archive under a hidden name, and gives it its final name. Returns its manifest as it was read from
 * there.
 */
async function makeArchive(
  archives: { fd: number },
  made: { archive: ArchiveName; action: Moved; folder: Opened | undefined } & Noted,
  step: LongStep,
): Promise<Buffer> {
  const { archive, folder } = made;
  const part = partOf(archives, archive);
  await removePart(archives, archive);
  await mkdir(part, 0o700);
  try {
    return await withOpened(part, OPEN_DIRECTORY, async (opened) => {
      const packed = folder && (await packAndReadBack(opened, folder, step));
      const bytes = renderManifest(await manifestOf(made, packed, step));
      await writeNew(`${itself(opened)}/${MANIFEST}`, bytes);
      await opened.sync();
      // another run may have started anew if our lock was lost
      const [ours, named] = [fstatSync(opened.fd), await lstat(part)];
      if (ours.ino !== named.ino) throw stale(part);
      step.signal.throwIfAborted();
      const place = within(archives, archiveName(archive));
      if ((await lookAt(place)) !== undefined) throw stale(archiveName(archive));
      await rename(part, place);
      await promisify(fsync)(archives.fd);
      const again = readManifest(archives, archive);
      if (again === undefined || !again.equals(bytes)) {
        throw new ChamberlainError('ARCHIVE_DAMAGED', 'reading the manifest of an archive back');
      }
      return again;
    });
  } catch (error) {
    await removePart(archives, archive).catch(() => {});
    throw error;
  }
}

type Packed = { counted: Awaited<ReturnType<typeof countFolder>>; bytes: number; sha256: string };

async function packAndReadBack(part: Opened, folder: Opened, step: LongStep): Promise<Packed> {
  const path = `${itself(part)}/${PACKED}`;
  const file = await open(path, 'wx', 0o600);
  let counted: Packed['counted'];
  try {
    counted = await packFolder(folder, file, step);
  } finally {
    await file.close();
  }
  const { bytes, sha256 } = await readBack(path, { folder, counted }, step);
  return { counted, bytes, sha256 };
}

async function manifestOf(
  { archive, action, madeAt, fingerprints }: { archive: ArchiveName; action: Moved } & Noted,
  packed: Packed | undefined,
  step: LongStep,
): Promise<HomeManifest> {
  return {
    version: 1,
    ...archive,
    uid: action.uid,
    ...{ madeAt, fingerprints },
    what:
      packed === undefined
        ? { kind: 'nothing' }
        : {
            kind: 'home',
            ...action.home,
            entries: packed.counted.entries,
            bytes: boundedBytes(packed.counted),
            leftOut: { sockets: packed.counted.sockets },
          },
    files:
      packed === undefined ? [] : [{ name: PACKED, bytes: packed.bytes, sha256: packed.sha256 }],
    programs: await packedBy(step),
  };
}

/** A tenant may have one hole of 8 EiB. */
function boundedBytes({ bytes }: { bytes: bigint }): number {
  return Math.min(Number(bytes), Number.MAX_SAFE_INTEGER);
}

/**
 * Removes what was withdrawn if it is, byte for byte, what its archive holds: it may have come back from a
 * backup.
 */
export async function destroyHome(
  { staging }: Mount,
  action: ActionOf<'home.destroy'>,
  writer: ArchiveWriter,
  closing: AbortSignal,
): Promise<void> {
  const { uid } = action;
  const { left, gone } = asideNames(action);
  await withArchives(writer, async (archives) => {
    const archive = nameOf(writer, action);
    const { sha256, madeBy } = await recordedHome(archives, archive, action);
    await asLongStep(
      writer,
      { ...action, subject: uid, returning: undefined },
      closing,
      async (step) => {
        const path = `${within(archives, archiveName(archive))}/${PACKED}`;
        if ((await hashFile(path, step)) !== sha256) {
          throw new ChamberlainError(
            'ARCHIVE_DAMAGED',
            `comparing the archive ${archiveName(archive)} with its SHA-256`,
          );
        }
        const packed = { path, madeBy };
        await removeWithdrawn(staging, { left: { name: left, packed }, gone, uid }, step);
      },
    );
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
  await withArchives(writer, (archives) =>
    asLongStep(
      writer,
      { ...action, subject: uid, returning: undefined, erases: true },
      closing,
      async (step) => {
        noteErasure(archives, { uid, account, erasure });
        step.report('removing', 0, undefined);
        for (const name of stagedOf(await readdir(itself(staging)), home)) {
          await removeFolder(staging, name, step);
        }
        for (const name of await readdir(itself(archives))) {
          if (!isArchiveOf(account, name)) continue;
          step.signal.throwIfAborted();
          await rm(`${itself(archives)}/${name}`, { recursive: true, force: true });
        }
        await promisify(fsync)(archives.fd);
      },
    ),
  );
}

/** First gives it a name that says that it must go; an interrupted run has already done that. */
async function removeWithdrawn(
  staging: Opened,
  {
    left,
    gone,
    uid,
  }: {
    left: { name: string; packed: { path: string; madeBy: string } } | undefined;
    gone: string;
    uid: number;
  },
  step: LongStep,
): Promise<void> {
  if (left !== undefined && (await lookAt(within(staging, left.name))) !== undefined) {
    await withSeen(staging, left.name, { uid }, async (folder) => {
      await refuseMounts(folder);
      await refuseIfThere(staging, gone);
      await refuseUnlessAsPacked(left.packed, folder, step);
      await rename(within(staging, left.name), within(staging, gone));
      await staging.sync();
    });
  }
  if ((await lookAt(within(staging, gone))) === undefined) return;
  step.report('removing', 0, undefined);
  await removeFolder(staging, gone, step);
}

/**
 * A process on another machine that has a file open may have written since it was packed: that is in no
 * archive.
 */
async function refuseUnlessAsPacked(
  { path, madeBy }: { path: string; madeBy: string },
  folder: Opened,
  step: LongStep,
): Promise<void> {
  const differs = (cause: unknown) =>
    new ChamberlainError('ARCHIVE_DIFFERS', 'comparing a quarantined home with its archive', {
      cause,
    });
  if ((await packedBy(step)).tar !== madeBy) {
    throw differs(new Error(`it was packed by ${madeBy}, and only that tar can compare it`));
  }
  const counted = await countFolder(folder, step);
  await readBack(path, { folder, counted }, step).catch((cause: unknown) => {
    throw codeOf(cause) === 'STILL_CHANGING' ? differs(cause) : cause;
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
  const archive = nameOf(writer, action);
  await refuseIfThere(area, home.name);
  await refuseIfThere(staging, left);
  await withArchives(writer, async (archives) => {
    const { sha256, madeBy } = await recordedHome(archives, archive, action);
    await asLongStep(
      writer,
      { ...action, subject: uid, returning: true },
      closing,
      async (step) => {
        const staged = within(staging, back);
        try {
          const path = `${within(archives, archiveName(archive))}/${PACKED}`;
          await unpackBeside(staging, back, { path, sha256 }, step);
          await withOpened(staged, OPEN_DIRECTORY, async (folder) => {
            const counted = withoutSockets(await countFolder(folder, step));
            await compareUnpacked(path, { folder, counted, madeBy }, step);
            if (fstatSync(folder.fd).uid !== uid) throw stale(back);
          });
          // left by an interrupted removal: it is complete in the archive, and in `back`
          await removeWithdrawn(staging, { left: undefined, gone, uid }, step);
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
        await removePart(archives, archive);
      },
    );
  });
}

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

/** If removing what was unpacked takes longer, the next run removes it. */
const REMOVE_LIMIT_MS = 2000;

/**
 * Removes an archive that was kept long enough: its manifest last, so that an interrupted run can go on; or its
 * empty folder.
 */
export async function removeArchive(
  { staging }: Mount,
  action: ActionOf<'home.removeArchive'>,
  writer: ArchiveWriter,
): Promise<void> {
  const archive = nameOf(writer, action);
  const { left, gone } = asideNames(action);
  await refuseIfThere(staging, left);
  await refuseIfThere(staging, gone);
  await withArchives(writer, async (archives) => {
    if (!isEmptied(archives, archive)) {
      recordedManifest(archives, archive, action);
      await withOpened(within(archives, archiveName(archive)), OPEN_DIRECTORY, async (opened) => {
        await unlink(`${itself(opened)}/${PACKED}`).catch(unlessAbsent);
        await opened.sync();
        await unlink(`${itself(opened)}/${MANIFEST}`);
      });
    }
    await rmdir(within(archives, archiveName(archive)));
    await removePart(archives, archive);
  });
}

/** The manifest of an archive, if it is the recorded one; throws ARCHIVE_DAMAGED otherwise. */
function recordedManifest(
  archives: { fd: number },
  archive: ArchiveName,
  { uid, manifest }: { uid: number; manifest: string },
): HomeManifest {
  const bytes = readManifest(archives, archive);
  const found =
    bytes && sha256Of(bytes) === manifest ? parseManifest(bytes, { ...archive, uid }) : undefined;
  if (found !== undefined) return found;
  throw new ChamberlainError(
    'ARCHIVE_DAMAGED',
    `checking the manifest of the archive ${archiveName(archive)} against the recorded one`,
  );
}

/** What the recorded manifest says of the packed home, which must have at least its length. */
async function recordedHome(
  archives: { fd: number },
  archive: ArchiveName,
  action: { uid: number; manifest: string },
): Promise<{ sha256: string; madeBy: string }> {
  const { files, what, programs } = recordedManifest(archives, archive, action);
  const [file] = files;
  const found = await lookAt(`${within(archives, archiveName(archive))}/${PACKED}`);
  const isThere = found?.isFile() === true && found.size === file?.bytes;
  if (what.kind === 'home' && file !== undefined && isThere) {
    return { sha256: file.sha256, madeBy: programs.tar };
  }
  throw new ChamberlainError(
    'ARCHIVE_DAMAGED',
    `checking the files that the manifest of the archive ${archiveName(archive)} lists`,
  );
}

function withoutSockets<Counted extends { sockets: number }>(counted: Counted): Counted {
  return { ...counted, sockets: 0 };
}

/** The account that the archive belongs to. */
function nameOf(writer: ArchiveWriter, { home, archival }: Moved): ArchiveName {
  const account = home.area === 'toolHomes' ? `${writer.realm}.${home.name}` : home.name;
  return { account, archival };
}

async function withArchives<T>(
  writer: ArchiveWriter,
  act: (archives: { fd: number }) => Promise<T>,
): Promise<T> {
  let archives: { fd: number };
  try {
    archives = openArchives(writer.folder);
  } catch (cause) {
    throw new ChamberlainError('BACKEND_UNAVAILABLE', `opening ${writer.folder}`, { cause });
  }
  try {
    return await act(archives);
  } finally {
    closeSync(archives.fd);
  }
}

async function removePart(archives: { fd: number }, archive: ArchiveName): Promise<void> {
  await rm(partOf(archives, archive), { recursive: true, force: true });
}

/** Removes a folder of the staging folder with everything in it, but nothing that is mounted there. */
async function removeFolder(staging: Opened, name: string, step: LongStep): Promise<void> {
  if ((await lookAt(within(staging, name))) === undefined) return;
  await withOpened(within(staging, name), OPEN_DIRECTORY, refuseMounts);
  await runScript(`removing ${name}`, {
    script: SCRIPTS.remove,
    words: [name],
    cwd: itself(staging),
    signal: step.signal,
  });
  await staging.sync();
}

/**
 * Refuses a home that has something mounted in it: that would not be packed, or be packed twice, and it would
 * not be removed, or be removed elsewhere as well. proc(5), mountinfo: blanks and backslashes are octal, all
 * other bytes as they are.
 */
async function refuseMounts(folder: Opened): Promise<void> {
  const path = (await realpath(itself(folder), 'latin1')).replace(
    /[ \t\n\\]/gu,
    (each) => `\\${each.charCodeAt(0).toString(8).padStart(3, '0')}`,
  );
  for (const line of (await readFile('/proc/self/mountinfo', 'latin1')).split('\n')) {
    const point = line.split(' ')[4] ?? '';
    if (point === path || point.startsWith(`${path}/`)) {
      throw new Error(`something is mounted at ${printable(textOf(point))}: unmount it`);
    }
  }
}

/** A path of mountinfo, without its octal numbers. */
function textOf(point: string): string {
  const path = point.replace(/\\(\d{3})/gu, (_, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  );
  return Buffer.from(path, 'latin1').toString('utf8');
}

async function writeNew(path: string, bytes: Buffer): Promise<void> {
  const file = await open(path, 'wx', 0o600);
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function refuseIfThere(directory: { fd: number }, name: string): Promise<void> {
  if ((await lookAt(within(directory, name))) !== undefined) throw stale(name);
}

async function lookAt(path: string) {
  return await lstat(path).catch(unlessAbsent);
}

function unlessAbsent(error: unknown): undefined {
  if (errnoOf(error) !== 'ENOENT') throw error;
  return undefined;
}
