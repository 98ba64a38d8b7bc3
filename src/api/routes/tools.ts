/** Tools: one, and pages of them; and whose a number is. */
import * as z from 'zod';
import { withClient } from '../../database/connection.ts';
import { TOOL_STATES } from '../../database/listing.ts';
import { readRoleStatuses } from '../../database/overview.ts';
import {
  normalName,
  parseImportedToolAccount,
  toolAccount,
  withoutRealm,
} from '../../identity/names.ts';
import { readLeaving } from '../../lifecycle/leaving-facts.ts';
import { LEAVING } from '../../lifecycle/leaving-page.ts';
import { makePage, NAME_KEY, PAGE_QUERY, pageOf, readCursor, SEARCH } from '../page.ts';
import { plain } from '../../shared/plain.ts';
import { notFound } from '../problem.ts';
import { mayCall } from '../rights.ts';
import { route } from '../route.ts';
import { ROLE } from '../subject-schemas.ts';
import { readSubjectOf, readTool, readTools, type ToolRow } from '../subjects-queries.ts';

const TOOL = z.object({
  uid: z.int(),
  name: z.string(),
  account: z.string().describe('such as tools.bridgebot'),
  title: z.string(),
  state: z.enum(TOOL_STATES),
  since: z.iso.datetime().describe('when the tool was created'),
  maintainers: z.array(z.string()).describe('shell names of people, and accounts of tools'),
});

const WHOLE_TOOL = TOOL.extend({
  leaving: LEAVING.optional().describe('with the right `all`, as the following'),
  roles: z.array(ROLE).optional(),
}).describe('a tool, as far as the caller may see');

const SUBJECT = z
  .object({
    uid: z.int(),
    kind: z.enum(['person', 'tool']),
    name: z.string(),
    account: z.string(),
    state: z.string(),
  })
  .describe('who has the number, or had it');

/** PostgreSQL has no higher ones in a column of numbers. */
const MOST_UID = 2 ** 31 - 1;

export const TOOL_ROUTES = [
  route({
    method: 'GET',
    path: '/v1/tools',
    summary: 'tools, in the order of their names',
    right: 'public',
    query: z.strictObject({
      ...PAGE_QUERY,
      search: SEARCH.optional().describe('part of the name or of the title'),
      state: z.enum(TOOL_STATES).optional(),
    }),
    replies: { 200: pageOf(TOOL, 'a page of tools') },
  }).handle(async ({ config, pool }, { query: { search = '', state, limit, after } }) => {
    const page = {
      search: withoutRealm(normalName(search), config.realm),
      ...{ after: readCursor(after, NAME_KEY) ?? '', limit: limit + 1 },
      ...(state === undefined ? {} : { state }),
    };
    const rows = await withClient(pool, (client) => readTools(client, page));
    return { status: 200, body: makePage(rows, limit, { render, keyOf: ({ name }) => name }) };
  }),
  route({
    method: 'GET',
    path: '/v1/tools/:name',
    summary: 'a tool, by its name or its account',
    description:
      'Everybody may read what is public. Reasons, approvals and how far each role is need `all`. A deleted tool stays: neither its name nor its number is given again.',
    right: 'none',
    params: z.object({ name: z.string() }),
    replies: { 200: WHOLE_TOOL },
  }).handle(async ({ config: { realm }, pool, gathered }, { caller, params }) => {
    const name = withoutRealm(params.name, realm);
    if (parseImportedToolAccount(realm, toolAccount(realm, name)) === undefined) throw notFound();
    const row = await gathered((client) => readTool(client, name));
    if (row === undefined) throw notFound();
    if (!mayCall(caller, 'all')) return { status: 200, body: render(row) };
    return await withClient(pool, async (client) => {
      const [leaver] = await readLeaving(client, [row.uid]);
      const roles = plain(await readRoleStatuses(client, row.uid));
      const leaving = leaver === undefined ? {} : { leaving: leaver.leaving };
      return { status: 200, body: { ...render(row), ...leaving, roles } };
    });
  }),
  route({
    method: 'GET',
    path: '/v1/subjects/:uid',
    summary: 'which person or tool has a number, or had it',
    right: 'public',
    params: z.object({ uid: z.string() }),
    replies: { 200: SUBJECT },
  }).handle(async ({ pool }, { params }) => {
    const uid = /^[1-9][0-9]{0,9}$/u.test(params.uid) ? Number(params.uid) : Infinity;
    if (uid > MOST_UID) throw notFound();
    const row = await withClient(pool, (client) => readSubjectOf(client, uid));
    if (row === undefined) throw notFound();
    return { status: 200, body: row };
  }),
];

function render({ since, ...row }: ToolRow): z.output<typeof TOOL> {
  return { ...row, since: since.toISOString() };
}
