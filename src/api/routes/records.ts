/** Who has asked for what, and who has read what: the audit, and the log of reads. */
import * as z from 'zod';
import { readClosings } from '../../audit/audit-closings.ts';
import { readAuditBefore } from '../../audit/audit-trail.ts';
import { withClient } from '../../database/connection.ts';
import { findSubjectsByWord } from '../../database/overview.ts';
import { parseImportedShellName } from '../../identity/names.ts';
import { readAdminKeys } from '../../requests/admin-keys.ts';
import { readPortals } from '../../requests/listed-portals.ts';
import { READ_KINDS, readReads } from '../api-reads-table.ts';
import { makePage, NUMBER_KEY, PAGE_QUERY, pageOf, readCursor, SEARCH } from '../page.ts';
import { plain } from '../../shared/plain.ts';
import { notFound } from '../problem.ts';
import { route } from '../route.ts';

const TIME = z.iso.datetime();

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
    key: z
      .string()
      .nullable()
      .describe('the fingerprint of the own key with which an admin signed the request'),
  }),
  'a page of the audit',
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
  'a page of the log of reads, the newest first',
);

const ADMIN_KEYS = z
  .object({
    items: z.array(
      z.object({
        admin: z.string(),
        fingerprint: z.string().describe('as ssh-keygen -l prints it; also the `kid`'),
        label: z.string(),
        expiresAt: TIME.nullable().describe('null: the configuration lists the key'),
        addedBy: z.string().nullable(),
        approvedBy: z.string().nullable(),
        addedAt: TIME.nullable(),
        revokedAt: TIME.nullable(),
        revokedBy: z.string().nullable(),
        revokedWhy: z.string().nullable(),
      }),
    ),
  })
  .describe("every admin's own key, also the revoked ones");

const PORTALS = z
  .object({
    items: z.array(
      z.object({
        name: z.string(),
        keys: z.array(
          z.object({
            kid: z.string(),
            fingerprint: z.string().describe('as ssh-keygen -l prints it'),
          }),
        ),
        kinds: z.union([z.literal('all'), z.array(z.string())]),
        reads: z.array(z.string()),
        subjectEvents: z.boolean(),
        speaksForAdmins: z.boolean(),
        verifiesMail: z.boolean(),
        mostCallsPerMinute: z.int().optional().describe('absent: as many as every portal'),
        events: z.enum(['queue', 'http']),
        redisPassword: z
          .string()
          .nullable()
          .describe('the first digits of its SHA-256, if a request has given the portal one'),
        addedBy: z.string().nullable().describe('null: the configuration file lists the portal'),
        approvedBy: z.string().nullable(),
        addedAt: TIME.nullable(),
        changedBy: z.string().nullable(),
        changedAt: TIME.nullable(),
        removedBy: z.string().nullable(),
        removedWhy: z.string().nullable(),
        removedAt: TIME.nullable(),
      }),
    ),
  })
  .describe('every portal, also the removed ones that were added by request');

export const RECORD_ROUTES = [
  route({
    method: 'GET',
    path: '/v1/portals',
    summary: 'portals: what they may do, their keys, who asked for and who approved them',
    right: 'all',
    replies: { 200: PORTALS },
  }).handle(async ({ config, pool }) => {
    const portals = await withClient(pool, (client) => readPortals(client, config));
    return { status: 200, body: { items: portals.map(plain) } };
  }),
  route({
    method: 'GET',
    path: '/v1/admin-keys',
    summary: "admins' own keys: whose, until when, who asked for and who approved them",
    description: 'A key counts only while its owner is an admin.',
    right: 'all',
    replies: { 200: ADMIN_KEYS },
  }).handle(async ({ config, pool }) => {
    const keys = await withClient(pool, (client) => readAdminKeys(client, config));
    return { status: 200, body: { items: keys.map(plain) } };
  }),
  route({
    method: 'GET',
    path: '/v1/audit',
    summary: 'who requested what, who approved it, and what came of it, the newest first',
    right: 'all',
    query: z.strictObject({
      ...PAGE_QUERY,
      subject: SEARCH.optional().describe(
        'only about this person or tool: a name, an account or a number',
      ),
    }),
    replies: { 200: AUDIT },
  }).handle(async ({ pool }, { query: { subject, limit, after } }) =>
    withClient(pool, async (client) => {
      const found = subject === undefined ? undefined : await findSubjectsByWord(client, subject);
      if (found?.length === 0) throw notFound();
      const subjects = found?.map(({ uid }) => uid);
      const before = readCursor(after, NUMBER_KEY);
      const rows = await readAuditBefore(client, before, { subjects, limit: limit + 1 });
      const page = makePage(rows, limit, { render: plain, keyOf: ({ id }) => id });
      const closedUpTo = (await readClosings(client)).at(-1)?.year ?? null;
      return { status: 200, body: { ...page, closedUpTo } };
    }),
  ),
  route({
    method: 'GET',
    path: '/v1/reads',
    summary: 'who has read personal data through this API, the newest first',
    right: 'all',
    query: z.strictObject({
      ...PAGE_QUERY,
      person: SEARCH.optional().describe('only of this person: a shell name'),
    }),
    replies: { 200: READS },
  }).handle(async ({ pool }, { query: { person, limit, after } }) => {
    if (person !== undefined && parseImportedShellName(person) === undefined) throw notFound();
    const of = { person, before: readCursor(after, NUMBER_KEY), limit: limit + 1 };
    const rows = await withClient(pool, (client) => readReads(client, of));
    return { status: 200, body: makePage(rows, limit, { render: plain, keyOf: ({ id }) => id }) };
  }),
];
