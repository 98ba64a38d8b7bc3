/** Unmanaged things, as text for people. Pure. */
import { timeOf } from '../shared/time.ts';
import {
  countKinds,
  isUndecided,
  nounOf,
  UNMANAGED_KINDS,
  type UnmanagedThing,
} from './unmanaged.ts';

/** How many of each kind are named. */
const SHOWN = 5;

/** What a thing is, when it was first seen, and who made it, without a full stop. */
export function describeThing(thing: UnmanagedThing): string {
  const { object, kind, number, place, since, goneAt } = thing;
  const decided = describeDecision(thing);
  return [
    `${object}: ${kind}${kind === 'database user' ? ` on ${place}` : ''}`,
    // the owner of a home is named below
    ...(number === null || thing.madeBy === `uid ${number}` ? [] : [`number ${number}`]),
    describeMaking(thing),
    `first seen ${timeOf(since)}`,
    ...(goneAt === null ? [] : [`gone since ${timeOf(goneAt)}`]),
    ...(decided === '' ? [] : [decided]),
  ].join(', ');
}

/**
 * `made 2026-11-24 21:11:05Z by cn=admin,…`. For a home or an archive: its owner and the time of its last
 * change. For a member: who last changed the group. For a database user: when its password was set.
 */
export function describeMaking({
  kind,
  madeBy,
  madeAt,
}: Pick<UnmanagedThing, 'kind' | 'madeBy' | 'madeAt'>): string {
  const at = madeAt === null ? '' : ` ${timeOf(madeAt)}`;
  const by = madeBy === null ? '' : ` by ${madeBy}`;
  switch (kind) {
    case 'home':
    case 'archive':
      return `owned by ${madeBy ?? 'an unknown user'}, changed${at}`;
    case 'database user':
      return at === '' ? 'the server does not record who made it' : `password set${at}`;
    case 'member':
      return at + by === '' ? 'it is not known who added it' : `the group was changed${at}${by}`;
    default:
      return at + by === '' ? 'the directory does not record who made it' : `made${at}${by}`;
  }
}

/** `ignored 2026-11-24 21:11:05Z by unix:root: other projects`; empty where no admin has decided. */
export function describeDecision({
  ignoredAt,
  ignoredBy,
  reason,
}: Pick<UnmanagedThing, 'ignoredAt' | 'ignoredBy' | 'reason'>): string {
  return ignoredAt === null ? '' : `ignored ${timeOf(ignoredAt)} by ${ignoredBy}: ${reason}`;
}

/** The undecided things, by kind, and how many are ignored; empty where there are none of either. */
export function renderUnmanaged(things: readonly UnmanagedThing[]): string {
  const undecided = things.filter(isUndecided);
  const ignored = things.length - undecided.length;
  const lines = UNMANAGED_KINDS.flatMap((kind) => {
    const of = undecided.filter((thing) => thing.kind === kind);
    const more = of.length - SHOWN;
    return [
      ...of.slice(0, SHOWN).map((thing) => `  ? ${describeThing(thing)}`),
      ...(more > 0 ? [`    … and ${more} more ${nounOf(kind, more)}`] : []),
    ];
  });
  const also = ignored === 0 ? '' : `${ignored} ignored: see \`chamberlain list unmanaged\``;
  if (undecided.length === 0) return also === '' ? '' : `Unmanaged: ${also}`;
  return [
    `Unmanaged, and undecided: ${countKinds(undecided)}${also === '' ? '' : `; ${also}`}`,
    ...lines,
  ].join('\n');
}
