/** The demo's requests over HTTP, sent as a portal in any language would: it uses nothing of Chamberlain. */
import { createPrivateKey, type KeyObject, randomUUID, sign } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Outcome } from './chamberlain.ts';
import type { StackEnvironment } from './outside.ts';

const PORTAL = { iss: 'portal', kid: 'portal-1', realm: 'tools' };
const WAITING = '/v1/requests?wait=done';

/**
 * Sends requests, one JSON object a line, each followed to its end before the next; reports each as it ends. Throws
 * if the API does not answer with an outcome.
 */
export async function post(
  env: StackEnvironment,
  lines: readonly string[],
  onEnd: (outcome: Outcome) => void,
  signal: AbortSignal,
): Promise<void> {
  const key = createPrivateKey(readFileSync(env['PORTAL_KEY'] ?? ''));
  for (const line of lines) {
    const { id, approvedBy, ...request } = JSON.parse(line) as Record<string, string>;
    const begin = performance.now();
    const call = { aud: `${PORTAL.realm}/api`, jti: randomUUID(), htm: 'POST', htu: WAITING };
    const asked = {
      aud: PORTAL.realm,
      jti: id,
      sub: approvedBy ?? request['requestedBy'],
      request,
    };
    const answer = await fetch(`${env['API_URL']}${WAITING}`, {
      method: 'POST',
      headers: {
        authorization: `Chamberlain ${token(key, call)}`,
        'content-type': 'application/jwt',
      },
      body: token(key, asked),
      signal,
    });
    const outcome = (await answer.json()) as Outcome;
    if (!answer.ok)
      throw new Error(`the API answered ${answer.status}: ${JSON.stringify(outcome)}`);
    const kind = request['kind'] ?? '';
    onEnd({ ...outcome, kind, elapsedMs: performance.now() - begin });
  }
}

/** A compact JWS (RFC 7515), signed with Ed25519 and valid for a minute. */
function token(key: KeyObject, claims: object): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const iat = Math.floor(Date.now() / 1000);
  const header = { alg: 'EdDSA', kid: PORTAL.kid };
  const text = `${part(header)}.${part({ iss: PORTAL.iss, iat, exp: iat + 60, ...claims })}`;
  return `${text}.${sign(null, Buffer.from(text), key).toString('base64url')}`;
}
