/** The own databases of a tool or a person that leaves: archived, dropped, or restored. */
import { codeOf, describeError } from '../shared/errors.ts';
import { databaseUser } from '../identity/posix-id.ts';
import { NOTHING_TO_DO } from '../reconcile/plan.ts';
import type { PastArchive } from '../reconcile/wanted.ts';
import { type ArchiveWant, describeArchive, draftArchive, wantArchive } from './archive-plan.ts';
import type { DatabaseArchiveReader, DatabasesArchive } from './databases-reader.ts';
import type { Target } from './target.ts';

export interface DatabaseArchiveWant extends ArchiveWant {
  user: string;
  /** the servers for users' own databases */
  servers: string[];
}

export interface DatabaseArchiveHave {
  /** by server, the names of the user's databases, or why they cannot be read */
  servers: ({ server: string; databases: string[] } | { server: string; unreadable: string })[];
  /** read only if one is recorded and needed; `unreadable` says why it cannot be read */
  archive: SeenArchive;
  /** read only if it is no longer wanted: whether something is left of one that was being made */
  part?: { isThere: boolean } | { unreadable: string };
  /** read only for an erased subject: whether anything is left of any archive */
  anyArchive?: boolean | { unreadable: string };
  /** of each archive that must be removed, in order */
  past?: SeenArchive[];
}

type SeenArchive =
  Awaited<ReturnType<DatabaseArchiveReader['lookAtArchive']>> | { unreadable: string };

/**
 * Ours are the databases whose names begin with the user's, `s51234__`, on servers of tools. The following
 * holds for each server that can be read; `archive` is the one on disk, and `same` means that its manifest is
 * the recorded one:
 *
 * | end        | recorded | seen                                         | step, or otherwise          |
 * | ---------- | -------- | -------------------------------------------- | --------------------------- |
 * | stays      | any      | not read                                     |                             |
 * | away       | no       | every server can be read                     | databases.archive           |
 * | away       | no       | one cannot                                   | nothing yet: unreadable     |
 * | away       | yes      | anything                                     |                             |
 * | back       | no       | an unfinished archive                        | databases.removePart        |
 * |            |          | none: nothing was dropped                    |                             |
 * | back       | yes      | same; one is missing, or nothing notes that  | databases.restore           |
 * |            |          | everything was restored                      |                             |
 * | gone       | yes      | same; one that it holds                      | databases.drop              |
 * | gone       | yes      | same; one that it does not hold              | ARCHIVE_DIFFERS, left       |
 * | forgotten  | yes      | same; no database left, every server read    | databases.removeArchive     |
 * | forgotten  | yes      | same; one that it holds                      | databases.drop, first       |
 * | forgotten  | yes      | its empty folder; no database left           | databases.removeArchive     |
 * | erased     | no       | one, whatever is in an archive               | databases.erase             |
 * | erased     | no       | anything of any archive of the account       | databases.eraseArchives     |
 * | not away   | yes      | none, or not the same, and it is needed      | ARCHIVE_DAMAGED             |
 *
 * An archive is needed to restore, and while a database still exists. An archive that need not be kept any
 * longer may be absent.
 *
 * Archives of earlier archivals that need not be kept any longer are removed, whatever the end is now. If
 * another than the recorded one is in their place, ARCHIVE_DAMAGED is an advisory finding.
 */
export const databaseArchive: Target<
  DatabaseArchiveReader,
  DatabaseArchiveWant | undefined,
  DatabaseArchiveHave
> = {
  name: 'database-archive',
  of: ['person', 'tool'],
  needs: [],

  want(wanted, realm) {
    const archive = wantArchive(wanted);
    const servers = realm.databaseServers.filter(({ kind }) => kind === 'toolsdb');
    return (
      archive && {
        ...archive,
        user: databaseUser(wanted.kind, wanted.uid),
        servers: servers.map(({ name }) => name),
      }
    );
  },

  describe: (want) =>
    want === undefined ? 'none' : describeArchive(`databases of ${want.user}`, want),

  async observe(reader, wanted, realm) {
    const wants = wanted.map((each) => databaseArchive.want(each, realm));
    const asked = wants.filter((want) => want !== undefined).filter(isLookedAt);
    const users = asked.map(({ user }) => user);
    const servers = asked[0]?.servers ?? [];
    const views = await Promise.all(
      servers.map(async (server) => ({
        server,
        ...(await readable(async () => ({ view: await reader.lookForDatabases(server, users) }))),
      })),
    );
    return await Promise.all(
      wants.map(async (want): Promise<DatabaseArchiveHave> => {
        if (want === undefined) return NOTHING_READ;
        const on = views.map((seen) =>
          'unreadable' in seen
            ? { server: seen.server, unreadable: seen.unreadable }
            : { server: seen.server, databases: seen.view.get(want.user) ?? [] },
        );
        const have = await lookAtOne(reader, want, on);
        const { account, past } = want;
        if (past.length === 0 || want.end === 'erased') return have;
        const look = (archival: number) => readable(() => reader.lookAtArchive(account, archival));
        return { ...have, past: await Promise.all(past.map((each) => look(each.archival))) };
      }),
    );
  },

  plan(want, have) {
    // nearly every subject ends here
    if (want === undefined) return NOTHING_TO_DO;
    const { past, end, manifest } = want;
    const draft = drafting(want);
    for (const [i, each] of past.entries()) draft.forget(each, have.past?.[i]);
    if (isGivenUp(want)) {
      const { part = { isThere: false } } = have;
      if ('unreadable' in part) draft.unreadable(part.unreadable);
      else if (part.isThere) draft.removePart();
      return draft.plan;
    }
    if (!isLookedAt(want)) return draft.plan;
    for (const seen of have.servers) if ('unreadable' in seen) draft.unreadable(seen.unreadable);
    const readableServers = have.servers.filter((seen) => 'databases' in seen);
    if (end === 'erased') {
      for (const { server, databases } of readableServers) {
        for (const name of databases) draft.erase(server, name);
      }
      const { anyArchive = false } = have;
      if (typeof anyArchive === 'object') draft.unreadable(anyArchive.unreadable);
      else if (anyArchive) draft.eraseArchives();
      return draft.plan;
    }
    const isUnreadable = () => draft.plan.unreadable !== undefined;
    if (manifest === undefined) {
      if (!isUnreadable()) draft.archiveAll();
      return draft.plan;
    }
    const isEmpty = readableServers.every(({ databases }) => databases.length === 0);
    const { archive } = have;
    if (typeof archive === 'object' && 'unreadable' in archive) {
      draft.unreadable(archive.unreadable);
      return draft.plan;
    }
    const forgotten = { archival: want.archival, manifest };
    if (archive === undefined || archive === 'emptied' || archive.manifest !== manifest) {
      const isGone = typeof archive !== 'object' && end === 'forgotten';
      if (end === 'back' || !(isEmpty && (isGone || end === 'gone'))) draft.damaged(archive);
      else if (isGone && !isUnreadable()) draft.forget(forgotten, archive);
      return draft.plan;
    }
    for (const { server, databases } of readableServers) {
      const kept = archive.servers.get(server) ?? { databases: [], isReturned: true };
      if (end === 'back') {
        const missing = kept.databases.filter((name) => !databases.includes(name));
        if (missing.length > 0 || !kept.isReturned) draft.restoreMissing(server, missing, manifest);
        continue;
      }
      for (const name of databases) {
        if (kept.databases.includes(name)) draft.drop(server, name, manifest);
        else draft.unmanaged(server, name);
      }
    }
    if (end === 'forgotten' && isEmpty && !isUnreadable()) {
      draft.forget(forgotten, archive);
    }
    return draft.plan;
  },
};

const NOTHING_READ: DatabaseArchiveHave = { servers: [], archive: undefined };

/** What there is for the current archival; `on`: the databases on each server. */
async function lookAtOne(
  reader: DatabaseArchiveReader,
  want: DatabaseArchiveWant,
  on: DatabaseArchiveHave['servers'],
): Promise<DatabaseArchiveHave> {
  const { account, archival, manifest, end } = want;
  if (isGivenUp(want)) {
    const look = async () => ({ isThere: await reader.isPartThere(account, archival) });
    return { ...NOTHING_READ, part: await readable(look) };
  }
  if (!isLookedAt(want)) return NOTHING_READ;
  if (end === 'erased') {
    const any = await readable(async () => ({ isThere: await reader.isAnyThere(account) }));
    const anyArchive = 'unreadable' in any ? any : any.isThere;
    return { servers: on, archive: undefined, anyArchive };
  }
  // of nearly all deleted subjects there is nothing left
  const isNeeded =
    end !== 'gone' || on.some((seen) => 'databases' in seen && seen.databases.length > 0);
  const archive =
    manifest === undefined || !isNeeded
      ? undefined
      : await readable(() => reader.lookAtArchive(account, archival));
  return { servers: on, archive };
}

/** If it is recorded already, or was never archived, it need not be read. */
function isLookedAt({ end, manifest }: ArchiveWant): boolean {
  if (end === 'erased') return true;
  return end !== 'stays' && (end === 'away') === (manifest === undefined);
}

/** The subject is restored before its archive was recorded. */
function isGivenUp({ end, manifest }: ArchiveWant): boolean {
  return end === 'back' && manifest === undefined;
}

async function readable<T>(look: () => Promise<T>): Promise<T | { unreadable: string }> {
  try {
    return await look();
  } catch (error) {
    if (codeOf(error) !== 'BACKEND_UNREADABLE') throw error;
    return { unreadable: describeError(error) };
  }
}

/** The steps and findings of one subject, by what they are for. */
function drafting(want: DatabaseArchiveWant) {
  const { user, account, uid, archival, servers } = want;
  const draft = draftArchive(want);
  const of = { user, account, archival };
  const nameOf = (which: number) => `archive ${which} of the databases of ${user}`;
  const archiveName = nameOf(archival);
  const gone = 'present → absent';

  return {
    plan: draft.plan,
    unreadable: (what: string) => draft.unreadable(what),

    archiveAll(): void {
      const action = { verb: 'databases.archive', ...of, uid, servers } as const;
      draft.step(archiveName, 'create', 'absent → present', `${account} is archived`, action);
    },

    removePart(): void {
      const action = { verb: 'databases.removePart', ...of } as const;
      draft.step(
        archiveName,
        'change',
        'unfinished → absent',
        `${account} is being restored`,
        action,
      );
    },

    restoreMissing(server: string, missing: readonly string[], manifest: string): void {
      const object = `databases of ${user} on ${server}`;
      const change = missing.length > 0 ? `with ${missing.join(', ')}` : 'compared';
      const action = { verb: 'databases.restore', server, ...of, manifest } as const;
      draft.step(object, 'create', change, `${account} is being restored`, action);
    },

    drop(server: string, database: string, manifest: string): void {
      const because = `${account} is deleted, and this is in its archive`;
      const action = { verb: 'databases.drop', server, database, ...of, manifest } as const;
      draft.step(`${database} on ${server}`, 'destroy', gone, because, action);
    },

    erase(server: string, database: string): void {
      const because = `${account} is erased; it is in no archive`;
      const action = { verb: 'databases.erase', server, database, ...of } as const;
      draft.step(`${database} on ${server}`, 'destroy', gone, because, action);
    },

    eraseArchives(): void {
      const action = { verb: 'databases.eraseArchives', ...of } as const;
      const object = `archives of the databases of ${user}`;
      draft.step(object, 'destroy', 'any → absent', `${account} is erased`, action);
    },

    /** For an archive that need not be kept any longer; `seen` is the one on disk. */
    forget(which: PastArchive, seen: DatabaseArchiveHave['archive']): void {
      if (typeof seen === 'object' && 'unreadable' in seen) {
        draft.unreadable(seen.unreadable);
        return;
      }
      const action = { verb: 'databases.removeArchive', ...of, ...which } as const;
      const isRecorded = typeof seen === 'object' && seen.manifest === which.manifest;
      draft.forget(nameOf(which.archival), isRecorded ? 'whole' : stateOf(seen), gone, action);
    },

    unmanaged(server: string, database: string): void {
      const sentence =
        'It is not in the archive of the databases. Look at it, and drop it or move it elsewhere.';
      draft.finding(`${database} on ${server}`, 'ARCHIVE_DIFFERS', sentence);
    },

    damaged(seen: DatabasesArchive | 'emptied' | undefined): void {
      draft.damaged(archiveName, stateOf(seen));
    },
  };
}

/** Of an archive that is not the recorded one. */
function stateOf(seen: DatabasesArchive | 'emptied' | undefined): 'absent' | 'emptied' | 'other' {
  if (seen === undefined) return 'absent';
  return seen === 'emptied' ? seen : 'other';
}
