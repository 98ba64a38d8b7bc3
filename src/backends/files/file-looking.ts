/**
 * Looks at folders of an area by a descriptor of it, and says of a tenant's ground what a tenant can have done to it. Changes
 * nothing.
 */
import { closeSync, lstatSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import type { HomePath } from '../../reconcile/action.ts';
import type { FolderHave } from '../../targets/files-reader.ts';
import type { Area, FileServer } from './file-mount.ts';
import { describeKind, errnoOf, openArea, seenOf, unreadable, within } from './file-mount.ts';

/** Homes, before anything else may be done. */
const SLICE = 200;

/** Opens each area once, and looks at one home after another through its descriptor. */
export async function lookAtEach<Have, Asked extends { home: HomePath }>(
  files: FileServer,
  asked: readonly Asked[],
  look: (area: { fd: number }, one: Asked) => Have,
): Promise<Have[]> {
  const areas = new Map<Area, { fd: number }>();
  const haves: Have[] = [];
  try {
    for (const one of asked) {
      if (haves.length % SLICE === SLICE - 1) await setImmediate();
      const area = areas.get(one.home.area) ?? openArea(files, one.home.area);
      areas.set(one.home.area, area);
      haves.push(look(area, one));
    }
  } catch (cause) {
    throw unreadable(cause);
  } finally {
    for (const area of areas.values()) closeSync(area.fd);
  }
  return haves;
}

/** Looks at a directory that nothing is looked at in: one call instead of three. */
export function lookAtFolder(parent: { fd: number }, name: string): FolderHave {
  try {
    const stats = lstatSync(within(parent, name), { throwIfNoEntry: false });
    if (stats === undefined) return { kind: 'absent' };
    if (!stats.isDirectory()) return { kind: 'irregular', what: describeKind(stats) };
    return { kind: 'directory', seen: seenOf(stats), groupWrite: 'unknown' };
  } catch (cause) {
    return refusalOf(name, cause);
  }
}

/** What a failed look says of a tenant's mount; throws where it is the server's fault. */
export function refusalOf(
  name: string,
  cause: unknown,
): { kind: 'absent' } | { kind: 'irregular'; what: string } {
  if (errnoOf(cause) === 'ENOENT') return { kind: 'absent' };
  const what = describeHostile(cause);
  if (what === undefined) throw new Error(`looking at ${name}`, { cause });
  return { kind: 'irregular', what };
}

/**
 * Errors that a tenant can bring about in a home: by swapping a folder between two of our calls,
 * or by a mount of their own that keeps root out. For reader without root's rights the latter is a
 * fault of the reader. All others are the server's: undefined.
 */
export function describeHostile(error: unknown): string | undefined {
  const errno = errnoOf(error) ?? '';
  if (['ENOTDIR', 'ELOOP'].includes(errno)) return 'something that was a directory a moment ago';
  const isKeptOut = ['EACCES', 'ENOTCONN'].includes(errno) && process.geteuid?.() === 0;
  return isKeptOut ? `something that cannot be looked at (${errno})` : undefined;
}
