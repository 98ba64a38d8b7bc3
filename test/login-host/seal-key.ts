/** A key that signs seals in a test, and its public half as a login host is given it. */
import { generateKeyPairSync } from 'node:crypto';
import { sealKeyId, type SealKey } from '../../src/seals/seal.ts';

export function newSealKey(): SealKey & { publicPem: string } {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519');
  const publicPem = String(publicKey.export({ type: 'spki', format: 'pem' }));
  return { id: sealKeyId(privateKey), privateKey, publicPem };
}
