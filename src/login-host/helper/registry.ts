/**
 * The people and tools that a login host knows by their seals: what counts, which subjects exist, and whether
 * the reports may be trusted. It is pure: verified reports and the time are passed in, and the necessary
 * actions come out.
 *
 * What an entry shows:
 *
 * | report of an entry                                  | then                                                  |
 * | --------------------------------------------------- | ----------------------------------------------------- |
 * | the seal that is known                              | it is there                                           |
 * | a valid seal                                        | it counts at once, however many there are             |
 * | … while the heartbeat is in doubt                   | what it takes away counts at once; what it gives      |
 * |                                                     | counts once there is no doubt and it is reported      |
 * |                                                     | again: an older seal may be one below a floor that is |
 * |                                                     | not known here                                        |
 * | another seal, of a known subject                    | refused by name: the known seal stays, not renewed    |
 * | another seal, of an unknown subject                 | refused by name                                       |
 * | no seal; or gone; or missing from a whole reading   | it has disappeared                                    |
 *
 * A seal is valid if it is signed, fits the rules (judge.ts), has a number that is not below the highest known
 * number of its uid nor below its floor in the heartbeat, and has not ended, and if no other subject has its
 * name or uid.
 *
 * A subject that has disappeared is held: it stays as it was, and is not renewed. Once there is no doubt about
 * the heartbeat, the following holds. (While everything is being reported, only the signed case is decided,
 * because the reading may still show the subject.)
 *
 * | what has disappeared, of its kind (people, tools)                     | then                                |
 * | --------------------------------------------------------------------- | ----------------------------------- |
 * | has a floor above its number: its end is signed                       | is honoured                         |
 * | the directory shows as many without it as the heartbeat says          | is honoured                         |
 * | is at most ten or 5 %, counting all within an hour, and no more than  | is honoured                         |
 * | that are missing of those that the heartbeat says                     |                                     |
 * | otherwise                                                             | distrust, until root accepts it     |
 *
 * What counts of a subject:
 *
 * | subject                                       | account, groups | keys, members, sudo | its processes |
 * | --------------------------------------------- | --------------- | ------------------- | ------------- |
 * | there, or held                                | yes             | yes                 | left          |
 * | … its seal says: not active, or not admitted  | yes             | no keys, no sudo    | end           |
 * | … below its floor, or its seal has ended      | yes             | no                  | as before     |
 * | … a tool that the host has not been able to   | yes             | no members, no sudo | as before     |
 * |   confirm for longer than offlineLimitSeconds |                 |                     |               |
 * | … has the name or number of a local account   | no              | no                  | left          |
 * | disappeared, honoured                         | no              | no                  | end           |
 * | … without a signature, and it was active      | no              | no                  | left          |
 * | of another configuration, not reported since  | no              | no                  | left          |
 *
 * Code that runs as the agent may lie. So if a known subject is refused or disappears, and nothing signed says
 * so, everything must be reported again. The agent then corrects what was reported in between.
 *
 * This file is longer than most, so that what is known and what follows from it change in one place.
 */
import { parseSeal, payloadOf, type Verified } from '../../seals/seal.ts';
import type { Heartbeats } from './directory-trust.ts';
import type { LoginHostConfig } from '../config.ts';
import { judgePayload, shown, type Account, type Rules, type Verdict } from './judge.ts';
import type { LocalAccounts } from './local-accounts.ts';
import { openRefusals, type Refusals } from './refusals.ts';
import {
  counts,
  digestOf,
  flawOf,
  isBelowFloor,
  keepsName,
  isLess,
  isOver,
  isSame,
  isSound,
  isThere,
  kindOf,
  lesserOf,
  newSubject,
  NOBODY,
  readGone,
  time,
  type Kind,
  type Presence,
  type Subject,
} from './subject.ts';

export type ListName = 'passwd' | 'shadow' | 'group' | 'sudoers' | 'closed';

export interface Consequences {
  /** lines that must be kept before anything else is done */
  journal: string[];
  /** one of these lines takes something away, and is signed: they must survive a power loss and a full disk */
  isLoss: boolean;
  /** the subjects that have lost something, and those that have changed in any way */
  lost: Set<Subject>;
  changed: Set<Subject>;
  /** the lists that are out of date */
  lists: Set<ListName>;
  /** the uids whose processes end from now on */
  ended: number[];
  /** `kept` returns something new */
  isKeptNew: boolean;
}

/** What the next run must know besides the journal. */
export interface Kept {
  /** of the last heartbeat */
  at: number;
  floors: [uid: number, number: number][];
  /** how many may be missing, as root has accepted */
  accepted: { people: number; tools: number };
  /** which subjects disappeared within the last hour without a signature, and when */
  disappeared: [uid: number, at: number][];
  /**
   * when the directory was last trusted; if it never was, the time of the first heartbeat; 0 if there was
   * neither
   */
  confirmedAt: number;
  /** tools that are refused or have disappeared, and since when */
  doubted: [uid: number, since: number][];
}

export const NOTHING_KEPT: Kept = {
  at: 0,
  floors: [],
  accepted: { people: 0, tools: 0 },
  disappeared: [],
  confirmedAt: 0,
  doubted: [],
};

export type Trust = { trusted: true } | { trusted: false; why: string; tryAnother: boolean };

/** A reported seal: the one that is known, or the verdict about it. */
type Reported = 'known' | { text: string; digest: number; verdict: Verdict };

export interface Registry {
  /**
   * Takes a line of the journal, which root has written, so it is not verified. Returns false if it is not a
   * valid line.
   *
   * @param isJudgedAnew whether the rules have changed since it was written
   */
  load(line: string, isJudgedAnew: boolean): boolean;
  /** Whether this is the known seal of this name, so that it need not be verified. */
  knows(name: string, digest: number): boolean;
  seal(name: string, reported: Reported, now: number): void;
  unsealed(name: string, now: number): void;
  gone(name: string): void;
  heartbeat(verified: Verified | undefined, now: number): void;
  all(token: string, edge: 'begin' | 'end'): void;
  /** Why the agent cannot read; '' if it can. */
  trouble(why: string): void;
  /** Draws the conclusions from all reports and from the time. */
  settle(now: number): Trust;
  /** Checks every subject for which the passing of time may have changed something. */
  look(now: number): void;
  setLocal(local: LocalAccounts, now: number): void;
  /** Accepts what is in doubt, at root's request; returns what was accepted, in sentences. */
  accept(now: number): string[];
  /** What must be done because of everything since the last call. */
  consequences(): Consequences;
  kept(): Kept;
  /** The `at` of the last accepted heartbeat, in this run or an earlier one; 0 if there is none. */
  lastHeartbeat(): number;
  /**
   * Whether, since the last call, something that was refused may be accepted if everything is reported again.
   */
  needsFullReport(): boolean;
  /** The token of the current reading of everything. */
  reading(): string | undefined;
  /** Whether everything was reported at least once in this run. */
  hasRead(): boolean;
  /**
   * These could not be kept: they must be reported, verified and kept again. Disappearances are kept at the
   * next attempt.
   */
  unkept(subjects: Iterable<Subject>): void;
  readonly size: number;
  subjects(): Iterable<Subject>;
  subject(uid: number): Subject | undefined;
  /** The subject that has the name now. */
  subjectNamed(name: string): Subject | undefined;
  counts(): Record<Kind, number>;
  /** How many seals of existing subjects each key has signed. */
  signers(): [keyId: string, seals: number][];
  held(): { names: string[]; since: number } | undefined;
  /** Names of subjects that disappeared within the last hour without a signature, and were honoured. */
  disappeared(): string[];
  refusals: Pick<Refusals, 'list' | 'count' | 'mayPass'>;
}

const KINDS: Kind[] = ['people', 'tools'];

const HOUR_MS = 3_600_000;
const FEW = 10;
const SHARE = 0.05;

/** Marks a seal that was not accepted whole: after a restart, it must be judged whole again. */
const REMARKED = '!';
/** Marks a seal that was reported in doubt: what it takes away counts, and what it gives does not. */
const HELD_BACK = '?';

/** @param keyIds of the keys that this host knows: a kept seal counts only if one of them signed it */
export function openRegistry(
  rules: Rules & Pick<LoginHostConfig, 'offlineLimitSeconds'>,
  keyIds: ReadonlySet<string>,
  heartbeats: Heartbeats,
  firstLocal: LocalAccounts,
  before: Kept = NOTHING_KEPT,
): Registry {
  const byUid = new Map<number, Subject>();
  /** without the subjects that are gone */
  const byName = new Map<string, Subject>();
  /** how many have an accepted seal in the directory that is not below its floor */
  const present = { people: 0, tools: 0 };
  const held = new Set<Subject>();
  const refusals = openRefusals();
  const disappeared = new Map(before.disappeared);
  const accepted = { ...before.accepted };
  let floors = new Map(before.floors);
  let local = firstLocal;
  let heldSince = 0;
  /** the token of the current reading of everything */
  let open: string | undefined;
  let readings = 0;
  let hasRead = false;
  let trouble = '';
  let needsFullReport = false;
  /** what some seals give does not count yet */
  let isHeldBack = false;
  const doubted = new Map(before.doubted);
  /** all subjects of a key share one string */
  const knownKeys = new Map([...keyIds].map((id) => [id, id]));
  let { confirmedAt } = before;
  const limitMs = rules.offlineLimitSeconds * 1000;
  let pending = nothing();

  // ------------------------------------------------------------ what counts of a subject

  function clashOf({ name, uid, isPerson }: Account): string | undefined {
    if (local.names.has(name)) return 'a local account of this host has its name';
    if (local.uids.has(uid)) return `a local account of this host has its number ${uid}`;
    if (isPerson) return undefined;
    if (local.groups.has(name)) return 'a local group of this host has its name';
    return local.gids.has(uid) ? `a local group of this host has its number ${uid}` : undefined;
  }

  /** Only for tools: each line of a person's key file has its own end. */
  function isLate({ isPerson, doubtedSince }: Subject, now: number): boolean {
    return !isPerson && now > Math.min(confirmedAt, doubtedSince ?? Infinity) + limitMs;
  }

  function isInForceNow(subject: Subject, now: number): boolean {
    return counts(subject, now) && !isLate(subject, now);
  }

  /** Decides what counts of a subject now, and what follows from it. */
  function look(subject: Subject, now: number): void {
    const clash = clashOf(subject);
    const isShown = isThere(subject) && clash === undefined;
    const isInForce = isShown && isInForceNow(subject, now);
    const isClosed = clash === undefined && isOver(subject);
    if (subject.presence === 'present' && !subject.isRefused) {
      const flaw = clash ?? flawOf(subject, now) ?? subject.remark;
      if (flaw === undefined) refusals.remove(subject.name);
      else refusals.add(subject.name, flaw, now, { isKnown: true });
    }
    if (isShown !== subject.isShown) touch(subject, 'passwd', 'shadow', 'group');
    if (isInForce !== subject.isInForce) {
      touch(subject, ...(subject.isPerson ? [] : (['group', 'sudoers'] as const)));
    }
    if (isClosed !== subject.isClosed) touch(subject, 'closed');
    if (isClosed && !subject.isClosed) pending.ended.push(subject.uid);
    const hasLess =
      (subject.isShown && !isShown) ||
      (subject.isInForce && !isInForce) ||
      (isClosed && !subject.isClosed);
    if (hasLess) pending.lost.add(subject);
    subject.isShown = isShown;
    subject.isInForce = isInForce;
    subject.isClosed = isClosed;
  }

  function lookAtAll(now: number): void {
    for (const subject of byUid.values()) {
      // the clock was set back
      if (subject.doubtedSince !== undefined && subject.doubtedSince > now) doubt(subject, now);
      const isInForce = subject.isShown && isInForceNow(subject, now);
      if (subject.isInForce !== isInForce) look(subject, now);
    }
  }

  function doubtedTools(): [number, number][] {
    const found: [number, number][] = [];
    for (const { isPerson, uid, doubtedSince } of byUid.values()) {
      if (!isPerson && doubtedSince !== undefined) found.push([uid, doubtedSince]);
    }
    return found;
  }

  function doubt(subject: Subject, since: number): void {
    subject.doubtedSince = since;
    pending.isKeptNew ||= !subject.isPerson;
  }

  function touch(subject: Subject, ...lists: ListName[]): void {
    pending.changed.add(subject);
    for (const list of lists) pending.lists.add(list);
  }

  function recount(subject: Subject): void {
    const isCounted = isSound(subject);
    if (isCounted !== subject.isCounted) present[kindOf(subject)] += isCounted ? 1 : -1;
    subject.isCounted = isCounted;
  }

  function setPresence(subject: Subject, presence: Presence, isRefused = false): void {
    subject.presence = presence;
    subject.isRefused = isRefused;
    recount(subject);
    if (presence === 'held') held.add(subject);
    else held.delete(subject);
    if (keepsName(presence)) byName.set(subject.name, subject);
    else if (byName.get(subject.name) === subject) byName.delete(subject.name);
  }

  // ------------------------------------------------------------ seals

  /** Why a seal that fits the rules does not count here and now. */
  function objectionTo(
    account: Account,
    now: number,
  ): { why: string; mayPass: boolean } | undefined {
    const { uid, name, number, until } = account;
    const known = byUid.get(uid);
    const namesake = byName.get(name);
    const lowest = Math.max(known?.number ?? 0, known?.floor ?? 0, floors.get(uid) ?? 0);
    if (number < lowest) {
      const why = `its seal has the number ${number}, below the lowest that counts, ${lowest}: is it an older copy?`;
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

  function take(account: Account, digest: number): Subject {
    const known = byUid.get(account.uid);
    if (known === undefined) {
      const subject = newSubject(account, digest, floors.get(account.uid) ?? 0);
      byUid.set(subject.uid, subject);
      touch(subject);
      return subject;
    }
    touch(known);
    if (isLess(known, account)) {
      pending.lost.add(known);
      pending.isLoss = true;
    }
    if (known.shell !== account.shell || known.gecos !== account.gecos) touch(known, 'passwd');
    if (!account.isPerson && known.list !== account.list) touch(known, 'group');
    if (!account.isPerson && known.isActive !== account.isActive) touch(known, 'sudoers');
    if (known.name !== account.name) {
      touch(known, 'passwd', 'shadow', 'group', 'sudoers', 'closed');
      if (byName.get(known.name) === known) byName.delete(known.name);
    }
    Object.assign(known, account, { digest });
    return known;
  }

  /** The id of the key that has signed a seal; '' if this host does not know the key. */
  function signerOf(text: string): string {
    return knownKeys.get(text.slice(0, text.indexOf(' '))) ?? '';
  }

  function accept(subject: Subject, now: number): void {
    subject.reading = readings;
    subject.doubtedSince = undefined;
    disappeared.delete(subject.uid);
    setPresence(subject, 'present');
    look(subject, now);
  }

  function refuse(name: string, why: string, now: number, mayPass = false): void {
    const known = byName.get(name);
    const isKnown = known !== undefined && isThere(known);
    if (isKnown) {
      needsFullReport ||= known.isCounted;
      known.reading = readings;
      if (known.doubtedSince === undefined) doubt(known, now);
      setPresence(known, 'present', true);
    }
    refusals.add(name, why, now, { mayPass, isKnown });
  }

  function disappear(name: string): void {
    const known = byName.get(name);
    if (known?.presence === 'present') hold(known);
  }

  function hold(subject: Subject): void {
    needsFullReport ||= !isBelowFloor(subject);
    setPresence(subject, 'held');
  }

  function raiseFloors(now: number): void {
    const published = heartbeats.last()?.floors ?? [];
    if (
      published.length === floors.size &&
      published.every(([uid, floor]) => floors.get(uid) === floor)
    ) {
      return;
    }
    floors = new Map(published);
    pending.isKeptNew = true;
    for (const [uid, floor] of published) {
      const subject = byUid.get(uid);
      if (subject === undefined || subject.floor >= floor) continue;
      subject.floor = floor;
      recount(subject);
      if (subject.presence === 'missing' && isBelowFloor(subject)) end(subject);
      look(subject, now);
    }
  }

  // ------------------------------------------------------------ trust

  /** Why no conclusion may be drawn from what is missing. */
  function doubtOf(now: number): string | undefined {
    if (trouble !== '') return trouble;
    return hasRead ? heartbeats.doubt(now) : 'the directory has not been read yet';
  }

  function missing(kind: Kind): number {
    return (heartbeats.last()?.[kind] ?? 0) - present[kind];
  }

  function mayBeMissing(kind: Kind): number {
    return Math.max(FEW, SHARE * (heartbeats.last()?.[kind] ?? 0), accepted[kind]);
  }

  function forgetDisappeared(now: number): void {
    for (const [uid, at] of disappeared) {
      const subject = byUid.get(uid);
      if (at < now - HOUR_MS || subject?.presence !== 'missing') disappeared.delete(uid);
      else if (at > now) disappeared.set(uid, now); // the clock was set back
    }
  }

  function settleHeld(now: number): void {
    for (const subject of held) if (isBelowFloor(subject)) honour(subject, true, now);
    if (open !== undefined) return;
    for (const kind of KINDS) {
      const some = [...held].filter((subject) => kindOf(subject) === kind);
      const uids = new Set(some.map(({ uid }) => uid));
      for (const uid of disappeared.keys()) {
        const subject = byUid.get(uid);
        if (subject !== undefined && kindOf(subject) === kind) uids.add(uid);
      }
      const isNobodyMissed = missing(kind) <= 0;
      const isFew = uids.size <= Math.max(FEW, SHARE * (present[kind] + uids.size));
      if (!isNobodyMissed && !(isFew && missing(kind) <= mayBeMissing(kind))) continue;
      for (const subject of some) {
        if (!isNobodyMissed) disappeared.set(subject.uid, now);
        honour(subject, false, now);
      }
    }
  }

  /**
   * From then on nothing is known of it but its number.
   *
   * @param isEnded whether its processes end, too: a floor or root says so. (Counts do not say which subject is
   *   gone.) A subject that its seal had closed stays closed in any case.
   */
  function honour(subject: Subject, isEnded: boolean, now: number): void {
    setPresence(subject, isEnded || !subject.isActive ? 'gone' : 'missing');
    keepGone(subject, isEnded);
    Object.assign(subject, { digest: 0, list: '', gecos: '', remark: undefined });
    subject.doubtedSince = undefined;
    pending.isKeptNew = true;
    look(subject, now);
    needsFullReport ||= refusals.mayPass(); // another may have its name or number
  }

  function end(subject: Subject): void {
    setPresence(subject, 'gone');
    keepGone(subject, true);
  }

  /**
   * @param isLoss whether a floor or root says so. A lie of the agent must not use up the room that is kept for
   *   losses.
   */
  function keepGone(subject: Subject, isLoss: boolean): void {
    const { presence, uid, name, number } = subject;
    pending.journal.push(`${presence} ${uid} ${name} ${number}`);
    pending.isLoss ||= isLoss;
    pending.changed.add(subject);
  }

  function judgeTrust(now: number): Trust {
    const why = doubtOf(now);
    if (why !== undefined) {
      return { trusted: false, why, tryAnother: hasRead && trouble === '' };
    }
    const [one] = held;
    if (one !== undefined) {
      return distrust(
        `${held.size} ${held.size === 1 ? 'entry has' : 'entries have'} disappeared from the directory, ${one.name} among them`,
      );
    }
    for (const kind of KINDS) {
      const shows = `the directory shows valid seals of ${present[kind]} ${kind}`;
      if (missing(kind) > mayBeMissing(kind)) {
        return distrust(`${shows}, but the heartbeat counts ${heartbeats.last()?.[kind]}`);
      }
      // what has come back must not be allowed to disappear again
      accepted[kind] = Math.min(accepted[kind], Math.max(0, missing(kind)));
    }
    confirmedAt = now;
    return { trusted: true };
  }

  return {
    load(line, isJudgedAnew) {
      const gone = readGone(line);
      if (gone !== undefined) {
        const subject = take(gone.account, 0);
        subject.doubtedSince = undefined;
        setPresence(subject, gone.presence);
        return true;
      }
      const mark = line.charAt(0);
      const text = mark === REMARKED || mark === HELD_BACK ? line.slice(1) : line;
      const payload = payloadOf(text);
      const seal = payload === undefined ? undefined : parseSeal(payload);
      if (payload === undefined || seal === undefined) return false;
      const verdict = judgePayload(seal.name, payload, rules, text === line && !isJudgedAnew, seal);
      const keyId = signerOf(text);
      if (verdict.ok && keyId !== '') {
        const { account } = verdict;
        const subject =
          mark === HELD_BACK
            ? take(lesserOf(byUid.get(account.uid), account), 0)
            : take(account, digestOf(text));
        subject.keyId = keyId;
        subject.doubtedSince = doubted.get(subject.uid);
        setPresence(subject, 'present');
      } else {
        const { name, uid, number, kind } = seal;
        const account = { ...NOBODY, name, uid, number, isPerson: kind === 'person' };
        setPresence(take(account, 0), 'unconfirmed');
      }
      return true;
    },
    knows(name, digest) {
      return byName.get(name)?.digest === digest;
    },
    seal(name, reported, now) {
      if (reported === 'known') {
        const known = byName.get(name);
        if (known !== undefined) accept(known, now);
        return;
      }
      const { verdict, digest, text } = reported;
      if (!verdict.ok) {
        refuse(name, verdict.why, now);
        return;
      }
      const { account } = verdict;
      const objection = objectionTo(account, now);
      if (objection !== undefined) {
        refuse(name, objection.why, now, objection.mayPass);
        return;
      }
      const known = byUid.get(account.uid);
      const taken = heartbeats.doubt(now) === undefined ? account : lesserOf(known, account);
      const isWhole = taken === account;
      isHeldBack ||= !isWhole;
      // a seal that was only signed again is not news: somebody may have changed what base64 leaves open
      const isNews =
        known === undefined ? isWhole : (isWhole && known.digest === 0) || !isSame(known, taken);
      const mark = !isWhole ? HELD_BACK : account.remark === undefined ? '' : REMARKED;
      if (isNews) pending.journal.push(mark + text);
      const subject = take(taken, isWhole ? digest : 0);
      subject.keyId = signerOf(text);
      accept(subject, now);
    },
    unsealed(name, now) {
      disappear(name);
      const isKnown = byName.has(name);
      refusals.add(name, 'its entry has no seal', now, { isKnown });
    },
    gone(name) {
      disappear(name);
      refusals.remove(name);
    },
    heartbeat(verified, now) {
      if (!heartbeats.take(verified)) return;
      raiseFloors(now);
      if (confirmedAt > 0) return;
      confirmedAt = heartbeats.at();
      lookAtAll(now);
    },
    all(token, edge) {
      if (edge === 'begin') {
        open = token;
        readings += 1;
        refusals.beginReading();
      } else if (open === token) {
        open = undefined;
        hasRead = true;
        refusals.endReading();
        for (const subject of byUid.values()) {
          if (subject.presence === 'present' && subject.reading !== readings) hold(subject);
        }
      }
    },
    trouble(why) {
      trouble = shown(why, 300);
    },
    settle(now) {
      confirmedAt = Math.min(confirmedAt, now); // the clock was set back
      for (const subject of held) if (subject.doubtedSince === undefined) doubt(subject, now);
      forgetDisappeared(now);
      if (held.size > 0 && doubtOf(now) === undefined) settleHeld(now);
      if (held.size === 0) heldSince = 0;
      else if (heldSince === 0) heldSince = now;
      if (isHeldBack && heartbeats.doubt(now) === undefined) {
        isHeldBack = false;
        needsFullReport = true;
      }
      const wasLate = now > confirmedAt + limitMs;
      const trust = judgeTrust(now);
      if (trust.trusted && wasLate) lookAtAll(now);
      return trust;
    },
    look: lookAtAll,
    setLocal(next, now) {
      local = next;
      for (const subject of byUid.values()) look(subject, now);
      needsFullReport ||= refusals.mayPass();
    },
    accept(now) {
      const what: string[] = [];
      const heartbeat = heartbeats.accept();
      if (heartbeat !== undefined) {
        what.push(heartbeat);
        raiseFloors(now);
      }
      for (const subject of held) {
        what.push(`${subject.name} has disappeared`);
        honour(subject, true, now);
      }
      for (const uid of disappeared.keys()) {
        const subject = byUid.get(uid);
        if (subject?.presence !== 'missing') continue;
        what.push(`${subject.name} has disappeared`);
        end(subject);
        look(subject, now);
      }
      disappeared.clear();
      for (const kind of KINDS) {
        if (missing(kind) <= mayBeMissing(kind)) continue;
        accepted[kind] = missing(kind);
        what.push(`${missing(kind)} ${kind} are missing`);
      }
      pending.isKeptNew = true;
      return what;
    },
    consequences() {
      const found = pending;
      pending = nothing();
      return found;
    },
    kept() {
      return {
        at: heartbeats.at(),
        floors: [...floors],
        accepted: { ...accepted },
        disappeared: [...disappeared],
        confirmedAt,
        doubted: doubtedTools(),
      };
    },
    lastHeartbeat: () => heartbeats.at(),
    needsFullReport() {
      const must = needsFullReport || refusals.hasRoom();
      needsFullReport = false;
      return must;
    },
    reading: () => open,
    hasRead: () => hasRead,
    unkept(subjects) {
      for (const subject of subjects) {
        subject.digest = 0;
        // the agent reports a disappearance only once
        if (!keepsName(subject.presence)) keepGone(subject, isBelowFloor(subject));
      }
    },
    get size() {
      return byUid.size;
    },
    subjects: () => byUid.values(),
    subject: (uid) => byUid.get(uid),
    subjectNamed: (name) => byName.get(name),
    counts: () => ({ ...present }),
    signers() {
      const seals = new Map([...keyIds].map((id) => [id, 0]));
      for (const subject of byUid.values()) {
        const count = isThere(subject) ? seals.get(subject.keyId) : undefined;
        if (count !== undefined) seals.set(subject.keyId, count + 1);
      }
      return [...seals];
    },
    held() {
      if (held.size === 0) return undefined;
      return { names: [...held].map(({ name }) => name).sort(), since: heldSince };
    },
    disappeared: () => [...disappeared.keys()].flatMap((uid) => byUid.get(uid)?.name ?? []).sort(),
    refusals,
  };
}

function nothing(): Consequences {
  return {
    ...{
      journal: [],
      isLoss: false,
      lost: new Set(),
      changed: new Set(),
      lists: new Set(),
      ended: [],
    },
    isKeptNew: false,
  };
}

function distrust(what: string): Trust {
  const why =
    `${what}, and nothing signed says so: check what is refused, and whether access rules hide it; ` +
    'if it is right, run `keys-agent accept`';
  return { trusted: false, why, tryAnother: true };
}
