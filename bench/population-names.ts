/** Who a filled realm is made of, and from which numbers on: far from those that intake gives. */
import { createHash } from 'node:crypto';

export const PEOPLE_FIRST = 10_000;
export const TOOLS_FIRST = 70_000;

export const personName = (n: number): string => `person-${n}`;
export const toolName = (n: number): string => `tool-${n}`;

/** A tool has one to three maintainers, spread evenly over the people. */
export function maintainersOf(tool: number, people: number): number[] {
  const found = [0, 1, 2].slice(0, 1 + (tool % 3)).map((k) => (tool * 3 + k * 7919) % people);
  return [...new Set(found)];
}

/** One key for each person, of the right form: nobody has the other half. */
export function keyLine(person: number): string {
  const point = createHash('sha256').update(`key of ${person}`).digest();
  const blob = Buffer.concat([
    Buffer.from([0, 0, 0, 11]),
    Buffer.from('ssh-ed25519'),
    Buffer.from([0, 0, 0, 32]),
    point,
  ]);
  return `ssh-ed25519 ${blob.toString('base64')}`;
}

/** Everybody's password, so that every verifier is the same. */
export const PASSWORD = 'PopulationPopulationPopulation32';
