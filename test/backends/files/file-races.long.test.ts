/**
 * Tenants swap things in their homes as fast as they can, while writer and reader work there. The following
 * must hold: nothing outside the home changes, nothing hangs, there is no error but STEP_STALE, and one more
 * run after the tenant has stopped corrects everything.
 */
import { chmodSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from '@jest/globals';
import { codeOf, describeError } from '../../../src/shared/errors.ts';
import { verifierOf } from '../../../src/credentials/credentials.ts';
import { eventually } from '../../scenarios/eventually.ts';
import {
  endTenants,
  failureOf,
  ownership,
  runAs,
  startAs,
  startFileServer,
  stopFileServers,
} from './file-server.ts';
import type { FileServerOfTest } from './file-server.ts';

const RACE_MS = 2000;
/** For events that must happen in a race, even if the machine is busy. */
const LONGEST_RACE_MS = 60_000;
/** A step takes a millisecond or so; waiting for a FIFO takes forever. */
const STEP_MS = 20_000;

let server: FileServerOfTest;
let victim: string;

beforeAll(async () => {
  server = await startFileServer();
});
afterEach(endTenants);
afterAll(stopFileServers);
beforeEach(() => {
  victim = server.path('victim');
  rmSync(victim, { recursive: true });
  mkdirSync(`${victim}/folder`, { recursive: true });
  chmodSync(victim, 0o755);
  chmodSync(`${victim}/folder`, 0o700);
  writeFileSync(`${victim}/file`, 'precious', { mode: 0o600 });
});

function expectVictimUntouched(): void {
  expect(ownership(`${victim}/folder`)).toBe('0:0 700');
  expect(ownership(`${victim}/file`)).toBe('0:0 600');
  expect(readFileSync(`${victim}/file`, 'utf8')).toBe('precious');
}

/**
 * Acts over and over for a while, and until everything has happened that must happen; returns how often it
 * succeeded, how often it was stale, and all other results.
 */
async function raceFor(act: () => Promise<unknown>, least: { done?: number; stale?: number } = {}) {
  const seen = { done: 0, stale: 0, other: [] as string[], slowestMs: 0 };
  const begin = performance.now();
  const isShort = () => seen.done < (least.done ?? 0) || seen.stale < (least.stale ?? 0);
  for (;;) {
    const started = performance.now();
    const soFar = started - begin;
    if (soFar > (isShort() ? LONGEST_RACE_MS : RACE_MS)) break;
    const error = await failureOf(act());
    seen.slowestMs = Math.max(seen.slowestMs, performance.now() - started);
    if (error === undefined) seen.done += 1;
    else if (codeOf(error) === 'STEP_STALE') seen.stale += 1;
    else seen.other.push(describeError(error));
  }
  return seen;
}

const swapFolder = (to: string) => `
  print "swapping\\n";
  while (1) {
    rename "logs", "aside"; symlink "${to}", "logs"; unlink "logs"; rename "aside", "logs";
  }`;

test.each(['path.chmod', 'path.chgrp', 'path.setAcl'] as const)(
  '%s does not follow a folder that is swapped for a link',
  async (verb) => {
    const { uid, name, home, wanted } = await server.madeTool();
    const asked = [{ home: { area: 'toolHomes' as const, name }, uid, folders: ['logs'] }];
    const [have] = await server.reader.readHomes(asked);
    const logs = have?.kind === 'directory' ? have.folders['logs'] : undefined;
    if (logs?.kind !== 'directory') throw new Error('no logs');
    const at = { home: asked[0]!.home, folder: 'logs', seen: logs.seen };
    const tenant = await startAs(uid, home, swapFolder(`${victim}/folder`));
    const race = await raceFor(
      async () =>
        await server.do(
          verb === 'path.chmod'
            ? { verb, ...at, mode: 0o2777 }
            : verb === 'path.chgrp'
              ? { verb, ...at, gid: 500 }
              : { verb, ...at },
        ),
      { done: 1, stale: 1 },
    );
    await tenant.end();
    expect(race.other).toEqual([]);
    expect(race.done).toBeGreaterThan(0);
    expect(race.stale).toBeGreaterThan(0);
    expectVictimUntouched();
    expect(runAs(uid, uid, victim, 'getfacl -dc .')).not.toContain('rwx');
    runAs(uid, uid, home, 'test ! -h logs || rm logs; test ! -e aside || mv aside logs');
    await server.converge(wanted());
    expect(await server.linesOf(wanted())).toEqual([]);
  },
);

test('a folder is created even if it is swapped for a link at once, and never through a link', async () => {
  const { uid, name, home, wanted } = await server.madeTool();
  rmSync(`${home}/logs`, { recursive: true });
  const { steps } = await server.survey(wanted());
  const action = steps[0]?.action;
  if (action?.verb !== 'folder.create') throw new Error(`no folder of ${name} is to be made`);
  const tenant = await startAs(
    uid,
    home,
    `print "waiting\n"; my $n = 0;
     while (1) {
       next unless lstat "logs";
       rmdir "logs"; symlink "${victim}/folder", "logs";
       select undef, undef, undef, 0.0002 * ($n++ % 5); unlink "logs";
     }`,
  );
  const race = await raceFor(async () => await server.do(action), { done: 1 });
  await tenant.end();
  expect(race.other).toEqual([]);
  expect(race.done).toBeGreaterThan(0);
  expectVictimUntouched();
  runAs(uid, uid, home, 'rm -f logs || rmdir logs');
  await server.converge(wanted());
  expect(await server.linesOf(wanted())).toEqual([]);
  expect(server.staged()).toEqual([]);
});

test('credentials are written while links, FIFOs and links to a FIFO come and go', async () => {
  const { uid, name, home, file, wanted } = await server.madeTool();
  const tenant = await startAs(
    uid,
    home,
    `use POSIX; my $f = "replica.my.cnf"; my $n = 0; print "swapping\\n";
     while (1) {
       unlink $f; symlink "${victim}/file", $f; unlink $f; POSIX::mkfifo($f, 0600); unlink $f;
       POSIX::mkfifo("fifo", 0600); symlink "fifo", $f; unlink $f; link "fifo", $f;
       if ($n++ % 50 == 0) { select(undef, undef, undef, 0.005) }
     }`,
  );
  const action = {
    verb: 'credentials.write' as const,
    home: { area: 'toolHomes' as const, name },
    user: `s${uid}`,
    uid,
    epoch: 1,
  };
  const [written, surveyed] = await Promise.all([
    raceFor(async () => await server.do(action), { done: 1 }),
    raceFor(async () => await server.survey(wanted()), { done: 1 }),
  ]);
  await tenant.end();
  expect([...written.other, ...surveyed.other]).toEqual([]);
  expect(written.done).toBeGreaterThan(0);
  expect(surveyed.done).toBeGreaterThan(0);
  expect(Math.max(written.slowestMs, surveyed.slowestMs)).toBeLessThan(STEP_MS);
  expectVictimUntouched();
  rmSync(file, { force: true });
  await server.converge(wanted());
  expect(await server.linesOf(wanted())).toEqual([]);
  expect(readFileSync(file, 'utf8')).toContain(server.passwords.at(-1)!);
  expect(server.recorded.get(uid)?.verifier).toBe(verifierOf(server.passwords.at(-1)!));
  expect(server.staged()).toEqual([]);
});

test('owner and mode are set on the file that was seen, or on none', async () => {
  const { uid, name, home, wanted } = await server.madeTool();
  runAs(uid, uid, home, 'chmod 0600 replica.my.cnf');
  const [have] = await server.reader.readCredentials([
    { home: { area: 'toolHomes', name }, uid, folders: [] },
  ]);
  if (have?.home !== 'ours' || have.file.kind !== 'regular') throw new Error('no file');
  const { seen } = have;
  const seenFile = have.file.seen;
  const tenant = await startAs(
    uid,
    home,
    `my $f = "replica.my.cnf"; print "swapping\\n";
     while (1) {
       rename $f, "aside"; symlink "${victim}/file", $f; unlink $f;
       link "aside", $f; unlink $f; rename "aside", $f;
     }`,
  );
  const race = await raceFor(
    async () =>
      await server.do({
        verb: 'credentials.own',
        home: { area: 'toolHomes', name },
        seen,
        file: seenFile,
        uid,
        mode: 0o440,
      }),
    { done: 1, stale: 1 },
  );
  await tenant.end();
  expect(race.other).toEqual([]);
  expect(race.done).toBeGreaterThan(0);
  expect(race.stale).toBeGreaterThan(0);
  expectVictimUntouched();
  runAs(uid, uid, home, 'rm -f replica.my.cnf aside');
  await server.converge(wanted());
  expect(await server.linesOf(wanted())).toEqual([]);
});

test('a home is complete, owned and protected from the moment it exists', async () => {
  const names = Array.from({ length: 60 }, (_, index) => `new${index}`);
  const first = 53000;
  const watcher = await startAs(
    60001,
    server.path('project'),
    `print "watching\\n";
     for my $n (0 .. ${names.length - 1}) {
       my @s; 1 until @s = lstat "new$n";
       my @l = lstat "new$n/logs"; my @p = lstat "new$n/public_html";
       printf "%d %d %o %d %o %d %o\\n",
         @s[4, 5], $s[2] & 07777, $l[4], $l[2] & 07777, $p[4], $p[2] & 07777;
     }
     print "end\\n"; sleep 60;`,
  );
  for (const [index, name] of names.entries()) {
    await server.converge(server.tool(name, first + index));
  }
  await eventually('the watcher to have seen everything', () => watcher.lines.includes('end'));
  await watcher.end();
  expect(watcher.lines.slice(1, -1)).toEqual(
    names.map((_, index) => {
      const uid = first + index;
      return `${uid} ${uid} 2775 ${uid} 2775 ${uid} 2775`;
    }),
  );
});

test('credentials have their owner and mode from the moment they exist', async () => {
  const { uid, name, home } = await server.madeTool();
  const watcher = await startAs(
    60001,
    home,
    `my %seen; print "watching\\n";
     while (1) {
       my @s = lstat "replica.my.cnf" or next;
       my $line = sprintf "%d %d %o", @s[4, 5], $s[2] & 07777;
       print "$line\\n" unless $seen{$line}++;
     }`,
  );
  const race = await raceFor(
    async () =>
      await server.do({
        verb: 'credentials.write',
        home: { area: 'toolHomes', name },
        user: `s${uid}`,
        uid,
        epoch: 1,
      }),
    { done: 51 },
  );
  await watcher.end();
  expect(race.other).toEqual([]);
  expect(race.done).toBeGreaterThan(50);
  expect(watcher.lines).toEqual(['watching', `${uid} ${uid} 440`]);
});

test('a tenant cannot reach the staging folder while it is in use', async () => {
  const { uid, home, wanted } = await server.madeTool();
  const tenant = await startAs(
    uid,
    home,
    `my $s = "../.chamberlain"; my ($name) = "${home}" =~ m{([^/]+)$}; print "looking\\n";
     while (1) {
       print "in\\n" if opendir(D, $s) || open(F, "<", "$s/$name.credentials")
         || lstat("$s/$name.credentials") || chdir $s || symlink("/etc", "$s/$name.home");
     }`,
  );
  const race = await raceFor(async () => {
    rmSync(`${home}/replica.my.cnf`, { force: true });
    await server.converge(wanted());
  });
  await tenant.end();
  expect(race.other).toEqual([]);
  expect(tenant.lines).toEqual(['looking']);
});

test('a survey is not stopped by a tenant who removes folders', async () => {
  const { uid, home, wanted } = await server.madeTool();
  const tenant = await startAs(uid, home, swapFolder('/proc/self/root'));
  const race = await raceFor(async () => await server.survey(wanted()), { done: 1 });
  await tenant.end();
  expect(race.other).toEqual([]);
  expect(race.done).toBeGreaterThan(0);
});
