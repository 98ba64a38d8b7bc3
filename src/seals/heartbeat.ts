/**
 * The heartbeat: what the directory role tells every login host, every few seconds, in `description` of
 * `cn=chamberlain,<base>`, signed as a seal is (src/seals/seal.ts). By it a login host knows that what it reads is
 * whole and of now.
 *
 * Each MariaDB server and each area of homes carries a short form of it: the same time, signed by the same key. The role
 * of the place copies it there from PostgreSQL. A place that shows an older one than it was given is an older copy of
 * itself; one that shows a newer one than PostgreSQL ever gave it proves that PostgreSQL is.
 */
import { z } from 'zod';
import { payloadOf, signPayload, type SealKey } from './seal.ts';
import { spanOf } from '../shared/time.ts';

const schema = z.strictObject({
  kind: z.literal('heartbeat'),
  realm: z.string(),
  /** when it was written, ISO 8601, later than any before it whatever the clock did: which of two is the newer */
  at: z.iso.datetime(),
  /** what the clock of PostgreSQL said then: how old it is */
  clock: z.iso.datetime(),
  /** how many people, and how many tools, must show a seal at least: those that were brought there and not deleted */
  people: z.int().min(0),
  tools: z.int().min(0),
  /**
   * uid and number: of these no seal counts that has a lower number. Whoever lost something within the last seven
   * days, and the dead: a host that never saw the newer seal takes no older one. What the directory is given
   * within the next two seconds is not named yet.
   */
  floors: z.array(z.tuple([z.int(), z.int()])),
});

export type Marker = z.infer<typeof schema>;

/** What stands in the directory. */
export function signMarker(marker: Marker, key: SealKey): string {
  return signPayload(JSON.stringify(marker), key);
}

/** Of a payload that was verified; undefined where it is none: of a person or tool, or of another version. */
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

/** What stands in a MariaDB server or in an area of homes. */
export function signShortMarker(of: { realm: string; at: Date }, key: SealKey): string {
  const marker = { kind: 'marker', realm: of.realm, at: of.at.toISOString() };
  return signPayload(JSON.stringify(marker), key);
}

/** The time of a short form, whoever has signed it; undefined where it is none. */
export function timeOfShortMarker(text: string): Date | undefined {
  try {
    return new Date(shortSchema.parse(JSON.parse(payloadOf(text) ?? '')).at);
  } catch {
    return undefined;
  }
}

/** The newest of these times; undefined where there is none. */
export function newestOf(times: readonly (Date | undefined)[]): Date | undefined {
  const known = times.flatMap((at) => at?.getTime() ?? []);
  return known.length === 0 ? undefined : new Date(Math.max(...known));
}

/** What a text says, whoever has signed it: for the role that writes it itself. */
export function parseMarker(text: string): Marker | undefined {
  const payload = payloadOf(text);
  return payload === undefined ? undefined : parseHeartbeat(payload);
}

/** So few may have been removed by hand since; and of many this share. */
const FEW_MISSING = 10;
const SHARE_MISSING = 0.05;

/**
 * Why a directory that shows so many people does not show them all, in a sentence without a full stop;
 * undefined where it does, or where a few are missing, which is drift. Access rules that hide entries
 * say so with no error, and to ask for a hidden entry by its name is answered as if it were not there.
 *
 * @param texts the marker's; without one nothing is known, and `markerDoubt` judges that
 */
export function missingPeople(seen: number, texts: readonly string[]): string | undefined {
  const told = Math.min(...texts.flatMap((text) => parseMarker(text)?.people ?? []));
  if (!Number.isFinite(told)) return undefined;
  if (told - seen <= Math.max(FEW_MISSING, told * SHARE_MISSING)) return undefined;
  return (
    `the directory shows ${seen} people, and was told that it has ${told}: ` +
    'see whether access rules hide them from our eyes; if they are gone, repair them by name'
  );
}

/** What our database knows of the marker; undefined where it knows none. */
export interface Publishing {
  /** the time of the marker that is being written, or was the last to be; recorded before it is written */
  publishingAt: Date | undefined;
  /** the time of the last marker that is known to be written; recorded afterwards */
  publishedAt: Date | undefined;
  /** when an admin accepted an older copy of the directory, and until it is caught up with */
  acceptedAt: Date | undefined;
}

/** Which of the two is an older copy of itself, and that in a sentence without a full stop. */
export interface MarkerDoubt {
  older: 'directory' | 'place' | 'database';
  /** by how many milliseconds; Infinity where the place shows no marker */
  byMs: number;
  sentence: string;
}

/** What carries a marker. */
export interface Carrier {
  older: 'directory' | 'place';
  /** as sentences begin with it */
  name: string;
  /** what is done where it is the older copy, without a full stop */
  todo: string;
}

const DIRECTORY: Carrier = {
  older: 'directory',
  name: 'the directory',
  todo: 'bring the newer one back, or run `chamberlain recover`',
};

/**
 * Whether what carries a marker (in the table: the place) or our database came back from a backup, by the marker that
 * both know.
 *
 * | marker in the place              | our database             | doubt                             |
 * | -------------------------------- | ------------------------ | --------------------------------- |
 * | any or none                      | has never told one       | none: it is the first, or adopted |
 * | one of after `publishingAt`         | else                     | our database is older             |
 * | any or none                      | accepts an older copy    | none                              |
 * | none, or one of before `publishedAt`  | else                     | the place is older                |
 * | from `publishedAt` to `publishingAt`     | any                      | none                              |
 *
 * The times are all by the clock of our database, so those of other machines may be wrong.
 *
 * @param seen the marker's `at`; undefined: there is none
 * @param before what the database knew before the place was read
 * @param after what it knew afterwards: another may have written a marker meanwhile
 */
export function markerDoubt(
  seen: Date | undefined,
  before: Publishing,
  after: Publishing,
  { older, name, todo }: Carrier = DIRECTORY,
): MarkerDoubt | undefined {
  if (after.publishingAt === undefined) return undefined;
  if (seen !== undefined && seen > after.publishingAt) {
    const byMs = seen.getTime() - after.publishingAt.getTime();
    return {
      older: 'database',
      byMs,
      sentence:
        `${name} was last told at ${seen.toISOString()}, but our database knows of nothing after ` +
        `${after.publishingAt.toISOString()}: it is an older copy, by ${spanOf(byMs)}; ` +
        'run `chamberlain recover`',
    };
  }
  const { publishedAt } = before;
  if (publishedAt === undefined || after.acceptedAt !== undefined) return undefined;
  if (seen !== undefined && seen >= publishedAt) return undefined;
  const shows = seen === undefined ? 'shows no marker' : `is as of ${seen.toISOString()}`;
  const byMs = seen === undefined ? Infinity : publishedAt.getTime() - seen.getTime();
  const by = seen === undefined ? '' : `, by ${spanOf(byMs)}`;
  return {
    older,
    byMs,
    sentence: `${name} ${shows}, but was told at ${publishedAt.toISOString()}: it is an older copy${by}; ${todo}`,
  };
}
