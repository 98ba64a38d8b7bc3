/** The people and tools of a filled realm, and their first numbers: far from those that intake gives. */
import { createHash, createPrivateKey, createPublicKey } from 'node:crypto';
import type { ShapedPerson, ShapedTool } from '../tools/shapes.ts';

export const PEOPLE_FIRST = 100_000;
export const TOOLS_FIRST = 320_000;

export const personName = (n: number): string => `person-${n}`;
export const toolName = (n: number): string => `tool-${n}`;

/** Every tool has this many maintainers, by default one to three, spread evenly over the people. */
export function maintainersOf(
  tool: number,
  { people, maintainers = 1 + (tool % 3) }: { people: number; maintainers?: number },
): number[] {
  const found = Array.from({ length: maintainers }, (_, k) => (tool * 3 + k * 7919) % people);
  return [...new Set(found)];
}

export function shapedPerson(n: number): ShapedPerson {
  return { name: personName(n), uid: PEOPLE_FIRST + n, key: keyLine(n) };
}

export function shapedTool(
  n: number,
  population: { people: number; maintainers?: number },
): ShapedTool {
  const maintainers = maintainersOf(n, population).map(personName);
  return { name: toolName(n), uid: TOOLS_FIRST + n, maintainers };
}

const WEEK_MS = 7 * 86_400_000;

/** When the seals that are made now end: in whole seconds, as PostgreSQL stores it. */
export function sealsUntil(now: number = Date.now()): string {
  return new Date(now + WEEK_MS).toISOString().replace(/\.\d+/, '');
}

/** PKCS #8 of an Ed25519 key up to its 32 bytes (RFC 8410, section 7). */
const PRIVATE_HEAD = Buffer.from('302e020100300506032b657004220420', 'hex');

/** One key for each number, the same each time. */
export function keyLine(person: number): string {
  const seed = createHash('sha256').update(`key of ${person}`).digest();
  const key = Buffer.concat([PRIVATE_HEAD, seed]);
  const pair = createPrivateKey({ key, format: 'der', type: 'pkcs8' });
  const point = createPublicKey(pair).export({ format: 'der', type: 'spki' }).subarray(-32);
  const blob = Buffer.concat([
    Buffer.from([0, 0, 0, 11]),
    Buffer.from('ssh-ed25519'),
    Buffer.from([0, 0, 0, 32]),
    point,
  ]);
  return `ssh-ed25519 ${blob.toString('base64')}`;
}

/** As population-postgres.ts computes it: unique for each line, but not the real fingerprint of the key. */
export function fingerprintOf(line: string): string {
  return `SHA256:${createHash('sha256').update(line).digest('base64').replace(/=+$/, '')}`;
}

/** Everybody's password, so that every verifier is the same. */
export const PASSWORD = 'PopulationPopulationPopulation32';
