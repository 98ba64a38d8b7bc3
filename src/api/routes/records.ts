/** What was asked, and by whom: the requests that have a verdict, the audit, and the log of reads. */
import * as z from 'zod';
import { readClosings } from '../../audit/audit-closings.ts';
import { readAuditBefore } from '../../audit/audit-trail.ts';
import { withClient } from '../../database/connection.ts';
import { findSubjectsByWord } from '../../database/overview.ts';
import { parseImportedShellName } from '../../identity/names.ts';
import { READ_KINDS, readReads } from '../api-reads-table.ts';
import { AFTER_NUMBER, cutPage, LIMIT, pageOf, SEARCH } from '../paging.ts';
import { plain } from '../plain.ts';
import { notFound } from '../problem.ts';
import { mayCall } from '../rights.ts';
import { route } from '../route.ts';
import { readSentRequests, REQUEST_STATES } from '../sent-requests-queries.ts';

const TIME = z.iso.datetime();

const REQUESTS = pageOf(
  z.object({
    number: z.string().describe('our own number'),
    id: z.uuid().nullable().describe('the `jti`; null: its id was used before, or it has none'),
    portal: z.string().nullable().describe('null: of the calendar, or not signed'),
    kind: z.string().nullable(),
    requestedBy: z.string().nullable(),
    approvedBy: z.string().nullable(),
    account: z.string().nullable().describe('the person or tool that it is about'),
    state: z.enum(REQUEST_STATES),
    code: z.string().nullable(),
    sentence: z.string().nullable(),
    at: TIME.describe('when it got its verdict'),
    doneAt: TIME.nullable(),
  }),
).describe('a page of requests, the newest first');

const AUDIT = pageOf(
  z.object({
    id: z.string(),
    at: TIME,
    requestedBy: z.string().nullable(),
    approvedBy: z.string().nullable(),
    portal: z.string().nullable(),
    kind: z.string().nullable(),
    subject: z.int().nullable(),
    account: z.string().nullable(),
    fields: z.array(z.string()),
    verdict: z.string(),
    code: z.string().nullable(),
  }),
)
  .extend({
    closedUpTo: z.int().nullable().describe('the rows of this year and before are in files'),
  })
  .describe('a page of the audit, the newest row first');

const READS = pageOf(
  z.object({
    id: z.string(),
    at: TIME,
    caller: z.string().describe('a portal; of an own key, `admin.<shell name>`'),
    uid: z.int(),
    person: z.string(),
    what: z.array(z.enum(READ_KINDS)),
  }),
).describe('a page of the log of reads, the newest first');

export const RECORD_ROUTES = [
  route({
    method: 'GET',
    path: '/v1/requests',
    summary: 'the requests of the portal that have a verdict, the newest first',
    description:
      'A request that has no verdict yet is in Redis alone, and is not listed. With `state` a page may be short, or empty, although `next` is not null: go on.',
    right: 'own',
    query: z.strictObject({
      state: z.enum(REQUEST_STATES).optional(),
      portal: SEARCH.optional().describe(
        'for callers with the right `all`, who otherwise see the requests of every portal',
      ),
      limit: LIMIT,
      after: AFTER_NUMBER,
    }),
    replies: { 200: REQUESTS },
  }).handle(async ({ pool }, { caller, query: { state, portal, limit, after } }) => {
    const seesAll = mayCall(caller, 'all');
    if (portal !== undefined && portal !== caller.name && !seesAll) throw notFound();
    const whose = seesAll ? portal : caller.name;
    const page = { portal: whose, state, before: after, limit };
    const { requests, next } = await withClient(pool, (client) => readSentRequests(client, page));
    return { status: 200, body: { items: plain(requests), next: next ?? null } };
  }),
  route({
    method: 'GET',
    path: '/v1/audit',
    summary: 'who requested what, who approved it, and what came of it, the newest first',
    right: 'all',
    query: z.strictObject({
      subject: SEARCH.optional().describe(
        'only about this person or tool: a name, an account or a number',
      ),
      limit: LIMIT,
      after: AFTER_NUMBER,
    }),
    replies: { 200: AUDIT },
  }).handle(async ({ pool }, { query: { subject, limit, after } }) =>
    withClient(pool, async (client) => {
      const found = subject === undefined ? undefined : await findSubjectsByWord(client, subject);
      if (found?.length === 0) throw notFound();
      const subjects = found?.map(({ uid }) => uid);
      const all = await readAuditBefore(client, after, { subjects, limit: limit + 1 });
      const { rows, next } = cutPage(all, limit, ({ id }) => id);
      const closedUpTo = (await readClosings(client)).at(-1)?.year ?? null;
      return { status: 200, body: { items: plain(rows), next, closedUpTo } };
    }),
  ),
  route({
    method: 'GET',
    path: '/v1/reads',
    summary: 'who has read personal data through this API, the newest first',
    right: 'all',
    query: z.strictObject({
      person: SEARCH.optional().describe('only of this person: a shell name'),
      limit: LIMIT,
      after: AFTER_NUMBER,
    }),
    replies: { 200: READS },
  }).handle(async ({ pool }, { query: { person, limit, after } }) => {
    if (person !== undefined && parseImportedShellName(person) === undefined) throw notFound();
    const of = {
      ...(person === undefined ? {} : { person }),
      ...(after === undefined ? {} : { before: after }),
      limit: limit + 1,
    };
    const found = await withClient(pool, (client) => readReads(client, of));
    const { rows, next } = cutPage(found, limit, ({ id }) => id);
    return { status: 200, body: { items: plain(rows), next } };
  }),
];
