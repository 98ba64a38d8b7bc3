/** How the targets of the role `homes` look at the file server. An edge implements it. */
import { ChamberlainError } from '../shared/errors.ts';
import type { Erasure } from '../lifecycle/erased-person.ts';
import type { HomePath, SeenPath } from '../reconcile/action.ts';

/** What to look at: a home, whose it should be, and the folders in it that matter. */
export interface AskedHome {
  home: HomePath;
  uid: number;
  folders: readonly string[];
}

/**
 * Does a folder's default ACL keep group write for what is made in it? `unknown` where the area
 * keeps no default ACLs (homes of people, or a file system without them), and where it cannot be
 * told because the folder went away meanwhile.
 */
export type GroupWrite = 'kept' | 'lost' | 'unknown';

/** A path that should be a directory; `what` names what it is instead, e.g. `a symbolic link`. */
export type FolderHave =
  | { kind: 'absent' }
  | { kind: 'irregular'; what: string }
  | { kind: 'directory'; seen: SeenPath; groupWrite: GroupWrite };

/** A home. Its folders are looked at only where it belongs to the uid that was asked for. */
export type HomeHave =
  | Exclude<FolderHave, { kind: 'directory' }>
  | {
      kind: 'directory';
      seen: SeenPath;
      groupWrite: GroupWrite;
      folders: Record<string, FolderHave>;
    };

/**
 * The credentials file in a home. `blocked`: what is there cannot be replaced by a rename, or not
 * be looked at. `irregular`: it can be replaced. The password itself never leaves the edge.
 */
export type CredentialsFileHave =
  | { kind: 'absent' }
  | { kind: 'blocked'; what: string }
  | { kind: 'irregular'; what: string }
  | { kind: 'regular'; seen: SeenPath; links: number; user: string; verifier: string };

/** `foreign`: the home is no directory, or another's; nothing in it was looked at. */
export type CredentialsHave =
  | { home: 'absent' }
  | { home: 'unmanaged' }
  | { home: 'ours'; seen: SeenPath; file: CredentialsFileHave };

/** What to look at of a home that is put away: its place, what was withdrawn, and its archive. */
export interface AskedArchive {
  home: HomePath;
  account: string;
  uid: number;
  archival: number;
  /** SHA-256 of the recorded manifest */
  manifest: string | undefined;
  /** the person is erased: whether the list beside the archives says so is looked at too */
  erasure?: Erasure | undefined;
}

export interface ArchiveHave {
  /** what has the place of the home */
  place:
    | { kind: 'absent' }
    | { kind: 'irregular'; what: string }
    | { kind: 'directory'; seen: SeenPath };
  /** what was withdrawn stands there, whole */
  left: boolean;
  /** its removal was begun */
  going: boolean;
  /**
   * Where a manifest is recorded, what the archive with that very manifest holds. `other`: another one
   * is there. `emptied`: its folder is, and nothing in it: its removal was cut. `unrecorded`: no manifest is
   * recorded, and something is there, half made or whole. `absent`: nothing is.
   */
  archive: 'absent' | 'emptied' | 'unrecorded' | 'other' | 'nothing' | 'home';
  /** looked at only of who is erased */
  isListed?: boolean;
  /** likewise: something that was withdrawn at any time, or is of any archive, recorded or not */
  leftovers?: boolean;
}

/**
 * Each gives one answer per question, in order, and throws BACKEND_UNREADABLE where an area cannot
 * be read, e.g. because it is not mounted.
 */
export interface FilesReader {
  readHomes(asked: readonly AskedHome[]): Promise<HomeHave[]>;
  readCredentials(asked: readonly AskedHome[]): Promise<CredentialsHave[]>;
  readArchives(asked: readonly AskedArchive[]): Promise<ArchiveHave[]>;
}

/**
 * Lays the answers beside the wants: `notWanted` where nothing is wanted, so nothing was asked.
 * Fewer answers than questions are BACKEND_UNREADABLE: what was not looked at is not absent.
 */
export function layAnswers<Have>(
  wants: readonly unknown[],
  answers: readonly Have[],
  notWanted: Have,
): Have[] {
  let next = 0;
  const laid = wants.map((want) => (want === undefined ? notWanted : answers[next++]));
  const whole = laid.filter((have) => have !== undefined);
  if (whole.length !== wants.length || next !== answers.length) {
    throw new ChamberlainError('BACKEND_UNREADABLE', 'looking at homes', {
      context: { asked: next, answered: answers.length },
    });
  }
  return whole;
}
