/** The digest of a plan: what an admin has seen, in 64 hex digits. */
import { createHash } from 'node:crypto';
import { canonicalJson, withoutNuls } from '../shared/canonical-json.ts';
import type { Step } from './plan.ts';

/**
 * The SHA-256 of the canonical JSON of the steps, in lower case hex. The order of the steps counts,
 * the order of the fields within one does not. It is the same before and after the steps were stored.
 */
export function digestSteps(steps: readonly Step[]): string {
  return createHash('sha256')
    .update(withoutNuls(canonicalJson(steps)))
    .digest('hex');
}
