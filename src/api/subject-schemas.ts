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
