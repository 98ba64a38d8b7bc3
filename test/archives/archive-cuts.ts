/**
 * Cuts each step that archives or restores a home at every call of the file system that it makes, and at every
 * program that it starts: from there on, everything that it tries fails, including cleaning up. Then surveys
 * and does what is planned, as the next run does. Prints, for each verb, how many cuts there were and in how
 * many different states they ended.
 *
 * A program of its own, because it replaces functions of Node's modules, which jest hides.
 */
import childProcess from 'node:child_process';
import fs from 'node:fs';
import fsPromises from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import type { Action } from '../../src/reconcile/action.ts';
import type { WantedArchive, WantedTool } from '../../src/reconcile/wanted.ts';

/** Remaining calls before the cut; undefined: no cut. */
let left: number | undefined;
let calls = 0;

class Death extends Error {}

function mortal<F extends (...args: never[]) => unknown>(call: F): F {
  return ((...args: never[]) => {
    calls += 1;
    if (left !== undefined && (left -= 1) < 0) throw new Death();
    return call(...args);
  }) as F;
}

const PROMISES = ['lstat', 'mkdir', 'open', 'rename', 'rm', 'rmdir', 'unlink', 'realpath'] as const;
for (const name of PROMISES) {
  const call = fsPromises[name] as (...args: never[]) => Promise<unknown>;
  const dies = mortal(call);
  Object.assign(fsPromises, { [name]: async (...args: never[]) => await dies(...args) });
}
const AT_ONCE = [
  'mkdirSync',
  'openSync',
  'renameSync',
  'rmSync',
  'rmdirSync',
  'unlinkSync',
  'chmodSync',
  'chownSync',
  'fchmodSync',
  'fchownSync',
] as const;
for (const name of AT_ONCE)
  Object.assign(fs, { [name]: mortal(fs[name] as (...args: never[]) => unknown) });
const { fsync } = fs;
Object.assign(fs, {
  fsync(fd: number, done: (error: Error | null) => void) {
    try {
      mortal(fsync)(fd, done);
    } catch (error) {
      done(error as Error);
    }
  },
});
childProcess.spawn = mortal(childProcess.spawn as never) as typeof childProcess.spawn;
syncBuiltinESMExports();

const { startFileServer, stopFileServers, REALM } =
  await import('../backends/files/file-server.ts');
const { homeArchive } = await import('../../src/targets/home-archive.ts');
const server = await startFileServer();
server.archiveDouble.record = async (archive) => {
  if (left !== undefined && (left -= 1) < 0) throw new Death();
  server.archived.push(archive);
  if (left !== undefined && (left -= 1) < 0) throw new Death();
};

type Made = Awaited<ReturnType<typeof server.madeTool>>;
type End = { state: WantedTool['state']; archive?: Partial<WantedArchive> };

async function look(made: Made, { state, archive }: End) {
  const manifest = server.archived.findLast(({ subject }) => subject === made.uid)?.manifestSha256;
  const open = { archival: 1, returning: false, expired: false, manifest };
  const wanted: WantedTool = { ...made.wanted(), state, archive: { ...open, ...archive } };
  const [have] = await homeArchive.observe(server.reader, [wanted], REALM);
  return homeArchive.plan(homeArchive.want(wanted, REALM), have!, wanted);
}

async function converge(made: Made, end: End): Promise<void> {
  for (let runs = 0; runs < 3; runs += 1) {
    const { steps, findings } = await look(made, end);
    if (findings.length > 0) throw new Error(JSON.stringify(findings));
    if (steps.length === 0) return;
    for (const { action } of steps) await server.do(action);
  }
  throw new Error('the runs do not come to an end');
}

/** What is where, with the content of the one file. */
function stateOf(made: Made): string {
  const staging = server.path('project/.chamberlain');
  const of = (folder: string) => fs.readdirSync(folder).filter((name) => name.includes(made.name));
  const file = `${made.home}/file`;
  return JSON.stringify([
    fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : 'no home',
    of(staging).map((name) => name.replace(made.name, '')),
    of(server.archives).map(
      (name) =>
        name.replace(made.name, '') + ': ' + fs.readdirSync(`${server.archives}/${name}`).join(' '),
    ),
    server.archived.filter(({ subject }) => subject === made.uid).length,
  ]);
}

const AWAY: End = { state: 'archived' };
const GONE: End = { state: 'deleted' };
const BACK: End = { state: 'archived', archive: { returning: true } };
const FORGOTTEN: End = { state: 'deleted', archive: { expired: true } };
const CASES: [verb: Action['verb'], before: End[], end: End, after?: End][] = [
  ['home.withdraw', [], AWAY],
  ['home.archive', [], AWAY],
  ['home.return', [AWAY], BACK],
  ['home.destroy', [AWAY], GONE],
  // the home is wanted back after the cut: half of it may be gone
  ['home.destroy', [AWAY], GONE, BACK],
  ['home.restore', [AWAY, GONE], BACK],
  ['home.removeArchive', [AWAY, GONE], FORGOTTEN],
];

for (const [verb, before, end, after = end] of CASES) {
  const states = new Set<string>();
  let cuts = 0;
  for (let living = 0; ; living += 1) {
    const made = await server.madeTool();
    fs.writeFileSync(`${made.home}/file`, 'contents');
    for (const each of before) await converge(made, each);
    let died = false;
    const { steps } = await look(made, end);
    for (const { action } of steps) {
      left = action.verb === verb ? living : undefined;
      await server.do(action).catch((error: unknown) => {
        for (let at = error; at !== undefined; at = (at as Error).cause)
          died ||= at instanceof Death;
        if (!died) throw error;
      });
      died ||= (left ?? 0) < 0;
      left = undefined;
      if (died) break;
    }
    await converge(made, after);
    states.add(stateOf(made));
    if (!died) break;
    cuts += 1;
  }
  console.log(JSON.stringify({ verb, cuts, states: [...states] }));
}
await stopFileServers();
