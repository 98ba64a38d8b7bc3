/** The state of the realm: what is applied or behind, sweeps, what waits for an admin, unmanaged things. */
import * as z from 'zod';
import { withClient } from '../../database/connection.ts';
import { isAtWork, readLeaders } from '../../database/locks.ts';
import { readOpenAccessRequests, readWaitingRequests } from '../../database/overview.ts';
import { readKnownBlockers, readWork } from '../../database/realm-status.ts';
import { readLastSweeps, readSweeps, type Sweep } from '../../drift/sweeps-table.ts';
import {
  readLooks,
  readUnmanagedAfter,
  type UnmanagedPlace,
} from '../../unmanaged/unmanaged-table.ts';
import { UNMANAGED_KINDS } from '../../unmanaged/unmanaged.ts';
import { unseenOf } from '../../unmanaged/unseen.ts';
import { logReads, personIn } from '../api-reads-table.ts';
import { makePage, PAGE_QUERY, pageOf, readCursor } from '../page.ts';
import { plain } from '../../shared/plain.ts';
import { route } from '../route.ts';
import { OPEN_ACCESS, STATUS, SWEEP, TO_APPROVE } from '../status-schemas.ts';

const TIME = z.iso.datetime();

const WAITING = z
  .object({
    waiting: z.array(OPEN_ACCESS).describe('requests for access'),
    toApprove: z.array(TO_APPROVE).describe('requests that another admin must approve'),
  })
  .describe('what waits for an admin, the oldest first');

const SWEEPS = z
  .object({
    sweeps: z.array(SWEEP).describe('the newest first'),
    held: SWEEP.nullable().describe('the one that an admin must release'),
    nextAt: TIME.nullable().describe('null: there was none yet'),
    running: z.boolean().describe('whether a process runs sweeps'),
  })
  .describe('the last sweeps');

const UNMANAGED = pageOf(
  z.object({
    role: z.string(),
    place: z.string(),
    object: z.string(),
    kind: z.enum(UNMANAGED_KINDS),
    name: z.string().nullable(),
    number: z.int().nullable(),
    madeBy: z.string().nullable(),
    madeAt: TIME.nullable(),
    since: TIME.describe('first seen'),
    goneAt: TIME.nullable(),
    ignoredAt: TIME.nullable(),
    ignoredBy: z.string().nullable(),
    reason: z.string().nullable(),
  }),
  'things in managed places that Chamberlain did not make',
)
  .extend({
    unseen: z
      .array(z.object({ role: z.string(), place: z.string(), lookedAt: TIME.nullable() }))
      .describe('places that were not looked at for two minutes: the list may lack what is there'),
  })
  .describe('things in managed places that Chamberlain did not make');

// PostgreSQL takes no NUL
const PART = z.string().regex(/^\P{C}*$/u);
const PLACE = z.tuple([PART, PART, PART]);

const SHOWN_SWEEPS = 10;

export const STATUS_ROUTES = [
  route({
    method: 'GET',
    path: '/v1/waiting',
    summary: 'what waits for an admin',
    right: 'all',
    replies: { 200: WAITING },
  }).handle(async ({ pool }, { caller }) =>
    withClient(pool, async (client) => {
      const waiting = await readOpenAccessRequests(client);
      const toApprove = await readWaitingRequests(client);
      const whose = [
        ...waiting.map(({ person }) => person),
        ...toApprove.flatMap((each) => personIn(each) ?? []),
      ];
      await logReads(client, caller, whose, ['reasons']);
      return { status: 200, body: plain({ waiting, toApprove }) };
    }),
  ),
  route({
    method: 'GET',
    path: '/v1/status',
    summary: 'what is applied, behind or failing, and what blocks the work',
    description:
      'What only Redis knows is missing: requests that have no verdict yet, and whether Redis answers.',
    right: 'all',
    replies: { 200: STATUS },
  }).handle(async ({ config, pool }, { caller }) =>
    withClient(pool, async (client) => {
      const blockers = await readKnownBlockers(client, config);
      const work = await readWork(client);
      const whose = [
        ...work.leaving.movers.map(({ account }) => account),
        ...work.leaving.held.map(({ account }) => account),
        ...work.waitingForApproval.map(({ person }) => person),
        ...work.toApprove.flatMap((each) => personIn(each) ?? []),
      ];
      await logReads(client, caller, whose, ['reasons']);
      return { status: 200, body: plain({ ...blockers, ...work }) };
    }),
  ),
  route({
    method: 'GET',
    path: '/v1/sweep',
    summary: 'the last sweeps, when the next one comes, and whether one is held',
    right: 'all',
    replies: { 200: SWEEPS },
  }).handle(async ({ config, pool }) =>
    withClient(pool, async (client) => {
      const sweeps = await readSweeps(client, SHOWN_SWEEPS);
      const { held = null } = await readLastSweeps(client);
      const running = isAtWork(await readLeaders(client), 'sweep');
      const nextAt = nextOf(sweeps[0], config.sweep.everyMinutes);
      return { status: 200, body: plain({ sweeps, held, nextAt, running }) };
    }),
  ),
  route({
    method: 'GET',
    path: '/v1/unmanaged',
    summary: 'things in managed places, or with managed numbers, that Chamberlain did not make',
    right: 'all',
    query: z.strictObject(PAGE_QUERY),
    replies: { 200: UNMANAGED },
  }).handle(async (api, { query: { limit, after } }) => {
    const place = readCursor(after, PLACE);
    return await withClient(api.pool, async (client) => {
      const found = await readUnmanagedAfter(client, place, limit + 1);
      const page = makePage(found, limit, {
        render: plain,
        keyOf: ({ role, place: of, hash }): UnmanagedPlace => [role, of, hash],
      });
      const unseen = unseenOf(api.config, await readLooks(client), api.now());
      return { status: 200, body: { ...page, unseen: plain(unseen) } };
    });
  }),
];

/** When the next sweep is due. One that was cut is repeated at once. */
function nextOf(last: Sweep | undefined, everyMinutes: number): Date | null {
  if (last === undefined) return null;
  if (last.state === 'cut') return last.endedAt;
  return new Date(last.beganAt.getTime() + everyMinutes * 60_000);
}
