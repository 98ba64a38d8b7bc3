/** How a person or a tool leaves, as `chamberlain status SUBJECT --json` and the API show it. Pure. */
import * as z from 'zod';
import type { Role } from '../reconcile/wanted.ts';

const TIME = z.iso.datetime();

/** The document shows a text; the code knows which ones there are. */
const oneOf = <T extends string>() => z.string() as unknown as z.ZodType<T>;

const ARCHIVE = z.object({
  role: oneOf<Role>(),
  /** null: not yet */
  made: z
    .object({ at: TIME, path: z.string(), bytes: z.number(), manifestSha256: z.string() })
    .nullable(),
  /** what the role is doing; null: nothing at the moment */
  progress: z
    .object({ act: z.string(), done: z.number(), total: z.number().nullable(), at: TIME })
    .nullable(),
});

const ARCHIVAL = z.object({
  archival: z.int(),
  beganAt: TIME,
  /** both archives were verified by reading them back, so home and databases may be destroyed */
  leftAt: TIME.nullable(),
  keepUntil: TIME.nullable(),
  /** the archives were kept long enough */
  expiredAt: TIME.nullable(),
  returningAt: TIME.nullable(),
  backAt: TIME.nullable(),
  /** the approved request by which everything was destroyed without an archive; null: the subject was archived */
  erasure: z
    .object({ request: z.string(), requestedBy: z.string(), approvedBy: z.string() })
    .nullable(),
  archives: z.array(ARCHIVE),
});

const NEXT = z.object({
  move: oneOf<
    'held' | 'archive' | 'reinstate' | 'delete' | 'erase' | 'open' | 'remove archives' | 'none'
  >(),
  /** for people to read */
  sentence: z.string(),
  /** null: it happens after what it waits for, or not without a request */
  at: z.string().nullable(),
});

export const LEAVING = z.object({
  /** null: there is no hold that has not ended */
  hold: z.object({ by: z.string(), at: TIME, reason: z.string(), until: z.string() }).nullable(),
  /** null: access is open, or this is no longer known */
  closed: z
    .object({
      ...{ at: TIME, by: z.string().nullable(), reason: z.string().nullable() },
      until: TIME.nullable(),
    })
    .nullable()
    .describe('since when access is closed, by whom, and why'),
  /** archived on or after this time */
  deleteAfter: TIME.nullable(),
  /** an approved erasure: when it begins, and its request; null: there is none, or it has begun */
  erasing: z.object({ at: TIME, request: z.string() }).nullable(),
  /** for a tool: since when it has no maintainer who may log in, neither directly nor through other tools */
  orphanedAt: TIME.nullable(),
  /** requests about the subject that wait for an admin's approval */
  waiting: z.array(
    z.object({
      ...{ request: z.string(), kind: z.string(), requestedBy: z.string(), at: TIME },
      why: z.string(),
    }),
  ),
  /** the approved request that closed its access or deletes it; null: no approval was needed */
  approved: z
    .object({ kind: z.string(), requestedBy: z.string(), by: z.string(), at: TIME })
    .nullable(),
  /** the oldest first */
  archivals: z.array(ARCHIVAL),
  /** null: the subject is active */
  next: NEXT.nullable().describe('what happens next without a request'),
});

export type LeavingPage = z.output<typeof LEAVING>;
/** One archiving of a subject. */
export type ArchivalPage = z.output<typeof ARCHIVAL>;
/** The archive of one role, and its progress. */
export type ArchivePage = z.output<typeof ARCHIVE>;
export type NextMove = z.output<typeof NEXT>;
