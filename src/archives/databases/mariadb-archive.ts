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
import { asLongStep, type LongStep } from '../archive-keeping.ts';
import type { AskedStep } from '../archives-table.ts';
import { eraseArchives, removeArchive, removeUnrecorded, withArchives } from '../container.ts';
import { databaseArchives } from './database-archives.ts';
import { withoutSecrets } from '../../backends/mariadb/mariadb.ts';
import {
  type ArchiveRealm,
  type ArchiveTerms,
  type OpenArchiveRealm,
  placeOf,
} from './mariadb-archiving.ts';
import { watchServers } from '../../backends/mariadb/mariadb-health.ts';
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
  type Why = Pick<AskedStep, 'returning' | 'expired' | 'erases'>;
  const onServers = (
    why: Why,
    servers: readonly string[],
    work: (step: LongStep) => Promise<void>,
  ) => {
    const places = servers.map((server) => placeOf(realm, server));
    const checks = [watchServers(places, realm.login)];
    return asLongStep(terms, { subject, archival, ...why }, closing, work, checks);
  };
  const inArchives = (
    why: Why,
    servers: readonly string[],
    work: (open: OpenArchiveRealm, step: LongStep) => Promise<void>,
  ) =>
    onServers(why, servers, (step) =>
      withArchives(databaseArchives(realm.folder), (archives) =>
        work({ ...realm, archives }, step),
      ),
    );
  const drops = { returning: undefined };
  const erases = { ...drops, erases: true };
  try {
    switch (action.verb) {
      case 'databases.archive':
        return await inArchives({ returning: false }, action.servers, (open, step) =>
          archiveDatabases(open, terms, { ...action, subject }, step),
        );
      case 'databases.restore':
        return await inArchives({ returning: true }, [action.server], (open, step) =>
          restoreDatabases(open, terms, { ...action, subject }, step),
        );
      case 'databases.drop':
        return await inArchives(drops, [action.server], (open, step) =>
          dropArchived(open, terms, { ...action, subject }, step),
        );
      case 'databases.erase':
        return await onServers(erases, [action.server], ({ signal }) =>
          eraseDatabase(realm, action, signal),
        );
      case 'databases.eraseArchives':
        return await inArchives(erases, [], ({ archives }, step) =>
          eraseArchives(archives, action.account, step),
        );
      case 'databases.removePart':
        return await inArchives({ returning: true }, [], ({ archives }) =>
          removeUnrecorded(archives, action),
        );
      case 'databases.removeArchive':
        return await inArchives({ ...drops, expired: true }, [], ({ archives }) =>
          removeArchive(archives, action, action.manifest),
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
  }
}
