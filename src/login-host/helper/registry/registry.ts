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
 * entries.ts changes the registry by what entries show; disappeared.ts, by what has disappeared and by heartbeats.
 */
import type { LoginHostConfig } from '../../config.ts';
import type { LocalAccounts } from '../local-accounts.ts';
import type { Heartbeats } from './directory-trust.ts';
import type { Account, Rules } from './judge.ts';
import { openRefusals, type Refusals } from './refusals.ts';
import {
  counts,
  flawOf,
  isBelowFloor,
  keepsName,
  isOver,
  isSound,
  isThere,
  kindOf,
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

type RegistryRules = Rules & Pick<LoginHostConfig, 'offlineLimitSeconds'>;

export interface Registry {
  readonly rules: RegistryRules;
  /** of the keys that this host knows, each once: all subjects of a key share its string */
  readonly keyIds: ReadonlyMap<string, string>;
  readonly heartbeats: Heartbeats;
  readonly refusals: Refusals;
  readonly byUid: Map<number, Subject>;
  /** without the subjects that are gone */
  readonly byName: Map<string, Subject>;
  /** how many have an accepted seal in the directory that is not below its floor */
  readonly present: Record<Kind, number>;
  readonly held: Set<Subject>;
  /** since when some are held; 0 if none is */
  heldSince: number;
  /** which subjects disappeared within the last hour without a signature, and when */
  readonly disappeared: Map<number, number>;
  /** how many may be missing, as root has accepted */
  readonly accepted: Record<Kind, number>;
  /** of tools, as the last run knew it */
  readonly doubtedBefore: ReadonlyMap<number, number>;
  floors: Map<number, number>;
  local: LocalAccounts;
  /** the token of the current reading of everything */
  reading: string | undefined;
  readings: number;
  /** everything was reported at least once in this run */
  hasRead: boolean;
  /** why the agent cannot read; '' if it can */
  trouble: string;
  /** something that was refused may be accepted if everything is reported again */
  needsFullReport: boolean;
  /** what some seals give does not count yet */
  isHeldBack: boolean;
  /** when the directory was last trusted, as `Kept` says */
  confirmedAt: number;
  /** what must be done because of everything since it was last taken */
  pending: Consequences;
}

/** @param keyIds of the keys that this host knows: a kept seal counts only if one of them signed it */
export function openRegistry(
  rules: RegistryRules,
  keyIds: ReadonlySet<string>,
  heartbeats: Heartbeats,
  local: LocalAccounts,
  before: Kept = NOTHING_KEPT,
): Registry {
  return {
    ...{ rules, heartbeats, local, refusals: openRefusals() },
    keyIds: new Map([...keyIds].map((id) => [id, id])),
    ...{ byUid: new Map(), byName: new Map(), present: { people: 0, tools: 0 } },
    ...{ held: new Set(), heldSince: 0, disappeared: new Map(before.disappeared) },
    accepted: { ...before.accepted },
    ...{ doubtedBefore: new Map(before.doubted), floors: new Map(before.floors) },
    ...{ reading: undefined, readings: 0, hasRead: false, trouble: '' },
    ...{ needsFullReport: false, isHeldBack: false, confirmedAt: before.confirmedAt },
    pending: nothing(),
  };
}

function nothing(): Consequences {
  return {
    ...{ journal: [], isLoss: false, isKeptNew: false, ended: [] },
    ...{ lost: new Set(), changed: new Set(), lists: new Set() },
  };
}

/** What must be done because of everything since the last call. */
export function takeConsequences(registry: Registry): Consequences {
  const { pending } = registry;
  registry.pending = nothing();
  return pending;
}

/** Whether, since the last call, something that was refused may be accepted if everything is reported again. */
export function takeNeedForFullReport(registry: Registry): boolean {
  const must = registry.needsFullReport || registry.refusals.hasRoom();
  registry.needsFullReport = false;
  return must;
}

export function keptOf({
  heartbeats,
  floors,
  accepted,
  disappeared,
  confirmedAt,
  byUid,
}: Registry): Kept {
  const doubted: [number, number][] = [];
  for (const { isPerson, uid, doubtedSince } of byUid.values()) {
    if (!isPerson && doubtedSince !== undefined) doubted.push([uid, doubtedSince]);
  }
  return {
    ...{ at: heartbeats.at(), floors: [...floors], accepted: { ...accepted } },
    ...{ disappeared: [...disappeared], confirmedAt, doubted },
  };
}

/** How many seals of existing subjects each key has signed. */
export function signersOf({ keyIds, byUid }: Registry): [keyId: string, seals: number][] {
  const seals = new Map([...keyIds.keys()].map((id) => [id, 0]));
  for (const subject of byUid.values()) {
    const count = isThere(subject) ? seals.get(subject.keyId) : undefined;
    if (count !== undefined) seals.set(subject.keyId, count + 1);
  }
  return [...seals];
}

export function setLocal(registry: Registry, local: LocalAccounts, now: number): void {
  registry.local = local;
  for (const subject of registry.byUid.values()) look(registry, subject, now);
  registry.needsFullReport ||= registry.refusals.mayPass();
}

/** Checks every subject for which the passing of time may have changed something. */
export function lookAtAll(registry: Registry, now: number): void {
  for (const subject of registry.byUid.values()) {
    // the clock was set back
    if (subject.doubtedSince !== undefined && subject.doubtedSince > now)
      doubt(registry, subject, now);
    const isInForce = subject.isShown && isInForceNow(registry, subject, now);
    if (subject.isInForce !== isInForce) look(registry, subject, now);
  }
}

/** Decides what counts of a subject now, and what follows from it. */
export function look(registry: Registry, subject: Subject, now: number): void {
  const { pending, refusals } = registry;
  const clash = clashOf(registry.local, subject);
  const isShown = isThere(subject) && clash === undefined;
  const isInForce = isShown && isInForceNow(registry, subject, now);
  const isClosed = clash === undefined && isOver(subject);
  if (subject.presence === 'present' && !subject.isRefused) {
    const flaw = clash ?? flawOf(subject, now) ?? subject.remark;
    if (flaw === undefined) refusals.remove(subject.name);
    else refusals.add(subject.name, flaw, now, { isKnown: true });
  }
  if (isShown !== subject.isShown) touch(registry, subject, 'passwd', 'shadow', 'group');
  if (isInForce !== subject.isInForce) {
    touch(registry, subject, ...(subject.isPerson ? [] : (['group', 'sudoers'] as const)));
  }
  if (isClosed !== subject.isClosed) touch(registry, subject, 'closed');
  if (isClosed && !subject.isClosed) pending.ended.push(subject.uid);
  const hasLess =
    (subject.isShown && !isShown) ||
    (subject.isInForce && !isInForce) ||
    (isClosed && !subject.isClosed);
  if (hasLess) pending.lost.add(subject);
  Object.assign(subject, { isShown, isInForce, isClosed });
}

function clashOf(local: LocalAccounts, { name, uid, isPerson }: Account): string | undefined {
  if (local.names.has(name)) return 'a local account of this host has its name';
  if (local.uids.has(uid)) return `a local account of this host has its number ${uid}`;
  if (isPerson) return undefined;
  if (local.groups.has(name)) return 'a local group of this host has its name';
  return local.gids.has(uid) ? `a local group of this host has its number ${uid}` : undefined;
}

function isInForceNow(registry: Registry, subject: Subject, now: number): boolean {
  return counts(subject, now) && !isLate(registry, subject, now);
}

/** Only for tools: each line of a person's key file has its own end. */
function isLate(registry: Registry, { isPerson, doubtedSince }: Subject, now: number): boolean {
  const since = Math.min(registry.confirmedAt, doubtedSince ?? Infinity);
  return !isPerson && now > since + registry.rules.offlineLimitSeconds * 1000;
}

export function touch({ pending }: Registry, subject: Subject, ...lists: ListName[]): void {
  pending.changed.add(subject);
  for (const list of lists) pending.lists.add(list);
}

export function doubt({ pending }: Registry, subject: Subject, since: number): void {
  subject.doubtedSince = since;
  pending.isKeptNew ||= !subject.isPerson;
}

export function setPresence(
  registry: Registry,
  subject: Subject,
  presence: Presence,
  isRefused = false,
): void {
  const { held, byName } = registry;
  subject.presence = presence;
  subject.isRefused = isRefused;
  recount(registry, subject);
  if (presence === 'held') held.add(subject);
  else held.delete(subject);
  if (keepsName(presence)) byName.set(subject.name, subject);
  else if (byName.get(subject.name) === subject) byName.delete(subject.name);
}

export function recount({ present }: Registry, subject: Subject): void {
  const isCounted = isSound(subject);
  if (isCounted !== subject.isCounted) present[kindOf(subject)] += isCounted ? 1 : -1;
  subject.isCounted = isCounted;
}

/** A subject that was known is no longer there as it was. */
export function hold(registry: Registry, subject: Subject): void {
  registry.needsFullReport ||= !isBelowFloor(subject);
  setPresence(registry, subject, 'held');
}
