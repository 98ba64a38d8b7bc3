/** Which roles a change of a subject touches, according to their descriptors. Pure. */
import type { Role } from '../reconcile/wanted.ts';
import type { Change, Touch } from './descriptor.ts';
import { REGISTRY, ROLES } from './index.ts';

/** A role that must look at a subject. */
export interface RoleTouch extends Touch {
  subject: number;
  role: Role;
}

/** The roles that follow such changes of a subject. */
export function touchesOfChange(subject: number, ...changes: Change[]): RoleTouch[] {
  return REGISTRY.flatMap(({ name: role, touchedBy }) =>
    changes.flatMap((change) => {
      const how = touchedBy[change];
      return how === undefined ? [] : [{ subject, role, ...how }];
    }),
  );
}

/** The same for several subjects. */
export function touchesOfEach(subjects: Iterable<number>, ...changes: Change[]): RoleTouch[] {
  return [...subjects].flatMap((subject) => touchesOfChange(subject, ...changes));
}

/** Every role, whatever it follows: the subject is new, comes back or is deleted. */
export function touchesOfEveryRole(subject: number): RoleTouch[] {
  return ROLES.map((role) => ({ subject, role }));
}
