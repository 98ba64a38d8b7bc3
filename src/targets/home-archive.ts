/** What becomes of the home of an account that is archived, restored, or deleted. */
import type { HomePath } from '../reconcile/action.ts';
import { NOTHING_TO_DO } from '../reconcile/plan.ts';
import type { Erasure } from '../lifecycle/erased-person.ts';
import { type ArchiveWant, describeArchive, draftArchive, wantArchive } from './archive-plan.ts';
import type { ArchiveHave, FilesReader } from './files-reader.ts';
import { layAnswers } from './files-reader.ts';
import { placeOf } from './home-directory.ts';
import type { Target } from './target.ts';

export interface HomeArchiveWant extends ArchiveWant {
  home: HomePath;
  /** for people: `/data/project/bridgebot` */
  path: string;
}

/** `past`: the state of each archive that must be removed, in order. */
export type HomeArchiveHave = ArchiveHave & { past?: ArchiveHave['archive'][] };

/**
 * `left`: what was withdrawn, out of reach. `going`: what is left of it after its removal was begun. An archive
 * is whole if its manifest is the recorded one.
 *
 * | wanted    | place            | left, going | archive             | steps              | finding         |
 * | --------- | ---------------- | ----------- | ------------------- | ------------------ | --------------- |
 * | away      | ours             | no          | not recorded        | withdraw, archive  |                 |
 * |           | ours             | left        | any                 |                    | PATH_FOREIGN    |
 * |           | ours             | no          | recorded            |                    | PATH_FOREIGN    |
 * |           | absent, another's | any        | not recorded        | archive            |                 |
 * |           | absent, another's | any        | recorded            |                    |                 |
 * | back      | ours             | no left     | any                 |                    |                 |
 * |           | ours             | left        | any                 |                    | PATH_FOREIGN    |
 * |           | another's        | left        | any                 |                    | PATH_FOREIGN    |
 * |           | another's        | no left     | a home              |                    | PATH_FOREIGN    |
 * |           | absent           | left        | any                 | return             |                 |
 * |           | absent           | no left     | a home              | restore            |                 |
 * |           | absent           | no left     | recorded, not whole |                    | ARCHIVE_DAMAGED |
 * |           | any              | no left     | nothing, or not recorded |               |                 |
 * |           | any, besides     | any         | there, not recorded | removePart         |                 |
 * | gone      | any              | one of them | a home              | destroy            |                 |
 * |           | any              | one of them | recorded, not that  |                    | ARCHIVE_DAMAGED |
 * |           | any              | none        | recorded, not whole |                    | ARCHIVE_DAMAGED, advisory |
 * | forgotten | any              | one of them | a home              | destroy, removeArchive |             |
 * |           | any              | one of them | recorded, not that  |                    | ARCHIVE_DAMAGED |
 * |           | any              | none        | whole               | removeArchive      |                 |
 * |           | any              | none        | another             |                    | ARCHIVE_DAMAGED, advisory |
 * |           | any              | none        | its empty folder    | removeArchive      |                 |
 * | erased    | ours             | no left     | any                 | withdraw, erase    |                 |
 * |           | ours             | left        | any                 | erase              | PATH_FOREIGN    |
 * |           | another's        | any         | any                 | erase, if as below | PATH_FOREIGN    |
 * |           | absent           | leftovers, or not listed |  any   | erase              |                 |
 *
 * An archive of an earlier archival that must be removed is treated as `forgotten`, and what is in place is
 * left. An erasure removes all archives of the account, recorded or not, damaged or not.
 *
 * In all other cases nothing is done. A place that belongs to another account, or is not a directory, is left
 * as it is, and nothing of it is archived.
 */
export const homeArchive: Target<FilesReader, HomeArchiveWant | undefined, HomeArchiveHave> = {
  name: 'home-archive',
  of: ['person', 'tool'],
  needs: [],

  want(wanted, realm) {
    const archive = wantArchive(wanted);
    return archive && { ...archive, ...placeOf(wanted, realm) };
  },

  describe: (want) => (want === undefined ? 'none' : describeArchive(want.path, want)),

  async observe(reader, wanted, realm) {
    const wants = wanted.map((one) => homeArchive.want(one, realm));
    const looks = wants.map((want) => {
      if (want?.erasure !== undefined || want === undefined) return [want];
      return [want, ...want.past.map((each) => ({ ...want, ...each }))];
    });
    const asked = looks.flat().filter((look) => look !== undefined);
    const haves = asked.length === 0 ? [] : await reader.readArchives(asked);
    const laid = layAnswers<HomeArchiveHave>(looks.flat(), haves, NOTHING_THERE);
    let next = 0;
    return looks.map(({ length }) => {
      const [have = NOTHING_THERE, ...past] = laid.slice(next, (next += length));
      return past.length === 0 ? have : { ...have, past: past.map(({ archive }) => archive) };
    });
  },

  plan(want, have) {
    if (want === undefined) return NOTHING_TO_DO;
    const draft = draftArchive(want);
    if (want.erasure !== undefined) {
      planErased(want, want.erasure, have, draft);
      return draft.plan;
    }
    for (const [i, each] of want.past.entries()) {
      planForgotten({ ...want, ...each }, have.past?.[i] ?? 'absent', draft);
    }
    if (want.end === 'away') planAway(want, have, draft);
    if (want.end === 'back') planBack(want, have, draft);
    if (want.end === 'gone' || want.end === 'forgotten') planGone(want, have, draft);
    return draft.plan;
  },
};

const NOTHING_THERE: ArchiveHave = {
  place: { kind: 'absent' },
  left: false,
  going: false,
  archive: 'absent',
};

type Draft = ReturnType<typeof draftArchive>;

/** What a step of this home names, and the name of its archive. */
const partsOf = ({ home, account, uid, archival }: HomeArchiveWant) => ({
  of: { home, uid, archival },
  archive: `${account}.${archival}`,
});

function planAway(want: HomeArchiveWant, have: ArchiveHave, draft: Draft): void {
  const { path, uid, manifest } = want;
  const { of, archive } = partsOf(want);
  if (have.place.kind === 'directory' && have.place.seen.uid === uid) {
    if (have.left || manifest !== undefined) {
      taken(path, 'was already archived', draft);
      return;
    }
    const { seen } = have.place;
    const why = 'the account is being archived';
    const action = { verb: 'home.withdraw', ...of, seen } as const;
    draft.step(path, 'revoke', 'in place → quarantined', why, action);
  }
  if (manifest === undefined) {
    const change = `no archive → ${archive}`;
    const action = { verb: 'home.archive', ...of } as const;
    draft.step(path, 'create', change, 'there is none yet', action);
  }
}

function planErased(
  want: HomeArchiveWant,
  erasure: Erasure,
  have: ArchiveHave,
  draft: Draft,
): void {
  const { path, account, uid } = want;
  const { of } = partsOf(want);
  const { place, isListed = false, leftovers = false } = have;
  const isOurs = place.kind === 'directory' && place.seen.uid === uid;
  const because = `${account} is erased, as ${erasure.requestedBy} asked and ${erasure.approvedBy} approved`;
  if (isOurs && !have.left) {
    const action = { verb: 'home.withdraw', ...of, seen: place.seen } as const;
    draft.step(path, 'revoke', 'in place → quarantined', because, action);
  } else if (place.kind !== 'absent') {
    taken(path, isOurs ? 'was already archived' : 'is to be erased', draft);
  }
  if (isOurs || leftovers || !isListed) {
    const action = { verb: 'home.erase', ...of, account, erasure } as const;
    draft.step(path, 'destroy', 'home and archives → erased', because, action);
  }
}

function planBack(want: HomeArchiveWant, have: ArchiveHave, draft: Draft): void {
  const { path, uid, manifest } = want;
  const { of, archive } = partsOf(want);
  const isOurs = have.place.kind === 'directory' && have.place.seen.uid === uid;
  const comes = have.left || have.archive === 'home';
  const because = 'the account is being restored';
  if (have.archive === 'unrecorded') {
    const action = { verb: 'home.removePart', ...of } as const;
    draft.step(path, 'change', `unfinished ${archive} → removed`, because, action);
  }
  if (have.place.kind !== 'absent') {
    if (have.left || (!isOurs && comes)) taken(path, 'is to be restored', draft);
    return;
  }
  if (have.left) {
    const action = { verb: 'home.return', ...of } as const;
    draft.step(path, 'create', 'quarantined → in place', because, action);
  } else if (have.archive === 'home' && manifest !== undefined) {
    const action = { verb: 'home.restore', ...of, manifest } as const;
    draft.step(path, 'create', `absent → from ${archive}`, because, action);
  } else if (manifest !== undefined && have.archive !== 'nothing') {
    draft.damaged(path, have.archive);
  }
}

function planGone(want: HomeArchiveWant, have: ArchiveHave, draft: Draft): void {
  const { path, manifest } = want;
  const { of, archive } = partsOf(want);
  if (manifest === undefined) return;
  if (have.left || have.going) {
    if (have.archive !== 'home') {
      draft.damaged(path, have.archive);
      return;
    }
    const action = { verb: 'home.destroy', ...of, manifest } as const;
    draft.step(path, 'destroy', 'quarantined → removed', `it is in ${archive}`, action);
  }
  if (want.end === 'forgotten') planForgotten({ ...want, manifest }, have.archive, draft);
  else if (!['home', 'nothing'].includes(have.archive)) draft.damaged(path, have.archive, true);
}

function planForgotten(
  want: HomeArchiveWant & { manifest: string },
  state: ArchiveHave['archive'],
  draft: Draft,
): void {
  const { path, manifest } = want;
  const { of, archive } = partsOf(want);
  const action = { verb: 'home.removeArchive', ...of, manifest } as const;
  draft.forget(path, state, `${archive} → removed`, action);
}

/** Something is at the place of a home that was withdrawn. */
function taken(path: string, why: string, draft: Draft): void {
  const sentence = `Something else is here instead of the home, which ${why}. Move it away.`;
  draft.finding(path, 'PATH_FOREIGN', sentence);
}
