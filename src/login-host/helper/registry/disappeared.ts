/** What has disappeared from the directory, and whether its reports may be trusted. */
import type { Verified } from '../../../seals/seal.ts';
import { doubt, look, lookAtAll, recount, setPresence, type Registry } from './registry.ts';
import { isBelowFloor, keepsName, kindOf, type Kind, type Subject } from './subject.ts';

export type Trust = { trusted: true } | { trusted: false; why: string; tryAnother: boolean };

const KINDS: Kind[] = ['people', 'tools'];

const HOUR_MS = 3_600_000;
const FEW = 10;
const SHARE = 0.05;

export function takeHeartbeat(
  registry: Registry,
  verified: Verified | undefined,
  now: number,
): void {
  if (!registry.heartbeats.take(verified)) return;
  raiseFloors(registry, now);
  if (registry.confirmedAt > 0) return;
  registry.confirmedAt = registry.heartbeats.at();
  lookAtAll(registry, now);
}

function raiseFloors(registry: Registry, now: number): void {
  const { heartbeats, floors, byUid } = registry;
  const published = heartbeats.last()?.floors ?? [];
  const isSame = published.every(([uid, floor]) => floors.get(uid) === floor);
  if (isSame && published.length === floors.size) return;
  registry.floors = new Map(published);
  registry.pending.isKeptNew = true;
  for (const [uid, floor] of published) {
    const subject = byUid.get(uid);
    if (subject === undefined || subject.floor >= floor) continue;
    subject.floor = floor;
    recount(registry, subject);
    if (subject.presence === 'missing' && isBelowFloor(subject)) end(registry, subject);
    look(registry, subject, now);
  }
}

/** Draws the conclusions from all reports and from the time. */
export function settle(registry: Registry, now: number): Trust {
  const { held, heartbeats } = registry;
  registry.confirmedAt = Math.min(registry.confirmedAt, now); // the clock was set back
  for (const subject of held) {
    if (subject.doubtedSince === undefined) doubt(registry, subject, now);
  }
  forgetDisappeared(registry, now);
  if (held.size > 0 && doubtOf(registry, now) === undefined) settleHeld(registry, now);
  if (held.size === 0) registry.heldSince = 0;
  else if (registry.heldSince === 0) registry.heldSince = now;
  if (registry.isHeldBack && heartbeats.doubt(now) === undefined) {
    registry.isHeldBack = false;
    registry.needsFullReport = true;
  }
  const wasLate = now > registry.confirmedAt + registry.rules.offlineLimitSeconds * 1000;
  const trust = judgeTrust(registry, now);
  if (trust.trusted && wasLate) lookAtAll(registry, now);
  return trust;
}

function forgetDisappeared({ disappeared, byUid }: Registry, now: number): void {
  for (const [uid, at] of disappeared) {
    const subject = byUid.get(uid);
    if (at < now - HOUR_MS || subject?.presence !== 'missing') disappeared.delete(uid);
    else if (at > now) disappeared.set(uid, now); // the clock was set back
  }
}

function settleHeld(registry: Registry, now: number): void {
  const { held, disappeared, byUid, present } = registry;
  for (const subject of held) if (isBelowFloor(subject)) honour(registry, subject, true, now);
  if (registry.reading !== undefined) return;
  for (const kind of KINDS) {
    const some = [...held].filter((subject) => kindOf(subject) === kind);
    const uids = new Set(some.map(({ uid }) => uid));
    for (const uid of disappeared.keys()) {
      const subject = byUid.get(uid);
      if (subject !== undefined && kindOf(subject) === kind) uids.add(uid);
    }
    const lacks = missing(registry, kind);
    const isNobodyMissed = lacks <= 0;
    const isFew = uids.size <= Math.max(FEW, SHARE * (present[kind] + uids.size));
    if (!isNobodyMissed && !(isFew && lacks <= mayBeMissing(registry, kind))) continue;
    for (const subject of some) {
      if (!isNobodyMissed) disappeared.set(subject.uid, now);
      honour(registry, subject, false, now);
    }
  }
}

/**
 * From then on nothing is known of it but its number.
 *
 * @param isEnded whether its processes end, too: a floor or root says so. (Counts do not say which subject is
 *   gone.) A subject that its seal had closed stays closed in any case.
 */
function honour(registry: Registry, subject: Subject, isEnded: boolean, now: number): void {
  setPresence(registry, subject, isEnded || !subject.isActive ? 'gone' : 'missing');
  keepGone(registry, subject, isEnded);
  Object.assign(subject, { digest: 0, list: '', gecos: '', remark: undefined });
  subject.doubtedSince = undefined;
  registry.pending.isKeptNew = true;
  look(registry, subject, now);
  registry.needsFullReport ||= registry.refusals.mayPass(); // another may have its name or number
}

function end(registry: Registry, subject: Subject): void {
  setPresence(registry, subject, 'gone');
  keepGone(registry, subject, true);
}

/**
 * @param isLoss whether a floor or root says so. A lie of the agent must not use up the room that is kept for
 *   losses.
 */
function keepGone({ pending }: Registry, subject: Subject, isLoss: boolean): void {
  const { presence, uid, name, number } = subject;
  pending.journal.push(`${presence} ${uid} ${name} ${number}`);
  pending.isLoss ||= isLoss;
  pending.changed.add(subject);
}

/**
 * These could not be kept: they must be reported, verified and kept again. Disappearances are kept at the
 * next attempt.
 */
export function takeUnkept(registry: Registry, subjects: Iterable<Subject>): void {
  for (const subject of subjects) {
    subject.digest = 0;
    // the agent reports a disappearance only once
    if (!keepsName(subject.presence)) keepGone(registry, subject, isBelowFloor(subject));
  }
}

/** Why no conclusion may be drawn from what is missing. */
function doubtOf({ trouble, hasRead, heartbeats }: Registry, now: number): string | undefined {
  if (trouble !== '') return trouble;
  return hasRead ? heartbeats.doubt(now) : 'the directory has not been read yet';
}

function missing({ heartbeats, present }: Registry, kind: Kind): number {
  return (heartbeats.last()?.[kind] ?? 0) - present[kind];
}

function mayBeMissing({ heartbeats, accepted }: Registry, kind: Kind): number {
  return Math.max(FEW, SHARE * (heartbeats.last()?.[kind] ?? 0), accepted[kind]);
}

function judgeTrust(registry: Registry, now: number): Trust {
  const { held, present, accepted, heartbeats } = registry;
  const why = doubtOf(registry, now);
  if (why !== undefined) {
    return { trusted: false, why, tryAnother: registry.hasRead && registry.trouble === '' };
  }
  const [one] = held;
  if (one !== undefined) {
    const gone =
      held.size === 1
        ? `the entry ${one.name} has disappeared from the directory`
        : `${held.size} entries have disappeared from the directory, ${one.name} among them`;
    return distrust(`${gone}, and the heartbeat does not confirm it`);
  }
  for (const kind of KINDS) {
    const shows = `the directory shows valid seals of ${present[kind]} ${kind}`;
    const lacks = missing(registry, kind);
    if (lacks > mayBeMissing(registry, kind)) {
      return distrust(`${shows}, but the heartbeat counts ${heartbeats.last()?.[kind]}`);
    }
    // what has come back must not be allowed to disappear again
    accepted[kind] = Math.min(accepted[kind], Math.max(0, lacks));
  }
  registry.confirmedAt = now;
  return { trusted: true };
}

function distrust(what: string): Trust {
  const why =
    `${what}: check which entries are refused, and whether access rules hide some; ` +
    'if the directory is right, run `keys-agent accept`';
  return { trusted: false, why, tryAnother: true };
}

/** Accepts what is in doubt, at root's request; returns what was accepted, in sentences. */
export function acceptDoubted(registry: Registry, now: number): string[] {
  const { heartbeats, held, disappeared, byUid, accepted } = registry;
  const what: string[] = [];
  const heartbeat = heartbeats.accept();
  if (heartbeat !== undefined) {
    what.push(heartbeat);
    raiseFloors(registry, now);
  }
  for (const subject of held) {
    what.push(`${subject.name} has disappeared`);
    honour(registry, subject, true, now);
  }
  for (const uid of disappeared.keys()) {
    const subject = byUid.get(uid);
    if (subject?.presence !== 'missing') continue;
    what.push(`${subject.name} has disappeared`);
    end(registry, subject);
    look(registry, subject, now);
  }
  disappeared.clear();
  for (const kind of KINDS) {
    const lacks = missing(registry, kind);
    if (lacks <= mayBeMissing(registry, kind)) continue;
    accepted[kind] = lacks;
    what.push(`${lacks} ${kind} are missing`);
  }
  registry.pending.isKeptNew = true;
  return what;
}

export function heldOf({
  held,
  heldSince,
}: Registry): { names: string[]; since: number } | undefined {
  if (held.size === 0) return undefined;
  return { names: [...held].map(({ name }) => name).sort(), since: heldSince };
}

/** Names of subjects that disappeared within the last hour without a signature, and were honoured. */
export function disappearedNames({ disappeared, byUid }: Registry): string[] {
  return [...disappeared.keys()].flatMap((uid) => byUid.get(uid)?.name ?? []).sort();
}
