/** The OpenAPI document (3.1): made from the schemas that check the calls. */
import swagger from '@fastify/swagger';
import type { FastifyInstance, FastifySchema } from 'fastify';
import { jsonSchemaTransform } from 'fastify-type-provider-zod';
import { PROBLEM, PROBLEM_TYPE } from './problem.ts';
import type { Right } from './rights.ts';
import type { Route } from './route.ts';

/** An OpenAPI document, as far as this program reads it. */
export interface OpenApi {
  info: { title: string; description?: string; version: string };
  paths: Record<string, Record<string, Operation>>;
}

export interface Operation {
  summary?: string;
  description?: string;
  parameters?: { name: string; in: string; required?: boolean; schema: unknown }[];
  requestBody?: { content: Record<string, { schema: unknown }> };
  responses: Record<string, { description: string }>;
}

const NEEDS: Record<Right, string> = {
  none: 'Needs no token.',
  token: 'Needs a token of any portal.',
  public: 'Needs a token of a portal with the right `public`.',
  own: 'Needs a token of a portal with the right `own`.',
  mail: 'Needs a token of a portal with the right `mail`.',
  all: 'Needs a token of a portal with the right `all`, or of an admin.',
};

const SCHEME = 'Chamberlain';

/** What Fastify checks of a route, and the document shows. */
export function documentOf(route: Route): FastifySchema {
  const { summary, description, right, params, query, bodies, replies, types } = route;
  const response: Record<string, unknown> = {};
  for (const [status, schema] of Object.entries(replies)) {
    const type = types?.[Number(status)] ?? 'application/json';
    response[status] = {
      description: schema.description ?? 'the answer',
      content: { [type.split(';')[0] as string]: { schema } },
    };
  }
  for (const [status, what] of [
    ['4xx', 'the call is refused'],
    ['503', 'a server is away; try again after `Retry-After` seconds'],
  ] as const) {
    if (response[status] !== undefined) continue;
    response[status] = { description: what, content: { [PROBLEM_TYPE]: { schema: PROBLEM } } };
  }
  return {
    summary,
    description: [description, NEEDS[right]].filter((each) => each !== undefined).join('\n\n'),
    ...(params === undefined ? {} : { params }),
    ...(query === undefined ? {} : { querystring: query }),
    ...(bodies === undefined ? {} : { body: { content: schemasOf(bodies) } }),
    security: right === 'none' ? [{}, { [SCHEME]: [] }] : [{ [SCHEME]: [] }],
    response,
  };
}

function schemasOf(bodies: NonNullable<Route['bodies']>): Record<string, { schema: unknown }> {
  return Object.fromEntries(Object.entries(bodies).map(([type, schema]) => [type, { schema }]));
}

/** Prepares the server to make the document of the routes that are added from now on. */
export async function describeRoutes(server: FastifyInstance, realm: string): Promise<void> {
  await server.register(swagger, {
    convertConstToEnum: false,
    openapi: {
      openapi: '3.1.0',
      info: {
        title: `Chamberlain, realm ${realm}`,
        description: 'How a portal signs its calls, and what each code means: see /docs.',
        version: '1',
        license: { name: 'GPL-3.0-or-later', identifier: 'GPL-3.0-or-later' },
      } as never,
      servers: [{ url: '/' }],
      components: {
        securitySchemes: {
          [SCHEME]: {
            type: 'http',
            scheme: SCHEME,
            description: 'A token that the portal has signed for this call alone.',
          },
        },
      },
    },
    transform: (of: Parameters<typeof jsonSchemaTransform>[0]) => {
      const { body, ...schema } = (of.schema ?? {}) as { body?: { content?: object } };
      const made = jsonSchemaTransform({ ...of, schema });
      if (body?.content === undefined) return made;
      // the transform knows one schema for a body, not one for each content type
      const content = Object.entries(body.content as Record<string, { schema: never }>).map(
        ([type, { schema: its }]) => {
          const alone = jsonSchemaTransform({ ...of, schema: { body: its } });
          return [type, { schema: (alone.schema as { body: unknown }).body }];
        },
      );
      return {
        ...made,
        schema: { ...made.schema, body: { content: Object.fromEntries(content) } },
      };
    },
  } as Parameters<typeof server.register>[1]);
}
