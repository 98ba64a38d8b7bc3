/**
 * The engine of `chamberlain setup`. Each piece says what differs from what must be, and can make it so. There is no
 * other record of how far a run has come: a run that was interrupted is run again.
 */
import {
  ChamberlainError,
  codeOf,
  CORRECT_AND_RUN_AGAIN,
  describeRootCause,
  doing,
} from '../shared/errors.ts';

export interface Piece {
  /** what it is, such as `the service chamberlain-redis` */
  name: string;
  /** what `make` does, without a full stop */
  does: string;
  /** while one of these differs, this one cannot be checked */
  needs?: readonly Piece[];
  /** What differs, in words that may follow the name; undefined if nothing does. Changes nothing. */
  check: () => Differs | Promise<Differs>;
  /** Makes it as it must be. It may be interrupted at any moment, and run again. */
  make: () => void | Promise<void>;
  /** Takes away what `make` has made, if --uninstall does; undefined if there was nothing. */
  remove?: () => Promise<string | undefined>;
}

export type Differs = string | undefined;

/** A piece that differs, and how. */
export interface Difference {
  piece: Piece;
  differs: string;
  /** it was not checked: it needs one that differs */
  waits?: true;
}

type Say = (text: string) => void;

/** Checks every piece, and changes nothing. Returns those that differ, and those that need one of these. */
export async function survey(pieces: readonly Piece[], say: Say): Promise<Difference[]> {
  const found = new Map<Piece, Difference>();
  for (const piece of pieces) {
    const awaited = piece.needs?.find((each) => found.has(each));
    if (awaited !== undefined) {
      found.set(piece, { piece, differs: `must wait for ${awaited.name}`, waits: true });
      continue;
    }
    say(`checking ${piece.name}`);
    const differs = await look(piece);
    if (differs !== undefined) found.set(piece, { piece, differs });
  }
  return [...found.values()];
}

/**
 * Makes each piece that differs, in their order. Throws at the first that still differs afterwards.
 *
 * @param made is called with each that was made, and how it differed
 */
export async function carryOut(
  pieces: readonly Piece[],
  say: Say,
  made: (difference: Difference) => void,
): Promise<void> {
  for (const piece of pieces) await carryOutOne(piece, say, made);
}

/** The same, but continues after a failure with the pieces that do not need what has failed. Throws at the end. */
export async function carryOutEach(
  pieces: readonly Piece[],
  say: Say,
  made: (difference: Difference) => void,
): Promise<void> {
  const failed = new Map<Piece, unknown>();
  const left = new Set<Piece>();
  for (const piece of pieces) {
    if (piece.needs?.some((each) => failed.has(each) || left.has(each)) === true) {
      left.add(piece);
      continue;
    }
    await carryOutOne(piece, say, made).catch((error: unknown) => failed.set(piece, error));
  }
  const [first, ...others] = failed.values();
  if (others.length === 0 && first !== undefined) throw first;
  if (first !== undefined) {
    throw new ChamberlainError('STEP_FAILED', [first, ...others].map(describeFailure).join('; '), {
      action: CORRECT_AND_RUN_AGAIN,
    });
  }
}

function describeFailure(error: unknown): string {
  const { message, cause } = error as Error;
  return cause === undefined ? message : `${message}: ${describeRootCause(cause)}`;
}

async function carryOutOne(
  piece: Piece,
  say: Say,
  made: (difference: Difference) => void,
): Promise<void> {
  say(`checking ${piece.name}`);
  const differs = await look(piece);
  if (differs === undefined) return;
  say(`making ${piece.name}`);
  try {
    await piece.make();
  } catch (cause) {
    const action = codeOf(cause) === 'STEP_FAILED' ? (cause as ChamberlainError).action : undefined;
    throw new ChamberlainError('STEP_FAILED', `making ${piece.name}`, {
      cause,
      action: action ?? CORRECT_AND_RUN_AGAIN,
    });
  }
  const still = await look(piece);
  if (still !== undefined) {
    throw new ChamberlainError('STEP_FAILED', `setup has tried, but ${piece.name} ${still}`, {
      action: CORRECT_AND_RUN_AGAIN,
    });
  }
  made({ piece, differs });
}

/** Takes the pieces away, the last one first. Calls `removed` with what was taken away. */
export async function takeAway(
  pieces: readonly Piece[],
  say: Say,
  removed: (what: string) => void,
): Promise<void> {
  for (const { name, remove } of pieces.toReversed()) {
    if (remove === undefined) continue;
    say(`removing ${name}`);
    const what = await doing('STEP_FAILED', `removing ${name}`, remove, CORRECT_AND_RUN_AGAIN);
    if (what !== undefined) removed(what);
  }
}

function look({ name, check }: Piece): Promise<Differs> {
  const act = async () => check();
  return doing('STEP_FAILED', `checking ${name}`, act, CORRECT_AND_RUN_AGAIN);
}
