/** The kinds of request, and their schemas. */
import * as z from 'zod';
import { isKind, KIND_SUMMARIES, REQUEST_KINDS, URGENT_KINDS } from '../../requests/kinds.ts';
import { schemaOf } from '../../requests/kind-schemas.ts';
import { notFound } from '../problem.ts';
import { route } from '../route.ts';

const KINDS = z
  .object({
    kinds: z.array(
      z.object({
        kind: z.string(),
        summary: z.string(),
        urgent: z.boolean().describe('it takes access away, so intake takes it first'),
      }),
    ),
  })
  .describe('the kinds of request');

export const KIND_ROUTES = [
  route({
    method: 'GET',
    path: '/v1/kinds',
    summary: 'the kinds of request',
    right: 'none',
    replies: { 200: KINDS },
  }).handle(async () => {
    const kinds = REQUEST_KINDS.map((kind) => ({
      ...{ kind, summary: KIND_SUMMARIES[kind], urgent: URGENT_KINDS.has(kind) },
    }));
    return { status: 200, body: { kinds } };
  }),
  route({
    method: 'GET',
    path: '/v1/kinds/:kind/schema',
    summary: 'the JSON Schema (2020-12) of a kind',
    right: 'none',
    params: z.object({ kind: z.string() }),
    replies: { 200: z.record(z.string(), z.unknown()).describe('a JSON Schema') },
  }).handle(async (_, { params: { kind } }) => {
    if (!isKind(kind)) throw notFound();
    return { status: 200, body: schemaOf(kind) };
  }),
];
