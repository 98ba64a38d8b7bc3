/**
 * The marker: what the directory role tells every login host, every few seconds, in `description` of
 * `cn=chamberlain,<base>`, as JSON. By it a login host knows that what it reads is whole and of now.
 */
import { z } from 'zod';

const schema = z.object({
  /** when it was written, ISO 8601 */
  at: z.iso.datetime(),
  /** how many people the directory must show at least: those that were brought there and not deleted */
  people: z.int().min(0),
  /** how many of them must show at least one key */
  keyed: z.int().min(0),
  /** uids of people from whom access or a key was taken, but not yet in the directory */
  overdue: z.array(z.int()),
});

export type Marker = z.infer<typeof schema>;

export function formatMarker(marker: Marker): string {
  return JSON.stringify(marker);
}

/** Undefined where it is none: the directory role has never written it, or writes another version. */
export function parseMarker(text: string): Marker | undefined {
  try {
    return schema.parse(JSON.parse(text));
  } catch {
    return undefined;
  }
}
