/** Decisions after a backup: most of them take something away, some of them give. */
import { STEWARD } from '../idle.ts';
import {
  fingerprintOf,
  keyLine,
  maintainersOf,
  personName,
  toolName,
} from '../population/population-names.ts';
import type { Population } from '../population/population.ts';
import type { Portal } from '../portal.ts';

/** This many wait for their end at a time. */
const AT_ONCE = 10;

/**
 * Requests `count` decisions or a few less, equally many of each kind, each about another subject; waits for
 * all.
 */
export async function decideMuch(
  portal: Portal,
  population: Population,
  count: number,
): Promise<void> {
  const kinds: ((n: number) => Record<string, unknown>)[] = [
    (n) => ({ kind: 'person.suspend', person: personName(n), reason: 'measured' }),
    (n) => ({ kind: 'access.revoke', person: personName(n) }),
    (n) => ({ kind: 'key.remove', person: personName(n), fingerprint: fingerprintOf(keyLine(n)) }),
    (n) => ({ kind: 'key.add', person: personName(n), key: keyLine(population.people + n) }),
    (n) => ({ kind: 'tool.disable', tool: toolName(n), reason: 'measured' }),
    (n) => ({ kind: 'credentials.rotate', tool: toolName(n), atOnce: true }),
    (n) => ({
      ...{ kind: 'maintainer.remove', tool: toolName(n) },
      person: personName(maintainersOf(n, population)[0] ?? 0),
    }),
    (n) => ({
      ...{ kind: 'maintainer.add', tool: toolName(n) },
      person: personName(population.people - 1 - n),
    }),
  ];
  const each = Math.floor(count / kinds.length);
  const requests = kinds.flatMap((request, kind) =>
    Array.from({ length: each }, (_, n) => request(kind * each + n)),
  );
  for (let at = 0; at < requests.length; at += AT_ONCE) {
    await Promise.all(
      requests.slice(at, at + AT_ONCE).map((request) => portal.settle(STEWARD, request)),
    );
  }
}
