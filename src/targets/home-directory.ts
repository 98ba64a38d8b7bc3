/** The home of an account on the file server. */
import type { Action, HomePath, SeenPath } from '../reconcile/action.ts';
import {
  NOTHING_TO_DO,
  type DraftFinding,
  type DraftStep,
  type TargetPlan,
} from '../reconcile/plan.ts';
import type { Realm, Wanted } from '../reconcile/wanted.ts';
import { layAnswers, type FilesReader, type GroupWrite, type HomeHave } from './files-reader.ts';
import type { Target } from './target.ts';

export interface HomeWant {
  home: HomePath;
  /** for people: `/data/project/bridgebot` */
  path: string;
  uid: number;
  gid: number;
  mode: number;
  folders: readonly string[];
  skeleton: boolean;
}

/** The folders that every tool has: for its web pages, and for the output of its jobs. */
const TOOL_FOLDERS = ['public_html', 'logs'];

/**
 * Where the home of a subject is; undefined if it has none: a person who never had access, and any archived
 * subject (home-archive.ts decides what becomes of its home).
 */
export function homeOf(wanted: Wanted, realm: Realm): { home: HomePath; path: string } | undefined {
  if (wanted.state === 'archived' || wanted.state === 'deleted') return undefined;
  if (wanted.kind === 'person' && !wanted.realmMember && !wanted.everAdmitted) return undefined;
  return placeOf(wanted, realm);
}

/** Where the home of a subject is, if it has one. */
export function placeOf(wanted: Wanted, realm: Realm): { home: HomePath; path: string } {
  if (wanted.kind === 'tool') {
    const home: HomePath = { area: 'toolHomes', name: wanted.name };
    return { home, path: `${realm.toolHomes}/${wanted.name}` };
  }
  const home: HomePath = { area: 'personHomes', name: wanted.shellName };
  return { home, path: `${realm.personHomes}/${wanted.shellName}` };
}

/** A mode as `ls` and `chmod` show it: four octal digits. */
export function formatMode(mode: number): string {
  return mode.toString(8).padStart(4, '0');
}

/** Taking rights from the group or from others is a revocation; anything else is a change. */
export function effectOfMode(from: number, to: number): 'revoke' | 'change' {
  return (from & ~to & 0o077) === 0 ? 'change' : 'revoke';
}

/**
 * | seen                                  | step                       | finding      |
 * | ------------------------------------- | -------------------------- | ------------ |
 * | nothing wanted                        |                            |              |
 * | home absent                           | dir.create, with folders   |              |
 * | home not a directory, or another uid's |                           | PATH_FOREIGN |
 * | mode differs                          | path.chmod                 |              |
 * | group differs                         | path.chgrp                 |              |
 * | default ACL does not keep group write | path.setAcl                |              |
 * | folder absent                         | folder.create              |              |
 * | folder not a directory, or another's  | the others' steps          | PATH_FOREIGN |
 * | folder's mode, group, ACL             | as for the home            |              |
 */
export const homeDirectory: Target<FilesReader, HomeWant | undefined, HomeHave> = {
  name: 'home-directory',
  of: ['person', 'tool'],
  needs: [],

  want(wanted, realm) {
    const place = homeOf(wanted, realm);
    if (place === undefined) return undefined;
    return wanted.kind === 'tool'
      ? {
          ...place,
          uid: wanted.uid,
          gid: wanted.uid,
          mode: realm.toolHomeMode,
          folders: TOOL_FOLDERS,
          skeleton: false,
        }
      : {
          ...place,
          uid: wanted.uid,
          gid: realm.realmGid,
          mode: 0o700,
          folders: [],
          skeleton: true,
        };
  },

  describe(want) {
    if (want === undefined) return 'none';
    const { path, uid, gid, mode, folders } = want;
    const holds = folders.length === 0 ? [] : [`with ${folders.join(', ')}`];
    return [path, `${uid}:${gid}`, formatMode(mode), ...holds].join(', ');
  },

  async observe(reader, wanted, realm) {
    const wants = wanted.map((one) => homeDirectory.want(one, realm));
    const haves = await reader.readHomes(wants.filter((want) => want !== undefined));
    return layAnswers(wants, haves, { kind: 'absent' });
  },

  plan(want, have) {
    if (want === undefined) return NOTHING_TO_DO;
    const { home, path, uid, gid, mode, folders, skeleton } = want;
    if (have.kind === 'absent') {
      const change = `absent → ${[formatMode(mode), ...folders].join(', ')}`;
      const action: Action = {
        verb: 'dir.create',
        home,
        uid,
        gid,
        mode,
        folders: [...folders],
        skeleton,
      };
      return { steps: [creation(path, change, action)], findings: [] };
    }
    if (have.kind === 'irregular' || have.seen.uid !== uid) {
      return { steps: [], findings: [unmanagedFinding(path, have, uid)] };
    }
    const plan: TargetPlan = { steps: [], findings: [] };
    mend(plan, want, undefined, have);
    for (const folder of folders) {
      const there = have.folders[folder] ?? { kind: 'absent' };
      const object = `${path}/${folder}`;
      if (there.kind === 'absent') {
        const action: Action = {
          verb: 'folder.create',
          home,
          folder,
          uid,
          gid,
          mode,
          seen: have.seen,
        };
        plan.steps.push(creation(object, `absent → ${formatMode(mode)}`, action));
      } else if (there.kind === 'irregular' || there.seen.uid !== uid) {
        plan.findings.push(unmanagedFinding(object, there, uid));
      } else {
        mend(plan, want, folder, there);
      }
    }
    return plan;
  },
};

function creation(object: string, change: string, action: Action): DraftStep {
  return { object, effect: 'create', change, because: 'it does not exist', action };
}

function unmanagedFinding(
  object: string,
  have: { kind: 'irregular'; what: string } | { kind: 'directory'; seen: SeenPath },
  uid: number,
): DraftFinding {
  const sentence =
    have.kind === 'irregular'
      ? `There is ${have.what} where a directory of uid ${uid} should be. Move it away.`
      : `The directory belongs to uid ${have.seen.uid}, not to ${uid}. ` +
        `If it should belong to this account, change its owner to uid ${uid}. Otherwise move it away.`;
  return { object, code: 'PATH_FOREIGN', sentence };
}

/** Adds the steps that make a home, or a folder in it, as it should be. */
function mend(
  { steps }: TargetPlan,
  want: HomeWant,
  folder: string | undefined,
  { seen, groupWrite }: { seen: SeenPath; groupWrite: GroupWrite },
): void {
  const { home, path, mode, gid } = want;
  const object = folder === undefined ? path : `${path}/${folder}`;
  const at = folder === undefined ? { home, seen } : { home, folder, seen };
  if (seen.mode !== mode) {
    const change = `mode ${formatMode(seen.mode)} → ${formatMode(mode)}`;
    const action: Action = { verb: 'path.chmod', ...at, mode };
    const effect = effectOfMode(seen.mode, mode);
    steps.push({ object, effect, change, because: 'the mode differs', action });
  }
  if (seen.gid !== gid) {
    const change = `group ${seen.gid} → ${gid}`;
    const action: Action = { verb: 'path.chgrp', ...at, gid };
    steps.push({ object, effect: 'change', change, because: 'the group differs', action });
  }
  if (groupWrite === 'lost') {
    const change = 'default ACL → group rwx';
    const because = 'the group could not write to new files in it';
    const action: Action = { verb: 'path.setAcl', ...at };
    steps.push({ object, effect: 'change', change, because, action });
  }
}
