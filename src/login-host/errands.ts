/**
 * What the agent has others do: the root helper makes the name service forget names, ends sessions,
 * and builds the list of accounts. In the background and gathered, so that no key ever waits for it;
 * what could not be done is done when the helper is back.
 */
import type { LoginHelper } from '../edges/login-helper.ts';
import { describeError } from '../errors.ts';
import type { Log } from '../log.ts';

export interface Errands {
  forget(names: readonly string[]): void;
  end(uids: readonly number[]): void;
  /** The list of accounts has changed. */
  list(): void;
  /** What went wrong last, while it is so. */
  trouble(): string | undefined;
  close(): Promise<void>;
}

/** Building the list reads and sorts all of it: not for each of many new accounts. */
const LIST_PACE_MS = 10_000;
const AGAIN_MS = 1000;

/** @param accounts the lines of the list, as in passwd(5) */
export function startErrands(helper: LoginHelper, accounts: () => string[], log: Log): Errands {
  const names = new Set<string>();
  const uids = new Set<number>();
  let listAt: number | undefined;
  let listedAt = -LIST_PACE_MS;
  let trouble: string | undefined;
  let busy: Promise<void> | undefined;
  let timer: NodeJS.Timeout | undefined;
  let closed = false;

  async function run(): Promise<void> {
    for (;;) {
      const [uid] = uids;
      if (uid !== undefined) {
        await helper.end(uid);
        uids.delete(uid);
        continue;
      }
      const some = [...names];
      if (some.length > 0) {
        // one that comes again meanwhile has changed again
        names.clear();
        try {
          await helper.forget(some);
        } catch (error) {
          for (const name of some) names.add(name);
          throw error;
        }
        continue;
      }
      if (listAt === undefined) return;
      const rest = listAt - performance.now();
      if (rest > 0) {
        wake(rest);
        return;
      }
      listAt = undefined;
      listedAt = performance.now();
      try {
        await helper.passwd(accounts());
      } catch (error) {
        listAt = listedAt + LIST_PACE_MS;
        throw error;
      }
    }
  }

  function wake(ms: number): void {
    clearTimeout(timer);
    timer = setTimeout(go, ms);
    timer.unref();
  }

  function go(): void {
    if (busy !== undefined || closed) return;
    busy = run()
      .then(
        () => {
          if (trouble !== undefined) log.info('the root helper answers again');
          trouble = undefined;
        },
        (error: unknown) => {
          const why = describeError(error);
          if (trouble !== why) log.warn({ why }, 'the root helper does not do what it is asked');
          trouble = why;
          wake(AGAIN_MS);
        },
      )
      .finally(() => {
        busy = undefined;
        if (trouble === undefined && (names.size > 0 || uids.size > 0)) go();
      });
  }

  return {
    forget(more) {
      for (const name of more) names.add(name);
      if (names.size > 0 && trouble === undefined) go();
    },
    end(more) {
      for (const uid of more) uids.add(uid);
      if (uids.size > 0 && trouble === undefined) go();
    },
    list() {
      listAt ??= listedAt + LIST_PACE_MS;
      if (trouble === undefined) go();
    },
    trouble: () => trouble,
    async close() {
      closed = true;
      clearTimeout(timer);
      await busy;
    },
  };
}
