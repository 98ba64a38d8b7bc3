/**
 * The calendar: changes ("moves") that happen when their time has come, without a request. intake makes them between
 * its verdicts, because only intake writes the wanted state. person-leaving.ts and tool-leaving.ts show what requests
 * do.
 *
 *   person   suspended ──suspended_until──▶ active
 *            suspended ──delete_after, warned a day ago, access closed──▶ archived ──both archives──▶ deleted, erased
 *            suspended ──erasure approved 24 h ago──▶ deleted, erased
 *   tool     disabled ──delete_after, warned a day ago, access closed──▶ archived ──both archives──▶ deleted
 *   both     to be deleted ──30, 7, 1 days before──▶ warned
 *            archived, returning ──home and databases in place──▶ active
 *            deleted, or restored ──keep_until──▶ its archives are removed
 *   account  previous password ──previous_until──▶ stops working
 *            password made when somebody lost access ──again_at, access closed or again_by──▶ replaced once more
 *            half of a seal's lifetime over ──renew_at──▶ sealed anew
 *   tool     no maintainer who may log in ──▶ orphaned, and back, unless the tool is leaving
 *
 * | move             | is due when                                        | sent at once  | sent when applied |
 * | ---------------- | -------------------------------------------------- | ------------- | ----------------- |
 * | person.reinstate | `until` has come, and no deletion is approved      |               | person.reinstated |
 * | ….warn           | so many days are left, and no warning for so few   | ….deleting    |                   |
 * |                  | days was sent yet                                  |               |                   |
 * | ….archive        | `delete_after` has come; the last warning was a    |               |                   |
 * |                  | day ago, unless there is no grace time; and all is |               |                   |
 * |                  | applied or a minute has passed, so that access is  |               |                   |
 * |                  | closed before anything else                        |               |                   |
 * | ….delete         | both archives are recorded                         | ….archived    | ….deleted         |
 * | person.erase     | the erasure was approved 24 hours ago              | person.erased |                   |
 * | ….restore        | homes and databases have restored everything       |               | ….restored        |
 * | ….expire         | the archives were kept for long enough             |               | ….expired         |
 * | archives.expire  | the same, for a restored subject                   |               |                   |
 * | overlaps.end     | both passwords have worked for long enough         |               |                   |
 * | credentials.again | some time after somebody lost access, when the    | credentials.  |                   |
 * |                  | directory has closed all access, or ten minutes    | revoked       |                   |
 * |                  | later in any case                                  |               |                   |
 * | seals.renew      | half of their lifetime is over                     |               |                   |
 *
 * Each move is one transaction. A calendar that was interrupted between two moves continues with the next. If it did
 * not run for a week, it sends one warning, for the smallest number of days that is due. A failed move is tried again
 * after a minute and delays no other move. If a role fails, the move waits: the role itself tries again.
 *
 * A held subject gets no move except restore until the hold has ended. It gets no warning either, so the day after the
 * hold is announced by new warnings.
 *
 * Nobody who has a grace time is archived without a warning, whatever the clock did and however long nothing ran:
 *
 * | to be deleted on day 40, and                 | warned             | archived                         |
 * | -------------------------------------------- | ------------------ | -------------------------------- |
 * | the calendar looks every day                 | on days 10, 33, 39 | on day 40                        |
 * | it looks on day 36 first, then every day     | on days 36, 39     | on day 40                        |
 * | it looks on day 39.5 first                   | at once            | on day 40.5                      |
 * | it looks on day 400 first (also by a clock   | at once            | on day 401                       |
 * | that jumped ahead)                           |                    |                                  |
 * | the same, and the clock goes back at once    | again, as above    | on day 40                        |
 */
import { randomBytes } from 'node:crypto';
import type { Config } from '../shared/config.ts';
import { writeOperatorActions } from '../audit/operator-actions.ts';
import { rejectWaiting } from '../requests/approvals-table.ts';
import {
  type Ahead,
  type DueMove,
  endOverlaps,
  type MoveName,
  noteWarned,
  readAhead,
  readDueMoves,
  renewSeals,
} from './calendar-queries.ts';
import {
  type RoleTouch,
  touchesOfChange,
  touchesOfEveryRole,
  touchesOfEach,
} from '../roles/touches.ts';
import { touchAll } from '../reconcile/convergence-table.ts';
import { noteKnown, wantNewEpoch, wantNewEpochAgain } from '../credentials/credentials-table.ts';
import {
  beginArchival,
  beginErasure,
  completeArchival,
  endArchival,
  expireArchives,
  expirePastArchives,
} from './archivals-table.ts';
import { erasePerson } from './erasure.ts';
import { type NewEvent, type OnDone, writeEvents } from '../events/events-table.ts';
import { holdThawed } from '../database/freeze.ts';
import { areOrphansOtherwise, keepOrphans } from './orphans.ts';
import { touchesOfAccess, reinstatePeople, reopenPerson } from '../identity/people-table.ts';
import { type Client, transact } from '../database/connection.ts';
import { recordVerdict } from '../requests/requests-table.ts';
import { openTools, readMaintained, readMaintainers } from '../identity/tools-table.ts';
import { eventsForPortals, eventsOfWaiting } from '../events/done.ts';

/** The requester that the audit and `chamberlain requests` name. */
export const CALENDAR = 'the calendar';

/** The most moves in one turn. Requests wait for a turn, urgent ones too. */
const MOST_MOVES = 4;
/** The most accounts whose previous password ends in one move, and the most orphaned tools and seals in one move. */
const MOST_AT_ONCE = 200;

const DAY_MS = 86_400_000;

/** What a turn did, and when the next one is due. */
export interface Turn extends Ahead {
  did: { move: MoveName | 'orphans'; subject: number; account: string }[];
  failed: { key: string; error: unknown }[];
  /** there is more to do now */
  more: boolean;
  /** nothing was done: the realm is frozen */
  frozen: boolean;
}

/** What a move did, apart from its writes. */
interface Made {
  fields: string[];
  touches?: RoleTouch[];
  /** the move takes access away */
  urgent?: true;
  /** sent at once */
  events?: NewEvent[];
  /** sent when everything touched is applied */
  onDone?: OnDone;
  /** the request that waited for this move; `onDone` is sent in the name of that request */
  decides?: { portal: string; jti: string };
}

interface Moving {
  client: Client;
  config: Config;
  now: Date;
  due: DueMove;
}

/** Thrown out of a transaction: the realm is frozen. */
class Frozen extends Error {}

/**
 * Makes some of the moves that are due.
 *
 * @param options.orphans whether to look for orphaned tools when nothing else is due
 * @param options.except keys of failed moves, which are left out
 * @param options.canBeStopped whether every request that has arrived is decided. If not, no erasure begins, because
 *   one of them might reject it
 */
export async function turnCalendar(
  client: Client,
  config: Config,
  now: Date,
  {
    orphans = true,
    except = [],
    canBeStopped = true,
  }: { orphans?: boolean; except?: readonly string[]; canBeStopped?: boolean } = {},
): Promise<Turn> {
  const turn: Turn = {
    did: [],
    failed: [],
    more: false,
    frozen: false,
    next: undefined,
    awaited: [],
  };
  const due = await readDueMoves(client, now, {
    ...{ except, most: MOST_MOVES },
    erasures: canBeStopped,
  });
  for (const each of due) {
    const { move, subject, account } = each;
    try {
      await makeMove({ client, config, now, due: each });
      // seals are renewed every few seconds, which is not worth a log line
      if (move !== 'seals.renew') turn.did.push({ move, subject, account });
    } catch (error) {
      if (error instanceof Frozen) return { ...turn, frozen: true };
      turn.failed.push({ key: `${move} ${subject}`, error });
    }
  }
  turn.more = due.length > 0;
  if (!turn.more && orphans && (await areOrphansOtherwise(client))) {
    const changed = await findOrphans(client, config, now);
    if (changed === undefined) return { ...turn, frozen: true };
    turn.did.push(...changed);
    turn.more = changed.length === MOST_AT_ONCE;
  }
  return turn.more ? turn : { ...turn, ...(await readAhead(client, now)) };
}

/** Makes one move in a transaction. No other process writes the wanted state between `readDueMoves` and this. */
async function makeMove(moving: Moving): Promise<void> {
  const { client, due } = moving;
  await transact(client, async () => {
    if (!(await holdThawed(client))) throw new Frozen();
    await recordMove(moving, await MAKE[due.move](moving));
  });
}

const MAKE: Record<MoveName, (moving: Moving) => Promise<Made>> = {
  'person.reinstate': async ({ client, due }) => {
    await reinstatePeople(client, [due.subject]);
    return {
      fields: ['state'],
      touches: await touchesOfAccess(client, [due.subject]),
      onDone: { event: 'person.reinstated', data: { account: due.account } },
    };
  },
  'person.warn': (moving) => warn(moving, 'person'),
  'tool.warn': (moving) => warn(moving, 'tool'),
  'person.archive': archiveSubject,
  'tool.archive': archiveSubject,
  'person.delete': async (moving) => {
    await leave(moving);
    const rejected = await forgetPerson(moving);
    const made = deleted(moving, 'person');
    return { ...made, events: [...(made.events ?? []), ...rejected] };
  },
  'person.erase': async (moving) => {
    const { client, due, now } = moving;
    const { portal, request: jti } = await beginErasure(client, due.subject, now);
    const rejected = await forgetPerson(moving);
    return {
      fields: ['state', 'erasure'],
      touches: touchesOfEveryRole(due.subject),
      // at once: a server that is down must not delay the portals
      events: [...eventsOf(moving, 'person.erased'), ...rejected],
      onDone: { event: 'person.erased', data: {}, each: [] },
      decides: { portal, jti },
    };
  },
  'tool.delete': async (moving) => {
    await noteKnown(moving.client, moving.due.subject);
    await leave(moving);
    const made = deleted(moving, 'tool');
    // the tool was a member of their groups until now
    const maintained = await readMaintained(moving.client, moving.due.subject);
    const maintainers = await readMaintainers(moving.client, moving.due.subject);
    return {
      ...made,
      touches: [
        ...made.touches,
        ...touchesOfEach(maintained, 'members'),
        ...touchesOfEach(maintainers, 'memberOf'),
      ],
    };
  },
  'person.restore': async (moving) => {
    const { client, due } = moving;
    await comeBack(moving);
    await reopenPerson(client, due.subject);
    // a password that nobody has read
    const epoch = await wantNewEpoch(client, due.subject);
    const access = await touchesOfAccess(client, [due.subject]);
    return {
      fields: ['state', ...(epoch === undefined ? [] : ['credentials'])],
      touches: [
        ...touchesOfChange(
          due.subject,
          'access',
          ...(epoch === undefined ? [] : ['credentials' as const]),
        ),
        ...access.filter(({ subject }) => subject !== due.subject),
      ],
      onDone: { event: 'person.restored', data: dataOf(due) },
    };
  },
  'tool.restore': async (moving) => {
    const { client, due } = moving;
    await comeBack(moving);
    await openTools(client, [due.subject]);
    // a password that nobody has read
    await wantNewEpoch(client, due.subject);
    return {
      fields: ['state', 'credentials'],
      touches: touchesOfChange(due.subject, 'access', 'credentials'),
      onDone: { event: 'tool.restored', data: dataOf(due) },
    };
  },
  'person.expire': (moving) => expire(moving, 'person'),
  'tool.expire': (moving) => expire(moving, 'tool'),
  'archives.expire': async ({ client, due, now }) => {
    await expirePastArchives(client, due.subject, now);
    return { fields: ['archives'], touches: touchesOfChange(due.subject, 'archives') };
  },
  'overlaps.end': async ({ client, now }) => {
    const accounts = await endOverlaps(client, now, MOST_AT_ONCE);
    await writeOperatorActions(
      client,
      accounts.map((of) => ({
        kind: 'credentials.rotate' as const,
        by: CALENDAR,
        ...of,
        fields: ['previous password'],
      })),
    );
    return { fields: [] };
  },
  'credentials.again': makeAgain,
  'seals.renew': async ({ client, now }) => {
    await renewSeals(client, now, MOST_AT_ONCE);
    return { fields: [] };
  },
};

async function makeAgain(moving: Moving): Promise<Made> {
  const { client, due, now } = moving;
  const again = await wantNewEpochAgain(client, due.subject, now);
  if (again === undefined) return { fields: [] };
  const { epoch, maintainers } = again;
  return {
    fields: ['credentials'],
    urgent: true,
    touches: touchesOfChange(due.subject, 'credentials'),
    events: eventsOf(moving, 'credentials.revoked', { epoch, maintainers, because: due.move }),
  };
}

async function warn(moving: Moving, kind: string): Promise<Made> {
  const { client, due, now } = moving;
  const days = due.days as number;
  await noteWarned(client, due.subject, { days, now });
  // if the warning is late, fewer days are left than `days`
  const left = Math.ceil((due.at.getTime() - now.getTime()) / DAY_MS);
  return {
    fields: [],
    events: eventsOf(moving, `${kind}.deleting`, {
      days: Math.min(days, left),
      deleteAfter: due.at.toISOString(),
    }),
  };
}

async function archiveSubject({ client, due, now }: Moving): Promise<Made> {
  await beginArchival(client, due.subject, now);
  return { fields: ['state'], touches: touchesOfEveryRole(due.subject) };
}

/** Erases what our tables hold about a deleted person. Returns the events about their waiting requests. */
async function forgetPerson({ client, due, now }: Moving): Promise<NewEvent[]> {
  // later events could no longer name the requests
  const waited = await rejectWaiting(client, [due.subject], { by: CALENDAR, now });
  await erasePerson(client, due.subject);
  const data = { by: CALENDAR, reason: 'The person was deleted.' };
  return waited.flatMap((each) => eventsOfWaiting(each, 'request.rejected', data));
}

async function leave(moving: Moving): Promise<void> {
  const { client, due, now } = moving;
  await completeArchival(client, due.subject, { now, keepUntil: keepUntil(moving) });
}

async function comeBack(moving: Moving): Promise<void> {
  const { client, due, now } = moving;
  await endArchival(client, due.subject, { now, keepUntil: keepUntil(moving) });
}

function keepUntil({ config, now }: Moving): Date {
  return new Date(now.getTime() + config.archives.keepDays * DAY_MS);
}

function deleted(moving: Moving, kind: string): Made & { touches: RoleTouch[] } {
  const { due } = moving;
  return {
    fields: ['state'],
    touches: touchesOfEveryRole(due.subject),
    events: eventsOf(moving, `${kind}.archived`),
    onDone: { event: `${kind}.deleted`, data: dataOf(due) },
  };
}

async function expire({ client, due, now }: Moving, kind: string): Promise<Made> {
  await expireArchives(client, due.subject, now);
  return {
    fields: ['archives'],
    touches: touchesOfChange(due.subject, 'archives'),
    onDone: { event: `${kind}.expired`, data: dataOf(due) },
  };
}

function dataOf({ account, tool }: DueMove): Record<string, unknown> {
  return { ...(tool === null ? {} : { tool }), account };
}

function eventsOf(
  { config, due }: Moving,
  event: string,
  data: Record<string, unknown> = {},
): NewEvent[] {
  return eventsForPortals(config, [], {
    event,
    subject: due.subject,
    request: undefined,
    data: { ...dataOf(due), ...data },
  });
}

/** Records what a move touches, and its events. It is recorded as a request, so that its progress can be followed. */
async function recordMove({ client, due }: Moving, made: Made): Promise<void> {
  await writeEvents(client, made.events ?? []);
  if (made.touches === undefined) return;
  await recordVerdict(client, {
    portal: undefined,
    jti: undefined,
    // there is no body to hash, so this is a random value that no other request has
    bodySha256: randomBytes(32),
    kind: due.move,
    requestedBy: CALENDAR,
    approvedBy: CALENDAR,
    subject: due.subject,
    verdict: 'accepted',
    code: undefined,
    sentence: undefined,
    urgent: made.urgent ?? false,
    onDone: made.onDone,
    touches: made.touches,
    decides: made.decides,
    audit: { account: due.account, fields: made.fields },
  });
}

/** Marks the tools that became orphaned and those that no longer are. Returns undefined if the realm is frozen. */
async function findOrphans(
  client: Client,
  config: Config,
  now: Date,
): Promise<Turn['did'] | undefined> {
  return transact(client, async () => {
    if (!(await holdThawed(client))) return undefined;
    const changed = await keepOrphans(client, now, MOST_AT_ONCE);
    await touchAll(
      client,
      touchesOfEach(
        changed.map(({ uid }) => uid),
        'account',
      ),
    );
    await writeEvents(
      client,
      changed
        .filter(({ orphaned }) => orphaned)
        .flatMap(({ uid, account, tool }) =>
          eventsForPortals(config, [], {
            event: 'tool.orphaned',
            subject: uid,
            request: undefined,
            data: { tool, account },
          }),
        ),
    );
    return changed.map(({ uid, account }) => ({ move: 'orphans', subject: uid, account }));
  });
}
