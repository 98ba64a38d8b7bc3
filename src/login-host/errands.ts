/**
 * What the agent has others do: the root helper makes the name service forget names, ends sessions,
 * and builds the list of accounts. In the background, each kind on its own and gathered, so that
 * neither a key nor another errand waits; what could not be done is done when the helper is back.
 */
import type { LoginHelper } from '../edges/login-helper.ts';
import { codeOf, describeError } from '../errors.ts';
import type { Log } from '../log.ts';

export interface Errands {
  forget(names: readonly string[]): void;
  /** Ends what these run, as soon as may be. */
  end(uids: readonly number[]): void;
  /** Ends what these still run: holds up nobody who is to be ended now. */
  endLeft(uids: readonly number[]): void;
  /** The list of accounts has changed. */
  list(): void;
  /** What could not be done at the last try. */
  trouble(): string | undefined;
  close(): Promise<void>;
}

/** Building the list reads and sorts all of it: not for each of many new accounts. */
const LIST_PACE_MS = 10_000;
const AGAIN_MS = 1000;
/** After a process that does not end, such as one that waits for a file server. */
const LEFT_AGAIN_MS = 10_000;

/**
 * @param accounts the lines of the list, as in passwd(5)
 * @param mayEnd whether what runs by that uid may still be ended, when it comes to it
 */
export function startErrands(
  helper: LoginHelper,
  accounts: () => string[],
  mayEnd: (uid: number) => boolean,
  log: Log,
): Errands {
  const names = openLane<string>(0, (some) => helper.forget(some), log);
  const ends = openLane<number>(
    0,
    async (some) => {
      const uids = some.filter(mayEnd);
      try {
        if (uids.length > 0) await helper.end(...uids);
      } catch (error) {
        if (codeOf(error) !== 'STEP_FAILED') throw error;
        left.add(uids); // the next ones are not to wait for what does not end
      }
    },
    log,
  );
  const left = openLane<number>(
    0,
    async (some) => {
      const uids = some.filter(mayEnd);
      if (uids.length > 0) await helper.end(...uids);
    },
    log,
    LEFT_AGAIN_MS,
  );
  const lists = openLane<'list'>(LIST_PACE_MS, () => helper.passwd(accounts()), log);
  const lanes = [names, ends, left, lists];
  return {
    forget: (more) => names.add(more),
    end: (more) => ends.add(more),
    endLeft: (more) => left.add(more),
    list: () => lists.add(['list']),
    trouble: () => lanes.flatMap((lane) => lane.trouble() ?? [])[0],
    async close() {
      await Promise.all(lanes.map((lane) => lane.close()));
    },
  };
}

interface Lane<T> {
  add(items: readonly T[]): void;
  trouble(): string | undefined;
  close(): Promise<void>;
}

/** One kind of errand: what comes while one is under way is done together, after it. */
function openLane<T>(
  paceMs: number,
  act: (items: T[]) => Promise<unknown>,
  log: Log,
  againMs = Math.max(AGAIN_MS, paceMs),
): Lane<T> {
  const waiting = new Set<T>();
  let trouble: string | undefined;
  let busy: Promise<void> | undefined;
  let timer: NodeJS.Timeout | undefined;
  let notBefore = 0;

  const go = (): void => {
    if (busy !== undefined || waiting.size === 0) return;
    const rest = notBefore - performance.now();
    if (rest > 0) {
      clearTimeout(timer);
      timer = setTimeout(go, rest);
      return;
    }
    busy = run().finally(() => {
      busy = undefined;
      go();
    });
  };

  async function run(): Promise<void> {
    const items = [...waiting];
    // one that comes again meanwhile has changed again
    waiting.clear();
    notBefore = performance.now() + paceMs;
    try {
      await act(items);
      if (trouble !== undefined) log.info('the root helper does again what it is asked');
      trouble = undefined;
    } catch (error) {
      for (const item of items) waiting.add(item);
      notBefore = performance.now() + againMs;
      const why = describeError(error);
      if (trouble !== why) log.warn({ why }, 'the root helper does not do what it is asked');
      trouble = why;
    }
  }

  return {
    add(items) {
      for (const item of items) waiting.add(item);
      go();
    },
    trouble: () => trouble,
    async close() {
      waiting.clear();
      clearTimeout(timer);
      await busy;
    },
  };
}
