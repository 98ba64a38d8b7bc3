/** What the parser says of a pasted key. */
import * as z from 'zod';
import { parseSshKey } from '../../ssh-keys/ssh-key.ts';
import { route } from '../route.ts';

const CHECKED = z
  .union([
    z.object({
      accepted: z.literal(true),
      type: z.string(),
      bits: z.int(),
      fingerprint: z.string().describe('as ssh-keygen -l prints it'),
      line: z.string().describe('the key alone, in one line'),
      options: z.array(z.string()),
      label: z.string().describe('the comment'),
    }),
    z.object({
      accepted: z.literal(false),
      code: z.string(),
      sentence: z.string().describe('what the person should do'),
    }),
  ])
  .describe('what the parser says');

export const KEY_ROUTES = [
  route({
    method: 'POST',
    path: '/v1/keys/check',
    summary: 'check a pasted public SSH key',
    description:
      'The body is the text as the person has pasted it, or `{"key": TEXT}`. Whether another person has the key is not checked.',
    right: 'token',
    bodies: {
      'text/plain': z.string(),
      'application/json': z.strictObject({ key: z.string() }),
    },
    replies: { 200: CHECKED },
  }).handle(async ({ config }, { body }) => {
    const text = typeof body === 'string' ? body : body.key;
    const verdict = parseSshKey(text, new Set(config.keys.knownBad));
    if (verdict.ok) return { status: 200, body: { accepted: true, ...verdict.key } };
    const { code, sentence } = verdict;
    return { status: 200, body: { accepted: false, code, sentence } };
  }),
];
