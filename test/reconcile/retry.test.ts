/** How often and when a subject is tried again. */
import { describe, expect, test } from '@jest/globals';
import { CODES, type Code } from '../../src/shared/errors.ts';
import { statusOf } from '../../src/reconcile/engine.ts';
import { outcomeOf } from '../../src/reconcile/retry.ts';

const failing = (code: Code) => ({ state: 'failing' as const, code, sentence: 'a sentence' });

describe('outcomeOf', () => {
  test.each([
    { state: 'applied' as const },
    { state: 'waiting' as const, sentence: 'waits for the role homes' },
    { state: 'parked' as const, code: 'NAME_FOREIGN' as const, sentence: 'not ours' },
  ])('$state stays $state', (status) => {
    expect(outcomeOf(status, 3)).toEqual(status);
  });

  test.each(['BACKEND_UNAVAILABLE', 'BACKEND_UNREADABLE'] as const)(
    '%s is tried for ever, at most 2 s apart, so that all is done soon after the return',
    (code) => {
      for (let attempts = 0; attempts < 2000; attempts += 1) {
        const outcome = outcomeOf(failing(code), attempts);
        expect(outcome).toMatchObject({ state: 'failing', code });
        const { retryInMs } = outcome as { retryInMs: number };
        expect(retryInMs).toBeGreaterThanOrEqual(200);
        expect(retryInMs).toBeLessThanOrEqual(2000);
      }
    },
  );

  test.each(['STEP_FAILED', 'STEP_STALE', 'INTERNAL'] as const)(
    '%s is tried with growing pauses, then parked',
    (code) => {
      const pauses: number[] = [];
      let attempts = 0;
      for (; attempts < 100; attempts += 1) {
        const outcome = outcomeOf(failing(code), attempts);
        if (outcome.state === 'parked') break;
        pauses.push((outcome as { retryInMs: number }).retryInMs);
      }
      expect(attempts).toBeLessThan(20);
      expect(pauses).toEqual([...pauses].sort((a, b) => a - b));
      expect(Math.max(...pauses)).toBeLessThanOrEqual(60_000);
      expect(outcomeOf(failing(code), 10_000)).toMatchObject({ state: 'parked', code });
    },
  );

  test('only what a server refuses counts towards giving up', () => {
    expect(outcomeOf(failing('BACKEND_UNAVAILABLE'), 0)).toMatchObject({ counts: false });
    expect(outcomeOf(failing('STEP_FAILED'), 0)).toMatchObject({ counts: true });
  });

  test('what will not go away by itself is never failing: it is parked', () => {
    for (const code of Object.keys(CODES) as Code[]) {
      const trouble = { target: 'a target', code, sentence: 'a sentence' };
      const { state } = statusOf({ findings: [], waiting: [], unreadable: [] }, [trouble]);
      expect([code, state]).toEqual([code, CODES[code].retry ? 'failing' : 'parked']);
    }
  });
});
