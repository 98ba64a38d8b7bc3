/** An attacker who can write to Redis, and holds no key that the configuration knows. */
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { loadConfig } from '../../src/shared/config.ts';
import { openQueues } from '../../src/backends/redis/queue.ts';
import { signToken } from '../../src/requests/token.ts';
import type { StackEnvironment } from './outside.ts';

/** A request in the portal's and the admin's name, signed with the attacker's own key. */
export function forgeToken(): Promise<string> {
  return signToken(generateKeyPairSync('ed25519').privateKey, {
    portal: 'portal',
    realm: 'tools',
    kid: 'portal-1',
    jti: randomUUID(),
    sub: 'steward',
    request: { kind: 'access.grant', requestedBy: 'steward', person: 'carol' },
    now: new Date(),
  });
}

/** Adds a token to the portal's queue of requests. */
export async function pushToken(env: StackEnvironment, token: string): Promise<void> {
  const queues = openQueues(loadConfig(env['CHAMBERLAIN_CONFIG'] ?? ''), 'portal.portal');
  try {
    await queues.addRequest('portal', token, false);
  } finally {
    await queues.close();
  }
}
