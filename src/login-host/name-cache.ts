/** Has sssd forget accounts, so that the next one who asks is told what the directory says now. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { ChamberlainError } from '../errors.ts';

const SSS_CACHE = '/usr/sbin/sss_cache';
const SSS_CACHE_TIMEOUT_MS = 10_000;

/**
 * So many names are expired one by one. A call takes 75 ms for one name, whatever sssd has cached, and
 * two must not run side by side; one call for all takes 0.15 ms for each account that is cached (1.0 s
 * for 10,000), and then each account's next use asks the directory. Twelve make nobody wait longer than 1 s.
 */
const MAX_ONE_BY_ONE = 12;

export interface NameCache {
  /**
   * Returns when these names are forgotten, each with its group and all sudo rules: one by one, or,
   * where more than a few have come together, with everything else. Throws STEP_FAILED.
   */
  forget(names: readonly string[]): Promise<void>;
}

/** sssd's cache, by way of sss_cache(8). */
export function openNameCache(): NameCache {
  type Waiter = PromiseWithResolvers<void>;
  const waiting = new Map<string, Waiter>();
  let isWorking = false;

  async function work(): Promise<void> {
    isWorking = true;
    for (let next = takeNext(); next.length > 0; next = takeNext()) {
      const [[name]] = next as [[string, Waiter]];
      const args = next.length > 1 ? ['-U', '-G', '-R'] : ['-u', name, '-g', name, '-R'];
      try {
        await expire(args);
        for (const [, { resolve }] of next) resolve();
      } catch (error) {
        for (const [, { reject }] of next) reject(error);
      }
    }
    isWorking = false;
  }

  function takeNext(): [string, Waiter][] {
    const entries = [...waiting];
    const next = entries.length > MAX_ONE_BY_ONE ? entries : entries.slice(0, 1);
    // a name that is asked for from now on has changed once more, maybe too late for this call
    for (const [name] of next) waiting.delete(name);
    return next;
  }

  return {
    async forget(names) {
      const promises = names.map((name) => {
        const waiter = waiting.get(name) ?? Promise.withResolvers<void>();
        waiting.set(name, waiter);
        return waiter.promise;
      });
      if (!isWorking) void work();
      await Promise.all(promises);
    },
  };
}

async function expire(args: readonly string[]): Promise<void> {
  const act = `running ${SSS_CACHE} (of sssd-tools)`;
  let said: string;
  let exit: unknown;
  try {
    const child = spawn(SSS_CACHE, args, {
      env: {},
      stdio: ['ignore', 'ignore', 'pipe'],
      timeout: SSS_CACHE_TIMEOUT_MS,
      killSignal: 'SIGKILL',
    });
    [said, [exit]] = await Promise.all([text(child.stderr), once(child, 'close')]);
  } catch (cause) {
    throw new ChamberlainError('STEP_FAILED', act, { cause });
  }
  // A name that is not cached is forgotten. Where sssd has never run, the exit code is 0 all the same.
  const isDone =
    exit === 0 ? !said.includes('configuration db') : said.startsWith('No cache object matched');
  if (!isDone) {
    throw new ChamberlainError('STEP_FAILED', act, {
      cause: said.trim() || `it did not end in ${SSS_CACHE_TIMEOUT_MS / 1000} s`,
    });
  }
}
