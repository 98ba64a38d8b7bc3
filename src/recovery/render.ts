/** What `chamberlain recover` shows: what the evidence changes, what an admin must decide, and what is lost. Pure. */
import { createHash } from 'node:crypto';
import { canonicalJson } from '../shared/canonical-json.ts';
import type { Open, Taking } from './taking.ts';

/** What a recovery will do, as an admin reads it. See src/recovery/write-recovery.ts. */
export interface RecoveryList {
  ranges: { kind: 'person' | 'tool'; first: number; last: number; to: number }[];
  exhausted: ('person' | 'tool')[];
  names: string[];
  credentials: { account: string }[];
  erased: { account: string }[];
  leaving: { deleted: { account: string }[] };
  takings: readonly Taking[];
  open: readonly Open[];
}

/** The SHA-256, in lower case hex, of everything that is to be done and decided: of what an admin has read. */
export function digestRecovery(list: RecoveryList): string {
  const { ranges, exhausted, names, credentials, erased, leaving, takings, open } = list;
  const read = {
    ...{ ranges: ranges.map(({ kind, first, to }) => ({ kind, first, to })), exhausted, names },
    credentials: credentials.map(({ account }) => account),
    erased: erased.map(({ account }) => account),
    deleted: leaving.deleted.map(({ account }) => account),
    ...{ takings, open },
  };
  return createHash('sha256').update(canonicalJson(read)).digest('hex');
}

/** What a taking changes, for people to read. */
export function describeTaking(taking: Taking): string {
  const {
    state,
    member,
    keysRemoved = [],
    keysAdded = [],
    membersRemoved = [],
    membersAdded = [],
  } = taking;
  const many = (noun: string, list: readonly string[]) =>
    list.length === 0 ? [] : [`${noun} ${list.join(', ')}`];
  return [
    ...(state === undefined ? [] : [state]),
    ...(member === undefined
      ? []
      : [member ? 'with access to the realm' : 'without access to the realm']),
    ...many('without the key', keysRemoved),
    ...many(
      'with the key',
      keysAdded.map(({ fingerprint }) => fingerprint),
    ),
    ...many(
      'without the maintainer',
      membersRemoved.map(({ account }) => account),
    ),
    ...many('with the maintainer', membersAdded),
  ].join('; ');
}

/** The rows of a table of takings. */
export function rowsOfTakings(takings: readonly Taking[]): string[][] {
  return takings.map((taking) => [taking.account, describeTaking(taking), taking.by.join(', ')]);
}

export function rowsOfOpen(open: readonly Open[]): string[][] {
  return open.map(({ sentence, command }) => [
    sentence,
    command === undefined ? '-' : `chamberlain ${command}`,
  ]);
}
