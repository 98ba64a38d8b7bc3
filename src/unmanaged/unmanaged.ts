/** Unmanaged things: what is in our places, or has a number from our ranges, but is not ours. Pure. */
import type { Role } from '../reconcile/wanted.ts';

/** In the order in which they are shown: things that may give somebody access come first. */
export const UNMANAGED_KINDS = [
  'account',
  'member',
  'group',
  'rule',
  'referral',
  'alias',
  'oversized entry',
  'entry',
  'home',
  'database user',
  'archive',
] as const;
export type UnmanagedKind = (typeof UNMANAGED_KINDS)[number];

/** A thing as a role has seen it. */
export interface SeenThing {
  /** a DN, `<DN> in <DN of a group>`, a path, `user@host` */
  object: string;
  kind: UnmanagedKind;
  /** the account name that it has, or would have */
  name?: string | undefined;
  number?: number | undefined;
  /** a DN, or `uid 12345`; undefined if the place does not record it */
  madeBy?: string | undefined;
  madeAt?: Date | undefined;
  /** distinguishes it from another thing of the same name */
  identity?: string | undefined;
}

/** What a role has seen in one place. Each place is read, or fails, independently of others. */
export interface Looked {
  place: string;
  things: SeenThing[];
  /** what was listed before and is gone: these objects, or everything that is not among `things` */
  gone: readonly string[] | 'the rest';
}

/** A thing in the list. */
export interface UnmanagedThing {
  role: Role;
  place: string;
  object: string;
  kind: UnmanagedKind;
  name: string | null;
  number: number | null;
  madeBy: string | null;
  madeAt: Date | null;
  /** first seen */
  since: Date;
  /** set if it was ignored and is gone */
  goneAt: Date | null;
  ignoredAt: Date | null;
  ignoredBy: string | null;
  reason: string | null;
}

/** Whether no admin has decided on it. */
export function isUndecided({ ignoredAt }: Pick<UnmanagedThing, 'ignoredAt'>): boolean {
  return ignoredAt === null;
}

/**
 * The things that a word on the command line names: by the object itself, by a DN without the base or with other
 * case, by a name, or by a number.
 *
 * @param base the suffix of the directory
 */
export function thingsNamed<Thing extends Pick<UnmanagedThing, 'object' | 'name' | 'number'>>(
  things: readonly Thing[],
  word: string,
  base: string,
): Thing[] {
  // the list shows a database user with its server
  const text = word.trim().replace(/ on \S+$/u, '');
  const exact = things.filter(({ object }) => object === text);
  if (exact.length > 0) return exact;
  const plain = plainDn(text);
  const dns = things.filter(({ object }) =>
    [plain, `${plain},${plainDn(base)}`].includes(plainDn(object)),
  );
  if (dns.length > 0) return dns;
  return things.filter(({ name, number }) => name === text || String(number) === text);
}

function plainDn(text: string): string {
  return text.toLowerCase().replaceAll(/\s*([,=])\s*/gu, '$1');
}

/** `3 accounts`, `1 database user`, `2 entries`, worst first. */
export function countKinds(things: readonly Pick<UnmanagedThing, 'kind'>[]): string {
  return UNMANAGED_KINDS.flatMap((kind) => {
    const count = things.filter((thing) => thing.kind === kind).length;
    return count === 0 ? [] : [`${count} ${nounOf(kind, count)}`];
  }).join(', ');
}

/** `account`, `accounts`, `entries`. */
export function nounOf(kind: UnmanagedKind, count: number): string {
  if (count === 1) return kind;
  if (kind === 'alias') return 'aliases';
  return kind.endsWith('entry') ? kind.replace(/y$/u, 'ies') : `${kind}s`;
}
