/** What the API shows of `explain`. Pure. */
import * as z from 'zod';
import { LEAVING, ROLE } from './subject-schemas.ts';

const TIME = z.iso.datetime();

const KEY = z.object({
  fingerprint: z.string(),
  type: z.string(),
  label: z.string(),
  options: z.array(z.string()),
  addedAt: TIME,
  expiresAt: TIME.nullable(),
  removedAt: TIME.nullable(),
  stops: z.array(z.string()).describe('why it gives no access'),
});

const WAY = z.object({
  path: z.array(z.string()).describe('accounts, in the order in which one becomes the next'),
  since: z.string(),
  stops: z.array(z.string()).describe('empty: the way is open'),
});

const SUBJECT = z.object({
  uid: z.int(),
  kind: z.enum(['person', 'tool']),
  account: z.string(),
  state: z.string(),
  since: TIME,
  stops: z.array(z.string()).describe('what stops all access through it'),
  dns: z.array(z.string()),
  title: z.string().optional(),
  displayName: z.string().optional(),
  email: z.string().optional(),
  mailVerifiedAt: TIME.nullable().optional(),
  maintainers: z.array(z.string()).optional(),
  realmMember: z.object({ since: TIME }).nullable().optional(),
  accessRevoked: z.object({ at: TIME, by: z.string() }).optional(),
  keys: z.array(KEY).optional(),
  databaseUser: z.string(),
  credentials: z
    .object({
      wantedEpoch: z.int(),
      recordedEpoch: z.int().nullable(),
      recordedAt: TIME.nullable(),
      previousUntil: TIME.nullable(),
      lockedOut: z.boolean(),
    })
    .nullable(),
  leaving: LEAVING,
  access: z.array(
    z.object({
      state: z.string(),
      openedAt: TIME,
      reason: z.string(),
      decidedAt: TIME.nullable(),
      decidedBy: z.string().nullable(),
      decisionReason: z.string().nullable(),
    }),
  ),
  acts: z.int().describe('rows of the audit about it; `history` has the first and the latest'),
  history: z.array(
    z.object({
      at: TIME,
      kind: z.string().nullable(),
      requestedBy: z.string().nullable(),
      approvedBy: z.string().nullable(),
      portal: z.string().nullable(),
      fields: z.array(z.string()),
      verdict: z.string(),
      code: z.string().nullable(),
    }),
  ),
  entrants: z
    .array(
      z.object({
        person: z.string(),
        keys: z.array(KEY),
        open: z.boolean(),
        ways: z.array(WAY),
      }),
    )
    .optional()
    .describe('of a tool: who can become it, or could'),
  becomes: z.array(WAY.extend({ account: z.string() })),
  roles: z.array(ROLE).describe('how far each role is'),
  seen: z
    .object({
      sweptAt: TIME.nullable(),
      drifts: z.array(
        z.object({
          role: z.string(),
          target: z.string(),
          object: z.string(),
          what: z.string().describe('the change, or the code of a finding'),
          sentence: z.string().nullable(),
          since: TIME,
        }),
      ),
      survey: z
        .object({
          id: z.uuid(),
          endedAt: TIME.nullable(),
          items: z.array(z.object({ list: z.string(), item: z.record(z.string(), z.unknown()) })),
        })
        .nullable()
        .describe('the newest survey that was requested of it, and what that found; null: none'),
    })
    .describe('what the roles last saw: at the last sweep, and at a survey'),
});

export const EXPLANATION = z
  .object({ word: z.string(), subjects: z.array(SUBJECT) })
  .describe('all that PostgreSQL knows of a person or a tool');
