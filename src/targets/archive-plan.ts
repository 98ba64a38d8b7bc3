/** What the targets of archives have in common, whatever is archived: what is wanted, and how it is planned. */
import type { Erasure } from '../lifecycle/erased-person.ts';
import type { Code } from '../shared/errors.ts';
import type { Action, Effect } from '../reconcile/action.ts';
import type { TargetPlan } from '../reconcile/plan.ts';
import type { PastArchive, Wanted } from '../reconcile/wanted.ts';
import type { ArchiveHave } from './files-reader.ts';

/** What is wanted of what a role has made for a subject that leaves, or has left. */
export interface ArchiveWant {
  account: string;
  uid: number;
  archival: number;
  /** of the recorded archive */
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

/** Undefined if nothing of the subject is archived, or was. */
export function wantArchive(wanted: Wanted): ArchiveWant | undefined {
  const { archive, pastArchives: past = [], uid, account } = wanted;
  const end = endOf(wanted);
  if (end === 'stays' && past.length === 0) return undefined;
  const { archival = 0, manifest, erasure } = archive ?? {};
  return { account, uid, archival, manifest, end, erasure, past };
}

function endOf({ state, archive }: Wanted): ArchiveWant['end'] {
  if (archive?.erasure !== undefined) return 'erased';
  if (archive === undefined || (state !== 'archived' && state !== 'deleted')) return 'stays';
  if (state === 'archived') return archive.returning ? 'back' : 'away';
  return archive.expired ? 'forgotten' : 'gone';
}

/** What is wanted of an object, in one line for people. */
export function describeArchive(
  object: string,
  { account, archival, end, past }: ArchiveWant,
): string {
  const removed = past.map((each) => `, archive ${account}.${each.archival} removed`).join('');
  const of = `archive ${account}.${archival}`;
  const ends = {
    stays: '',
    away: `, to be archived, ${of}`,
    back: `, to be restored, ${of}`,
    gone: `, removed; the archive is kept, ${of}`,
    forgotten: `, removed, and the archive too, ${of}`,
    erased: ', erased',
  };
  return `${object}${ends[end]}${removed}`;
}

/** What is seen of an archive; `whole` if it is the recorded one. */
type Seen = ArchiveHave['archive'] | 'whole';

/** Collects the steps and findings of one subject. */
export function draftArchive({ account, archival }: ArchiveWant) {
  const plan: TargetPlan = { steps: [], findings: [] };
  const draft = {
    plan,

    step(object: string, effect: Effect, change: string, because: string, action: Action): void {
      plan.steps.push({ object, effect, change, because, action });
    },

    /** `advisory` if nothing waits for it */
    finding(object: string, code: Code, sentence: string, advisory = false): void {
      const finding = { object, code, sentence };
      plan.findings.push(advisory ? { ...finding, advisory } : finding);
    },

    unreadable(what: string): void {
      plan.unreadable = plan.unreadable === undefined ? what : `${plan.unreadable}; ${what}`;
    },

    damaged(object: string, seen: Seen, advisory = false, which = archival): void {
      const differs = 'has a manifest that differs from the recorded one';
      const is = seen === 'absent' ? 'is missing' : seen === 'other' ? differs : 'holds nothing';
      const sentence = `The archive ${account}.${which} ${is}. Put it back from a backup.`;
      draft.finding(object, 'ARCHIVE_DAMAGED', sentence, advisory);
    },

    /** For an archive that need not be kept any longer, whether its content is gone or was restored. */
    forget(object: string, seen: Seen, change: string, action: Action & PastArchive): void {
      if (seen === 'other') draft.damaged(object, seen, true, action.archival);
      else if (seen !== 'absent') {
        draft.step(object, 'destroy', change, 'its retention time is over', action);
      }
    },
  };
  return draft;
}
