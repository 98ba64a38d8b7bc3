/** Reader and writer on a real file system, as root. Tests of hostile tenants are in file-races.long.test.ts. */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { codeOf, describeError } from '../../../src/shared/errors.ts';
import { parseCredentialsFile, verifierOf } from '../../../src/credentials/credentials.ts';
import { failureOf, ownership, runAs, startFileServer, stopFileServers } from './file-server.ts';
import type { FileServerOfTest } from './file-server.ts';

/** A module as a script of its own imports it. */
const source = (file: string) =>
  JSON.stringify(new URL(`../../../src/backends/files/${file}`, import.meta.url).href);

let server: FileServerOfTest;
let madeTool: FileServerOfTest['madeTool'];
let linesOf: FileServerOfTest['linesOf'];

beforeAll(async () => {
  server = await startFileServer();
  ({ madeTool, linesOf } = server);
});
afterAll(stopFileServers);

describe('a home', () => {
  test('of a tool is created with folders and credentials, and a second run does nothing', async () => {
    const { uid, home, file, wanted } = await madeTool();
    for (const path of [home, `${home}/public_html`, `${home}/logs`]) {
      expect(ownership(path)).toBe(`${uid}:${uid} 2775`);
    }
    expect(ownership(file)).toBe(`${uid}:${uid} 440`);
    const { user, password } = parseCredentialsFile(readFileSync(file, 'utf8'))!;
    expect(user).toBe(`s${uid}`);
    expect(server.recorded.get(uid)).toEqual({ epoch: 1, verifier: verifierOf(password) });
    expect(await server.converge(wanted())).toEqual([]);
    expect(server.staged()).toEqual([]);
  });

  test('keeps group write for what maintainers create with a umask of 022', async () => {
    const { uid, home } = await madeTool();
    runAs(1003, uid, `${home}/public_html`, 'umask 022; echo x >index.html; mkdir sub; : >sub/x');
    expect(ownership(`${home}/public_html/index.html`)).toBe(`1003:${uid} 664`);
    expect(ownership(`${home}/public_html/sub`)).toBe(`1003:${uid} 2775`);
    expect(ownership(`${home}/public_html/sub/x`)).toBe(`1003:${uid} 664`);
  });

  test('of a person is private, and begins as a copy of the skeleton', async () => {
    const skel = server.files.skel;
    mkdirSync(`${skel}/.config`);
    writeFileSync(`${skel}/.profile`, 'umask 022\n', { mode: 0o644 });
    writeFileSync(`${skel}/.config/x`, '', { mode: 0o4755 });
    chmodSync(`${skel}/.config/x`, 0o4755);
    symlinkSync('/etc/motd', `${skel}/motd`);
    await server.converge(server.person('alice', 1003));
    const home = server.path('home/alice');
    expect(ownership(home)).toBe('1003:500 700');
    expect(ownership(`${home}/.profile`)).toBe('1003:500 644');
    expect(readFileSync(`${home}/.profile`, 'utf8')).toBe('umask 022\n');
    expect(ownership(`${home}/.config/x`)).toBe('1003:500 755');
    expect(readlinkSync(`${home}/motd`)).toBe('/etc/motd');
    expect(ownership(`${home}/motd`)).toMatch(/^1003:500 /);
    expect(ownership(`${home}/replica.my.cnf`)).toBe('1003:1003 440');
    expect(await server.converge(server.person('alice', 1003))).toEqual([]);
  });

  test('that is not a directory is reported and left', async () => {
    const [link, file, other] = [
      server.tool('link', 52001),
      server.tool('file', 52002),
      server.tool('other', 52003),
    ];
    symlinkSync(server.path('victim'), server.path('project/link'));
    writeFileSync(server.path('project/file'), 'mine');
    mkdirSync(server.path('project/other'), 0o700);
    for (const wanted of [link, file, other]) {
      expect(await linesOf(wanted)).toEqual([expect.stringMatching(/^PATH_FOREIGN: /)]);
    }
    expect(readdirSync(server.path('victim'))).toEqual([]);
    expect(ownership(server.path('project/other'))).toBe('0:0 700');
  });

  test('is repaired: mode, group, default ACL and folders', async () => {
    const { uid, home, wanted } = await madeTool();
    chmodSync(home, 0o777);
    chownSync(home, uid, 500);
    rmdirSync(`${home}/logs`);
    runAs(uid, uid, home, 'setfacl -k . public_html; setfacl -d -m u:1003:rwx,g::r-x public_html');
    expect(await linesOf(wanted())).toEqual([
      'path.chmod: the mode differs',
      'path.chgrp: the group differs',
      'path.setAcl: the group could not write to new files in it',
      'path.setAcl: the group could not write to new files in it',
      'folder.create: it does not exist',
    ]);
    await server.converge(wanted());
    expect(await server.converge(wanted())).toEqual([]);
    expect(ownership(home)).toBe(`${uid}:${uid} 2775`);
    expect(ownership(`${home}/logs`)).toBe(`${uid}:${uid} 2775`);
    expect(runAs(uid, uid, home, 'getfacl -dn public_html')).toContain('user:1003:rwx');
    runAs(1003, uid, `${home}/logs`, 'umask 022; : >x');
    expect(ownership(`${home}/logs/x`)).toBe(`1003:${uid} 664`);
  });

  test('is repaired itself, but its content keeps owner, group and mode, including links', async () => {
    const { uid, home, wanted } = await madeTool();
    const victim = server.path('victim', `in${uid}`);
    writeFileSync(victim, '', { mode: 0o600 });
    linkSync(victim, `${home}/logs/hard`);
    symlinkSync(victim, `${home}/logs/soft`);
    runAs(1003, uid, `${home}/logs`, 'umask 077; mkdir sub; : >sub/x');
    const inside = ['hard', 'soft', 'sub', 'sub/x'].map((name) => `${home}/logs/${name}`);
    const before = inside.map(ownership);
    for (const path of [home, `${home}/logs`]) {
      chownSync(path, uid, 500);
      chmodSync(path, 0o777);
    }
    const done = await server.converge(wanted());
    expect(done.map(({ action }) => action.verb).toSorted()).toEqual([
      ...['path.chgrp', 'path.chgrp', 'path.chmod', 'path.chmod'],
    ]);
    expect(inside.map(ownership)).toEqual(before);
    expect(ownership(victim)).toBe('0:0 600');
  });

  test.each([
    ['a link', (path: string) => symlinkSync('/etc', path)],
    ['a file', (path: string) => writeFileSync(path, '')],
    ["root's directory", (path: string) => mkdirSync(path)],
  ])('has %s in place of a folder: only that folder is reported', async (_what, put) => {
    const { home, wanted } = await madeTool();
    rmdirSync(`${home}/logs`);
    put(`${home}/logs`);
    const before = ownership(`${home}/logs`);
    chmodSync(`${home}/public_html`, 0o777);
    expect(await linesOf(wanted())).toEqual([
      'path.chmod: the mode differs',
      expect.stringMatching(/^PATH_FOREIGN: /),
    ]);
    await server.converge(wanted());
    expect(ownership(`${home}/logs`)).toBe(before);
    expect(ownership('/etc')).toBe('0:0 755');
  });

  test('is created after an interrupted run, despite its remains in staging', async () => {
    const staged = server.path('project/.chamberlain');
    mkdirSync(`${staged}/cut.home/public_html`, { recursive: true });
    writeFileSync(`${staged}/cut.home/rest`, '');
    writeFileSync(`${staged}/cut.credentials`, 'half a secr');
    await server.converge(server.tool('cut', 52010));
    expect(readdirSync(server.path('project/cut')).toSorted()).toEqual([
      'logs',
      'public_html',
      'replica.my.cnf',
    ]);
    expect(server.staged()).toEqual([]);
  });

  test('that exists by now makes the step stale', async () => {
    const { steps } = await server.survey(server.tool('late', 52020));
    mkdirSync(server.path('project/late'));
    expect(codeOf(await failureOf(server.do(steps[0]!.action)))).toBe('STEP_STALE');
    expect(ownership(server.path('project/late'))).toMatch(/^0:0 /);
  });

  test('that was replaced by an admin makes steps stale, including those in it', async () => {
    const { uid, home, file, wanted } = await madeTool();
    chmodSync(home, 0o700);
    chmodSync(file, 0o400);
    rmdirSync(`${home}/logs`);
    const { steps } = await server.survey(wanted());
    expect(steps.map((step) => step.action.verb)).toEqual([
      'path.chmod',
      'folder.create',
      'credentials.own',
    ]);
    renameSync(home, `${home}.old`);
    mkdirSync(home, 0o700);
    chownSync(home, uid, uid);
    for (const step of steps) {
      expect(codeOf(await failureOf(server.do(step.action)))).toBe('STEP_STALE');
    }
    expect(readdirSync(home)).toEqual([]);
  });
});

describe('a link is not followed, even to the very directory that was seen,', () => {
  /** A directory of the tenant's outside the home, as a reader would have seen it. */
  const elsewhere = (uid: number) => {
    const path = server.path('victim', `of${uid}`);
    mkdirSync(path, { mode: 0o700 });
    chownSync(path, uid, uid);
    const { ino, gid, mode } = lstatSync(path);
    return { path, seen: { ino, uid, gid, mode: mode & 0o7777 } };
  };

  test('in place of a folder', async () => {
    const { uid, name, home } = await madeTool();
    const { path, seen } = elsewhere(uid);
    rmdirSync(`${home}/logs`);
    symlinkSync(path, `${home}/logs`);
    const at = { home: { area: 'toolHomes' as const, name }, folder: 'logs', seen };
    for (const action of [
      { verb: 'path.chmod' as const, ...at, mode: 0o2777 },
      { verb: 'path.chgrp' as const, ...at, gid: 500 },
      { verb: 'path.setAcl' as const, ...at },
    ]) {
      expect(codeOf(await failureOf(server.do(action)))).toBe('STEP_STALE');
    }
    expect(ownership(path)).toBe(`${uid}:${uid} 700`);
  });

  test('in place of a home', async () => {
    const uid = 52030;
    const { path, seen } = elsewhere(uid);
    symlinkSync(path, server.path('project/linked'));
    const home = { area: 'toolHomes' as const, name: 'linked' };
    for (const action of [
      { verb: 'path.chmod' as const, home, seen, mode: 0o2777 },
      { verb: 'credentials.write' as const, home, user: `s${uid}`, uid, epoch: 1 },
      { verb: 'folder.create' as const, home, folder: 'logs', uid, gid: uid, mode: 0o2775, seen },
    ]) {
      expect(codeOf(await failureOf(server.do(action)))).toBe('STEP_STALE');
    }
    expect(readdirSync(path)).toEqual([]);
    expect(ownership(path)).toBe(`${uid}:${uid} 700`);
    expect(server.recorded.has(uid)).toBe(false);
  });

  test('in place of an area or its staging folder', async () => {
    const other = await startFileServer();
    const wanted = other.tool('bot', 50001);
    for (const path of ['project/.chamberlain', 'project']) {
      renameSync(other.path(path), other.path('moved'));
      symlinkSync(other.path('moved'), other.path(path));
      expect(codeOf(await failureOf(other.survey(wanted)))).toBe('BACKEND_UNREADABLE');
      const { steps } = await server.survey(wanted);
      expect(codeOf(await failureOf(other.do(steps[0]!.action)))).toBe('BACKEND_UNAVAILABLE');
      rmSync(other.path(path));
      renameSync(other.path('moved'), other.path(path));
    }
    expect(await other.converge(wanted)).not.toEqual([]);
  });
});

describe('an area', () => {
  test('that lacks its staging folder is unreadable, not empty', async () => {
    const other = await startFileServer();
    rmdirSync(other.path('project/.chamberlain'));
    const wanted = other.tool('bot', 50001);
    const lacks = `${other.path('project')} has no folder .chamberlain: it is not mounted, or not prepared`;
    const unread = await failureOf(other.survey(wanted));
    expect(codeOf(unread)).toBe('BACKEND_UNREADABLE');
    expect(describeError(unread)).toBe(`reading homes: ${lacks}`);
    const { steps } = await server.survey(wanted);
    const undone = await failureOf(other.do(steps[0]!.action));
    expect(codeOf(undone)).toBe('BACKEND_UNAVAILABLE');
    expect(describeError(undone)).toContain(`: ${lacks}`);
    rmSync(other.root, { recursive: true });
    expect(codeOf(await failureOf(other.survey(wanted)))).toBe('BACKEND_UNREADABLE');
  });

  test.each([
    ['project', 0o775],
    ['project', 0o1777],
    ['project/.chamberlain', 0o750],
  ])('is refused if others than root have rights: %s %o', async (path, mode) => {
    const other = await startFileServer();
    chmodSync(other.path(path), mode);
    const wanted = other.tool('bot', 50001);
    expect(codeOf(await failureOf(other.survey(wanted)))).toBe('BACKEND_UNREADABLE');
    const { steps } = await server.survey(wanted);
    expect(codeOf(await failureOf(other.do(steps[0]!.action)))).toBe('STEP_FAILED');
    expect(existsSync(other.path('project/bot'))).toBe(false);
  });

  test('is surveyed in the requested order, whatever is absent', async () => {
    const made = await madeTool();
    const asked = Array.from({ length: 1001 }, (_, index) => ({
      home: { area: 'toolHomes' as const, name: index % 500 === 0 ? made.name : `none${index}` },
      uid: made.uid,
      folders: ['logs'],
    }));
    const haves = await server.reader.readHomes(asked);
    const found = haves.flatMap((have, index) => (have.kind === 'absent' ? [] : [index]));
    expect(found).toEqual([0, 500, 1000]);
    expect(haves[1000]).toMatchObject({
      groupWrite: 'kept',
      folders: { logs: { groupWrite: 'kept' } },
    });
  });

  test('is not entered by names that would lead out of it', async () => {
    for (const name of ['..', '.', 'a/b', '', '.chamberlain', '.chamberlain/x', 'a\0b', '-x']) {
      const home = { area: 'toolHomes' as const, name };
      const error = await failureOf(
        server.do({
          verb: 'dir.create',
          home,
          uid: 1,
          gid: 1,
          mode: 0o700,
          folders: [],
          skeleton: false,
        }),
      );
      expect(codeOf(error)).toBe('STEP_FAILED');
      const looked = server.reader.readHomes([{ home, uid: 1, folders: [] }]);
      expect(codeOf(await failureOf(looked))).toBe('BACKEND_UNREADABLE');
    }
  });

  test('on a file system without ACLs has homes without, and no drift', () => {
    // in a mount namespace of its own; ramfs keeps no extended attributes
    const script = `
      import { prepareFileAreas } from ${source('file-acls.ts')};
      import { openFilesWriter } from ${source('file-writer.ts')};
      import { openFilesReader } from ${source('files.ts')};
      const root = process.argv[1], home = { area: 'toolHomes', name: 'bot' }, uid = 50001;
      const files = { root, toolHomes: '/', personHomes: '/home', skel: root, toolHomeMode: '2775' };
      const prepared = await prepareFileAreas(files);
      await openFilesWriter(files, {}).do({ verb: 'dir.create', home, uid, gid: uid, mode: 0o2775,
        folders: ['logs'], skeleton: false });
      const [have] = await openFilesReader(files).readHomes([{ home, uid, folders: ['logs'] }]);
      console.log(JSON.stringify([prepared.groupWrite, have.groupWrite, have.seen.mode]));`;
    expect(runOn('ramfs', 'mode=755', script)).toEqual(['unsupported', 'unknown', 0o2775]);
  });

  test('that takes no write for now is unavailable; a home that takes none is refused', () => {
    const script = `
      import { execFileSync } from 'node:child_process';
      import { readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
      import { prepareFileAreas } from ${source('file-acls.ts')};
      import { seenOf } from ${source('file-mount.ts')};
      import { openFilesWriter } from ${source('file-writer.ts')};
      const root = process.argv[1], uid = 50001, at = (name) => ({ area: 'toolHomes', name });
      const files = { root, toolHomes: '/', personHomes: '/home', skel: root + '/home/skel', toolHomeMode: '2775' };
      await prepareFileAreas(files);
      const { do: act } = openFilesWriter(files, {});
      const make = (name, skeleton) => ({ verb: 'dir.create', home: at(name), uid, gid: uid, mode: 0o2775,
        folders: [], skeleton });
      await act(make('bot', false));
      const chmod = { verb: 'path.chmod', home: at('bot'), seen: seenOf(statSync(root + '/bot')), mode: 0o2775 };
      const codes = [];
      const attempt = (action) => act(action).then(() => codes.push('done'), ({ code }) => codes.push(code));
      const mount = (...args) => execFileSync('mount', args);
      mount('-o', 'remount,ro', root);
      await attempt(chmod);
      mount('-o', 'remount,rw', root);
      await attempt(chmod);
      mount('--bind', root + '/bot', root + '/bot');
      mount('-o', 'remount,bind,ro', root + '/bot');
      await attempt(chmod);
      execFileSync('mkdir', [files.skel]);
      writeFileSync(files.skel + '/x', Buffer.alloc(8192));
      try { writeFileSync(root + '/fill', Buffer.alloc(4_000_000)); } catch {}
      await attempt(make('late', true));
      rmSync(root + '/fill');
      await attempt(make('late', true));
      console.log(JSON.stringify([codes, readdirSync(root + '/.chamberlain')]));`;
    expect(runOn('tmpfs', 'mode=755,size=1m', script)).toEqual([
      ['BACKEND_UNAVAILABLE', 'done', 'STEP_FAILED', 'BACKEND_UNAVAILABLE', 'done'],
      [],
    ]);
  });

  /** Runs a script whose argument is a new file system, in a mount namespace of its own; returns what it printed. */
  function runOn(type: string, options: string, script: string): unknown {
    const root = server.path(type);
    mkdirSync(root);
    const shell =
      'mount -t "$4" -o "$5" none "$1" && mkdir "$1/home" && exec "$2" --input-type=module -e "$3" "$1"';
    const { stdout, stderr } = spawnSync(
      'unshare',
      ['--mount', 'sh', '-euc', shell, 'sh', root, process.execPath, script, type, options],
      { encoding: 'utf8', env: { PATH: process.env['PATH'] } },
    );
    expect(stderr.replace(/^.*Warning.*$/gm, '').trim()).toBe('');
    return JSON.parse(stdout);
  }
});
