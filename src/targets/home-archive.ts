/** What becomes of the home of an account that is archived, restored, or deleted. */
import type { HomePath } from '../reconcile/action.ts';
import type { Finding, Step, TargetPlan } from '../reconcile/plan.ts';
import { NOTHING_TO_DO } from '../reconcile/plan.ts';
import type { Erasure } from '../lifecycle/erased-person.ts';
import type { PastArchive, Wanted, WantedArchive } from '../reconcile/wanted.ts';
import type { ArchiveHave, FilesReader } from './files-reader.ts';
import { layAnswers } from './files-reader.ts';
import { placeOf } from './home-directory.ts';
import type { Target } from './target.ts';

export interface HomeArchiveWant {
  home: HomePath;
  /** for people: `/data/project/bridgebot` */
  path: string;
  account: string;
  uid: number;
  archival: number;
  manifest: string | undefined;
  /**
   * archived · restored · gone, and its archive kept · gone with its archive · gone without one · left in place
   */
  end: 'away' | 'back' | 'gone' | 'forgotten' | 'erased' | 'stays';
  /** for an erased person: by which request */
  erasure: Erasure | undefined;
  /** archives of earlier archivals that must be removed */
  past: readonly PastArchive[];
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
    const { archive, pastArchives: past = [], uid, account } = wanted;
    const end = archive === undefined ? 'stays' : endOf(wanted.state, archive);
    if (end === 'stays' && past.length === 0) return undefined;
    const { archival = 0, manifest, erasure } = archive ?? {};
    return { ...placeOf(wanted, realm), account, uid, archival, manifest, end, erasure, past };
  },

  describe(want) {
    if (want === undefined) return 'none';
    const { path, account, archival, end, past } = want;
    const removed = past.map((each) => `, archive ${account}.${each.archival} removed`).join('');
    if (end === 'stays') return `${path}${removed}`;
    if (end === 'erased') return `${path}, erased${removed}`;
    const ends = {
      away: 'to be archived',
      back: 'to be restored',
      gone: 'removed; its archive is kept',
      forgotten: 'removed, and its archive too',
    };
    return `${path}, ${ends[end]}, archive ${account}.${archival}${removed}`;
  },

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

  plan(want, have, wanted) {
    if (want === undefined) return NOTHING_TO_DO;
    const draft = drafting(want, wanted);
    if (want.erasure !== undefined) {
      planErased(want, want.erasure, have, draft);
      return draft.done();
    }
    for (const [i, each] of want.past.entries()) {
      const archive = have.past?.[i] ?? 'absent';
      planForgotten({ ...want, ...each }, { ...have, archive }, draft);
    }
    switch (want.end) {
      case 'stays':
        break;
      case 'away':
        planAway(want, have, draft);
        break;
      case 'back':
        planBack(want, have, draft);
        break;
      case 'gone':
      case 'forgotten':
        planGone(want, have, draft);
    }
    return draft.done();
  },
};

const NOTHING_THERE: ArchiveHave = {
  place: { kind: 'absent' },
  left: false,
  going: false,
  archive: 'absent',
};

function endOf(
  state: Wanted['state'],
  { returning, expired, erasure }: WantedArchive,
): HomeArchiveWant['end'] {
  if (erasure !== undefined) return 'erased';
  if (state === 'archived') return returning ? 'back' : 'away';
  if (state === 'deleted') return expired ? 'forgotten' : 'gone';
  return 'stays';
}

type Draft = ReturnType<typeof drafting>;

function planAway(want: HomeArchiveWant, have: ArchiveHave, draft: Draft): void {
  const { home, uid, archival } = want;
  if (have.place.kind === 'directory' && have.place.seen.uid === uid) {
    if (have.left || want.manifest !== undefined) {
      draft.taken('was already archived');
      return;
    }
    const { seen } = have.place;
    draft.step('revoke', 'in place → quarantined', 'the account is being archived', {
      verb: 'home.withdraw',
      home,
      uid,
      archival,
      seen,
    });
  }
  if (want.manifest === undefined) {
    draft.step('create', `no archive → ${draft.archive}`, 'there is none yet', {
      verb: 'home.archive',
      home,
      uid,
      archival,
    });
  }
}

function planErased(
  { home, account, uid, archival }: HomeArchiveWant,
  erasure: Erasure,
  have: ArchiveHave,
  draft: Draft,
): void {
  const { place, isListed = false, leftovers = false } = have;
  const isOurs = place.kind === 'directory' && place.seen.uid === uid;
  const because = `${account} is erased, as ${erasure.requestedBy} asked and ${erasure.approvedBy} approved`;
  if (isOurs && !have.left) {
    const action = { verb: 'home.withdraw' as const, home, uid, archival, seen: place.seen };
    draft.step('revoke', 'in place → quarantined', because, action);
  } else if (place.kind !== 'absent') {
    draft.taken(isOurs ? 'was already archived' : 'is to be erased');
  }
  if (isOurs || leftovers || !isListed) {
    draft.step('destroy', 'home and archives → erased', because, {
      verb: 'home.erase',
      ...{ home, account, uid, archival, erasure },
    });
  }
}

function planBack(want: HomeArchiveWant, have: ArchiveHave, draft: Draft): void {
  const { home, uid, archival, manifest } = want;
  const isOurs = have.place.kind === 'directory' && have.place.seen.uid === uid;
  const comes = have.left || have.archive === 'home';
  if (have.archive === 'unrecorded') {
    draft.step('change', `unfinished ${draft.archive} → removed`, 'the account is being restored', {
      verb: 'home.removePart',
      home,
      uid,
      archival,
    });
  }
  if (have.place.kind !== 'absent') {
    if (have.left || (!isOurs && comes)) draft.taken('is to be restored');
    return;
  }
  if (have.left) {
    draft.step('create', 'quarantined → in place', 'the account is being restored', {
      verb: 'home.return',
      home,
      uid,
      archival,
    });
  } else if (have.archive === 'home' && manifest !== undefined) {
    draft.step('create', `absent → from ${draft.archive}`, 'the account is being restored', {
      verb: 'home.restore',
      home,
      uid,
      archival,
      manifest,
    });
  } else if (manifest !== undefined && have.archive !== 'nothing') {
    draft.damaged(have);
  }
}

function planGone(want: HomeArchiveWant, have: ArchiveHave, draft: Draft): void {
  const { home, uid, archival, manifest } = want;
  if (manifest === undefined) return;
  const isThere = have.left || have.going;
  if (isThere && have.archive !== 'home') {
    draft.damaged(have);
    return;
  }
  if (isThere) {
    draft.step('destroy', 'quarantined → removed', `it is in ${draft.archive}`, {
      verb: 'home.destroy',
      home,
      uid,
      archival,
      manifest,
    });
  }
  if (want.end === 'gone') {
    if (!['home', 'nothing'].includes(have.archive)) draft.damaged(have, true);
  } else {
    planForgotten({ ...want, manifest }, have, draft);
  }
}

/** An archive that need not be kept any longer, whether its content is gone or was restored. */
function planForgotten(
  { home, account, uid, archival, manifest }: HomeArchiveWant & { manifest: string },
  have: ArchiveHave,
  draft: Draft,
): void {
  const archive = `${account}.${archival}`;
  if (have.archive === 'other') {
    draft.damaged(have, true, archive);
  } else if (have.archive !== 'absent') {
    draft.step('destroy', `${archive} → removed`, 'its retention time is over', {
      verb: 'home.removeArchive',
      home,
      uid,
      archival,
      manifest,
    });
  }
}

/** Collects the steps and findings of one subject. */
function drafting({ path, account, archival }: HomeArchiveWant, { uid }: Wanted) {
  const steps: Step[] = [];
  const findings: Finding[] = [];
  const archive = `${account}.${archival}`;
  const common = { target: 'home-archive', subject: uid, account, object: path };
  return {
    archive,

    step(effect: Step['effect'], change: string, because: string, action: Step['action']): void {
      steps.push({ ...common, effect, change, because, action });
    },

    /** something is at the place of a home that was withdrawn */
    taken(why: string): void {
      const sentence = `Something is here, although the home ${why}. Move it away.`;
      findings.push({ ...common, code: 'PATH_FOREIGN', sentence });
    },

    /** `advisory` if nothing waits for it */
    damaged(have: ArchiveHave, advisory = false, of = archive): void {
      const is =
        have.archive === 'absent'
          ? 'is missing'
          : have.archive === 'other'
            ? 'has a manifest that differs from the recorded one'
            : 'holds no home';
      const sentence = `The archive ${of} ${is}. Put it back from a backup.`;
      findings.push({
        ...common,
        code: 'ARCHIVE_DAMAGED',
        sentence,
        ...(advisory ? { advisory } : {}),
      });
    },

    done: (): TargetPlan => ({ steps, findings }),
  };
}
