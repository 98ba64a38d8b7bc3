/** Signs calls of the API, and the requests in them, as a portal does. */
import type { KeyObject } from 'node:crypto';
import { signCall } from '../../clients/node/src/tokens.ts';
import { MAX_CALL_LIFE_SECONDS } from '../../src/requests/schema.ts';
import { readSigningKey } from '../../src/requests/token.ts';
import type { MeasuredRealm } from '../realm.ts';
import { bytesOf } from './http-client.ts';

export interface ApiCaller {
  /** The bytes of a signed call. */
  sign(method: string, target: string, body?: string): Buffer;
  key: KeyObject;
}

/** @param more further headers */
export function openCaller(
  realm: MeasuredRealm,
  portal: string,
  more: Record<string, string> = {},
): ApiCaller {
  const key = readSigningKey(realm.keyOf(portal));
  const signer = { portal, realm: realm.config.realm, kid: `${portal}-1`, key };
  return {
    key,
    sign(method, target, body) {
      const headers = {
        authorization: `Chamberlain ${signCall(signer, method, target, MAX_CALL_LIFE_SECONDS)}`,
        ...more,
        ...(body === undefined ? {} : { 'content-type': 'application/jwt' }),
      };
      return bytesOf(method, target, headers, body);
    },
  };
}
