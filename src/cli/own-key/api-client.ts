/** Sends requests through the HTTP API, from a machine that has neither the configuration of the realm nor its secrets. */
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { type IncomingMessage, request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { hasCome, type Outcome } from '../../requests/request-progress.ts';
import { signCall, signToken } from '../../requests/token.ts';
import { ChamberlainError, CODES, type Code } from '../../shared/errors.ts';
import { type Signer, type Submission, usage } from '../submission.ts';
import { type AdminFile, adminFilePath } from './admin-file.ts';

/** The longest time for which the API lets a call wait. */
const MOST_WAIT_SECONDS = 60;

const NO_VERDICT = 'it has no verdict yet';
const NOT_DONE = 'it is accepted, but not applied everywhere yet';

/**
 * Signs a request and sends it. With `waitSeconds`, waits until it is done, refused, or cannot go on; undefined: only
 * sends it. Throws what the API answers to a call that it does not accept.
 */
export async function sendOverHttp(
  file: AdminFile,
  signer: Signer,
  { id, kind, requestedBy, approvedBy, fields }: Submission,
  waitSeconds: number | undefined,
): Promise<Outcome | undefined> {
  const { portal, kid, key } = signer;
  const token = await signToken(key, {
    ...{ portal, kid, realm: file.realm, jti: id, sub: approvedBy, now: new Date() },
    request: { kind, requestedBy, ...fields },
  });
  const end = performance.now() + (waitSeconds ?? 0) * 1000;
  for (;;) {
    const left = Math.max(0, Math.ceil((end - performance.now()) / 1000));
    const seconds = Math.min(left, MOST_WAIT_SECONDS);
    const target = `/v1/requests${waitSeconds === undefined ? '' : `?wait=done&seconds=${seconds}`}`;
    // the same request again counts once
    const { data, ...outcome } = await post(file, signer, target, { id, token });
    if (waitSeconds === undefined) return undefined;
    if (hasCome(outcome, 'done')) return outcome.done ? { ...outcome, data } : outcome;
    const sentence = outcome.verdict === null ? NO_VERDICT : NOT_DONE;
    if (left <= seconds) return { ...outcome, sentence };
  }
}

async function post(
  file: AdminFile,
  signer: Signer,
  target: string,
  { id, token }: { id: string; token: string },
): Promise<Outcome> {
  const { api, caFile, realm } = file;
  if (api === undefined) throw usage(`${adminFilePath()} does not say where the API is (\`api\`)`);
  const url = new URL(target, api);
  const { portal, kid, key } = signer;
  const call = { method: 'POST', target: `${url.pathname}${url.search}` };
  const of = { portal, realm, kid, jti: randomUUID(), now: new Date() };
  const authorization = `Chamberlain ${await signCall(key, { ...of, ...call })}`;
  const send = url.protocol === 'https:' ? httpsRequest : httpRequest;
  let answer: IncomingMessage;
  let text = '';
  try {
    const sent = send(url, {
      method: 'POST',
      headers: { authorization, 'content-type': 'application/jwt' },
      timeout: (MOST_WAIT_SECONDS + 30) * 1000,
      ...(caFile === undefined ? {} : { ca: readFileSync(caFile) }),
    });
    sent.on('timeout', () => sent.destroy(new Error('it did not answer in time')));
    sent.end(token);
    [answer] = (await once(sent, 'response')) as [IncomingMessage];
    for await (const chunk of answer.setEncoding('utf8')) text += chunk as string;
  } catch (cause) {
    throw new ChamberlainError(
      'BACKEND_UNAVAILABLE',
      `calling the API at ${url.origin}: ${id} may have been sent`,
      { cause, action: sendAgain(id) },
    );
  }
  return readAnswer(url.origin, answer, text, id);
}

/** The outcome that the API answers. A proxy may answer in its place: then nobody knows whether the request has arrived. */
function readAnswer(
  origin: string,
  { statusCode: status = 0, headers }: IncomingMessage,
  text: string,
  id: string,
): Outcome {
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    body = undefined;
  }
  const found = (body ?? {}) as Outcome & { id?: string; code?: string; detail?: string };
  if ((status === 200 || status === 202) && found.id === id) return found;
  const isProblem = headers['content-type']?.startsWith('application/problem+json') === true;
  const { code, detail } = isProblem ? found : {};
  const isKnown = code !== undefined && Object.hasOwn(CODES, code);
  throw new ChamberlainError(
    isKnown ? (code as Code) : 'BACKEND_UNAVAILABLE',
    detail ?? `the answer from ${origin}, with status ${status}, is not from the API`,
    isKnown ? {} : { action: sendAgain(id) },
  );
}

function sendAgain(id: string): string {
  return `Check that the API runs and can be reached. Then run the command again with \`--id ${id}\`: with the same id the request counts once.`;
}
