/** Signs requests, and puts them into their queue. Loads BullMQ, so it is loaded only to send. */
import {
  mayHaveArrived,
  openQueues,
  type Queues,
  type SentRequest,
} from '../backends/redis/queue.ts';
import { URGENT_KINDS } from '../requests/kinds.ts';
import { signToken } from '../requests/token.ts';
import { ChamberlainError, codeOf } from '../shared/errors.ts';
import type { Signer, Submission } from './submission.ts';

export { openQueues };

/**
 * Signs a request and puts it into its queue. If Redis fails, the error says what was sent, because nothing sends
 * the rest by itself.
 *
 * @param far how many requests were sent before this one, and how many there are
 */
export async function put(
  queues: Queues,
  submission: Submission,
  signer: Signer,
  realm: string,
  far: { sent: number; of: number },
): Promise<SentRequest> {
  const { id, kind, requestedBy, approvedBy, fields } = submission;
  const token = await signToken(signer.key, {
    ...{ portal: signer.portal, kid: signer.kid, realm, jti: id, sub: approvedBy, now: new Date() },
    request: { kind, requestedBy, ...fields },
  });
  try {
    return await queues.addRequest(signer.queue, token, URGENT_KINDS.has(kind));
  } catch (cause) {
    const before =
      far.sent === 0
        ? ''
        : `${far.sent} of ${far.of} requests ${far.sent === 1 ? 'was' : 'were'} sent`;
    if (!mayHaveArrived(cause)) {
      const what = far.of === 1 ? 'it again' : far.sent === 0 ? 'them again' : 'the others';
      throw new ChamberlainError(codeOf(cause), before || 'nothing was sent', {
        cause,
        action: `Check that the server runs and can be reached. Then send ${what}.`,
      });
    }
    const others = far.sent + 1 === far.of ? '' : ', and then the others';
    throw new ChamberlainError(
      codeOf(cause),
      `${before && `${before}, and `}${id} may have been sent`,
      {
        cause,
        action: `Check that the server runs and can be reached. Then send that one again with \`chamberlain submit ${kind} … --id ${id}\`${others}: with the same id it counts once.`,
      },
    );
  }
}

/** The error when a request was sent, but the server used to follow it fails. A portal cannot run `requests` later. */
export function lostSight(
  id: string,
  cause: unknown,
  { notSent = 0, isPortal = false } = {},
): ChamberlainError {
  const others =
    notSent === 0 ? '' : `; ${notSent} more ${notSent === 1 ? 'was' : 'were'} not sent`;
  return new ChamberlainError(codeOf(cause), `${id} was sent, but cannot be followed${others}`, {
    cause,
    action: isPortal
      ? `When that is corrected, send it again with \`--id ${id} --wait\`: with the same id it counts once.`
      : `When that is corrected, \`chamberlain requests ${id}\` shows the verdict.`,
  });
}
