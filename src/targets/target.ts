/**
 * A target: one kind of thing that is provisioned, as three functions.
 *
 * `want` is pure, `observe` only reads, `plan` is a pure comparison of the two. Nothing here changes anything.
 */
import type { Realm, Wanted } from '../reconcile/wanted.ts';
import type { TargetPlan } from '../reconcile/plan.ts';

/**
 * @typeParam Reader what the target reads through; a backend provides it, and tests may provide another
 * @typeParam Want what should exist, in normal form
 * @typeParam Have what exists, in the same normal form
 */
export interface Target<Reader, Want, Have> {
  /** its name in plans and on the command line, kebab-case */
  name: string;
  /** the kinds of subject that have it */
  of: readonly Wanted['kind'][];
  /** names of targets of the same role; if one of them fails, this target does nothing */
  needs: readonly string[];
  want(wanted: Wanted, realm: Realm): Want;
  /** What should exist, for people: one line, the object first; never a verifier. */
  describe(want: Want): string;
  /**
   * Reads many subjects at once: one answer for each, in order. Throws an `Unreadable` (code
   * BACKEND_UNREADABLE) if the backend cannot be read or the answer is incomplete, because what could not be
   * read must not be taken for absent.
   */
  observe(reader: Reader, wanted: readonly Wanted[], realm: Realm): Promise<Have[]>;
  plan(want: Want, have: Have, wanted: Wanted): TargetPlan;
}
