/** A line of `erasures.log`: who was erased by law, and by which approved request. */
import { z } from 'zod';

const ERASED = z.object({
  uid: z.int(),
  account: z.string(),
  erasure: z.object({
    ...{ portal: z.string(), request: z.uuid(), requestedBy: z.string(), approvedBy: z.string() },
    approvedAt: z.iso.datetime({ offset: true }),
  }),
});

export type ErasedPerson = z.infer<typeof ERASED>;
/** The approved request by which a person is erased, as the database has noted it; the time as ISO 8601. */
export type Erasure = ErasedPerson['erasure'];

/** A list of them, as a role reports it; undefined where it is none. */
export function parseErasedPeople(list: unknown): ErasedPerson[] | undefined {
  return z.array(ERASED).safeParse(list).data;
}

/** Throws where it is no such line. */
export function parseErased(line: string): ErasedPerson {
  return ERASED.parse(JSON.parse(line));
}
