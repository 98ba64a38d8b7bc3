/**
 * What a target is: one kind of thing provisioned, as three functions.
 *
 * `want` is pure, `observe` only looks, `plan` is a pure comparison of the two. Nothing here acts.
 */
import type { Realm, Role, Wanted } from '../reconcile/wanted.ts';
import type { TargetPlan } from '../reconcile/plan.ts';

/**
 * @typeParam Reader what the target looks through; an edge provides it, tests may give another
 * @typeParam Want what should be there, in normal form
 * @typeParam Have what is there, in the same normal form
 */
export interface Target<Reader, Want, Have> {
  /** its name in plans and on the command line, kebab-case */
  name: string;
  role: Role;
  /** the kinds of subject that have it */
  of: readonly Wanted['kind'][];
  /** names of targets of the same role; where one of them fails, this one is not acted on */
  needs: readonly string[];
  want(wanted: Wanted, realm: Realm): Want;
  /** What should be there, for people: one line, the object first; never a verifier. */
  describe(want: Want): string;
  /**
   * Looks at many subjects at once: one answer for each, in their order. Throws an `Unreadable`
   * (code BACKEND_UNREADABLE) where the backend cannot be read or the answer is short: absent is
   * not empty.
   */
  observe(reader: Reader, wanted: readonly Wanted[], realm: Realm): Promise<Have[]>;
  plan(want: Want, have: Have, wanted: Wanted): TargetPlan;
}
