/** Credentials on a real file system, as root. */
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { ChamberlainError, codeOf, describeError } from '../../../src/shared/errors.ts';
import { verifierOf } from '../../../src/credentials/credentials.ts';
import {
  endTenants,
  failureOf,
  ownership,
  startAs,
  startFileServer,
  stopFileServers,
} from './file-server.ts';
import type { FileServerOfTest } from './file-server.ts';

let server: FileServerOfTest;
let madeTool: FileServerOfTest['madeTool'];
let linesOf: FileServerOfTest['linesOf'];

beforeAll(async () => {
  server = await startFileServer();
  ({ madeTool, linesOf } = server);
});
afterEach(endTenants);
afterAll(stopFileServers);

const INSTEAD = 'instead of the credentials file there is';

describe('credentials', () => {
  test.each<[string, string, (file: string, uid: number) => void]>([
    ['is absent', 'it does not exist', (file) => rmSync(file)],
    [
      'is a link',
      `${INSTEAD} a symbolic link`,
      (file) => replace(file, () => symlinkSync(server.path('victim/linked'), file)),
    ],
    ['is a FIFO', `${INSTEAD} a FIFO`, (file) => replace(file, () => spawnSync('mkfifo', [file]))],
    [
      'is a device',
      `${INSTEAD} a device`,
      (file) => replace(file, () => spawnSync('mknod', [file, 'c', '1', '5'])),
    ],
    [
      "is another's",
      `${INSTEAD} a file that belongs to uid 4711`,
      (file) => chownSync(file, 4711, 4711),
    ],
    ['is empty', `${INSTEAD} a file that does not hold credentials`, (file) => truncateSync(file)],
    ['is large', `${INSTEAD} a file of more than 4 KiB`, (file) => truncateSync(file, 1 << 30)],
    [
      'can be read by others',
      'others can read or change the file',
      (file) => chmodSync(file, 0o444),
    ],
    [
      'holds another password',
      'its password is not the recorded one',
      (file, uid) => writeFileSync(file, `[client]\nuser = s${uid}\npassword = guessed\n`),
    ],
    [
      'holds another user',
      'it names another user',
      (file) => writeFileSync(file, readFileSync(file, 'utf8').replace(/s\d+/, 's1')),
    ],
  ])('are created anew if the file %s', async (_what, because, spoil) => {
    const { uid, file, wanted } = await madeTool();
    const before = server.recorded.get(uid);
    spoil(file, uid);
    expect(await linesOf(wanted())).toEqual([`credentials.write: ${because}`]);
    await server.converge(wanted());
    expect(server.recorded.get(uid)).not.toEqual(before);
    expect(ownership(file)).toBe(`${uid}:${uid} 440`);
    expect(lstatSync(file).isFile()).toBe(true);
    expect(await linesOf(wanted())).toEqual([]);
  });

  test('keep their password if only owner or mode is wrong', async () => {
    const { uid, file, wanted } = await madeTool();
    const [before, { ino }] = [server.recorded.get(uid), lstatSync(file)];
    chownSync(file, 0, 0);
    chmodSync(file, 0o600);
    expect(await linesOf(wanted())).toEqual(['credentials.own: its owner, group or mode is wrong']);
    await server.converge(wanted());
    expect(ownership(file)).toBe(`${uid}:${uid} 440`);
    expect([server.recorded.get(uid), lstatSync(file).ino]).toEqual([before, ino]);
  });

  test('are not replaced because somebody made a backup of links', async () => {
    const { file, wanted } = await madeTool();
    linkSync(file, server.path('victim/backup'));
    expect(await linesOf(wanted())).toEqual([]);
    chmodSync(file, 0o400);
    const before = ownership(server.path('victim/backup'));
    await server.converge(wanted());
    expect(ownership(server.path('victim/backup'))).toBe(before);
    expect(await linesOf(wanted())).toEqual([]);
  });

  test('get no owner and no mode under a second name that came after the survey', async () => {
    const { file, wanted } = await madeTool();
    chmodSync(file, 0o400);
    const { steps } = await server.survey(wanted());
    expect(steps.map((step) => step.action.verb)).toEqual(['credentials.own']);
    linkSync(file, server.path('victim/second'));
    expect(codeOf(await failureOf(server.do(steps[0]!.action)))).toBe('STEP_STALE');
    expect(ownership(server.path('victim/second'))).toMatch(/ 400$/);
  });

  test('are not written into a home that is not its own', async () => {
    const { uid } = await madeTool();
    const { steps } = await server.survey(server.tool(`u${uid}`, uid + 500));
    const write = steps.find((step) => step.action.verb === 'credentials.write');
    mkdirSync(server.path('project', `u${uid}`));
    chownSync(server.path('project', `u${uid}`), uid, uid);
    expect(codeOf(await failureOf(server.do(write!.action)))).toBe('STEP_STALE');
    expect(readdirSync(server.path('project', `u${uid}`))).toEqual([]);
    expect(server.recorded.has(uid + 500)).toBe(false);
  });

  test('are not created in place of a directory, and the present password stays valid', async () => {
    const { uid, file, wanted } = await madeTool();
    rmSync(file);
    const { steps } = await server.survey(wanted());
    mkdirSync(file);
    const before = server.recorded.get(uid);
    expect(await linesOf(wanted())).toEqual([expect.stringMatching(/^PATH_FOREIGN: /)]);
    expect(codeOf(await failureOf(server.do(steps[0]!.action)))).toBe('STEP_STALE');
    expect(server.recorded.get(uid)).toEqual(before);
  });

  test('stay as they were when the verifier cannot be recorded', async () => {
    const { uid, file, wanted } = await madeTool();
    const [before, text] = [server.recorded.get(uid), readFileSync(file, 'utf8')];
    chmodSync(file, 0o444);
    const faults: [Error, string][] = [
      [new ChamberlainError('BACKEND_UNAVAILABLE', 'recording'), 'BACKEND_UNAVAILABLE'],
      [Object.assign(new Error('no socket'), { code: 'ENOENT' }), 'STEP_FAILED'],
    ];
    for (const [fault, code] of faults) {
      server.beforeRecord.act = async () => await Promise.reject(fault);
      expect(codeOf(await failureOf(server.converge(wanted())))).toBe(code);
      expect([server.recorded.get(uid), readFileSync(file, 'utf8')]).toEqual([before, text]);
      expect(server.staged()).toEqual([]);
    }
    server.beforeRecord.act = async () => {};
    await server.converge(wanted());
    expect(await linesOf(wanted())).toEqual([]);
  });

  test('end in another new password when interrupted after the verifier is recorded', async () => {
    const { uid, file, home, wanted } = await madeTool();
    rmSync(file);
    // what is left then: a verifier recorded, the file with its password only in staging
    server.recorded.set(uid, { epoch: 1, verifier: verifierOf('cut') });
    const staged = home.replace('/project/', '/project/.chamberlain/');
    writeFileSync(`${staged}.credentials`, `[client]\nuser = s${uid}\npassword = cut\n`);
    await server.converge(wanted());
    expect(readFileSync(file, 'utf8')).not.toContain('cut');
    expect(await linesOf(wanted())).toEqual([]);
    expect(server.staged()).toEqual([]);
  });

  test.each<[string, (staged: string, victim: string) => void]>([
    ['a link', (staged, victim) => symlinkSync(victim, staged)],
    ['a file that has another name as well', (staged, victim) => linkSync(victim, staged)],
  ])('are not written through anything left in staging: %s', async (_what, leave) => {
    const { file, home, wanted } = await madeTool();
    const victim = server.path('victim', `left${wanted().uid}`);
    writeFileSync(victim, 'precious', { mode: 0o666 });
    rmSync(file);
    leave(`${home.replace('/project/', '/project/.chamberlain/')}.credentials`, victim);
    await server.converge(wanted());
    expect(readFileSync(victim, 'utf8')).toBe('precious');
    expect(ownership(victim)).toMatch(/^0:0 /);
    expect(await linesOf(wanted())).toEqual([]);
    expect(server.staged()).toEqual([]);
  });

  test('leave the present password valid if an admin made the file immutable', async () => {
    const { uid, file, home, wanted } = await madeTool();
    const before = server.recorded.get(uid);
    chmodSync(file, 0o444);
    for (const path of [file, home]) {
      if (spawnSync('chattr', ['+i', path]).status !== 0) continue;
      try {
        const error = await failureOf(server.converge(wanted()));
        expect(codeOf(error)).toBe('STEP_FAILED');
        expect(describeError(error)).toContain('EPERM');
      } finally {
        spawnSync('chattr', ['-i', path]);
      }
    }
    expect(server.recorded.get(uid)).toEqual(before);
  });

  test('under a lease of the tenant delay nothing', async () => {
    const { uid, file, home, wanted } = await madeTool();
    const tenant = await startAs(
      uid,
      home,
      // F_SETLEASE 1024, F_WRLCK 1: an open by another waits until it is given up, 45 s at most
      `chmod 0640, "replica.my.cnf"; open(F, "+<", "replica.my.cnf") or die; $SIG{IO} = "IGNORE";
       fcntl(F, 1024, 1) or die "lease: $!"; print "held\\n"; sleep 1 while 1;`,
    );
    try {
      const started = performance.now();
      expect(await linesOf(wanted())).toEqual([
        `credentials.write: ${INSTEAD} a file on which a program holds a file lease (fcntl)`,
      ]);
      await server.converge(wanted());
      expect(await linesOf(wanted())).toEqual([]);
      expect(performance.now() - started).toBeLessThan(30_000);
    } finally {
      await tenant.end();
    }
    expect(ownership(file)).toBe(`${uid}:${uid} 440`);
  });

  test('leave no password in plans, in a reader’s answers, or in errors', async () => {
    const { wanted, uid, name, file } = await madeTool();
    chmodSync(file, 0o444);
    const asked = [{ home: { area: 'toolHomes' as const, name }, uid, folders: [] }];
    const said = JSON.stringify([
      await server.survey(wanted()),
      await server.reader.readCredentials(asked),
    ]);
    expect(server.passwords.filter((password) => said.includes(password))).toEqual([]);
    expect(said).toContain(verifierOf(server.passwords.at(-1)!));
  });
});

function replace(file: string, put: () => void): void {
  rmSync(file);
  put();
}
