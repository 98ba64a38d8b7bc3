/**
 * Examines folders of an area through a descriptor of it, and describes what a tenant may have done in a home.
 * Changes nothing.
 */
import { closeSync, lstatSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import type { HomePath } from '../../reconcile/action.ts';
import type { FolderHave } from '../../targets/files-reader.ts';
import type { Area, FileServer } from './file-mount.ts';
import { describeKind, errnoOf, openArea, seenOf, unreadable, within } from './file-mount.ts';

/** How many homes are examined before anything else may run. */
const SLICE = 200;

/** Opens each area once, and examines one home after another through its descriptor. */
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

/** Examines a directory whose content does not matter: one call instead of three. */
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

/** Describes a failed look at a tenant's home; throws if the server is at fault. */
export function refusalOf(
  name: string,
  cause: unknown,
): { kind: 'absent' } | { kind: 'irregular'; what: string } {
  if (errnoOf(cause) === 'ENOENT') return { kind: 'absent' };
  const what = describeHostile(cause);
  if (what === undefined) throw new Error(`examining ${name}`, { cause });
  return { kind: 'irregular', what };
}

/**
 * Describes an error that a tenant can cause in a home: by swapping a folder between two of our calls, or by a
 * mount of their own that keeps root out. If a reader without root's rights is kept out, that is the reader's
 * fault. Returns undefined for every other error, because it is the server's fault.
 */
export function describeHostile(error: unknown): string | undefined {
  const errno = errnoOf(error) ?? '';
  if (['ENOTDIR', 'ELOOP'].includes(errno))
    return 'something that replaced a directory a moment ago';
  const isKeptOut = ['EACCES', 'ENOTCONN'].includes(errno) && process.geteuid?.() === 0;
  return isKeptOut ? `something that cannot be read (${errno})` : undefined;
}
