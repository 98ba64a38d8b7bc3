/** What the entries of the directory show, and what the journal said of them: which seals count, and what they change. */
import { parseSeal, payloadOf } from '../../../seals/seal.ts';
import { judgePayload, type Account, type Verdict } from './judge.ts';
import { doubt, hold, look, setPresence, touch, type Registry } from './registry.ts';
import {
  digestOf,
  isLess,
  isSame,
  isThere,
  lesserOf,
  newSubject,
  NOBODY,
  readGone,
  time,
  type Subject,
} from './subject.ts';

/** A reported seal: the one that is known, or the verdict about it. */
type Reported = 'known' | { text: string; digest: number; verdict: Verdict };

/** Marks a seal that was not accepted whole: after a restart, it must be judged whole again. */
const REMARKED = '!';
/** Marks a seal that was reported in doubt: what it takes away counts, and what it gives does not. */
const HELD_BACK = '?';

/**
 * Takes a line of the journal, which root has written, so it is not verified. Returns false if it is not a
 * valid line.
 *
 * @param isJudgedAnew whether the rules have changed since it was written
 */
export function loadLine(registry: Registry, line: string, isJudgedAnew: boolean): boolean {
  const gone = readGone(line);
  if (gone !== undefined) {
    const subject = take(registry, gone.account, 0);
    subject.doubtedSince = undefined;
    setPresence(registry, subject, gone.presence);
    return true;
  }
  const mark = line.charAt(0);
  const text = mark === REMARKED || mark === HELD_BACK ? line.slice(1) : line;
  const payload = payloadOf(text);
  const seal = payload === undefined ? undefined : parseSeal(payload);
  if (payload === undefined || seal === undefined) return false;
  const isTrusted = text === line && !isJudgedAnew;
  const verdict = judgePayload(seal.name, payload, registry.rules, isTrusted, seal);
  const keyId = signerOf(registry, text);
  if (verdict.ok && keyId !== '') {
    const { account } = verdict;
    const subject =
      mark === HELD_BACK
        ? take(registry, lesserOf(registry.byUid.get(account.uid), account), 0)
        : take(registry, account, digestOf(text));
    subject.keyId = keyId;
    subject.doubtedSince = registry.doubtedBefore.get(subject.uid);
    setPresence(registry, subject, 'present');
  } else {
    const { name, uid, number, kind } = seal;
    const account = { ...NOBODY, name, uid, number, isPerson: kind === 'person' };
    setPresence(registry, take(registry, account, 0), 'unconfirmed');
  }
  return true;
}

/** Whether this is the known seal of this name, so that it need not be verified. */
export function knowsSeal({ byName }: Registry, name: string, digest: number): boolean {
  return byName.get(name)?.digest === digest;
}

export function takeSeal(registry: Registry, name: string, reported: Reported, now: number): void {
  const { byUid, heartbeats, pending } = registry;
  if (reported === 'known') {
    const known = registry.byName.get(name);
    if (known !== undefined) accept(registry, known, now);
    return;
  }
  const { verdict, digest, text } = reported;
  if (!verdict.ok) {
    refuse(registry, name, verdict.why, now);
    return;
  }
  const { account } = verdict;
  const objection = objectionTo(registry, account, now);
  if (objection !== undefined) {
    refuse(registry, name, objection.why, now, objection.mayPass);
    return;
  }
  const known = byUid.get(account.uid);
  const taken = heartbeats.doubt(now) === undefined ? account : lesserOf(known, account);
  const isWhole = taken === account;
  registry.isHeldBack ||= !isWhole;
  // a seal that was only signed again is not news: somebody may have changed what base64 leaves open
  const isNews =
    known === undefined ? isWhole : (isWhole && known.digest === 0) || !isSame(known, taken);
  const mark = !isWhole ? HELD_BACK : account.remark === undefined ? '' : REMARKED;
  if (isNews) pending.journal.push(mark + text);
  const subject = take(registry, taken, isWhole ? digest : 0);
  subject.keyId = signerOf(registry, text);
  accept(registry, subject, now);
}

export function takeUnsealed(registry: Registry, name: string, now: number): void {
  disappear(registry, name);
  const isKnown = registry.byName.has(name);
  registry.refusals.add(name, 'its entry has no seal', now, { isKnown });
}

export function takeGone(registry: Registry, name: string): void {
  disappear(registry, name);
  registry.refusals.remove(name);
}

/** A reading of everything begins or ends: what was not reported in between has disappeared. */
export function takeReading(registry: Registry, token: string, edge: 'begin' | 'end'): void {
  const { refusals, byUid } = registry;
  if (edge === 'begin') {
    registry.reading = token;
    registry.readings += 1;
    refusals.beginReading();
  } else if (registry.reading === token) {
    registry.reading = undefined;
    registry.hasRead = true;
    refusals.endReading();
    for (const subject of byUid.values()) {
      const isReported = subject.reading === registry.readings;
      if (subject.presence === 'present' && !isReported) hold(registry, subject);
    }
  }
}

/** Why a seal that fits the rules does not count here and now. */
function objectionTo(
  { byUid, byName, floors }: Registry,
  account: Account,
  now: number,
): { why: string; mayPass: boolean } | undefined {
  const { uid, name, number, until } = account;
  const known = byUid.get(uid);
  const namesake = byName.get(name);
  const lowest = Math.max(known?.number ?? 0, known?.floor ?? 0, floors.get(uid) ?? 0);
  if (number < lowest) {
    const why = `its seal has the number ${number}, but only ${lowest} and higher numbers are valid: is it an older copy?`;
    return { why, mayPass: false };
  }
  if (until <= now) {
    return {
      why: `its seal ended at ${time(until)} (is this host's clock right?)`,
      mayPass: true,
    };
  }
  if (namesake !== undefined && namesake !== known && isThere(namesake)) {
    return {
      why: `its number is ${uid}, but ${name} has the number ${namesake.uid} here`,
      mayPass: true,
    };
  }
  if (known !== undefined && known.name !== name && isThere(known)) {
    return { why: `${known.name} has the same number, ${uid}`, mayPass: true };
  }
  return undefined;
}

/** Changes what is known of a subject to what an account says; returns the subject. */
function take(registry: Registry, account: Account, digest: number): Subject {
  const { byUid, byName, floors, pending } = registry;
  const known = byUid.get(account.uid);
  if (known === undefined) {
    const subject = newSubject(account, digest, floors.get(account.uid) ?? 0);
    byUid.set(subject.uid, subject);
    touch(registry, subject);
    return subject;
  }
  touch(registry, known);
  if (isLess(known, account)) {
    pending.lost.add(known);
    pending.isLoss = true;
  }
  const { isPerson } = account;
  if (known.shell !== account.shell || known.gecos !== account.gecos)
    touch(registry, known, 'passwd');
  if (!isPerson && known.list !== account.list) touch(registry, known, 'group');
  if (!isPerson && known.isActive !== account.isActive) touch(registry, known, 'sudoers');
  if (known.name !== account.name) {
    touch(registry, known, 'passwd', 'shadow', 'group', 'sudoers', 'closed');
    if (byName.get(known.name) === known) byName.delete(known.name);
  }
  Object.assign(known, account, { digest });
  return known;
}

/** The id of the key that has signed a seal; '' if this host does not know the key. */
function signerOf({ keyIds }: Registry, text: string): string {
  return keyIds.get(text.slice(0, text.indexOf(' '))) ?? '';
}

function accept(registry: Registry, subject: Subject, now: number): void {
  subject.reading = registry.readings;
  subject.doubtedSince = undefined;
  registry.disappeared.delete(subject.uid);
  setPresence(registry, subject, 'present');
  look(registry, subject, now);
}

function refuse(registry: Registry, name: string, why: string, now: number, mayPass = false): void {
  const known = registry.byName.get(name);
  const isKnown = known !== undefined && isThere(known);
  if (isKnown) {
    registry.needsFullReport ||= known.isCounted;
    known.reading = registry.readings;
    if (known.doubtedSince === undefined) doubt(registry, known, now);
    setPresence(registry, known, 'present', true);
  }
  registry.refusals.add(name, why, now, { mayPass, isKnown });
}

function disappear(registry: Registry, name: string): void {
  const known = registry.byName.get(name);
  if (known?.presence === 'present') hold(registry, known);
}
