/** The verbs of the role `directory`: what its writer can do. Pure. */
import type { Attributes, EntryRef } from '../../reconcile/action.ts';
import type { VerbsOf } from '../descriptor.ts';

export type DirectoryAction =
  | { verb: 'ldap.add'; entry: EntryRef; attributes: Attributes }
  | {
      verb: 'ldap.modify';
      entry: EntryRef;
      /** refused unless the entry (still) has these values */
      expect: Record<string, string>;
      changes: { attribute: string; remove: string[]; add: string[] }[];
    }
  | { verb: 'ldap.delete'; entry: EntryRef; expect: Record<string, string> };

declare module '../../reconcile/action.ts' {
  interface RoleActions {
    directory: DirectoryAction;
  }
}

export const DIRECTORY_VERBS: VerbsOf<DirectoryAction> = {
  'ldap.add': { part: () => 'the entry' },
  'ldap.delete': { part: () => 'the entry' },
  'ldap.modify': {
    part: ({ changes }) =>
      changes
        .map(({ attribute }) => attribute)
        .toSorted()
        .join(', '),
  },
};
