/**
 * The heartbeat: what the directory role publishes for every login host, every few seconds, in `description` of
 * `cn=chamberlain,<base>`. It is signed like a seal (src/seals/seal.ts). It tells a login host that the directory is
 * complete and up to date.
 *
 * Each MariaDB server and each area of homes carries a short form of it, the marker: the same time, signed with the
 * same key. The role of the place copies it there from PostgreSQL. A place that shows an older marker than it was given
 * is an older copy of itself. A place that shows a newer marker than PostgreSQL ever gave it proves that PostgreSQL is
 * an older copy.
 */
import * as z from 'zod/mini';
import { payloadOf, signPayload, type SealKey } from './seal.ts';
import { spanOf } from '../shared/time.ts';

const schema = z.strictObject({
  kind: z.literal('heartbeat'),
  realm: z.string(),
  /**
   * when it was written, ISO 8601. It is later than any before, whatever the clock did, so it shows which of two is
   * newer
   */
  at: z.iso.datetime(),
  /** the time by the clock of PostgreSQL, which shows how old it is */
  clock: z.iso.datetime(),
  /**
   * how many people and tools must have a seal at least: those that the directory role made and that are not deleted
   */
  people: z.int().check(z.minimum(0)),
  tools: z.int().check(z.minimum(0)),
  /**
   * uid and number: for these subjects, a seal with a lower number does not count. They are the subjects that lost
   * access within the last seven days or were deleted. So a host that never saw the newer seal does not accept an older
   * one. A change that the directory gets within the next two seconds is not listed yet.
   */
  floors: z.array(z.tuple([z.int(), z.int()])),
});

export type Marker = z.infer<typeof schema>;

/** The text in the directory. */
export function signMarker(marker: Marker, key: SealKey): string {
  return signPayload(JSON.stringify(marker), key);
}

/** Parses a verified payload. Undefined if it is not a heartbeat, but a person or a tool, or has another version. */
export function parseHeartbeat(payload: string): Marker | undefined {
  try {
    return schema.parse(JSON.parse(payload));
  } catch {
    return undefined;
  }
}

const shortSchema = z.strictObject({
  kind: z.literal('marker'),
  realm: z.string(),
  at: z.iso.datetime(),
});

/** The text in a MariaDB server or in an area of homes. */
export function signShortMarker(of: { realm: string; at: Date }, key: SealKey): string {
  const marker = { kind: 'marker', realm: of.realm, at: of.at.toISOString() };
  return signPayload(JSON.stringify(marker), key);
}

/** The time of a short form, whoever signed it. Undefined if the text is not one. */
export function timeOfShortMarker(text: string): Date | undefined {
  try {
    return new Date(shortSchema.parse(JSON.parse(payloadOf(text) ?? '')).at);
  } catch {
    return undefined;
  }
}

/** The newest of these times. Undefined if there is none. */
export function newestOf(times: readonly (Date | undefined)[]): Date | undefined {
  const known = times.flatMap((at) => at?.getTime() ?? []);
  return known.length === 0 ? undefined : new Date(Math.max(...known));
}

/** Parses a text, whoever signed it: for the role that writes it itself. */
export function parseMarker(text: string): Marker | undefined {
  const payload = payloadOf(text);
  return payload === undefined ? undefined : parseHeartbeat(payload);
}

/**
 * So many people may be missing without a doubt, because somebody removed them by hand; or this share, if that is more.
 */
const FEW_MISSING = 10;
const SHARE_MISSING = 0.05;

/**
 * Says, in a sentence without a full stop, that a directory with so many people does not show them all. Undefined if it
 * does, or if only a few are missing, which is drift. Access rules that hide entries cause no error: a search for a
 * hidden entry by its name is answered as if the entry did not exist.
 *
 * @param texts the heartbeat's; without one nothing is known, and `markerDoubt` judges that
 */
export function missingPeople(seen: number, texts: readonly string[]): string | undefined {
  const published = Math.min(...texts.flatMap((text) => parseMarker(text)?.people ?? []));
  if (!Number.isFinite(published)) return undefined;
  if (published - seen <= Math.max(FEW_MISSING, published * SHARE_MISSING)) return undefined;
  return (
    `the directory shows ${seen} people, but its heartbeat says ${published}: ` +
    'check whether access rules hide them from the reader account; if they are gone, run `chamberlain repair SUBJECT…` with their names'
  );
}

/** What our database knows about the heartbeat or the marker. Undefined if it knows none. */
export interface Publishing {
  /** the time of the one that is being written, or was written last; recorded before the writing */
  publishingAt: Date | undefined;
  /** the time of the last one that is known to be written; recorded after the writing */
  publishedAt: Date | undefined;
  /** when an admin accepted an older copy of the directory; set until the directory has caught up */
  acceptedAt: Date | undefined;
}

/** Which side is an older copy of itself, and a sentence about it without a full stop. */
export interface MarkerDoubt {
  older: 'directory' | 'place' | 'database';
  /** by how many milliseconds; Infinity if the place shows no marker */
  byMs: number;
  sentence: string;
}

/** The directory or place that carries a heartbeat or marker. */
export interface Carrier {
  older: 'directory' | 'place';
  /** its name at the beginning of a sentence */
  name: string;
  /** what to do, or what happens, if it is the older copy; without a full stop */
  todo: string;
}

const DIRECTORY: Carrier = {
  older: 'directory',
  name: 'the directory',
  todo: 'restore the newer one, or run `chamberlain recover`',
};

/**
 * Whether the place (the directory, a server or an area of homes) or our database was restored from a backup. Both know
 * the marker, so their times are compared.
 *
 * | marker in the place                  | our database          | doubt                             |
 * | ------------------------------------ | --------------------- | --------------------------------- |
 * | any or none                          | never published one   | none: it is the first, or adopted |
 * | later than `publishingAt`            | otherwise             | our database is older             |
 * | any or none                          | accepts an older copy | none                              |
 * | none, or earlier than `publishedAt`  | otherwise             | the place is older                |
 * | from `publishedAt` to `publishingAt` | any                   | none                              |
 *
 * All times are by the clock of our database, so the clocks of other machines may be wrong.
 *
 * @param seen the marker's `at`; undefined: there is no marker
 * @param before what the database knew before the place was read
 * @param after what it knew afterwards, because another process may have written a marker meanwhile
 */
export function markerDoubt(
  seen: Date | undefined,
  before: Publishing,
  after: Publishing,
  { older, name, todo }: Carrier = DIRECTORY,
): MarkerDoubt | undefined {
  if (after.publishingAt === undefined) return undefined;
  const noun = older === 'directory' ? 'heartbeat' : 'marker';
  if (seen !== undefined && seen > after.publishingAt) {
    const byMs = seen.getTime() - after.publishingAt.getTime();
    return {
      older: 'database',
      byMs,
      sentence:
        `${name} has the ${noun} of ${seen.toISOString()}, but PostgreSQL knows none after ` +
        `${after.publishingAt.toISOString()}: PostgreSQL is an older copy, by ${spanOf(byMs)}; ` +
        'run `chamberlain recover`',
    };
  }
  const { publishedAt } = before;
  if (publishedAt === undefined || after.acceptedAt !== undefined) return undefined;
  if (seen !== undefined && seen >= publishedAt) return undefined;
  const shows = seen === undefined ? `has no ${noun}` : `has the ${noun} of ${seen.toISOString()}`;
  const byMs = seen === undefined ? Infinity : publishedAt.getTime() - seen.getTime();
  const by = seen === undefined ? '' : `, by ${spanOf(byMs)}`;
  return {
    older,
    byMs,
    sentence: `${name} ${shows}, but the last one was published at ${publishedAt.toISOString()}: ${name} is an older copy${by}; ${todo}`,
  };
}
