/** What is wrong with the last sweeps, and what to do, for each command that says so. Pure. */
import { spanOf } from '../shared/time.ts';
import type { LastSweeps, Sweep } from './sweeps-table.ts';

export interface SweepFault {
  /** without a capital letter and a full stop */
  what: string;
  /** whole sentences */
  todo: string;
}

const LOG = 'The log of `chamberlain work sweep` shows why.';

/** Undefined if no sweep is held, and the last one has done its work and is not too old. */
export function sweepFault(
  { held, last }: Pick<LastSweeps, 'held' | 'last'>,
  { everyMinutes }: { everyMinutes: number },
  now: Date,
): SweepFault | undefined {
  if (held !== undefined) {
    const why = whyOf(held).replace(`: ${askRelease(held.digest)}`, '');
    return { what: `the sweep is held${why}`, todo: `Read ${releaseOf(held.digest)}.` };
  }
  if (last === undefined) return undefined;
  if (last.state === 'unreadable') {
    const what = `the last sweep could not read everything${whyOf(last)}`;
    return { what, todo: 'When it can be read, run `chamberlain sweep now`.' };
  }
  if (last.state === 'cut') {
    const what = `the last sweep was interrupted${whyOf(last)}`;
    return { what, todo: `${LOG} The sweep is repeated by itself.` };
  }
  const ageMs = now.getTime() - last.beganAt.getTime();
  if (ageMs < latestMs(everyMinutes)) return undefined;
  const every = `though one should begin every ${everyMinutes} min`;
  return { what: `the last sweep began ${spanOf(ageMs)} ago, ${every}`, todo: LOG };
}

/** What an admin does about a held sweep, as the sweep itself ends its sentence. */
export function askRelease(digest: string | null): string {
  return `read ${releaseOf(digest)}`;
}

function releaseOf(digest: string | null): string {
  const expected = digest === null ? 'DIGEST' : digest;
  return `\`chamberlain plan --all\`; if that should be done, run \`chamberlain sweep release --expect ${expected}\``;
}

function whyOf({ sentence }: Sweep): string {
  return sentence === null ? '' : `: ${sentence}`;
}

/** A sweep that began longer ago than this should have been followed by another. */
function latestMs(everyMinutes: number): number {
  return (everyMinutes * 2 + 10) * 60_000;
}
