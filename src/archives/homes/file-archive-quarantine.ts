/**
 * The quarantine of homes: takes a home out of everybody's reach, returns it, and removes it.
 *
 * A withdrawn home does not change: only root can reach it by a name. Somebody who still has a file open may
 * write to it, which reading back notices. What is partly restored or partly removed has a name of its own
 * (`.back`, `.gone`), so that it is never taken for complete, and the next run starts it anew or finishes it.
 * `.gone` is never returned.
 */
import { fstatSync } from 'node:fs';
import { lstat, readFile, realpath, rename } from 'node:fs/promises';
import type { Action, HomePath } from '../../reconcile/action.ts';
import { printable } from '../../shared/printable.ts';
import { IMMUTABLE, runScript, SCRIPTS } from './file-archive-programs.ts';
import type { LongStep } from '../archive-keeping.ts';
import {
  errnoOf,
  itself,
  type Mount,
  OPEN_DIRECTORY,
  type Opened,
  stale,
  within,
  withOpened,
  withSeen,
} from '../../backends/files/file-mount.ts';

export type ActionOf<Verb extends Action['verb']> = Extract<Action, { verb: Verb }>;

/** The names of a withdrawn home in the staging folder. */
export function asideNames({ home, archival }: { home: HomePath; archival: number }) {
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

/**
 * Removes a withdrawn home, if `check` does not throw. First gives it a name that says that it must go; an
 * interrupted run has already done that.
 */
export async function removeWithdrawn(
  staging: Opened,
  action: { home: HomePath; archival: number; uid: number },
  check: (folder: Opened) => Promise<void>,
  step: LongStep,
): Promise<void> {
  const { left, gone } = asideNames(action);
  if ((await lookAt(within(staging, left))) !== undefined) {
    await withSeen(staging, left, action, async (folder) => {
      await refuseMounts(folder);
      await refuseIfThere(staging, gone);
      await check(folder);
      await rename(within(staging, left), within(staging, gone));
      await staging.sync();
    });
  }
  await removeFolder(staging, gone, step);
}

/** Removes a folder of the staging folder with everything in it, but nothing that is mounted there. */
export async function removeFolder(staging: Opened, name: string, step: LongStep): Promise<void> {
  if ((await lookAt(within(staging, name))) === undefined) return;
  step.report('removing', 0, undefined);
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
export async function refuseMounts(folder: Opened): Promise<void> {
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

/** Throws STEP_STALE if there is something of that name. */
export async function refuseIfThere(directory: { fd: number }, name: string): Promise<void> {
  if ((await lookAt(within(directory, name))) !== undefined) throw stale(name);
}

/** What has a name; undefined if nothing has. */
export async function lookAt(path: string) {
  return await lstat(path).catch((error: unknown) => {
    if (errnoOf(error) !== 'ENOENT') throw error;
    return undefined;
  });
}
