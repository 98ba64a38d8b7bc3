/** People: one, and pages of them. */
import * as z from 'zod';
import { type Client, withClient } from '../../database/connection.ts';
import { listKeys, PERSON_STATES } from '../../database/listing.ts';
import { readRoleStatuses } from '../../database/overview.ts';
import { normalName, parseImportedShellName } from '../../identity/names.ts';
import { readLeaving } from '../../lifecycle/leaving-facts.ts';
import { LEAVING } from '../../lifecycle/leaving-page.ts';
import { logReads } from '../api-reads-table.ts';
import { makePage, NAME_KEY, PAGE_QUERY, pageOf, readCursor, SEARCH } from '../page.ts';
import { plain } from '../../shared/plain.ts';
import { notFound } from '../problem.ts';
import { type Caller, mayCall } from '../rights.ts';
import { route } from '../route.ts';
import { ACCESS, KEY, ROLE } from '../subject-schemas.ts';
import { type PersonRow, readAccessRequests, readPeople, readPerson } from '../subjects-queries.ts';

const PERSON = z.object({
  uid: z.int(),
  name: z.string().describe('the shell name'),
  displayName: z.string().nullable().describe('null: erased'),
  state: z.enum(PERSON_STATES),
  since: z.iso.datetime().describe('when the person was created'),
  realmMember: z.boolean().describe('the person has access to the realm'),
  maintains: z.array(z.string()).describe('accounts of tools, such as tools.bridgebot'),
  email: z.string().nullable().optional().describe('with the right `mail`; null: erased'),
  mailVerifiedAt: z.iso
    .datetime()
    .nullable()
    .optional()
    .describe('with the right `mail`: when this address was verified; null: it is not'),
});

const WHOLE_PERSON = PERSON.extend({
  keys: z.array(KEY).optional().describe('with the right `all`, as each of the following'),
  leaving: LEAVING.optional(),
  access: z.array(ACCESS).optional().describe('requests for access, the oldest first'),
  roles: z.array(ROLE).optional(),
}).describe('a person, as far as the caller may see');

/** A person has fewer by the policy of keys. */
const MOST_KEYS = 10_000;

const ABOUT =
  'Needs the right `public`. Mail addresses need `mail` as well; keys, reasons and approvals need `all`. A deleted person stays, without what is erased: neither the name nor the number is given again.';

export const PEOPLE_ROUTES = [
  route({
    method: 'GET',
    path: '/v1/people',
    summary: 'people, in the order of their names',
    description: ABOUT,
    right: 'public',
    query: z.strictObject({
      ...PAGE_QUERY,
      search: SEARCH.optional().describe('part of the shell name or of the display name'),
      state: z.enum(PERSON_STATES).optional(),
    }),
    replies: { 200: pageOf(PERSON, 'a page of people') },
  }).handle(async ({ pool }, { caller, query: { search = '', state, limit, after } }) => {
    const page = {
      ...{ search: normalName(search), limit: limit + 1 },
      after: readCursor(after, NAME_KEY) ?? '',
      ...(state === undefined ? {} : { state }),
    };
    return await withClient(pool, async (client) => {
      const rows = await readPeople(client, page);
      const body = makePage(rows, limit, {
        render: (row) => render(row, caller),
        keyOf: ({ name }) => name,
      });
      if (mayCall(caller, 'mail') && rows.length > 0) {
        const names = body.items.map(({ name }) => name);
        await logReads(client, caller, names, ['mail']);
      }
      return { status: 200, body };
    });
  }),
  route({
    method: 'GET',
    path: '/v1/people/:name',
    summary: 'a person',
    description: ABOUT,
    right: 'public',
    params: z.object({ name: z.string() }),
    replies: { 200: WHOLE_PERSON },
  }).handle(async ({ pool }, { caller, params: { name } }) => {
    if (parseImportedShellName(name) === undefined) throw notFound();
    return await withClient(pool, async (client) => {
      const row = await readPerson(client, name);
      if (row === undefined) throw notFound();
      const seesAll = mayCall(caller, 'all');
      if (seesAll) await logReads(client, caller, [name], ['mail', 'keys', 'reasons']);
      else if (mayCall(caller, 'mail')) await logReads(client, caller, [name], ['mail']);
      const rest = seesAll ? await readRest(client, row) : {};
      return { status: 200, body: { ...render(row, caller), ...rest } };
    });
  }),
];

/** What everybody with the right `public` sees, and the mail address for those who may see it. */
function render(
  { email, mailVerifiedAt, since, ...row }: PersonRow,
  caller: Caller,
): z.output<typeof PERSON> {
  return {
    ...{ ...row, since: since.toISOString() },
    ...(mayCall(caller, 'mail')
      ? { email, mailVerifiedAt: mailVerifiedAt?.toISOString() ?? null }
      : {}),
  };
}

/** What only callers with the right `all` see. */
async function readRest(
  client: Client,
  { uid }: PersonRow,
): Promise<Pick<z.output<typeof WHOLE_PERSON>, 'keys' | 'leaving' | 'access' | 'roles'>> {
  const keys = await listKeys(client, { person: uid, after: 0, limit: MOST_KEYS });
  const [leaver] = await readLeaving(client, [uid]);
  return {
    keys: plain(keys),
    ...(leaver === undefined ? {} : { leaving: leaver.leaving }),
    access: plain(await readAccessRequests(client, uid)),
    roles: plain(await readRoleStatuses(client, uid)),
  };
}
