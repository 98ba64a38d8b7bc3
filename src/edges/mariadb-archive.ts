/**
 * The hands that put databases away and bring them back: dumped by mariadb-dump, kept as zstd, loaded by
 * mariadb. What takes long asks every so often whether it is wanted still.
 *
 * A dump holds what a tenant wrote, bodies of routines included, and a client that reads it may be led
 * to take a part of it for a statement of its own. So it is loaded as the tenant's own account, with a
 * password that nobody else knows: it cannot do more than the tenant could. That also gives each
 * object its definer without the right to name any.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { ChamberlainError, codeOf } from '../errors.ts';
import type { Action } from '../plan/action.ts';
import { numberOfUser } from '../targets/everything.ts';
import { removeArchive, requireArchive } from './database-archives.ts';
import { withoutSecrets } from './mariadb.ts';
import type { ArchiveRealm, ArchiveTerms } from './mariadb-archiving.ts';
import { isServerAway } from './mariadb-programs.ts';
import { bringBack, dropArchived } from './mariadb-bring-back.ts';
import { isUnavailable } from './mariadb-connections.ts';
import { putAway } from './mariadb-put-away.ts';

export type ArchiveAction = Extract<Action, { verb: `databases.${string}` }>;

export function isArchiveAction(action: Action): action is ArchiveAction {
  return action.verb.startsWith('databases.');
}

/** How often it is asked whether what takes long is wanted still. */
const ASK_EVERY_MS = 2_000;

export function openArchiveHands(
  realm: ArchiveRealm,
  terms: ArchiveTerms,
): {
  do(action: ArchiveAction): Promise<void>;
  /** ends what is being done, and whatever is begun after */
  letGo(): void;
  close(): Promise<void>;
} {
  const closing = new AbortController();
  /** one after another: each may take all that a disk gives */
  let last: Promise<unknown> = Promise.resolve();

  async function act(action: ArchiveAction): Promise<void> {
    const subject = numberOfUser(action.user);
    if (subject === undefined) throw new TypeError('no user of ours');
    try {
      switch (action.verb) {
        case 'databases.archive':
          return await whileWanted(action, subject, false, (signal) =>
            putAway(realm, terms, { ...action, subject }, signal),
          );
        case 'databases.restore':
          return await whileWanted(action, subject, true, (signal) =>
            bringBack(realm, terms, { ...action, subject }, signal),
          );
        case 'databases.drop':
          return await dropArchived(realm, terms, { ...action, subject }, closing.signal);
        case 'databases.removeArchive': {
          terms.requireHeld(subject);
          const found = requireArchive(realm.folder, action, action.manifest);
          return removeArchive(realm.folder, action, found);
        }
      }
    } catch (error) {
      if (codeOf(error) !== 'INTERNAL') throw error;
      const isAway = isUnavailable(error) || isServerAway(error);
      const code = isAway ? 'BACKEND_UNAVAILABLE' : 'STEP_FAILED';
      throw new ChamberlainError(code, `${action.verb} of ${action.user}`, {
        cause: withoutSecrets(error),
        context: { user: action.user },
      });
    }
  }

  async function whileWanted(
    { departure, user }: { departure: number; user: string },
    subject: number,
    returning: boolean,
    work: (signal: AbortSignal) => Promise<void>,
  ): Promise<void> {
    const over = new AbortController();
    const ask = async () => {
      if (await terms.stillWanted({ subject, departure, returning })) return;
      throw new ChamberlainError('STEP_STALE', `going on with the databases of ${user}`, {
        cause: new Error('it is wanted no more'),
        context: { user },
      });
    };
    await ask();
    const done = new AbortController();
    const asking = (async () => {
      while (!done.signal.aborted) {
        await sleep(ASK_EVERY_MS, undefined, { signal: done.signal, ref: false }).catch(() => {});
        if (!done.signal.aborted) await ask();
      }
    })();
    asking.catch((error: unknown) => over.abort(error));
    try {
      await work(AbortSignal.any([over.signal, closing.signal]));
    } finally {
      done.abort();
      await terms.clear(subject);
    }
  }

  function letGo(): void {
    const why = 'going on with databases while the worker ends';
    closing.abort(new ChamberlainError('BACKEND_UNAVAILABLE', why));
  }

  return {
    do(action) {
      const turn = last.then(() => {
        closing.signal.throwIfAborted();
        return act(action);
      });
      last = turn.catch(() => {});
      return turn;
    },
    letGo,
    async close() {
      letGo();
      await last;
    },
  };
}
