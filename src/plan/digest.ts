/** The digest of a plan: what an admin has seen, in 64 hex digits. */
import { canonicalJson, withoutNuls } from '../model/canonical-json.ts';
import type { Step } from './plan.ts';

/**
 * The SHA-256 of the canonical JSON of the steps, in lower case hex. The order of the steps counts,
 * the order of the fields within one does not. It is the same before and after the steps were stored.
 *
 * @param sha256Hex hashes a text as UTF-8
 */
export function digestSteps(steps: readonly Step[], sha256Hex: (text: string) => string): string {
  return sha256Hex(withoutNuls(canonicalJson(steps)));
}
