/** Progress of long commands, on standard error, so that standard output has only results. */
import { printable } from '../shared/printable.ts';
import { onPrint } from './table.ts';

/** A faster command shows no progress. */
const FIRST_MS = 1000;
/** How often a line is written where there is no terminal. */
const LINE_MS = 5000;
/** How often the line on a terminal is redrawn, with the seconds. */
const DRAW_MS = 250;

/** `CSI K` erases from the cursor to the end of the line (ECMA-48, EL). */
const ERASE_LINE = '\r\u001B[K';

export interface Progress {
  /** Sets the text that is shown, such as `homes 500 of 1000`. */
  say: (text: string) => void;
  /** Erases the line until it is drawn again. Call it before writing something else to standard error. */
  erase: () => void;
  /** Erases the line for good. Call it before writing anything else, and in `finally`. */
  end: () => void;
}

/** Where progress goes: standard error, or a substitute in tests. */
export type ProgressStream = Pick<NodeJS.WriteStream, 'write' | 'isTTY' | 'columns'>;

/** The progress that is shown on standard error; a later one replaces it. */
let current: Progress | undefined;

/** Shows on a terminal what is being waited for, unless other progress is shown already. */
export async function whileWaiting<T>(text: string, act: () => Promise<T>): Promise<T> {
  if (current !== undefined) return await act();
  return await withProgress(true, (say) => (say(text), act()));
}

/** Shows progress while `act` runs, which says what it is doing. `json` is that of `startProgress`. */
export async function withProgress<T>(
  json: boolean,
  act: (say: Progress['say']) => Promise<T>,
): Promise<T> {
  const progress = startProgress({ json });
  try {
    return await act(progress.say);
  } finally {
    progress.end();
  }
}

/**
 * Shows the text with the seconds since the start, and nothing in the first second. On a terminal it is one
 * line that changes and is erased at the end; elsewhere it is a plain line every few seconds.
 *
 * @param json the command prints JSON for a program: write no plain lines, which would only fill its log
 */
export function startProgress({
  json = false,
  stream = process.stderr,
}: { json?: boolean; stream?: ProgressStream } = {}): Progress {
  const isWatched = stream.isTTY;
  const start = performance.now();
  let said = '';
  let isShown = false;

  function show(): void {
    if (said === '') return;
    const seconds = ` ${Math.floor((performance.now() - start) / 1000)} s`;
    const text = printable(said);
    if (!isWatched) {
      stream.write(`${text},${seconds}\n`);
      return;
    }
    const room = Math.max(10, (stream.columns || 80) - seconds.length - 1);
    stream.write(`${ERASE_LINE}${Array.from(text).slice(0, room).join('')}${seconds}`);
    isShown = true;
  }

  let timer: NodeJS.Timeout | undefined;
  if (isWatched || !json) {
    timer = setTimeout(() => {
      show();
      timer = setInterval(show, isWatched ? DRAW_MS : LINE_MS).unref();
    }, FIRST_MS).unref();
  }

  const erase = () => {
    if (isShown) stream.write(ERASE_LINE);
    isShown = false;
  };
  const progress = {
    say(text: string) {
      said = text;
    },
    erase,
    end() {
      clearTimeout(timer);
      timer = undefined;
      erase();
      if (current === progress) current = undefined;
    },
  };
  if (stream === process.stderr) {
    current?.end();
    current = progress;
    onPrint(erase);
  }
  return progress;
}
