/**
 * The writer that archives databases and restores them: they are dumped by mariadb-dump, kept as zstd, and
 * loaded by mariadb. Long steps ask repeatedly whether they are still wanted.
 *
 * A dump holds what a tenant wrote, including the bodies of routines, and a client that reads it may be tricked
 * into executing a part of it as a statement of its own. So it is loaded as the tenant's own account, with a
 * password that nobody else knows: it can then do no more than the tenant could. This also gives each object
 * its definer, without the right to name any definer.
 */
import { ChamberlainError, codeOf } from '../../shared/errors.ts';
import type { Action } from '../../reconcile/action.ts';
import { numberOfUser } from '../../targets/everything.ts';
import { patiently } from '../archive-keeping.ts';
import { eraseArchives, removeArchive, removePart, requireArchive } from './database-archives.ts';
import { withoutSecrets } from '../../backends/mariadb/mariadb.ts';
import { type ArchiveRealm, type ArchiveTerms, placeOf } from './mariadb-archiving.ts';
import { watchServers, whileTrue } from '../../backends/mariadb/mariadb-watching.ts';
import { isServerAway } from '../../backends/mariadb/mariadb-programs.ts';
import { restoreDatabases, dropArchived, eraseDatabase } from './mariadb-restore-databases.ts';
import { isUnavailable } from '../../backends/mariadb/mariadb-connections.ts';
import { archiveDatabases } from './mariadb-archive-databases.ts';

export type ArchiveAction = Extract<Action, { verb: `databases.${string}` }>;

export function isArchiveAction(action: Action): action is ArchiveAction {
  return action.verb.startsWith('databases.');
}

export function openArchiveWriter(
  realm: ArchiveRealm,
  terms: ArchiveTerms,
): {
  do(action: ArchiveAction): Promise<void>;
  /** aborts the current action, and every later one */
  letGo(): void;
  close(): Promise<void>;
} {
  const closing = new AbortController();
  /** one after another: each may use the full speed of a disk */
  let last: Promise<unknown> = Promise.resolve();

  function letGo(): void {
    const why = 'continuing with databases while the worker stops';
    closing.abort(new ChamberlainError('BACKEND_UNAVAILABLE', why));
  }

  return {
    do(action) {
      const turn = last.then(() => {
        closing.signal.throwIfAborted();
        return act(realm, terms, action, closing.signal);
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

async function act(
  realm: ArchiveRealm,
  terms: ArchiveTerms,
  action: ArchiveAction,
  closing: AbortSignal,
): Promise<void> {
  const { user, archival, verb } = action;
  const subject = numberOfUser(user);
  if (subject === undefined) throw new TypeError('not one of our database users');
  const wanted = (returning: boolean | undefined, { expired = false, erases = false } = {}) =>
    patiently(async () => {
      if (await terms.stillWanted({ subject, archival, returning, expired, erases })) return;
      throw new ChamberlainError('STEP_STALE', `continuing with the databases of ${user}`, {
        cause: new Error('it is no longer wanted'),
        context: { user },
      });
    });
  const answer = (servers: readonly string[]) =>
    watchServers(
      servers.map((server) => placeOf(realm, server)),
      realm.login,
    );
  try {
    switch (action.verb) {
      case 'databases.archive':
        return await whileTrue([wanted(false), answer(action.servers)], closing, (signal) =>
          archiveDatabases(realm, terms, { ...action, subject }, signal),
        );
      case 'databases.restore':
        return await whileTrue([wanted(true), answer([action.server])], closing, (signal) =>
          restoreDatabases(realm, terms, { ...action, subject }, signal),
        );
      case 'databases.drop':
        return await whileTrue([wanted(undefined), answer([action.server])], closing, (signal) =>
          dropArchived(realm, terms, { ...action, subject }, signal),
        );
      case 'databases.erase':
        return await whileTrue(
          [wanted(undefined, { erases: true }), answer([action.server])],
          closing,
          (signal) => eraseDatabase(realm, action, signal),
        );
      case 'databases.eraseArchives':
        await wanted(undefined, { erases: true })();
        return eraseArchives(realm.folder, action.account);
      case 'databases.removePart':
        await wanted(true)();
        return removePart(realm.folder, action);
      case 'databases.removeArchive':
        await wanted(undefined, { expired: true })();
        return removeArchive(
          realm.folder,
          action,
          requireArchive(realm.folder, action, action.manifest),
        );
    }
  } catch (error) {
    if (codeOf(error) !== 'INTERNAL') throw error;
    const isAway = isUnavailable(error) || isServerAway(error);
    throw new ChamberlainError(
      isAway ? 'BACKEND_UNAVAILABLE' : 'STEP_FAILED',
      `${verb} of ${user}`,
      { cause: withoutSecrets(error), context: { user } },
    );
  } finally {
    await terms.clear(subject);
  }
}
