/** Checks: what the verdict on a request would be now. */
import { setTimeout as sleep } from 'node:timers/promises';
import * as z from 'zod';
import { away, Problem } from '../problem.ts';
import { route } from '../route.ts';
import { checkToken, send } from './requests.ts';

/** Intake answers checks after the requests that wait beside them. Nobody waits longer for a verdict that may change. */
const ANSWERED_WITHIN_MS = 10_000;
/** A pause between two looks at a check: a share of the time that it has taken. */
const PAUSE = { share: 0.08, leastMs: 2, mostMs: 100 };

const CHECKED = z
  .object({
    id: z.uuid(),
    verdict: z.enum(['accepted', 'refused']),
    code: z.string().optional(),
    sentence: z.string().optional(),
    check: z.literal(true),
  })
  .describe('the verdict that the request would get');

export const CHECK_ROUTES = [
  route({
    method: 'POST',
    path: '/v1/checks',
    summary: 'ask what the verdict on a request would be',
    description:
      'The body is the token of a request with the claim `check: true`. Intake decides by the same rules, does nothing and records nothing. The request itself may still get another verdict later.',
    right: 'token',
    bodies: { 'application/jwt': z.string() },
    replies: { 200: CHECKED },
  }).handle(async (api, { caller, body, signal }) => {
    const token = body.trim();
    const job = await checkToken(api, caller.name, token);
    const { signed } = job;
    if (signed.claims.check === undefined) {
      throw new Problem(
        400,
        'REQUEST_INVALID',
        'The token lacks the claim `check: true`. Send a request that is to be carried out to /v1/requests.',
      );
    }
    const sent = await send(api, token, job);
    const began = performance.now();
    for (let ms = 0; ms < ANSWERED_WITHIN_MS; ms = performance.now() - began) {
      if (signal.aborted) break;
      await sleep(Math.min(PAUSE.mostMs, Math.max(PAUSE.leastMs, ms * PAUSE.share)));
      const { verdict, refusal } = await sent.readAnswer();
      if (verdict !== undefined) {
        return { status: 200, body: CHECKED.parse({ id: signed.claims.jti, ...verdict }) };
      }
      if (refusal !== undefined) throw new Problem(400, refusal.code as never, refusal.sentence);
    }
    throw away();
  }),
];
