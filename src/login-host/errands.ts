/**
 * What the agent has others do: the root helper makes the name service forget names, ends sessions,
 * and builds the list of accounts. In the background, each kind on its own and gathered, so that
 * neither a key nor another errand waits; what could not be done is done when the helper is back.
 */
import type { LoginHelper } from '../edges/login-helper.ts';
import { describeError } from '../errors.ts';
import type { Log } from '../log.ts';

export interface Errands {
  forget(names: readonly string[]): void;
  end(uids: readonly number[]): void;
  /** The list of accounts has changed. */
  list(): void;
  /** What could not be done at the last try. */
  trouble(): string | undefined;
  close(): Promise<void>;
}

/** Building the list reads and sorts all of it: not for each of many new accounts. */
const LIST_PACE_MS = 10_000;
const AGAIN_MS = 1000;

/** @param accounts the lines of the list, as in passwd(5) */
export function startErrands(helper: LoginHelper, accounts: () => string[], log: Log): Errands {
  const names = openLane<string>(0, (some) => helper.forget(some), log);
  const uids = openLane<number>(0, (some) => helper.end(...some), log);
  const lists = openLane<'list'>(LIST_PACE_MS, () => helper.passwd(accounts()), log);
  const lanes = [names, uids, lists];
  return {
    forget: (more) => names.add(more),
    end: (more) => uids.add(more),
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
function openLane<T>(paceMs: number, act: (items: T[]) => Promise<unknown>, log: Log): Lane<T> {
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
      notBefore = performance.now() + Math.max(AGAIN_MS, paceMs);
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
