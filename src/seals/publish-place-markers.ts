/**
 * Writes the markers of a role's places, the MariaDB servers or the areas of homes, and detects by them a place that
 * was restored from a backup (src/seals/heartbeat.ts).
 *
 * | by its marker (markerDoubt)   | then                                                                             |
 * | ----------------------------- | -------------------------------------------------------------------------------- |
 * | the place is an older copy    | nothing is given there (withholdGrants); access that it wrongly gives is taken   |
 * |                               | away at once, beyond the bounds of the sweep; it is surveyed again and again     |
 * |                               | until nothing is left to take away; then it gets a marker again, which ends this |
 * | our database is an older copy | the realm is frozen, and no marker is written there                              |
 * | otherwise                     | a marker is written every 20 s                                                   |
 *
 * The doubt about a place ends without a decision of an admin. PostgreSQL is the newer of the two, so nothing is given
 * because of the older copy, and a copy that was restored by mistake costs only the surveys. What the place then lacks
 * is ordinary drift: the sweep gives it, or holds it back within its bounds. Because the restored contents may differ
 * from the archives, nothing is dropped or removed meanwhile, except accounts of deleted subjects.
 *
 * A restore between two looks is detected by the next job that gives something there (place-guard.ts).
 *
 * Each place has its own loop, so a place that hangs does not delay others. Two processes may read the markers at
 * the same time; each overwrites only the marker that it has read.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from '../shared/config.ts';
import { realmOf } from '../shared/config.ts';
import { ChamberlainError, codeOf, describeError } from '../shared/errors.ts';
import type { Log } from '../shared/log.ts';
import { type Carrier, newestOf, timeOfShortMarker } from './heartbeat.ts';
import type { Wanted } from '../reconcile/wanted.ts';
import type { Step } from '../reconcile/plan.ts';
import { placesOf, takesAway } from '../reconcile/policy.ts';
import { survey } from '../reconcile/engine.ts';
import * as store from './place-markers-table.ts';
import { openPool, type Pool, withClient } from '../database/connection.ts';
import { readSubjects, readWanted } from '../reconcile/wanted-queries.ts';
import { type Loop, startLoop, type Worker } from '../shared/loop.ts';
import { noteMarker } from '../shared/metrics.ts';
import { startThrottle } from '../drift/throttle.ts';
import type { RoleParts } from '../reconcile/role.ts';

/** An older copy must be reported within a minute, even if one look fails. */
const EVERY_MS = 20_000;
/** The pause while there is no marker to write yet, or while something must still be taken away. */
const AGAIN_MS = 1000;

/** The markers of a role's places. */
export interface PlaceMarkers<Place extends string = string> {
  places: readonly Place[];
  /** Throws BACKEND_UNREADABLE. */
  read(place: Place): Promise<string | undefined>;
  /**
   * Overwrites the marker `instead`. If the place has another one now, does nothing and returns false. Throws
   * BACKEND_UNREADABLE.
   */
  write(place: Place, marker: string, instead: string | undefined): Promise<boolean>;
  /** the name that people use for it */
  nameOf(place: Place): string;
  /** the configuration without the other places, if it lists them individually */
  only(place: Place): Config;
  /** the kinds of subject that have something there */
  kinds(place: Place): readonly Wanted['kind'][];
  close(): Promise<void>;
}

interface Marking<Reader, Place extends string> {
  readonly parts: Pick<RoleParts<Reader>, 'role' | 'targets' | 'openReader'>;
  readonly markers: PlaceMarkers<Place>;
  readonly log: Log;
  readonly pool: Pool;
  readonly closing: AbortController;
  /** what was logged of each place */
  readonly said: Map<string, string>;
  readonly loops: Map<Place, Loop>;
  /** the names of the places are in PostgreSQL */
  isKept: boolean;
}

export function startPlaceMarkers<Reader, Place extends string>(
  parts: Pick<RoleParts<Reader>, 'role' | 'targets' | 'openReader'>,
  markers: PlaceMarkers<Place>,
  config: Config,
  log: Log,
  everyMs = EVERY_MS,
): Worker {
  const pool = openPool(config, parts.role, { max: 1, durable: false });
  const of: Marking<Reader, Place> = {
    ...{ parts, markers, log, pool, closing: new AbortController() },
    ...{ said: new Map(), loops: new Map(), isKept: false },
  };
  const { closing, loops } = of;
  for (const place of markers.places) {
    loops.set(
      place,
      // a file system that hangs keeps a beat waiting
      startLoop(`marker of ${place}`, { everyMs, log, mayWait: true }, () => beat(of, place)),
    );
  }
  return {
    async close() {
      closing.abort();
      const ending = Promise.all([...loops.values()].map((loop) => loop.close()))
        .then(() => markers.close())
        .then(() => pool.end());
      ending.catch(() => {}); // an error is reported below if it comes in time
      // does not wait for a server that hangs
      await Promise.race([ending, sleep(ENDED_WITHIN_MS, undefined, { ref: false })]);
    },
  };
}

async function beat<Reader, Place extends string>(
  of: Marking<Reader, Place>,
  place: Place,
): Promise<void> {
  const { closing, loops } = of;
  const began = performance.now();
  const isDone = await publish(of, place).catch((error: unknown) => {
    if (closing.signal.aborted) return true;
    if (codeOf(error) !== 'BACKEND_UNREADABLE') throw error;
    // tried again at the next beat; the survey of unmanaged objects reports it to `status`
    say(of, place, UNKEPT, describeError(error));
    return true;
  });
  // a survey of very many subjects takes seconds, and others need the server too
  if (!isDone) loops.get(place)?.wakeIn(Math.max(AGAIN_MS, performance.now() - began));
}

/** Logs a sentence about a place if it is new. */
function say<Reader, Place extends string>(
  { parts, log, said }: Marking<Reader, Place>,
  place: Place,
  what: string,
  sentence: string,
): void {
  const key = `${place} ${what}`;
  if (said.get(key) !== sentence) log.error({ role: parts.role, place, sentence }, what);
  said.set(key, sentence);
}

/** Writes the marker if there is no doubt. Returns whether nothing is left to do before the next beat. */
async function publish<Reader, Place extends string>(
  of: Marking<Reader, Place>,
  place: Place,
): Promise<boolean> {
  const { parts, markers, pool, said } = of;
  const { role } = parts;
  const on = { role, place };
  const carrier = carrierOf(markers, place);
  const look = await store.lookAtPlace(pool, on, () => markers.read(place), carrier);
  const { doubt, next, publishing, text, seenAt } = look;
  noteMarker(on, look);
  if (doubt === undefined) {
    for (const what of [DOUBT, UNREAD, UNKEPT]) said.delete(`${place} ${what}`);
  } else {
    say(of, place, DOUBT, doubt.sentence);
    await store.writePlaceDoubt(pool, on, doubt, publishing);
    // if the realm is frozen, nothing is done
    if (doubt.older === 'database' || (await store.takeAway(pool, on, [])) === undefined)
      return true;
    if (!(await isAllTaken(of, place))) return false;
  }
  if (next === undefined) return false;
  if (!of.isKept) await store.keepPlaces(pool, role, markers.places);
  of.isKept = true;
  const isNew = seenAt === undefined || seenAt < next.at;
  if (!isNew && !look.isDoubted) return true;
  await store.beginPublishingPlace(pool, on, next.at);
  if (!(await markers.write(place, next.text, text))) return false;
  await store.endPublishingPlace(pool, on, next.at);
  return true;
}

/**
 * Takes away access that the place wrongly gives. Returns whether nothing is left of it and everything could be read.
 */
async function isAllTaken<Reader, Place extends string>(
  of: Marking<Reader, Place>,
  place: Place,
): Promise<boolean> {
  const { parts, pool } = of;
  const { steps, unreadable } = await lookAt(of, place);
  const left = await store.takeAway(pool, { role: parts.role, place }, steps);
  if (unreadable !== undefined) say(of, place, UNREAD, unreadable);
  return unreadable === undefined && left === 0;
}

async function lookAt<Reader, Place extends string>(
  { parts, markers, pool, closing }: Marking<Reader, Place>,
  place: Place,
): Promise<{ steps: Step[]; unreadable: string | undefined }> {
  const narrow = markers.only(place);
  const kinds = markers.kinds(place);
  const realm = realmOf(narrow);
  const reader = parts.openReader(narrow);
  const steps: Step[] = [];
  let unreadable: string | undefined;
  try {
    const uids = await readSubjects(pool);
    const throttle = startThrottle('prompt', uids.length, {
      closing: closing.signal,
      report: () => Promise.resolve(true),
    });
    for (let at = 0; at < uids.length; at += throttle.slice) {
      const slice = uids.slice(at, at + throttle.slice);
      const wanted = await withClient(pool, (client) => readWanted(client, parts.role, slice));
      const some = wanted.filter(({ kind }) => kinds.includes(kind));
      for (const found of await survey(parts.targets, some, realm, reader)) {
        steps.push(...found.steps.filter((step) => isGiven(step, place)));
        unreadable ??= found.unreadable[0]?.sentence;
      }
      await throttle.looked(slice.length);
    }
    return { steps, unreadable };
  } finally {
    await reader.close();
  }
}

/** A place as sentences name it, and what happens if it is the older copy. */
export function carrierOf<Place extends string>(
  { nameOf }: Pick<PlaceMarkers<Place>, 'nameOf'>,
  place: Place,
): Carrier {
  return { older: 'place', name: nameOf(place), todo: TODO };
}

/**
 * The time of the newest marker, whoever signed it. Undefined if no place has one. Throws BACKEND_UNREADABLE, also if
 * what a place has is not a marker.
 */
export async function readMarkedAt<Place extends string>(
  markers: PlaceMarkers<Place>,
): Promise<Date | undefined> {
  try {
    const times = markers.places.map(async (place) => {
      const text = await markers.read(place);
      const at = timeOfShortMarker(text ?? '');
      if (text === undefined || at !== undefined) return at;
      const cause = new Error('what is there is not a marker');
      throw new ChamberlainError(
        'BACKEND_UNREADABLE',
        `reading the marker of ${markers.nameOf(place)}`,
        { cause },
      );
    });
    return newestOf(await Promise.all(times));
  } finally {
    await markers.close();
  }
}

/** How long closing waits for work in progress. */
const ENDED_WITHIN_MS = 1000;
const DOUBT = 'the marker is in doubt';
const UNREAD = 'the doubt does not end until everything can be read';
const UNKEPT = 'the marker cannot be written';
const TODO =
  'access that it wrongly gives is being taken away, and nothing is given there until that is done';

function isGiven(step: Step, place: string): boolean {
  return takesAway(step) && placesOf(step.action).includes(place);
}
