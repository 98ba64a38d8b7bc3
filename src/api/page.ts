/** Lists in pages: a cursor says after which item the next page begins. It is opaque to callers. Pure. */
import * as z from 'zod';
import { Problem } from './problem.ts';

/** The part of a query that every list has. */
export const PAGE_QUERY = {
  limit: z.coerce.number().int().min(1).max(100).default(50).describe('items of a page'),
  after: z.string().max(500).optional().describe('`next` of the page before'),
};

/** The schema of a page. */
export const pageOf = <T extends z.ZodType>(item: T, description: string) =>
  z
    .object({
      items: z.array(item),
      next: z.string().nullable().describe('`after` of the next page; null: there is none'),
    })
    .describe(description);

/** What a cursor holds; undefined for the first page. Throws a problem for a cursor that no page has named. */
export function readCursor<T extends z.ZodType>(
  after: string | undefined,
  key: T,
): z.output<T> | undefined {
  if (after === undefined) return undefined;
  try {
    return key.parse(JSON.parse(Buffer.from(after, 'base64url').toString()));
  } catch {
    throw new Problem(400, 'CALL_INVALID', '`after` is not the `next` of a page.');
  }
}

/**
 * Makes a page.
 *
 * @param rows one more than the limit, if there are so many
 * @param keyOf what the cursor after a row holds
 */
export function makePage<R, E>(
  rows: readonly R[],
  limit: number,
  { render, keyOf }: { render: (row: R) => E; keyOf: (row: R) => unknown },
): { items: E[]; next: string | null } {
  const shown = rows.slice(0, limit);
  const last = shown.at(-1);
  const next = rows.length <= limit || last === undefined ? null : cursorOf(keyOf(last));
  return { items: shown.map(render), next };
}

/** The cursor after a row. */
export const cursorOf = (key: unknown): string =>
  Buffer.from(JSON.stringify(key)).toString('base64url');

/** What cursors hold: the name of the last item, or its number. */
export const NAME_KEY = z
  .string()
  .max(255)
  .regex(/^[a-z0-9._-]+$/u);
export const NUMBER_KEY = z.string().regex(/^[1-9][0-9]{0,17}$/u);

/** A text that somebody looks for: PostgreSQL takes no NUL, and names have no control characters. */
export const SEARCH = z
  .string()
  .min(1)
  .max(100)
  .regex(/^\P{C}+$/u);
