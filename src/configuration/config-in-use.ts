/**
 * The configuration in use: the settings by which a process decides now. It is one frozen value, which a reload replaces
 * as a whole (docs/operations.md, "Change the configuration").
 *
 * Whoever decides takes the configuration once for a decision and passes that value on, so that nothing is decided half
 * by the old one and half by the new one. A reload is over when everybody who follows it has taken the new one.
 */
import type { Client } from '../database/connection.ts';
import { type Config, loadConfig } from '../shared/config.ts';
import { effectiveOf } from './effective.ts';
import { requireReloadable } from './reloadable.ts';

/** A work that decides by the configuration in use, again and again. */
export interface Follower {
  /**
   * The configuration for the next decision. Whoever calls this says that all decisions by an earlier one have ended:
   * the transactions are committed, or rolled back.
   */
  take(): Config;
  close(): void;
}

export interface ConfigInUse {
  /** For one decision that does not last, such as one call of the API: called once, and the value passed on. */
  current(): Config;
  /** Whether what PostgreSQL adds to the file has been read since the process began. */
  isComplete(): boolean;
  /**
   * For a work that decides again and again.
   *
   * @param onChange called when there is another configuration: the work must then soon call `take`
   */
  follow(onChange: () => void): Follower;
  /**
   * Reads the file again, and what PostgreSQL adds to it, and replaces the configuration in use if it is right. Returns
   * when every follower has taken the new one. Loads one after another.
   *
   * @param client without it, only the file is read
   * @throws CONFIG_INVALID if it is wrong, or changes what needs a restart: then nothing is changed
   */
  load(client?: Client): Promise<Config>;
  /**
   * The same, but with the file as it was last read: a request about a portal neither waits for a file that is wrong, nor
   * puts an edit of it into use.
   */
  loadAdded(client: Client): Promise<Config>;
}

/**
 * Reads the file; the rest is added by the first `load` with PostgreSQL.
 *
 * @param works what the process does, by which it is known what needs a restart
 * @throws CONFIG_INVALID
 */
export function openConfigInUse(path: string, works: readonly string[]): ConfigInUse {
  let file = loadConfig(path);
  return open({ current: file, isComplete: false }, async (client, current, isWhole) => {
    const read = isWhole ? loadConfig(path) : file;
    const next = await effectiveOf(read, client);
    requireReloadable(works, current, next);
    file = read;
    return next;
  });
}

/** A configuration that never changes. */
export function fixedConfig(config: Config): ConfigInUse {
  return open({ current: config, isComplete: true }, async () => config);
}

interface Following {
  taken: Config;
  onChange: () => void;
  /** ends the wait of `load` */
  released: (() => void) | undefined;
}

function open(
  first: { current: Config; isComplete: boolean },
  read: (client: Client | undefined, current: Config, isWhole: boolean) => Promise<Config>,
): ConfigInUse {
  let { current, isComplete } = first;
  let loading: Promise<unknown> = Promise.resolve();
  const followers = new Set<Following>();

  async function load(client: Client | undefined, isWhole: boolean): Promise<Config> {
    const next = await read(client, current, isWhole);
    isComplete ||= client !== undefined;
    if (next !== current) {
      current = next;
      for (const { onChange } of followers) onChange();
    }
    await Promise.all([...followers].map(untilTaken));
    return next;
  }
  function loadNext(client: Client | undefined, isWhole: boolean): Promise<Config> {
    const loaded = loading.then(() => load(client, isWhole));
    loading = loaded.catch(() => {});
    return loaded;
  }
  async function untilTaken(following: Following): Promise<void> {
    if (following.taken === current) return;
    await new Promise<void>((resolve) => (following.released = resolve));
  }
  return {
    current: () => current,
    isComplete: () => isComplete,
    follow(onChange) {
      const following: Following = { taken: current, onChange, released: undefined };
      followers.add(following);
      return {
        take() {
          following.taken = current;
          following.released?.();
          return current;
        },
        close() {
          followers.delete(following);
          following.released?.();
        },
      };
    },
    load: (client) => loadNext(client, true),
    loadAdded: (client) => loadNext(client, false),
  };
}
