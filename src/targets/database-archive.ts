/** The own databases of a tool or a person that leaves: archived, dropped, or restored. */
import { codeOf, describeError } from '../shared/errors.ts';
import { databaseUser } from '../identity/posix-id.ts';
import type { PastArchive, Wanted } from '../reconcile/wanted.ts';
import type { Action, Effect } from '../reconcile/action.ts';
import { NOTHING_TO_DO, type TargetPlan } from '../reconcile/plan.ts';
import type { DatabaseArchiveReader, DatabasesArchive } from './databases-reader.ts';
import type { Target } from './target.ts';

export interface DatabaseArchiveWant {
  user: string;
  account: string;
  /** nothing: no archival is open, so nothing is read */
  move: 'nothing' | 'archive' | 'restore' | 'drop' | 'remove' | 'erase';
  archival: number;
  /** of the recorded archive */
  manifest: string | undefined;
  /** the servers for users' own databases */
  servers: string[];
  /** archives of earlier archivals that must be removed */
  past: readonly PastArchive[];
}

export interface DatabaseArchiveHave {
  /** by server, the names of the user's databases, or why they cannot be read */
  servers: ({ server: string; databases: string[] } | { server: string; unreadable: string })[];
  /** read only if one is recorded and needed; `unreadable` says why it cannot be read */
  archive: DatabasesArchive | { unreadable: string } | undefined;
  /** read only if it is no longer wanted: whether something is left of one that was being made */
  part?: { isThere: boolean } | { unreadable: string };
  /** read only for an erased subject: whether anything is left of any archive */
  anyArchive?: boolean | { unreadable: string };
  /** of each archive that must be removed, in order */
  past?: (DatabasesArchive | { unreadable: string } | undefined)[];
}

/**
 * Ours are the databases whose names begin with the user's, `s51234__`, on servers of tools. The following
 * holds for each server that can be read; `archive` is the one on disk, and `same` means that its manifest is
 * the recorded one:
 *
 * | move       | recorded | seen                                         | step, or otherwise          |
 * | ---------- | -------- | -------------------------------------------- | --------------------------- |
 * | nothing    | any      | not read                                     |                             |
 * | archive    | no       | every server can be read                     | databases.archive           |
 * | archive    | no       | one cannot                                   | nothing yet: unreadable     |
 * | archive    | yes      | anything                                     |                             |
 * | restore    | no       | an unfinished archive                        | databases.removePart        |
 * |            |          | none: nothing was dropped                    |                             |
 * | restore    | yes      | same; one is missing, or nothing notes that  | databases.restore           |
 * |            |          | everything was restored                      |                             |
 * | drop       | yes      | same; one that it holds                      | databases.drop              |
 * | drop       | yes      | same; one that it does not hold              | ARCHIVE_DIFFERS, left       |
 * | remove     | yes      | same; no database left, every server read    | databases.removeArchive     |
 * | remove     | yes      | same; one that it holds                      | databases.drop, first       |
 * | erase      | no       | one, whatever is in an archive               | databases.erase             |
 * | erase      | no       | anything of any archive of the account       | databases.eraseArchives     |
 * | not archive | yes    | none, or not the same, and it is needed      | ARCHIVE_DAMAGED             |
 *
 * An archive is needed to restore, and while a database still exists. An archive that need not be kept any
 * longer may be absent.
 *
 * Archives of earlier archivals that need not be kept any longer are removed, whatever the move is now. If
 * another than the recorded one is in their place, ARCHIVE_DAMAGED is an advisory finding.
 */
export const databaseArchive: Target<
  DatabaseArchiveReader,
  DatabaseArchiveWant,
  DatabaseArchiveHave
> = {
  name: 'database-archive',
  of: ['person', 'tool'],
  needs: [],

  want(wanted, realm) {
    const { archive } = wanted;
    return {
      user: databaseUser(wanted.kind, wanted.uid),
      account: wanted.account,
      move: moveOf(wanted),
      archival: archive?.archival ?? 0,
      manifest: archive?.manifest,
      servers: realm.databaseServers
        .filter(({ kind }) => kind === 'toolsdb')
        .map(({ name }) => name),
      past: wanted.pastArchives ?? [],
    };
  },

  describe({ user, move, archival, past }) {
    if (move === 'nothing') {
      const removed = past.map((each) => each.archival).join(', ');
      return removed === '' ? 'none' : `databases of ${user}, archive ${removed} removed`;
    }
    const done = {
      archive: 'archived',
      restore: 'restored',
      drop: 'dropped',
      remove: 'removed',
      erase: 'erased',
    };
    const what = move === 'remove' ? 'databases and archive' : 'databases';
    return `${what} of ${user}, ${done[move]} (archive ${archival})`;
  },

  async observe(reader, wanted, realm) {
    const wants = wanted.map((each) => databaseArchive.want(each, realm));
    const asked = wants.filter(isLookedAt);
    const users = asked.map(({ user }) => user);
    const servers = asked[0]?.servers ?? [];
    const views = await Promise.all(
      servers.map(async (server) => ({
        server,
        ...(await readable(async () => ({ view: await reader.lookForDatabases(server, users) }))),
      })),
    );
    const haves = await Promise.all(
      wants.map(async (want): Promise<DatabaseArchiveHave> => {
        const { account, archival, manifest, user, move } = want;
        if (isGivenUp(want)) {
          const part = await readable(async () => ({
            isThere: await reader.isPartThere(account, archival),
          }));
          return { servers: [], archive: undefined, part };
        }
        if (!isLookedAt(want)) return { servers: [], archive: undefined };
        const on: DatabaseArchiveHave['servers'] = views.map((seen) =>
          'unreadable' in seen
            ? { server: seen.server, unreadable: seen.unreadable }
            : { server: seen.server, databases: seen.view.get(user) ?? [] },
        );
        if (move === 'erase') {
          const any = await readable(async () => ({ isThere: await reader.isAnyThere(account) }));
          const anyArchive = 'unreadable' in any ? any : any.isThere;
          return { servers: on, archive: undefined, anyArchive };
        }
        // of nearly all deleted subjects there is nothing left
        const isNeeded =
          move !== 'drop' || on.some((seen) => 'databases' in seen && seen.databases.length > 0);
        return {
          servers: on,
          archive:
            manifest === undefined || !isNeeded
              ? undefined
              : await readable(() => reader.lookAtArchive(account, archival)),
        };
      }),
    );
    return await Promise.all(
      haves.map(async (have, i) => {
        const { account, past } = wants[i] as DatabaseArchiveWant;
        if (past.length === 0 || wants[i]?.move === 'erase') return have;
        const look = (archival: number) => readable(() => reader.lookAtArchive(account, archival));
        return { ...have, past: await Promise.all(past.map((each) => look(each.archival))) };
      }),
    );
  },

  plan(want, have, wanted) {
    // nearly every subject ends here
    if (want.move === 'nothing' && want.past.length === 0) return NOTHING_TO_DO;
    const draft = drafting(want, wanted);
    for (const [i, { archival, manifest }] of want.past.entries()) {
      const archive = have.past?.[i];
      if (archive === undefined) continue;
      if ('unreadable' in archive) draft.unreadable(archive.unreadable);
      else if (archive.manifest === manifest) draft.remove({ archival, manifest });
      else draft.damaged(false, archival);
    }
    if (isGivenUp(want)) {
      const { part = { isThere: false } } = have;
      if ('unreadable' in part) draft.unreadable(part.unreadable);
      else if (part.isThere) draft.removePart();
      return draft.plan;
    }
    if (!isLookedAt(want)) return draft.plan;
    for (const seen of have.servers) if ('unreadable' in seen) draft.unreadable(seen.unreadable);
    const readableServers = have.servers.filter((seen) => 'databases' in seen);
    if (want.move === 'erase') {
      for (const { server, databases } of readableServers) {
        for (const name of databases) draft.erase(server, name);
      }
      const { anyArchive = false } = have;
      if (typeof anyArchive === 'object') draft.unreadable(anyArchive.unreadable);
      else if (anyArchive) draft.eraseArchives();
      return draft.plan;
    }
    if (want.manifest === undefined) {
      if (!draft.isUnreadable()) draft.archiveAll();
      return draft.plan;
    }
    const isEmpty = readableServers.every(({ databases }) => databases.length === 0);
    const { archive } = have;
    if (archive !== undefined && 'unreadable' in archive) {
      draft.unreadable(archive.unreadable);
      return draft.plan;
    }
    if (archive?.manifest !== want.manifest) {
      const isGone = archive === undefined && want.move === 'remove';
      if (want.move === 'restore' || !(isEmpty && (isGone || want.move === 'drop'))) {
        draft.damaged(archive === undefined);
      }
      return draft.plan;
    }
    for (const { server, databases } of readableServers) {
      const kept = archive.servers.get(server) ?? { databases: [], isReturned: true };
      if (want.move === 'restore') {
        const missing = kept.databases.filter((name) => !databases.includes(name));
        if (missing.length > 0 || !kept.isReturned) draft.restoreMissing(server, missing);
        continue;
      }
      for (const name of databases) {
        if (kept.databases.includes(name)) draft.drop(server, name);
        else draft.unmanaged(server, name);
      }
    }
    if (want.move === 'remove' && isEmpty && !draft.isUnreadable()) draft.remove();
    return draft.plan;
  },
};

function moveOf({ state, archive }: Wanted): DatabaseArchiveWant['move'] {
  if (archive === undefined) return 'nothing';
  if (state === 'archived') return archive.returning ? 'restore' : 'archive';
  if (state !== 'deleted') return 'nothing';
  if (archive.erasure !== undefined) return 'erase';
  return archive.expired ? 'remove' : 'drop';
}

/** If it is recorded already, or was never archived, it need not be read. */
function isLookedAt({ move, manifest }: DatabaseArchiveWant): boolean {
  if (move === 'erase') return true;
  return move !== 'nothing' && (move === 'archive') === (manifest === undefined);
}

/** The subject is restored before its archive was recorded. */
function isGivenUp({ move, manifest }: DatabaseArchiveWant): boolean {
  return move === 'restore' && manifest === undefined;
}

async function readable<T>(look: () => Promise<T>): Promise<T | { unreadable: string }> {
  try {
    return await look();
  } catch (error) {
    if (codeOf(error) !== 'BACKEND_UNREADABLE') throw error;
    return { unreadable: describeError(error) };
  }
}

/** Collects the steps and findings of one subject. It is long because it lists every step and finding, a few lines each. */
function drafting(
  { user, account, archival, manifest = '', servers }: DatabaseArchiveWant,
  wanted: Wanted,
) {
  const plan: TargetPlan = { steps: [], findings: [] };
  const common = { target: 'database-archive', subject: wanted.uid, account };
  const of = { user, account, archival };
  const nameOf = (which: number) => `archive ${which} of the databases of ${user}`;
  const archiveName = nameOf(archival);
  const step = (object: string, effect: Effect, change: string, because: string, action: Action) =>
    plan.steps.push({ ...common, object, effect, change, because, action });

  return {
    plan,
    isUnreadable: () => plan.unreadable !== undefined,

    unreadable(what: string): void {
      plan.unreadable = plan.unreadable === undefined ? what : `${plan.unreadable}; ${what}`;
    },

    archiveAll(): void {
      const action: Action = { verb: 'databases.archive', ...of, uid: wanted.uid, servers };
      step(archiveName, 'create', 'absent → present', `${account} is archived`, action);
    },

    removePart(): void {
      const action: Action = { verb: 'databases.removePart', ...of };
      step(archiveName, 'change', 'unfinished → absent', `${account} is being restored`, action);
    },

    restoreMissing(server: string, missing: readonly string[]): void {
      const object = `databases of ${user} on ${server}`;
      const change = missing.length > 0 ? `with ${missing.join(', ')}` : 'compared';
      const because = `${account} is being restored`;
      const action: Action = { verb: 'databases.restore', server, ...of, manifest };
      step(object, 'create', change, because, action);
    },

    drop(server: string, database: string): void {
      const because = `${account} is deleted, and this is in its archive`;
      const action: Action = { verb: 'databases.drop', server, database, ...of, manifest };
      step(`${database} on ${server}`, 'destroy', 'present → absent', because, action);
    },

    erase(server: string, database: string): void {
      const because = `${account} is erased; it is in no archive`;
      const action: Action = { verb: 'databases.erase', server, database, ...of };
      step(`${database} on ${server}`, 'destroy', 'present → absent', because, action);
    },

    eraseArchives(): void {
      const action: Action = { verb: 'databases.eraseArchives', ...of };
      const because = `${account} is erased`;
      step(`archives of the databases of ${user}`, 'destroy', 'any → absent', because, action);
    },

    remove(which = { archival, manifest }): void {
      const because = 'its retention time is over';
      const action: Action = { verb: 'databases.removeArchive', ...of, ...which };
      step(nameOf(which.archival), 'destroy', 'present → absent', because, action);
    },

    unmanaged(server: string, database: string): void {
      plan.findings.push({
        ...common,
        object: `${database} on ${server}`,
        code: 'ARCHIVE_DIFFERS',
        sentence:
          'It is not in the archive of the databases. Look at it, and drop it or move it elsewhere.',
      });
    },

    damaged(isGone: boolean, which = archival): void {
      plan.findings.push({
        ...common,
        object: nameOf(which),
        code: 'ARCHIVE_DAMAGED',
        sentence: isGone
          ? 'It is missing, though it was made. Put it back.'
          : 'Its manifest differs from the recorded one. Put the right archive back.',
        // nothing waits for one of before
        ...(which === archival ? {} : { advisory: true }),
      });
    },
  };
}
