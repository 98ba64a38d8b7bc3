/** Archives and restores homes, on a real file server. */
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals';
import { codeOf, describeError } from '../../../src/shared/errors.ts';
import { parseManifest } from '../../../src/archives/homes-manifest.ts';
import { renderManifest, sha256Of } from '../../../src/archives/manifest.ts';
import type { WantedArchive, WantedTool } from '../../../src/reconcile/wanted.ts';
import { homeArchive } from '../../../src/targets/home-archive.ts';
import {
  endTenants,
  failureOf,
  REALM,
  startAs,
  startFileServer,
  stopFileServers,
} from '../../backends/files/file-server.ts';
import type { FileServerOfTest } from '../../backends/files/file-server.ts';
import { fillHostile, treeOf } from '../../backends/files/hostile-home.ts';

let server: FileServerOfTest;

beforeAll(async () => {
  server = await startFileServer();
});
afterEach(async () => {
  server.archiveDouble.stillWanted = async () => true;
  server.archiveDouble.report = async () => {};
  server.archiveDouble.record = async (archive) => void server.archived.push(archive);
  await endTenants();
});
afterAll(stopFileServers);

type Made = Awaited<ReturnType<FileServerOfTest['madeTool']>>;

/** How the tool is wanted; the manifest is the one that was recorded last. */
function wantedAs(made: Made, state: WantedTool['state'], archive: Partial<WantedArchive> = {}) {
  const recorded = server.archived.findLast(({ subject }) => subject === made.uid);
  const open = { archival: 1, returning: false, expired: false };
  const manifest = recorded?.manifestSha256;
  return { ...made.wanted(), state, archive: { ...open, manifest, ...archive } };
}

async function look(wanted: WantedTool) {
  const [have] = await homeArchive.observe(server.reader, [wanted], REALM);
  return homeArchive.plan(homeArchive.want(wanted, REALM), have!, wanted);
}

/** Surveys, does the steps, and returns their verbs and the codes of findings. */
async function converge(wanted: WantedTool): Promise<string[]> {
  const { steps, findings } = await look(wanted);
  for (const { action } of steps) await server.do(action);
  return [...steps.map(({ action }) => action.verb), ...findings.map(({ code }) => code)];
}

async function archiveHome(made: Made): Promise<void> {
  expect(await converge(wantedAs(made, 'archived'))).toEqual(['home.withdraw', 'home.archive']);
}

const archiveOf = ({ name }: Made, archival = 1) => `${server.archives}/tools.${name}.${archival}`;
const leftOf = ({ name }: Made) => server.path('project/.chamberlain', `${name}.1.left`);
const manifestOf = (made: Made) =>
  parseManifest(readFileSync(`${archiveOf(made)}/manifest.json`), {
    account: `tools.${made.name}`,
    archival: 1,
    uid: made.uid,
  })!;
const failedWith = async (act: Promise<unknown>) => {
  const error = await failureOf(act);
  return `${codeOf(error)}: ${describeError(error)}`;
};

test('a hostile home is archived, removed, and restored with every byte, owner, mode, link and ACL', async () => {
  const made = await server.madeTool();
  await fillHostile(made.home, made.uid);
  const before = treeOf(made.home);
  await archiveHome(made);
  expect(existsSync(made.home)).toBe(false);
  const { what, files } = manifestOf(made);
  expect(what).toMatchObject({ kind: 'home', leftOut: { sockets: 1 }, entries: { fifos: 1 } });
  expect(files).toHaveLength(1);
  expect(server.archived.at(-1)).toMatchObject({ bytes: files[0]!.bytes, path: archiveOf(made) });
  expect(readdirSync(server.archives)).toEqual([
    '.chamberlain',
    'erasures.log',
    `tools.${made.name}.1`,
  ]);
  expect(await converge(wantedAs(made, 'archived'))).toEqual([]);

  expect(await converge(wantedAs(made, 'deleted'))).toEqual(['home.destroy']);
  expect(server.staged()).toEqual([]);
  expect(await converge(wantedAs(made, 'deleted'))).toEqual([]);

  const back = wantedAs(made, 'archived', { returning: true });
  expect(await converge(back)).toEqual(['home.restore']);
  expect(treeOf(made.home)).toEqual(before.filter((line) => !line.startsWith('socket ')));
  expect(await converge(back)).toEqual([]);
  expect(server.staged()).toEqual([]);
});

test('an archive that another tar has packed is restored, too, and counted', async () => {
  const made = await server.madeTool();
  await fillHostile(made.home, made.uid);
  const before = treeOf(made.home);
  await archiveHome(made);
  expect(await converge(wantedAs(made, 'deleted'))).toEqual(['home.destroy']);
  const archive = archiveOf(made);
  const unpacked = server.path('unpacked');
  const script = `mkdir "$1" && cd "$1" && zstd -qdc "$0" | tar -xp --xattrs --xattrs-include='*' --numeric-owner &&
    tar --format=posix --xattrs --xattrs-include='*' --sparse --numeric-owner -c . | zstd -qf -o "$0" && rm -r "$1"`;
  const file = `${archive}/home.tar.zst`;
  expect(spawnSync('bash', ['-c', script, file, unpacked], { stdio: 'inherit' }).status).toBe(0);
  const bytes = readFileSync(file);
  const files = [{ name: 'home.tar.zst' as const, bytes: bytes.length, sha256: sha256Of(bytes) }];
  const restored = async (tar: string) => {
    const { programs, ...manifest } = manifestOf(made);
    const text = renderManifest({ ...manifest, files, programs: { ...programs, tar } });
    writeFileSync(`${archive}/manifest.json`, text);
    return converge(wantedAs(made, 'archived', { returning: true, manifest: sha256Of(text) }));
  };

  expect(await failedWith(restored(manifestOf(made).programs.tar))).toMatch(
    /^STEP_FAILED.* differ/u,
  );
  expect(await restored('tar (GNU tar) 2.0')).toEqual(['home.restore']);
  expect(treeOf(made.home)).toEqual(before.filter((line) => !line.startsWith('socket ')));
});

test('FIFOs and devices are restored, those with two names as two', async () => {
  const made = await server.madeTool();
  const make =
    'mkfifo fifo && ln fifo fifo-too && mknod null c 1 3 && ln null null-too && chmod 640 null';
  expect(spawnSync('sh', ['-c', make], { cwd: made.home }).status).toBe(0);
  const before = treeOf(made.home);
  await archiveHome(made);
  expect(manifestOf(made)).toMatchObject({ what: { entries: { fifos: 2, devices: 2 } } });
  expect(await converge(wantedAs(made, 'deleted'))).toEqual(['home.destroy']);
  expect(await converge(wantedAs(made, 'archived', { returning: true }))).toEqual(['home.restore']);
  expect(lstatSync(`${made.home}/null`).rdev).toBe(0x103);
  expect(treeOf(made.home)).toEqual(before.map((line) => line.replace(/ same as \S+/u, '')));
});

test('an immutable file is reported with what to do, and is removed afterwards', async () => {
  const made = await server.madeTool();
  mkdirSync(`${made.home}/folder`);
  writeFileSync(`${made.home}/folder/fixed`, 'x');
  const chattr = (flag: string, path: string) => spawnSync('chattr', ['-R', flag, path]).status;
  // not every file system has such flags
  if (chattr('+i', `${made.home}/folder`) !== 0) return;
  await archiveHome(made);
  const gone = leftOf(made).replace(/left$/u, 'gone');
  try {
    const deleted = wantedAs(made, 'deleted');
    expect(await failedWith(converge(deleted))).toMatch(
      /^STEP_FAILED: removing .*immutable or append-only.*chattr -R -ia.*folder\/fixed/u,
    );
    expect(existsSync(`${gone}/folder/fixed`)).toBe(true);
    chattr('-i', gone);
    expect(await converge(deleted)).toEqual(['home.destroy']);
    expect(existsSync(gone)).toBe(false);
  } finally {
    chattr('-i', gone);
  }
  const home = await server.madeTool();
  spawnSync('chattr', ['+i', home.home]);
  expect(await failedWith(converge(wantedAs(home, 'archived')))).toMatch(/immutable.*chattr/u);
  spawnSync('chattr', ['-i', home.home]);
  await archiveHome(home);
});

test('a withdrawn home that still exists is returned as it is', async () => {
  const made = await server.madeTool();
  const inode = lstatSync(made.home).ino;
  await archiveHome(made);
  expect(await converge(wantedAs(made, 'archived', { returning: true }))).toEqual(['home.return']);
  expect(lstatSync(made.home).ino).toBe(inode);
  expect(await converge(wantedAs(made, 'archived', { returning: true }))).toEqual([]);
  // archived again, another time: another archive, and the first as it was
  const first = readFileSync(`${archiveOf(made)}/manifest.json`);
  const again = wantedAs(made, 'archived', { archival: 2, manifest: undefined });
  expect(await converge(again)).toEqual(['home.withdraw', 'home.archive']);
  expect(existsSync(archiveOf(made, 2))).toBe(true);
  expect(readFileSync(`${archiveOf(made)}/manifest.json`)).toEqual(first);
});

test('an archive that was created but not recorded is removed when the account is restored', async () => {
  const made = await server.madeTool();
  server.archiveDouble.record = async () => {
    throw new Error('killed');
  };
  expect(await failedWith(converge(wantedAs(made, 'archived')))).toMatch(/killed/u);
  expect(existsSync(archiveOf(made))).toBe(true);
  const back = wantedAs(made, 'archived', { returning: true });
  expect(await converge(back)).toEqual(['home.removePart', 'home.return']);
  expect([existsSync(archiveOf(made)), existsSync(made.home)]).toEqual([false, true]);
  expect(await converge(back)).toEqual([]);
});

test('if there is no home, or another’s, the archive says that there was nothing', async () => {
  for (const place of ['absent', 'unmanaged'] as const) {
    const made = await server.madeTool();
    rmSync(made.home, { recursive: true });
    if (place === 'unmanaged') mkdirSync(made.home);
    expect(await converge(wantedAs(made, 'archived'))).toEqual(['home.archive']);
    expect(manifestOf(made)).toMatchObject({ what: { kind: 'nothing' }, files: [] });
    expect(await converge(wantedAs(made, 'deleted'))).toEqual([]);
    expect(existsSync(made.home)).toBe(place === 'unmanaged');
    expect(await converge(wantedAs(made, 'archived', { returning: true }))).toEqual([]);
  }
});

test('nothing is destroyed before it is recorded, nor with another manifest, nor without its file', async () => {
  const made = await server.madeTool();
  await archiveHome(made);
  const { uid, name } = made;
  const home = { area: 'toolHomes' as const, name };
  const recorded = server.archived.at(-1)!.manifestSha256;
  const destroy = (manifest: string) =>
    failedWith(server.do({ verb: 'home.destroy', home, uid, archival: 1, manifest }));
  const asDeleted = wantedAs(made, 'deleted');

  expect(
    await converge({ ...asDeleted, archive: { ...asDeleted.archive, manifest: undefined } }),
  ).toEqual([]);
  expect(await destroy('0'.repeat(64))).toMatch(/^ARCHIVE_DAMAGED/u);
  const path = `${archiveOf(made)}/manifest.json`;
  const manifest = readFileSync(path, 'utf8');
  writeFileSync(path, manifest.replace('"version":1', '"version": 1'));
  expect(await converge(asDeleted)).toEqual(['ARCHIVE_DAMAGED']);
  expect(await destroy(recorded)).toMatch(/^ARCHIVE_DAMAGED/u);
  writeFileSync(path, manifest);
  renameSync(`${archiveOf(made)}/home.tar.zst`, `${archiveOf(made)}/aside`);
  expect(await destroy(recorded)).toMatch(/^ARCHIVE_DAMAGED/u);
  renameSync(`${archiveOf(made)}/aside`, `${archiveOf(made)}/home.tar.zst`);
  const packed = readFileSync(`${archiveOf(made)}/home.tar.zst`);
  const damaged = Buffer.from(packed);
  damaged[20]! ^= 1;
  writeFileSync(`${archiveOf(made)}/home.tar.zst`, damaged);
  expect(await destroy(recorded)).toMatch(/^ARCHIVE_DAMAGED: .*with its SHA-256/u);
  writeFileSync(`${archiveOf(made)}/home.tar.zst`, packed);
  expect(existsSync(leftOf(made))).toBe(true);
  expect(await converge(asDeleted)).toEqual(['home.destroy']);
});

test('data that was written after packing is in no archive: nothing is removed', async () => {
  const made = await server.madeTool();
  writeFileSync(`${made.home}/file`, 'contents');
  const packedAt = new Date('2026-01-01T00:00:00Z');
  for (const each of ['file', '.']) utimesSync(join(made.home, each), packedAt, packedAt);
  await archiveHome(made);
  const refused = async () => {
    expect(await failedWith(converge(wantedAs(made, 'deleted')))).toMatch(/^ARCHIVE_DIFFERS: /u);
    expect(existsSync(leftOf(made))).toBe(true);
  };
  const file = `${leftOf(made)}/file`;
  // the last is like a file from a backup: of the same name, length and time
  for (const text of ['contents, and more', 'CONTENTS']) {
    writeFileSync(file, text);
    utimesSync(file, packedAt, packedAt);
    await refused();
  }
  writeFileSync(file, 'contents');
  utimesSync(file, packedAt, packedAt);
  writeFileSync(`${leftOf(made)}/later`, '');
  await refused();
  rmSync(`${leftOf(made)}/later`);
  utimesSync(leftOf(made), packedAt, packedAt);
  expect(await converge(wantedAs(made, 'deleted'))).toEqual(['home.destroy']);
});

test('a partly removed home has another name by then, and is never returned', async () => {
  const made = await server.madeTool();
  writeFileSync(`${made.home}/file`, 'contents');
  await archiveHome(made);
  const gone = leftOf(made).replace(/left$/u, 'gone');
  const stood: boolean[][] = [];
  server.archiveDouble.report = async ({ act }) => {
    if (act === 'removing') stood.push([existsSync(leftOf(made)), existsSync(gone)]);
  };
  expect(await converge(wantedAs(made, 'deleted'))).toEqual(['home.destroy']);
  expect(stood).toEqual([[false, true]]);
  mkdirSync(`${gone}/logs`, { recursive: true });
  const back = wantedAs(made, 'archived', { returning: true });
  expect(await converge(back)).toEqual(['home.restore']);
  expect(readFileSync(`${made.home}/file`, 'utf8')).toBe('contents');
  expect(server.staged().filter((name) => name.startsWith(made.name))).toEqual([]);
});

test('an archive that was kept long enough is removed, even after an interruption', async () => {
  const made = await server.madeTool();
  await archiveHome(made);
  await converge(wantedAs(made, 'deleted'));
  const wanted = wantedAs(made, 'deleted', { expired: true });
  const { steps } = await look(wanted);
  expect(steps.map(({ effect }) => effect)).toEqual(['destroy']);
  server.archiveDouble.stillWanted = async () => false;
  expect(await failedWith(converge(wanted))).toMatch(/^STEP_STALE/u);
  expect(existsSync(`${archiveOf(made)}/home.tar.zst`)).toBe(true);
  server.archiveDouble.stillWanted = async () => true;
  rmSync(`${archiveOf(made)}/home.tar.zst`);
  expect(await converge(wanted)).toEqual(['home.removeArchive']);
  expect(existsSync(archiveOf(made))).toBe(false);
  expect(await converge(wanted)).toEqual([]);
  mkdirSync(archiveOf(made));
  expect(await converge(wanted)).toEqual(['home.removeArchive']);
  expect(existsSync(archiveOf(made))).toBe(false);
});

test('a file that somebody still writes to is noticed, and nothing is recorded; then it is tried again', async () => {
  const made = await server.madeTool();
  const tenant = await startAs(
    made.uid,
    made.home,
    `open my $f, ">>", "growing"; $f->autoflush; print "open\\n"; while (1) { syswrite $f, "x" }`,
  );
  expect(await failedWith(converge(wantedAs(made, 'archived')))).toMatch(/^STILL_CHANGING/u);
  expect(server.archived.some(({ subject }) => subject === made.uid)).toBe(false);
  expect(readdirSync(server.archives).filter((name) => name.includes(made.name))).toEqual([]);
  await tenant.end();
  expect(await converge(wantedAs(made, 'archived'))).toEqual(['home.archive']);
});

test.each<[string, (home: string) => void]>([
  ['a file was added', (home) => writeFileSync(`${home}/new`, '')],
  ['a byte was changed', (home) => writeFileSync(`${home}/file`, 'Contents')],
  ['an ACL was changed', (home) => void spawnSync('setfacl', ['-m', 'u:7:r', `${home}/file`])],
  ['a time was changed', (home) => void spawnSync('touch', ['-d@1.000000001', `${home}/file`])],
  ['a folder is gone', (home) => rmSync(`${home}/logs`, { recursive: true })],
])('reading back notices that %s', async (_what, change) => {
  const made = await server.madeTool();
  writeFileSync(`${made.home}/file`, 'contents');
  server.archiveDouble.report = async ({ act, done }) => {
    if (act === 'packing' && done === 0) packed.resolve();
  };
  const packed = Promise.withResolvers<void>();
  // after it was packed: when the packed file is flushed to disk, before it is read back
  const { putting, changed } = { putting: converge(wantedAs(made, 'archived')), changed: packed };
  await changed.promise;
  const file = `${server.archives}/.tools.${made.name}.1.part/home.tar.zst`;
  while (!existsSync(file) || lstatSync(file).size === 0) await new Promise(setImmediate);
  change(leftOf(made));
  expect(await failedWith(putting)).toMatch(/^STILL_CHANGING/u);
  expect(existsSync(archiveOf(made))).toBe(false);
  expect(await converge(wantedAs(made, 'archived'))).toEqual(['home.archive']);
});
