/** What the API shows of people and tools to callers with the right `all`. Pure. */
import * as z from 'zod';

const TIME = z.iso.datetime();

export const KEY = z.object({
  type: z.string().nullable().describe('null: erased'),
  fingerprint: z.string().describe('as ssh-keygen -l prints it'),
  label: z.string(),
  addedAt: TIME,
  expiresAt: TIME.nullable(),
});

export const ACCESS = z.object({
  state: z.enum(['open', 'granted', 'refused']),
  reason: z.string(),
  portal: z.string().nullable(),
  openedAt: TIME,
  decidedAt: TIME.nullable(),
  decidedBy: z.string().nullable(),
  decisionReason: z.string().nullable(),
});

export const ROLE = z.object({
  role: z.string(),
  state: z.enum(['applied', 'due', 'waiting', 'failing', 'parked']),
  wanted: z.string(),
  applied: z.string(),
  code: z.string().nullable(),
  sentence: z.string().nullable(),
  attempts: z.int(),
  nextTryAt: TIME,
  since: TIME,
});

const ARCHIVE = z.object({
  role: z.string(),
  made: z
    .object({ at: TIME, path: z.string(), bytes: z.number(), manifestSha256: z.string() })
    .nullable(),
  progress: z
    .object({ act: z.string(), done: z.number(), total: z.number().nullable(), at: TIME })
    .nullable(),
});

/** As `chamberlain status SUBJECT --json` shows it. */
export const LEAVING = z.object({
  hold: z.object({ by: z.string(), at: TIME, reason: z.string(), until: z.string() }).nullable(),
  closed: z
    .object({
      at: TIME,
      by: z.string().nullable(),
      reason: z.string().nullable(),
      until: TIME.nullable(),
    })
    .nullable()
    .describe('since when access is closed, by whom, and why'),
  deleteAfter: TIME.nullable(),
  erasing: z.object({ at: TIME, request: z.string() }).nullable(),
  orphanedAt: TIME.nullable(),
  waiting: z.array(
    z.object({
      ...{ request: z.string(), kind: z.string(), requestedBy: z.string(), at: TIME },
      why: z.string(),
    }),
  ),
  approved: z
    .object({ kind: z.string(), requestedBy: z.string(), by: z.string(), at: TIME })
    .nullable(),
  archivals: z.array(
    z.object({
      archival: z.int(),
      beganAt: TIME,
      leftAt: TIME.nullable(),
      keepUntil: TIME.nullable(),
      expiredAt: TIME.nullable(),
      returningAt: TIME.nullable(),
      backAt: TIME.nullable(),
      erasure: z
        .object({ request: z.string(), requestedBy: z.string(), approvedBy: z.string() })
        .nullable(),
      archives: z.array(ARCHIVE),
    }),
  ),
  next: z
    .object({ move: z.string(), sentence: z.string(), at: z.string().nullable() })
    .nullable()
    .describe('what happens next without a request'),
});
