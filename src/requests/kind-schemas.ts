/** The JSON Schema of each kind of request. */
import * as z from 'zod';
import { KIND_SUMMARIES, type RequestKind } from './kinds.ts';
import { REQUEST_SCHEMAS } from './schema.ts';

/** The JSON Schema (2020-12) of a kind, for the request as a portal writes it. */
export function schemaOf(kind: RequestKind): Record<string, unknown> {
  return {
    title: kind,
    description: KIND_SUMMARIES[kind],
    ...z.toJSONSchema(REQUEST_SCHEMAS[kind], { io: 'input' }),
  };
}
