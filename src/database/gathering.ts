/** Reads of the same moment share a connection, so that what they ask is sent together, and answered together. */
import { type Client, type Pool, withClient } from './connection.ts';

/**
 * Returns a function that runs short reads by a key. A read that takes long would delay those that came with it, and so
 * would a transaction.
 */
export function gatherReads(pool: Pool): <T>(read: (client: Client) => Promise<T>) => Promise<T> {
  let waiting: { run: (client: Client) => Promise<void>; fail: (error: unknown) => void }[] = [];
  const runAll = async () => {
    const all = waiting;
    waiting = [];
    try {
      await withClient(pool, async (client) => {
        const ended = await Promise.allSettled(all.map(({ run }) => run(client)));
        const failed = ended.find(({ status }) => status === 'rejected');
        if (failed !== undefined) throw (failed as PromiseRejectedResult).reason;
      });
    } catch (error) {
      for (const { fail } of all) fail(error);
    }
  };
  return (read) =>
    new Promise((resolve, reject) => {
      if (waiting.length === 0) setImmediate(() => void runAll());
      const run = (client: Client) =>
        read(client).then(resolve, (error: unknown) => {
          reject(error);
          throw error;
        });
      waiting.push({ run, fail: reject });
    });
}
