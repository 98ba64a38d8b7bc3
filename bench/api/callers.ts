/** Signs calls of the API, and the requests in them, as a portal does. */
import { randomUUID, type KeyObject } from 'node:crypto';
import { readSigningKey, signCall } from '../../src/requests/token.ts';
import type { MeasuredRealm } from '../realm.ts';
import { bytesOf } from './http-client.ts';

export interface ApiCaller {
  /** The bytes of a signed call. */
  sign(method: string, target: string, body?: string): Promise<Buffer>;
  key: KeyObject;
}

/** @param more further headers */
export function openCaller(
  realm: MeasuredRealm,
  portal: string,
  more: Record<string, string> = {},
): ApiCaller {
  const key = readSigningKey(realm.keyOf(portal));
  return {
    key,
    async sign(method, target, body) {
      const token = await signCall(key, {
        ...{ portal, realm: realm.config.realm, kid: `${portal}-1`, jti: randomUUID() },
        ...{ now: new Date(), method, target },
      });
      const headers = {
        authorization: `Chamberlain ${token}`,
        ...more,
        ...(body === undefined ? {} : { 'content-type': 'application/jwt' }),
      };
      return bytesOf(method, target, headers, body);
    },
  };
}
