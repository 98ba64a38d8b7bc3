/** What a role adds to the statements that read the wanted state, and what becomes of it. Pure. */
import type { Wanted } from './wanted.ts';

/** What every role knows of a person or tool. */
export interface BaseRow {
  uid: number;
  kind: Wanted['kind'];
  account: string;
  state: Wanted['state'];
  /** false of a tool */
  isRealmMember: boolean;
}

export interface WantedColumns {
  /** SQL: columns over `people p`, each after a comma */
  person: string;
  /** SQL: columns over `tools t` */
  tool: string;
  /** the properties that they become of the wanted state (src/reconcile/wanted.ts) */
  // PostgreSQL gives what the columns of the same object ask for.
  // eslint-disable-next-line @typescript-eslint/no-explicit-any
  toWanted: (row: any, base: BaseRow) => object;
  /** only this role may read them, or they are of it alone: verifiers, its archives. `explain` reads all others */
  own?: true;
}

export function isGiven<T>(value: T | null | undefined): value is T {
  return value !== null && value !== undefined;
}
