/** What the API shows of the realm's state, for callers with the right `all`. Pure. */
import * as z from 'zod';
import { LEAVING } from '../lifecycle/leaving-page.ts';
import { ROLE } from './subject-schemas.ts';

const TIME = z.iso.datetime();

export const SWEEP = z.object({
  id: z.string(),
  beganAt: TIME,
  endedAt: TIME.nullable(),
  state: z.string(),
  subjects: z.int(),
  drifted: z.int(),
  touched: z.int(),
  steps: z.int(),
  findings: z.int(),
  unreadable: z.int(),
  digest: z.string().nullable(),
  sentence: z.string().nullable(),
});

export const OPEN_ACCESS = z.object({
  person: z.string(),
  displayName: z.string().nullable(),
  reason: z.string(),
  portal: z.string().nullable(),
  since: TIME,
});

export const TO_APPROVE = z.object({
  number: z.string().describe('the number that Chamberlain has given the request'),
  id: z.string().describe('the `jti` of the request, by which it is approved or rejected'),
  kind: z.string(),
  account: z.string(),
  requestedBy: z.string(),
  portal: z.string(),
  since: TIME,
  why: z.string().describe('why it waits'),
  reason: z.string().nullable().describe('why it was sent'),
});

const BLOCKERS = {
  frozen: z
    .object({ frozenAt: TIME, frozenBy: z.string(), reason: z.string().nullable() })
    .nullable(),
  overdue: z.array(z.object({ move: z.string(), account: z.string(), since: TIME })),
  heldSweep: SWEEP.nullable(),
  sweepFault: z.string().nullable(),
  doubt: z.string().nullable(),
  places: z.array(
    z.object({
      ...{ role: z.string(), place: z.string(), older: z.string().nullable() },
      ...{ sentence: z.string().nullable(), publishedAt: TIME.nullable() },
    }),
  ),
  troubles: z.array(
    z.object({
      ...{ role: z.string(), place: z.string(), since: TIME, sentence: z.string() },
      stops: z.string(),
    }),
  ),
  lastSweep: z.object({ endedAt: TIME.nullable(), state: z.string() }).nullable(),
  leaders: z.array(
    z.object({
      ...{ work: z.string(), pid: z.int(), address: z.string().nullable(), since: TIME },
      ...{ renewedAt: TIME, hangs: z.boolean() },
    }),
  ),
  absent: z.object({ lately: z.array(z.string()), long: z.array(z.string()) }),
  holders: z.array(
    z.object({
      ...{ lock: z.string(), locks: z.int(), user: z.string(), pid: z.int() },
      ...{ address: z.string().nullable(), since: TIME.nullable(), isOwn: z.boolean() },
    }),
  ),
  configuration: z
    .object({
      digest: z.string().describe('of what a reload can change, as the API uses it'),
      processes: z.array(
        z.object({
          ...{ works: z.array(z.string()), machine: z.string(), pid: z.int() },
          ...{ digest: z.string(), since: TIME },
          why: z.string().nullable().describe('why it uses another one; null: it does not'),
        }),
      ),
    })
    .describe('which configuration each process uses'),
};

const BEHIND = ROLE.extend({ subject: z.int(), account: z.string() });

const WORK = {
  numbers: z.array(z.object({ kind: z.string(), size: z.int(), left: z.int() })),
  totals: z.array(z.object({ role: z.string(), state: z.string(), subjects: z.int() })),
  behind: z.array(BEHIND).describe('the first hundred that are not as wanted'),
  leaving: z.object({
    totals: z.array(
      z.object({
        ...{ kind: z.string(), state: z.string(), subjects: z.int() },
        ...{ dated: z.int(), toDelete: z.int() },
      }),
    ),
    movers: z.array(
      z.object({
        ...{ uid: z.int(), kind: z.string(), account: z.string(), state: z.string() },
        leaving: LEAVING,
      }),
    ),
    count: z.int(),
    owed: z.array(BEHIND),
    orphaned: z.int(),
    held: z.array(
      z.object({
        ...{ account: z.string(), state: z.string(), by: z.string(), reason: z.string() },
        until: z.string(),
      }),
    ),
  }),
  portals: z.array(
    z.object({
      ...{ portal: z.string(), last: z.string(), outstanding: z.string() },
      ...{ since: TIME.nullable(), wrong: z.string().nullable() },
    }),
  ),
  junk: z.array(
    z.object({
      ...{ portal: z.string(), code: z.string(), count: z.number() },
      ...{ firstAt: TIME, lastAt: TIME },
    }),
  ),
  oldestRequest: z
    .object({
      ...{ id: z.string().nullable(), portal: z.string().nullable() },
      ...{ kind: z.string().nullable(), at: TIME },
    })
    .nullable(),
  waitingForApproval: z.array(OPEN_ACCESS),
  toApprove: z.array(TO_APPROVE),
  unmanaged: z.array(z.object({ kind: z.string(), count: z.int() })),
};

export const STATUS = z
  .object({ ...BLOCKERS, ...WORK })
  .describe('as `chamberlain status --json`, as far as PostgreSQL knows it');
