/** What the API answers when it cannot do what was asked: problem documents (RFC 9457), with the codes of errors.ts. */
import * as z from 'zod';
import { sqlState } from '../database/connection.ts';
import { type Code, CODES, codeOf } from '../shared/errors.ts';
import { count, printable } from '../shared/printable.ts';

export const PROBLEM_TYPE = 'application/problem+json';

export const PROBLEM = z
  .object({
    type: z.string().describe('where the code is explained'),
    title: z.string().describe('what the code means'),
    status: z.int().describe('the status of the answer'),
    code: z.string().describe('a code of docs/errors.md'),
    detail: z.string().describe('what is wrong here, and what to do'),
    index: z.int().optional().describe('of several requests, the one that is wrong, from 0'),
  })
  .describe('a problem (RFC 9457)');

/** Thrown by a handler, or by what is checked before it. */
export class Problem extends Error {
  readonly status: number;
  readonly code: Code;
  /** of the answer, such as `retry-after` */
  readonly headers: Readonly<Record<string, string>>;
  readonly index: number | undefined;
  constructor(
    status: number,
    code: Code,
    detail: string = CODES[code].action,
    more: { headers?: Record<string, string>; index?: number } = {},
  ) {
    super(detail);
    this.name = 'Problem';
    this.status = status;
    this.code = code;
    this.headers = more.headers ?? {};
    this.index = more.index;
  }
}

/** The one answer for what is missing and for what the caller may not see. Nobody can tell them apart. */
export const notFound = (): Problem => new Problem(404, 'NOT_FOUND');

/** For a path that leads to no route: a client must not take it for the absence of what it asked for. */
export const unknownRoute = (): Problem => new Problem(404, 'ROUTE_UNKNOWN');

/** For a body of a content type that the route does not have, or has no name. */
export const unreadable = (types: readonly string[] = []): Problem =>
  new Problem(
    415,
    'CALL_INVALID',
    types.length === 0
      ? 'The route does not read a body of this content type.'
      : `The route reads a body only if its \`content-type\` is ${types.join(' or ')}.`,
  );

/** For a path that has routes, but not of this method. Which paths there are is public. */
export const wrongMethod = (allowed: readonly string[]): Problem =>
  new Problem(405, 'CALL_INVALID', `The path has only the method ${allowed.join(' or ')}.`, {
    headers: { allow: allowed.join(', ') },
  });

/** How soon a caller may try again when a server is away. */
const AWAY_SECONDS = 5;

const AWAY =
  'A server of the realm does not answer. Send the call again after as many seconds as `Retry-After` says.';

/** For a server that is away. Nothing is said about the server. */
export const away = (): Problem =>
  new Problem(503, 'BACKEND_UNAVAILABLE', AWAY, {
    headers: { 'retry-after': String(AWAY_SECONDS) },
  });

/** The text of the problem document. */
export function renderProblem({ status, code, message, index }: Problem): string {
  return JSON.stringify({
    type: `/docs#${code}`,
    title: CODES[code].meaning,
    status,
    code,
    detail: printable(message),
    ...(index === undefined ? {} : { index }),
  } satisfies z.infer<typeof PROBLEM>);
}

/** An error of Fastify, or of the schema of a route. */
interface OfFastify {
  statusCode?: unknown;
  validation?: readonly Fault[];
  validationContext?: string;
}

/** What a schema finds, as fastify-type-provider-zod makes it of an issue of zod. */
interface Fault {
  instancePath: string;
  keyword: string;
  params: {
    [what in 'expected' | 'origin' | 'minimum' | 'maximum']?: string | number;
  } & { values?: readonly unknown[]; keys?: readonly string[] };
}

const PARTS: Record<string, string> = {
  querystring: 'the query',
  params: 'the path',
  body: 'the body',
};
const UNITS: Record<string, string> = { string: 'character', array: 'item' };

/** A fault as a sentence without its end: ``limit` of the query must be at most 100`. */
function wordsOf({ instancePath, keyword, params }: Fault, context: string): string {
  const part = PARTS[context] ?? context;
  const names = instancePath.split('/').filter((name) => name !== '');
  const what = names.length === 0 ? part : `\`${names.join('.')}\` of ${part}`;
  const { expected, origin, minimum, maximum, values = [], keys = [] } = params;
  const unit = UNITS[origin ?? ''];
  const limit = (number: unknown) =>
    unit === undefined ? String(number) : count(Number(number), unit);
  const verb = unit === undefined ? 'be' : 'have';
  switch (keyword) {
    case 'unrecognized_keys':
      return `${part} has a field that the route does not have: ${keys.join(', ')}`;
    case 'too_big':
      return `${what} must ${verb} at most ${limit(maximum)}`;
    case 'too_small':
      return `${what} must ${verb} at least ${limit(minimum)}`;
    case 'invalid_value':
      return `${what} must be ${values.join(' or ')}`;
    case 'invalid_type':
      return `${what} is missing, or is not of the type ${expected}`;
    default:
      return `${what} does not have the form that /docs shows`;
  }
}

/** A message names only so many faults. */
const MOST_FAULTS = 5;

/** The problem of anything thrown. A fault of the program itself says nothing about itself. */
export function problemOf(error: unknown): Problem {
  if (error instanceof Problem) return error;
  const { statusCode, validation, validationContext = '' } = (error ?? {}) as OfFastify;
  if (validation !== undefined) {
    const faults = validation.slice(0, MOST_FAULTS).map((each) => wordsOf(each, validationContext));
    const sentence = `${faults.join('; ').slice(0, 1000)}.`;
    return new Problem(400, 'CALL_INVALID', sentence.replace(/^t/u, 'T'));
  }
  if (isAway(error)) return away();
  if (statusCode === 413) return new Problem(413, 'CALL_TOO_LARGE');
  if (statusCode === 415) return unreadable();
  if (typeof statusCode === 'number' && statusCode >= 400 && statusCode < 500) {
    return new Problem(statusCode, 'CALL_INVALID');
  }
  return new Problem(500, 'INTERNAL');
}

/** Whether a server is away: it may be back soon. */
function isAway(error: unknown): boolean {
  const code = codeOf(error);
  if (code !== 'INTERNAL') return CODES[code].retry;
  const state = sqlState(error);
  if (state !== undefined) return /^(08|25006|40|53|55|57|58)/u.test(state);
  // a connection that breaks or times out ends in a plain Error of the driver
  return /^(Connection terminated|Query read timeout|timeout exp)/u.test(
    String((error as Error | null)?.message),
  );
}
