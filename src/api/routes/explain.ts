/** What `explain` shows, as far as PostgreSQL knows it: the API reaches no other server. */
import * as z from 'zod';
import { withClient } from '../../database/connection.ts';
import { findSubjectsByWord, readRoleStatuses } from '../../database/overview.ts';
import { readFacts } from '../../explain/explain-facts.ts';
import { knownPage } from '../../explain/explain-pages.ts';
import { KNOWN_PAGE } from '../../explain/explanation.ts';
import { realmOf } from '../../shared/config.ts';
import { plain } from '../../shared/plain.ts';
import { logReads } from '../api-reads-table.ts';
import { notFound } from '../problem.ts';
import { route } from '../route.ts';
import { ROLE } from '../subject-schemas.ts';
import { readLastSeen } from '../surveys-queries.ts';
import { logItems } from './surveys.ts';

const TIME = z.iso.datetime();

const SUBJECT = KNOWN_PAGE.extend({
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

const EXPLANATION = z
  .object({ word: z.string(), subjects: z.array(SUBJECT) })
  .describe('all that PostgreSQL knows of a person or a tool');

/** A name of a person or of a tool, an account, or a number. */
const WORD = /^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$/u;

export const EXPLAIN_ROUTES = [
  route({
    method: 'GET',
    path: '/v1/explain/:word',
    summary: 'all that is known about a person or a tool: by a name, an account or a number',
    description:
      'As `chamberlain explain`, but without a look at the servers: `seen` has what the roles saw at the last sweep, and at the newest survey that was requested. A word may name a person and a tool.',
    right: 'all',
    params: z.object({ word: z.string() }),
    replies: { 200: EXPLANATION },
  }).handle(async (api, { caller, params: { word } }) => {
    const { config, pool } = api;
    if (!WORD.test(word)) throw notFound();
    return await withClient(pool, async (client) => {
      const found = await findSubjectsByWord(client, word);
      if (found.length === 0) throw notFound();
      const facts = await readFacts(
        client,
        found.map(({ uid }) => uid),
      );
      const parts = { facts, realm: realmOf(config), base: config.ldap.base, now: api.now() };
      const subjects = [];
      for (const { uid } of found) {
        const page = knownPage(uid, parts);
        const seen = await readLastSeen(client, uid);
        const keysOf = (page.entrants ?? []).map(({ person }) => person);
        if (keysOf.length > 0) await logReads(client, caller, keysOf, ['keys']);
        // of a tool, nothing is recorded
        await logReads(client, caller, [page.account], ['mail', 'keys', 'reasons']);
        await logItems(client, caller, seen.survey?.items ?? []);
        subjects.push({ ...page, roles: await readRoleStatuses(client, uid), seen });
      }
      return { status: 200, body: plain({ word, subjects }) };
    });
  }),
];
