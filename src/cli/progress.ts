/** What a command that takes its time says meanwhile, on standard error: results stay alone. */
import { onPrint, withoutControls } from './table.ts';

/** A command that is faster says nothing. */
const FIRST_MS = 1000;
/** Where nobody watches, a line this often. */
const LINE_MS = 5000;
/** On a terminal the one line is drawn this often: what was said, and the seconds. */
const DRAW_MS = 250;

/** `CSI K`: erases from the cursor to the end of the line (ECMA-48, EL). */
const ERASE_LINE = '\r\u001B[K';

export interface Progress {
  /** What is being done now, such as `homes 500 of 1000`; it replaces what was said before. */
  say: (text: string) => void;
  /** Erases the line, which comes again. Call it before something else is written to standard error. */
  erase: () => void;
  /** Erases the line for good. Call it before anything else is written, and in `finally`. */
  end: () => void;
}

/** Where progress goes: standard error, or a part of it in tests. */
export type ProgressStream = Pick<NodeJS.WriteStream, 'write' | 'isTTY' | 'columns'>;

/** The one that has standard error: a later one takes its place. */
let current: Progress | undefined;

/** Says what is waited for, unless more is being said already; on a terminal alone. */
export async function whileWaiting<T>(text: string, act: () => Promise<T>): Promise<T> {
  if (current !== undefined) return await act();
  const progress = startProgress({ json: true });
  progress.say(text);
  try {
    return await act();
  } finally {
    progress.end();
  }
}

/**
 * Shows what is said, with the seconds since the start, and nothing in the first second. On a
 * terminal it is one line that moves and is erased at the end; elsewhere a plain line now and then.
 *
 * @param json the command prints JSON for a program: no plain lines, which would only fill its log
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
    const text = withoutControls(said);
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
