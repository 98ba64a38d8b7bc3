/** Sends requests through the HTTP API, from a machine that has neither the configuration of the realm nor its secrets. */
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { type IncomingMessage, request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { Outcome } from '../../requests/request-progress.ts';
import { signCall, signToken } from '../../requests/token.ts';
import { ChamberlainError, CODES, type Code } from '../../shared/errors.ts';
import type { Ending } from '../follow.ts';
import { type Signer, type Submission, usage } from '../submission.ts';
import { type AdminFile, adminFilePath } from './admin-file.ts';

/** The longest time for which the API lets a call wait. */
const MOST_WAIT_SECONDS = 60;

/**
 * Signs a request and sends it. With `waitSeconds`, waits until it is done, refused, or cannot go on; undefined: only
 * sends it. Throws what the API answers to a call that it does not accept.
 */
export async function sendOverHttp(
  file: AdminFile,
  signer: Signer,
  { id, kind, requestedBy, approvedBy, fields }: Submission,
  waitSeconds: number | undefined,
): Promise<Ending | undefined> {
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
    const outcome = (await post(file, signer, target, token)) as Outcome;
    if (waitSeconds === undefined) return undefined;
    const ending = endingOf(outcome);
    if (ending.ending !== 'timeout' || left <= seconds) return ending;
  }
}

function endingOf(outcome: Outcome): Ending {
  const { verdict, done, waiting, rejected, code, sentence = '' } = outcome;
  if (waiting === true) return { ending: 'waiting', sentence };
  if (rejected === true) return { ending: 'rejected', sentence };
  if (verdict === 'refused') return { ending: 'refused', code: code ?? 'INTERNAL', sentence };
  if (done) return { ending: 'applied' };
  if (code !== undefined) return { ending: 'parked', code, sentence };
  const isAccepted = verdict === 'accepted';
  const state = isAccepted
    ? 'it is accepted, but not applied everywhere yet'
    : 'it has no verdict yet';
  return { ending: 'timeout', accepted: isAccepted, sentence: state };
}

async function post(file: AdminFile, signer: Signer, target: string, token: string) {
  const { api, caFile, realm } = file;
  if (api === undefined) throw usage(`${adminFilePath()} does not say where the API is (\`api\`)`);
  const url = new URL(target, api);
  const { portal, kid, key } = signer;
  const call = { method: 'POST', target: `${url.pathname}${url.search}` };
  const of = { portal, realm, kid, jti: randomUUID(), now: new Date() };
  const authorization = `Chamberlain ${await signCall(key, { ...of, ...call })}`;
  const send = url.protocol === 'https:' ? httpsRequest : httpRequest;
  let status = 0;
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
    const [answer] = (await once(sent, 'response')) as [IncomingMessage];
    status = answer.statusCode ?? 0;
    for await (const chunk of answer.setEncoding('utf8')) text += chunk as string;
  } catch (cause) {
    throw new ChamberlainError('BACKEND_UNAVAILABLE', `calling the API at ${url.origin}`, {
      cause,
    });
  }
  return readAnswer(url.origin, status, text);
}

function readAnswer(origin: string, status: number, text: string): unknown {
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    body = undefined;
  }
  if ((status === 200 || status === 202) && body !== undefined) return body;
  const { code, detail } = (body ?? {}) as { code?: string; detail?: string };
  const isKnown = code !== undefined && Object.hasOwn(CODES, code);
  throw new ChamberlainError(
    isKnown ? (code as Code) : 'BACKEND_UNAVAILABLE',
    detail ?? `the API at ${origin} answered with status ${status}`,
  );
}
