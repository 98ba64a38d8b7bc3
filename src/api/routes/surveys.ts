/** Surveys and repairs that admins have requested: what `survey` and `plan` show, as the roles saw it then. */
import * as z from 'zod';
import { type Client, withClient } from '../../database/connection.ts';
import { KEPT_LISTS } from '../../drift/kept-surveys-table.ts';
import { plain } from '../../shared/plain.ts';
import { logReads, type ReadKind } from '../api-reads-table.ts';
import { makePage, PAGE_QUERY, pageOf, readCursor } from '../page.ts';
import { notFound } from '../problem.ts';
import type { Caller } from '../rights.ts';
import { route } from '../route.ts';
import { type ItemRow, readItems, readSurvey, readSurveys } from '../surveys-queries.ts';

const TIME = z.iso.datetime();

const SURVEY = z
  .object({
    id: z.uuid().describe('of its request'),
    kind: z.enum(['survey.run', 'repair.run']),
    by: z.string().describe('the admin who has requested it'),
    at: TIME,
    subjects: z.array(z.int()).nullable().describe('their numbers; null: everything'),
    role: z.string().nullable().describe('null: each role was asked'),
    target: z.string().nullable().describe('null: every target was looked at'),
    expected: z.string().nullable().describe('of a repair: the digest that was given'),
    state: z.enum(['asked', 'running', 'done']),
    endedAt: TIME.nullable(),
    digest: z.string().nullable().describe('of the plan: give it to repair.run'),
    summary: z
      .record(z.string(), z.unknown())
      .nullable()
      .describe('`totals` and `groups`, as `survey --json` shows them; of a repair its `outcome`'),
  })
  .describe('a survey, or a repair, that an admin has requested');

const ITEM = z.object({
  list: z.enum(KEPT_LISTS),
  item: z
    .record(z.string(), z.unknown())
    .describe('as in `plan --json`, without `action`; of a repair, `parts` with their outcome'),
});

const ID = z.object({ id: z.uuid() });
const ID_KEY = z.uuid();
const ITEM_KEY = z.tuple([z.enum(KEPT_LISTS), z.int().min(0).max(2_147_483_647)]);

export const SURVEY_ROUTES = [
  route({
    method: 'GET',
    path: '/v1/surveys',
    summary: 'the surveys and repairs that admins have requested, the newest first',
    right: 'all',
    query: z.strictObject(PAGE_QUERY),
    replies: { 200: pageOf(SURVEY, 'a page of surveys') },
  }).handle(async ({ pool }, { query: { limit, after } }) => {
    const page = { before: readCursor(after, ID_KEY), limit: limit + 1 };
    const rows = await withClient(pool, (client) => readSurveys(client, page));
    return { status: 200, body: makePage(rows, limit, { render: plain, keyOf: ({ id }) => id }) };
  }),
  route({
    method: 'GET',
    path: '/v1/surveys/:id',
    summary: 'a survey, or a repair: how far it is, its totals, groups and digest',
    right: 'all',
    params: ID,
    replies: { 200: SURVEY },
  }).handle(async ({ pool }, { params: { id } }) => {
    const row = await withClient(pool, (client) => readSurvey(client, id));
    if (row === undefined) throw notFound();
    return { status: 200, body: plain(row) };
  }),
  route({
    method: 'GET',
    path: '/v1/surveys/:id/plan',
    summary:
      'what a survey found, as the plan shows it: steps, findings, what waits or is unreadable',
    description:
      'List by list, in the order of `list`. There is nothing before the survey has ended. What was erased since is missing.',
    right: 'all',
    params: ID,
    query: z.strictObject({
      ...PAGE_QUERY,
      list: z.enum(KEPT_LISTS).optional().describe('only this list'),
    }),
    replies: { 200: pageOf(ITEM, 'a page of what a survey found') },
  }).handle(async ({ pool }, { caller, params: { id }, query: { list, limit, after } }) => {
    const page = { list, after: readCursor(after, ITEM_KEY), limit: limit + 1 };
    return await withClient(pool, async (client) => {
      if ((await readSurvey(client, id)) === undefined) throw notFound();
      const rows = await readItems(client, id, page);
      const body = makePage(rows, limit, {
        render: ({ list: of, item }) => ({ list: of, item }),
        keyOf: ({ list: of, n }) => [of, n],
      });
      await logItems(client, caller, body.items);
      return { status: 200, body };
    });
  }),
];

/** What the steps of a target may show of a person. */
const SHOWN: Record<string, ReadKind> = {
  'unix-account': 'mail',
  'ssh-keys': 'keys',
  seal: 'keys',
};

/** Records what these things show of people. */
export async function logItems(
  client: Client,
  caller: Caller,
  items: readonly Pick<ItemRow, 'item'>[],
): Promise<void> {
  const accounts = new Map<ReadKind, string[]>();
  for (const { item } of items) {
    const { account, target, ignored } = item;
    if (typeof account !== 'string') continue;
    const kind = SHOWN[String(target)];
    for (const what of [
      ...(kind === undefined ? [] : [kind]),
      ...(ignored ? ['reasons' as const] : []),
    ]) {
      accounts.set(what, [...(accounts.get(what) ?? []), account]);
    }
  }
  for (const [what, whose] of accounts) await logReads(client, caller, whose, [what]);
}
