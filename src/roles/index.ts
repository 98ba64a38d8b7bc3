/** The roles. Adding one costs its folder and a line here. */
import { databases } from './databases/role.ts';
import { directory } from './directory/role.ts';
import { homes } from './homes/role.ts';
import type { RoleDescriptor, Verb } from './descriptor.ts';
import type { Action } from '../reconcile/action.ts';
import type { Role } from '../reconcile/wanted.ts';

/**
 * In the order in which they are shown. The position is part of the role's locks in PostgreSQL (the table `roles`), so a
 * new role comes last.
 */
export const REGISTRY = [
  // one line each
  directory,
  homes,
  databases,
] as const;

/** Their names, in that order. */
export const ROLES: readonly Role[] = REGISTRY.map(({ name }) => name);

/** What a machine of its own can run. Intake and the relay know passwords of portals, so they stay. */
export type MovableRole = Role | 'sweep';
export const MOVABLE_ROLES: readonly MovableRole[] = [...ROLES, 'sweep'];

const BY_NAME = new Map<string, RoleDescriptor>(REGISTRY.map((role) => [role.name, role]));

/** The descriptor of a role. */
export function describedRole(name: Role): RoleDescriptor {
  return BY_NAME.get(name) as RoleDescriptor;
}

/** Whether a role archives what leaves. */
export function isArchiving(name: Role): boolean {
  return describedRole(name).archives !== undefined;
}

/** The roles that archive what leaves. */
export const ARCHIVING_ROLES: readonly Role[] = ROLES.filter(isArchiving);

/** The role that has a target of that name; undefined: there is no such target. */
export function roleOfTarget(target: string): Role | undefined {
  return REGISTRY.find(({ targets }) => targets.some(({ name }) => name === target))?.name;
}

/** The target of that name. */
export function targetNamed(target: string) {
  return REGISTRY.flatMap(({ targets }) => targets).find(({ name }) => name === target);
}

const VERBS = new Map<string, Verb<Action>>(REGISTRY.flatMap(({ verbs }) => Object.entries(verbs)));

/** What an action does; undefined: a worker of another version knows it. */
export function verbOf({ verb }: { verb: string }): Verb<Action> | undefined {
  return VERBS.get(verb);
}

/** Names of roles as SQL takes them in a list: `'homes', 'databases'`. */
export function sqlList(roles: readonly Role[]): string {
  return roles.map((role) => `'${role}'`).join(', ');
}
