/** Unmanaged things: what is in our places, or has a number of our ranges, and is not ours. Pure. */
import type { Role } from '../reconcile/wanted.ts';

/** In the order in which they are shown: what may let somebody in comes first. */
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
  /** the name of an account that it has, or would have */
  name?: string | undefined;
  number?: number | undefined;
  /** a DN, `uid 12345`; undefined: the place does not record it */
  madeBy?: string | undefined;
  madeAt?: Date | undefined;
  /** tells it from another thing of the same name */
  identity?: string | undefined;
}

/** What a role has seen in one place that can be read, or not, by itself. */
export interface Looked {
  place: string;
  things: SeenThing[];
  /** what was listed before and is not there any more: these objects, or all that is not among `things` */
  gone: readonly string[] | 'the rest';
}

/** A thing as it is listed. */
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
  /** ignored, and not there any more */
  goneAt: Date | null;
  ignoredAt: Date | null;
  ignoredBy: string | null;
  reason: string | null;
}

/** Nobody has decided about it. */
export function isUndecided({ ignoredAt }: Pick<UnmanagedThing, 'ignoredAt'>): boolean {
  return ignoredAt === null;
}

/**
 * The things that a word on the command line names: by the object itself, a DN without the base or in other
 * case, a name, or a number.
 *
 * @param base the suffix of the directory
 */
export function thingsNamed<Thing extends Pick<UnmanagedThing, 'object' | 'name' | 'number'>>(
  things: readonly Thing[],
  word: string,
  base: string,
): Thing[] {
  // a database user as the list shows it, with its server
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
