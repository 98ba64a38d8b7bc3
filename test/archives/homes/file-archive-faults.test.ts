/** Archiving homes while something goes wrong: nothing is lost, and nothing incomplete is left. */
import { spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  existsSync,
  lstatSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from '@jest/globals';
import { codeOf, describeError } from '../../../src/shared/errors.ts';
import { type ArchiveKeeping, asLongStep } from '../../../src/archives/archive-keeping.ts';
import { eventually, within } from '../../scenarios/eventually.ts';
import { failureOf, startFileServer, stopFileServers } from '../../backends/files/file-server.ts';
import type { FileServerOfTest } from '../../backends/files/file-server.ts';

let server: FileServerOfTest;

beforeAll(async () => {
  server = await startFileServer();
});
afterEach(() => {
  server.archiveDouble.stillWanted = async () => true;
  server.archiveDouble.report = async () => {};
  server.archiveDouble.record = async (archive) => void server.archived.push(archive);
});
afterAll(async () => {
  for (const pid of stopped) {
    // a program that should have been killed
    if (existsSync(`/proc/${pid}`)) process.kill(pid, 'SIGKILL');
  }
  await stopFileServers();
});

/** A tool whose home was withdrawn, with so many bytes that no program can compress. */
async function withdrawn({ bytes = 10 } = {}) {
  const made = await server.madeTool();
  const { uid, name } = made;
  writeFileSync(`${made.home}/noise`, randomBytes(bytes));
  const about = { home: { area: 'toolHomes' as const, name }, uid, archival: 1 };
  const { ino, gid } = lstatSync(made.home);
  await server.do({ verb: 'home.withdraw', ...about, seen: { ino, uid, gid, mode: 0o2775 } });
  return {
    ...made,
    about,
    left: server.path('project/.chamberlain', `${name}.1.left`),
    archive: join(server.archives, `tools.${name}.1`),
    part: join(server.archives, `.tools.${name}.1.part`),
    put: (writer: Pick<typeof server.writer, 'do'> = server.writer) =>
      writer.do({ verb: 'home.archive', ...about }),
  };
}

async function failedWith(act: Promise<unknown>): Promise<string> {
  const error = await failureOf(act);
  return `${codeOf(error)}: ${describeError(error)}`;
}

/** The programs that work in a folder. */
function programsIn(folder: string): string[] {
  return readdirSync('/proc').filter((pid) => {
    try {
      return /^\d+$/u.test(pid) && readlinkSync(`/proc/${pid}/cwd`) === folder;
    } catch {
      return false;
    }
  });
}

/**
 * Stops tar and zstd in a folder while they are working, because they do not end by themselves then. The shells
 * are not stopped: one may be about to become a program, and would then be lost.
 */
async function stopProgramsIn(folder: string): Promise<void> {
  const found = await eventually('programs at work', () => {
    const at = ['tar', 'zstd'].map((name) =>
      programsIn(folder).find((pid) => readFileSync(`/proc/${pid}/comm`, 'utf8') === `${name}\n`),
    );
    return at.every((pid) => pid !== undefined) && at;
  });
  for (const pid of found) {
    stopped.add(Number(pid));
    process.kill(Number(pid), 'SIGSTOP');
  }
}
const stopped = new Set<number>();

test('a step is asked again and again whether it is wanted, and ends when it is not', async () => {
  const made = await withdrawn();
  let asked = 0;
  const keeping: ArchiveKeeping = {
    ...({} as ArchiveKeeping),
    stillWanted: async () => (asked += 1) < 2,
    clear: async () => {},
  };
  const { uid, archival } = made.about;
  const closing = new AbortController().signal;
  const endless = asLongStep(
    keeping,
    { subject: uid, archival, returning: false },
    closing,
    ({ signal }) =>
      new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason as Error));
      }),
  );
  expect(await failedWith(endless)).toMatch(/^STEP_STALE/u);
  expect(asked).toBe(2);

  server.archiveDouble.stillWanted = async () => false;
  expect(await failedWith(made.put())).toMatch(/^STEP_STALE/u);
  expect([existsSync(made.part), existsSync(made.left)]).toEqual([false, true]);
});

test('a worker that stops ends the step at once', async () => {
  const made = await withdrawn({ bytes: 50_000_000 });
  const writer = server.openWriter();
  const put = failedWith(made.put(writer));
  await stopProgramsIn(made.left);
  writer.letGo();
  expect(await put).toMatch(/^BACKEND_UNAVAILABLE/u);
  expect(programsIn(made.left)).toEqual([]);
  expect([existsSync(made.part), existsSync(made.archive), existsSync(made.left)]).toEqual([
    false,
    false,
    true,
  ]);
  expect(await failedWith(made.put(writer))).toMatch(/^BACKEND_UNAVAILABLE/u);
  await made.put();
});

test('the programs of a worker that was killed end with it, and the next run starts again', async () => {
  const made = await withdrawn({ bytes: 50_000_000 });
  const child = spawn(
    process.execPath,
    [
      '--input-type=module',
      '-e',
      `import { openFilesWriter } from ${JSON.stringify(join(import.meta.dirname, '../../../src/backends/files/file-writer.ts'))};
       const [files, folder, action] = process.argv.slice(1).map((word) => JSON.parse(word));
       const archives = { folder, realm: 'tools', now: () => new Date(), record: async () => {},
         stillWanted: async () => true, clear: async () => {}, report: async () => {}, readFingerprints: async () => [] };
       process.stdout.write('ready');
       await openFilesWriter(files, {}, archives).do(action);`,
      ...[server.files, server.archives, { verb: 'home.archive', ...made.about }].map((each) =>
        JSON.stringify(each),
      ),
    ],
    { stdio: ['ignore', 'pipe', 'ignore'] },
  );
  // the programs take a fifth of a second: the looks begin with them, and come often
  await within('it to begin', once(child.stdout, 'data'));
  await stopProgramsIn(made.left);
  child.kill('SIGKILL');
  await eventually('the end of its programs', () => programsIn(made.left).length === 0);
  expect([existsSync(made.part), existsSync(made.archive)]).toEqual([true, false]);
  await made.put();
  expect([existsSync(made.part), existsSync(made.archive)]).toEqual([false, true]);
});

test('an archive that was created but not recorded is read back, not created again', async () => {
  const made = await withdrawn();
  server.archiveDouble.record = async () => await Promise.reject(new Error('no PostgreSQL'));
  expect(await failedWith(made.put())).toMatch(/no PostgreSQL/u);
  const { ino } = lstatSync(`${made.archive}/home.tar.zst`);
  server.archiveDouble.record = async (archive) => void server.archived.push(archive);
  await made.put();
  await made.put(); // a doubled job
  expect(lstatSync(`${made.archive}/home.tar.zst`).ino).toBe(ino);
  const hashes = server.archived.filter(({ subject }) => subject === made.uid);
  expect(new Set(hashes.map(({ manifestSha256 }) => manifestSha256)).size).toBe(1);

  // an archive of something else is left as it is, and nothing is recorded
  server.archived.length = 0;
  writeFileSync(`${made.left}/more`, '');
  expect(await failedWith(made.put())).toMatch(/^ARCHIVE_DAMAGED/u);
  expect(server.archived).toEqual([]);
  expect(existsSync(`${made.archive}/home.tar.zst`)).toBe(true);
});

test('two runs that archive the same home at once end in one complete archive, or in an error', async () => {
  const made = await withdrawn({ bytes: 1_000_000 });
  const outcomes = await Promise.all([failureOf(made.put()), failureOf(made.put())]);
  if (outcomes.every((error) => error !== undefined)) await made.put();
  await made.put();
  const hashes = server.archived.filter(({ subject }) => subject === made.uid);
  expect(new Set(hashes.map(({ manifestSha256 }) => manifestSha256)).size).toBe(1);
  expect(existsSync(made.left)).toBe(true);
});

test('a changed byte of the archive is noticed when it is unpacked', async () => {
  const made = await withdrawn({ bytes: 100_000 });
  await made.put();
  const { manifestSha256: manifest } = server.archived.at(-1)!;
  await server.do({ verb: 'home.destroy', ...made.about, manifest });
  const file = `${made.archive}/home.tar.zst`;
  const bytes = readFileSync(file);
  const damaged = Buffer.from(bytes);
  damaged[50_000]! ^= 1;
  writeFileSync(file, damaged);
  const restore = () => server.do({ verb: 'home.restore', ...made.about, manifest });
  expect(await failedWith(restore())).toMatch(/^ARCHIVE_DAMAGED/u);
  expect(existsSync(made.home)).toBe(false);
  expect(server.staged()).not.toContain(`${made.name}.1.back`);
  writeFileSync(file, bytes);
  await restore();
  expect(lstatSync(`${made.home}/noise`).size).toBe(100_000);
});

test('a full disk, and a mount in the home, are reported, and the data stays', () => {
  const source = (name: string) => JSON.stringify(join(import.meta.dirname, name));
  const script = `
    const { startFileServer, stopFileServers } = await import(${source('../../backends/files/file-server.ts')});
    const { prepareArchives } = await import(${source('../../../src/archives/homes/file-archive-mount.ts')});
    const { describeError } = await import(${source('../../../src/shared/errors.ts')});
    import { spawnSync } from 'node:child_process';
    import { lstatSync, readdirSync, writeFileSync } from 'node:fs';
    import { randomBytes } from 'node:crypto';
    const run = (...words) => { const { status, stderr } = spawnSync(words[0], words.slice(1));
      if (status !== 0) throw new Error(String(stderr)); };
    const server = await startFileServer();
    const told = [];
    for (const what of ['full', 'mounted']) {
      const { uid, name, home } = await server.madeTool();
      writeFileSync(home + '/noise', randomBytes(3_000_000));
      if (what === 'full') run('mount', '-t', 'tmpfs', '-o', 'size=1m,mode=700', 'none', server.archives);
      else run('mount', '-t', 'tmpfs', 'none', home + '/logs');
      await prepareArchives(server.archives);
      const about = { home: { area: 'toolHomes', name }, uid, archival: 1 };
      await server.do({ verb: 'home.withdraw', ...about, seen: lstatSync(home) });
      const put = () => server.do({ verb: 'home.archive', ...about })
        .then(() => 'done', (error) => error.code + ': ' + describeError(error));
      told.push(await put(), readdirSync(server.archives).filter((each) => each.includes(name)));
      if (what === 'full') run('umount', server.archives);
      else run('umount', server.path('project/.chamberlain', name + '.1.left/logs'));
      told.push(await put());
    }
    await stopFileServers();
    console.log(JSON.stringify(told));`;
  // mountinfo contains such a path as bytes
  const place = mkdtempSync(join(tmpdir(), 'chamberlain-fäults '));
  const { stdout, stderr } = spawnSync(
    'unshare',
    ['--mount', process.execPath, '--input-type=module', '-e', script],
    { encoding: 'utf8', env: { PATH: process.env['PATH'], TMPDIR: place } },
  );
  rmSync(place, { recursive: true, force: true });
  expect(stderr).toBe('');
  expect(JSON.parse(stdout)).toEqual([
    expect.stringMatching(/^STEP_FAILED: .*packing the home.*the disk is full/u),
    [],
    'done',
    expect.stringMatching(
      /^STEP_FAILED: .*something is mounted at \/.*chamberlain-fäults .*\.1\.left\/logs: unmount it/u,
    ),
    [],
    'done',
  ]);
});
