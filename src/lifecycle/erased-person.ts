/** A line of `erasures.log`: a person who was erased as the law requires, and the approved request for it. */
import * as z from 'zod';

const ERASED = z.object({
  uid: z.int(),
  account: z.string(),
  erasure: z.object({
    ...{ portal: z.string(), request: z.uuid(), requestedBy: z.string(), approvedBy: z.string() },
    approvedAt: z.iso.datetime({ offset: true }),
  }),
});

export type ErasedPerson = z.infer<typeof ERASED>;
/** The approved request to erase a person, as the database recorded it. Times are in ISO 8601. */
export type Erasure = ErasedPerson['erasure'];

/** Parses the list of erased people that a role reports. Undefined if it is not such a list. */
export function parseErasedPeople(list: unknown): ErasedPerson[] | undefined {
  return z.array(ERASED).safeParse(list).data;
}

/** Parses one line. Throws if it is not such a line. */
export function parseErased(line: string): ErasedPerson {
  return ERASED.parse(JSON.parse(line));
}
