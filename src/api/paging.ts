/** Pages of lists: what a caller may say of them, and how they are answered. Pure. */
import * as z from 'zod';

/** In one page. */
const MOST_ITEMS = 100;

export const LIMIT = z.coerce
  .number()
  .int()
  .min(1)
  .max(MOST_ITEMS)
  .default(MOST_ITEMS)
  .describe('how many items');

const AFTER = '`next` of the page before; without it, the first page';
/** The name of the last item of a page. */
export const AFTER_NAME = z
  .string()
  .max(255)
  .regex(/^[a-z0-9._-]+$/u)
  .optional()
  .describe(AFTER);
/** The number of the last item of a page. */
export const AFTER_NUMBER = z
  .string()
  .regex(/^[1-9][0-9]{0,17}$/u)
  .optional()
  .describe(AFTER);
/** A cursor whose form is nobody's business. */
export const AFTER_OPAQUE = z
  .string()
  .max(4096)
  .regex(/^[A-Za-z0-9_-]+$/u)
  .optional()
  .describe(AFTER);

/** A text that somebody looks for: PostgreSQL takes no NUL, and names have no control characters. */
export const SEARCH = z
  .string()
  .min(1)
  .max(100)
  .regex(/^\P{C}+$/u);

export const pageOf = <Item extends z.ZodType>(item: Item) =>
  z.object({
    items: z.array(item),
    next: z.string().nullable().describe('for `after`; null: this is the last page'),
  });

/** A page from one row more than it may have. */
export function cutPage<Row>(
  rows: readonly Row[],
  limit: number,
  cursorOf: (row: Row) => string,
): { rows: Row[]; next: string | null } {
  const kept = rows.slice(0, limit);
  const last = kept.at(-1);
  return { rows: kept, next: rows.length > limit && last !== undefined ? cursorOf(last) : null };
}
