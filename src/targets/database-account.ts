/** The database account of a tool (`s<uid>`) or a person (`u<uid>`), on every configured server. */
import { codeOf, describeError } from '../shared/errors.ts';
import { describeLimit, limitWhileEnding } from './connection-limit.ts';
import { databaseUser } from '../identity/posix-id.ts';
import type { Wanted } from '../reconcile/wanted.ts';
import type { Action, Effect } from '../reconcile/action.ts';
import {
  NOTHING_TO_DO,
  type DraftFinding,
  type DraftStep,
  type TargetPlan,
} from '../reconcile/plan.ts';
import type { DatabaseAccount, DatabasesReader, Grant } from './databases-reader.ts';
import type { Target } from './target.ts';

export interface DatabaseWant {
  user: string;
  /** nothing: there never was an account, so nothing is read; absent: deleted */
  presence: 'nothing' | 'absent' | 'present';
  /** The verifiers of the recorded passwords, the newest first; empty if there never was a password. */
  verifiers: string[];
  /** the epoch of the verifiers */
  epoch: number;
  /** Whether that is the wanted one. Otherwise the homes role must create another. */
  current: boolean;
  locked: boolean;
  /** somebody who must not know the recorded password may know it, and there is no other yet */
  lockedOut: boolean;
  maxUserConnections: number;
  servers: {
    name: string;
    grants: Grant[];
    /** what it may have as well, because everybody has it there */
    granted: Grant[];
  }[];
}

export type DatabaseServerHave = { server: string; unreadable: string } | SeenServer;

interface SeenServer {
  server: string;
  accounts: DatabaseAccount[];
  anonymousHosts: string[];
  /** rights of the name although it has no account on host `%` */
  leftovers: Grant[];
}

/** The host of our accounts: any. */
const OUR_HOST = '%';

/**
 * Ours is the name, which contains the number, on host `%`. For each server that can be read:
 *
 * | wanted  | verifier | seen                              | step, in this order           | otherwise         |
 * | ------- | -------- | --------------------------------- | ----------------------------- | ----------------- |
 * | nothing | any      | anything                          |                               |                   |
 * | absent  | any      | ours                              | db.dropUser                   |                   |
 * | present | any      | ours, not locked, should be       | db.setLocked                  |                   |
 * | present | any      | ours, locked, another limit or    | db.setLocked, again           |                   |
 * |         |          | its events run                    |                               |                   |
 * | present | any      | ours, more than is wanted         | db.revoke                     |                   |
 * | present | recorded | ours, a way in that is not wanted | db.setVerifier, a revoke; the connections end | |
 * | present | any      | ours, not locked, the limit while | db.setLimit, a revoke; the    |                   |
 * |         |          | connections end (and no step      | connections end               |                   |
 * |         |          | before ends them)                 |                               |                   |
 * | present | missing  | anything                          | only those above              | waiting for homes |
 * | present | current  | none                              | db.createUser                 |                   |
 * | present | current  | ours, lacks a way in, or expired  | db.setVerifier                |                   |
 * | present | current  | ours, less than is wanted         | db.grant                      |                   |
 * | present | current  | ours, not locked, another limit   | db.setLimit                   |                   |
 * | present | current  | ours, locked, should not be       | db.setLocked (unlock), last   |                   |
 * | present | recorded, of another epoch | anything        | only those above "missing"    | waiting for homes |
 * | present, archived | missing, or of another epoch | anything | only those above "missing" |           |
 * | any     | any      | the same user on another host     | only what takes access away   | DATABASE_FOREIGN  |
 * | any     | any      | ours may act as another (PROXY)   | only what takes access away   | DATABASE_FOREIGN  |
 * | any     | any      | rights of the name, no account    | only what takes access away   | DATABASE_FOREIGN  |
 * | any     | any      | an anonymous account              | all                           | DATABASE_FOREIGN, advisory |
 * | present | any      | ours, REQUIRE or a limit besides  | all                           | DATABASE_FOREIGN, advisory |
 *
 * A server that cannot be read gets no step; the others do, and the subject is not finished.
 *
 * A lock is wanted if any line says so:
 *
 * | subject                            | wanted epoch            | overlap       | the account is               |
 * | ---------------------------------- | ----------------------- | ------------- | ---------------------------- |
 * | not active, or not a realm member  | any                     | any           | locked                       |
 * | any                                | above the recorded one  | none: at once | locked until it is recorded  |
 * | any                                | above the recorded one  | some          | as before                    |
 * | any                                | recorded, or none is    | any           | as before                    |
 *
 * Somebody who made the second line true may know the recorded password, and can prevent homes from creating
 * another, for as long as they like, by what they put in its place. If homes is as quick as it should be, this
 * role is not asked before the other password exists (`touch_generations`).
 *
 * The wanted ways in are the recorded password, and the previous one while that still works. A server does not
 * say which of them a connection used: if one is removed, all connections of the account end.
 *
 * Events of a database run in their definer's account even if it is locked, provided that it has the privilege
 * EVENT. So a locked account has all grants but that one. Meanwhile they stay as they are.
 *
 * Closing a way in (including locking) sets another limit in the same statement, and the right one when the
 * account's connections have ended. So an interruption in between is seen, and the step is repeated.
 */
export const databaseAccount: Target<DatabasesReader, DatabaseWant, DatabaseServerHave[]> = {
  name: 'database-account',
  of: ['person', 'tool'],
  needs: [],

  want(wanted, realm) {
    const user = databaseUser(wanted.kind, wanted.uid);
    const { recorded, wantedEpoch = 0, atOnce = false } = wanted.credentials ?? {};
    const lockedOut = atOnce && recorded !== undefined && recorded.epoch < wantedEpoch;
    const locked = lockedOut || !isLetIn(wanted);
    return {
      user,
      presence: presenceOf(wanted),
      verifiers: [recorded?.verifier, recorded?.previous].filter((each) => each !== undefined),
      epoch: recorded?.epoch ?? 0,
      current: recorded !== undefined && recorded.epoch === wantedEpoch,
      locked,
      lockedOut,
      maxUserConnections: realm.maxUserConnections,
      servers: realm.databaseServers.map(({ name, kind }) => ({
        name,
        grants: GRANTS[kind](user, locked),
        granted: EVERYBODY[kind],
      })),
    };
  },

  describe({ user, presence, locked, maxUserConnections, servers }) {
    if (presence === 'nothing') return 'none';
    const on = `${user} on ${servers.map(({ name }) => name).join(', ')}`;
    if (presence === 'absent') return `${on}, absent`;
    return [on, describeLimit(maxUserConnections), locked ? 'locked' : 'unlocked'].join(', ');
  },

  async observe(reader, wanted, { databaseServers }) {
    const users = wanted.map(({ kind, uid }) => databaseUser(kind, uid));
    const views = await Promise.all(
      databaseServers.map(async ({ name }) => {
        try {
          return { server: name, view: await reader.look(name, users) };
        } catch (error) {
          if (codeOf(error) !== 'BACKEND_UNREADABLE') throw error;
          return { server: name, unreadable: describeError(error) };
        }
      }),
    );
    return users.map((user) =>
      views.map((seen): DatabaseServerHave => {
        if (seen.view === undefined) return { server: seen.server, unreadable: seen.unreadable };
        const { users: accounts, anonymousHosts, leftovers } = seen.view;
        return {
          ...{ server: seen.server, accounts: accounts.get(user) ?? [], anonymousHosts },
          leftovers: leftovers.get(user) ?? [],
        };
      }),
    );
  },

  plan(want, have, wanted) {
    if (want.presence === 'nothing') return NOTHING_TO_DO;
    const plan: TargetPlan = { steps: [], findings: [] };
    const unreadable: string[] = [];
    for (const { name, ...grants } of want.servers) {
      const seen = have.find(({ server }) => server === name);
      if (seen === undefined || 'unreadable' in seen) {
        unreadable.push(seen?.unreadable ?? `${name} was not looked at`);
        continue;
      }
      const findings = findingsOn(seen, want.user, wanted);
      const steps = stepsOn(seen, want, grants, wanted);
      const isUnmanaged = findings.some(({ advisory }) => advisory !== true);
      plan.findings.push(...findings);
      plan.steps.push(...steps.filter(({ effect }) => !isUnmanaged || takesAway(effect)));
    }
    // while the subject is archived, there is no home for a password: it gets one when it is restored
    const isHomeless = wanted.state === 'archived';
    if (want.presence === 'present' && !want.current && !isHomeless) {
      plan.waitingFor = want.lockedOut ? `homes. ${describeLockedOut(wanted)}` : 'homes';
    }
    if (unreadable.length > 0) plan.unreadable = unreadable.join('; ');
    return plan;
  },
};

const EVENTLESS = 'ALL but EVENT';

/** The user's own databases are `<user>__<name>`; `_` is a wildcard in a pattern, so it is escaped. */
const GRANTS: Record<'replica' | 'toolsdb', (user: string, locked: boolean) => Grant[]> = {
  replica: () => [],
  toolsdb: (user, locked) => [`${locked ? EVENTLESS : 'ALL'} on ${user}\\_\\_%.*`],
};

/**
 * What deploy/mariadb/*.sql grants to PUBLIC. Each account once had it itself: the server goes through all such
 * rows when it creates an account, 40,000 of them in 8 to 17 ms.
 */
const EVERYBODY: Record<'replica' | 'toolsdb', Grant[]> = {
  replica: ['role labsdbuser'],
  toolsdb: ['SELECT, SHOW VIEW on %\\_p.*'],
};

function presenceOf(wanted: Wanted): DatabaseWant['presence'] {
  if (wanted.state === 'deleted') return 'absent';
  return wanted.credentials === undefined ? 'nothing' : 'present';
}

function takesAway(effect: Effect): boolean {
  return effect === 'revoke' || effect === 'destroy';
}

/** An account on one server: what it is, what it must be, and its steps so far. */
interface OnServer {
  server: string;
  account: DatabaseAccount;
  want: DatabaseWant;
  wanted: Wanted;
  wantedGrants: readonly Grant[];
  /** the ways to log in that it must have */
  wantedLogins: readonly string[];
  add: (effect: Effect, change: string, because: string, action: Action) => void;
}

function stepsOn(
  seen: { server: string; accounts: DatabaseAccount[] },
  want: DatabaseWant,
  { grants: wantedGrants, granted }: { grants: Grant[]; granted: Grant[] },
  wanted: Wanted,
): DraftStep[] {
  const { server } = seen;
  const { user, epoch, current, locked, maxUserConnections } = want;
  const steps: DraftStep[] = [];
  const object = `${user} on ${server}`;
  const add: OnServer['add'] = (effect, change, because, action) =>
    void steps.push({ object, effect, change, because, action });
  const account = seen.accounts.find(({ host }) => host === OUR_HOST);
  if (want.presence === 'absent') {
    if (account !== undefined) {
      const action: Action = { verb: 'db.dropUser', server, user };
      add('destroy', 'present → absent', `${wanted.account} is deleted`, action);
    }
    return steps;
  }
  if (account === undefined) {
    if (current) {
      const change = locked ? 'absent → present, locked' : 'absent → present';
      add('create', change, 'it does not exist', {
        ...{ verb: 'db.createUser', server, user, uid: wanted.uid, epoch },
        ...{
          overlaps: want.verifiers.length > 1,
          maxUserConnections,
          locked,
          grants: wantedGrants,
        },
      });
    }
    return steps;
  }
  const wantedLogins = want.verifiers.map((verifier) => `mysql_native_password ${verifier}`);
  const on: OnServer = { server, account, want, wanted, wantedGrants, wantedLogins, add };
  addLock(on);
  addRevocation(on, granted);
  const ends = addEnding(on);
  if (current) addWhatItLacks(on, ends);
  return steps;
}

function addLock({ server, account, want, wanted, wantedGrants, add }: OnServer): void {
  const { user, locked, maxUserConnections } = want;
  const isLimitRight = account.maxUserConnections === maxUserConnections;
  const runsEvents = account.grants.filter((grant) => isButForEvent(grant, wantedGrants));
  if (!locked || (account.locked && isLimitRight && runsEvents.length === 0)) return;
  const [change, because] = !account.locked
    ? ['unlocked → locked', whyLocked(wanted)]
    : isLimitRight
      ? [
          'locked → locked, without the EVENT right',
          'as long as it has the EVENT right, its scheduled events run although it is locked',
        ]
      : ['locked again', 'its connections may still be open although it is locked'];
  const withoutEventsOn = runsEvents.map(patternOf);
  add('revoke', change, because, {
    ...{ verb: 'db.setLocked', server, user, locked, maxUserConnections, withoutEventsOn },
  });
}

function addRevocation(
  { server, account, want, wantedGrants, add }: OnServer,
  granted: readonly Grant[],
): void {
  const tooMuch = account.grants.filter(
    (grant) =>
      !isHarmless(grant) &&
      !isCovered(grant, [...wantedGrants, ...granted]) &&
      !isButForEvent(grant, wantedGrants),
  );
  if (tooMuch.length === 0) return;
  const keep = wantedGrants.filter((one) => isCovered(one, account.grants));
  const goes = tooMuch.map((grant) => beyond(grant, keep));
  add('revoke', `revoke ${goes.join(', ')}`, 'it has more rights than it should', {
    ...{ verb: 'db.revoke', server, user: want.user, grants: tooMuch, keep },
    locked: want.locked || account.locked,
  });
}

/** Takes away ways to log in, and ends connections that were opened with them. Returns whether it replaces verifiers. */
function addEnding({ server, account, want, wanted, wantedLogins, add }: OnServer): boolean {
  const { user, epoch, locked, maxUserConnections } = want;
  const overlaps = want.verifiers.length > 1;
  const goes = account.login.filter((way) => way !== EXPIRED && !wantedLogins.includes(way));
  const ends = wantedLogins.length > 0 && goes.length > 0;
  if (ends) {
    add('revoke', verifierChange(overlaps), LETS_IN, {
      ...{ verb: 'db.setVerifier', server, user, uid: wanted.uid, epoch, overlaps },
      ends: { maxUserConnections },
    });
  } else if (!locked && isEnding(account, want)) {
    add('revoke', 'connections → ended', 'its connections may still be open', {
      ...{ verb: 'db.setLimit', server, user, maxUserConnections, ends: true },
    });
  }
  return ends;
}

function addWhatItLacks(
  { server, account, want, wanted, wantedGrants, wantedLogins, add }: OnServer,
  ends: boolean,
): void {
  const { user, epoch, locked, maxUserConnections } = want;
  const overlaps = want.verifiers.length > 1;
  if (!ends && !isSame(account.login, wantedLogins)) {
    const isExpired = account.login.includes(EXPIRED);
    add('change', verifierChange(overlaps), isExpired ? 'the password has expired' : LACKS, {
      ...{ verb: 'db.setVerifier', server, user, uid: wanted.uid, epoch, overlaps },
    });
  }
  const missing = wantedGrants.filter((one) => !isCovered(one, account.grants));
  if (missing.length > 0) {
    const action: Action = { verb: 'db.grant', server, user, grants: missing };
    add('change', `grant ${missing.join(', ')}`, 'it lacks rights that it should have', action);
  }
  const isLimitRight = account.maxUserConnections === maxUserConnections;
  if (!locked && !isLimitRight && !isEnding(account, want)) {
    const change = `${describeLimit(account.maxUserConnections)} → ${describeLimit(maxUserConnections)}`;
    const action: Action = { verb: 'db.setLimit', server, user, maxUserConnections, ends: false };
    add('change', change, 'the limit is not the configured one', action);
  }
  if (!locked && account.locked) {
    add('change', 'locked → unlocked', `${wanted.account} is active`, {
      ...{ verb: 'db.setLocked', server, user, locked, maxUserConnections, withoutEventsOn: [] },
    });
  }
}

function isEnding(account: DatabaseAccount, { maxUserConnections }: DatabaseWant): boolean {
  return account.maxUserConnections === limitWhileEnding(maxUserConnections);
}

/** A value among the ways to log in. */
const EXPIRED = 'expired';
const LETS_IN = 'it accepts a password or a way to log in that is not recorded';
const LACKS = 'it lacks a way to log in';

function isSame(login: readonly string[], wanted: readonly string[]): boolean {
  return login.length === wanted.length && wanted.every((way) => login.includes(way));
}

function verifierChange(overlaps: boolean): string {
  return overlaps ? 'verifiers replaced: current and previous' : 'verifier replaced';
}

function isLetIn(wanted: Wanted): boolean {
  return wanted.state === 'active' && (wanted.kind === 'tool' || wanted.realmMember);
}

function whyLocked(wanted: Wanted): string {
  if (wanted.state !== 'active') return `${wanted.account} is ${wanted.state}`;
  if (!isLetIn(wanted)) return `${wanted.account} is not a realm member`;
  return 'its password was revoked at once, and the role homes has not made a new one yet';
}

function describeLockedOut({ account }: Wanted): string {
  return [
    'Somebody who lost access may know the old password, so the database account is locked on every',
    `server until the role homes has written a new one. \`chamberlain status ${account}\` shows what prevents`,
    `that. Correct it, then run \`chamberlain repair ${account}\`.`,
  ].join(' ');
}

/** Nearly always it is held in the same form. */
function isCovered(grant: Grant, held: readonly Grant[]): boolean {
  return held.includes(grant) || held.some((one) => covers(one, grant));
}

/** Whether `one` includes all of `other`. */
function covers(one: Grant, other: Grant): boolean {
  if (one === other) return true;
  const [privileges, place] = splitGrant(one);
  const [otherPrivileges, otherPlace] = splitGrant(other);
  if (place === undefined || place !== otherPlace) return false;
  return otherPrivileges.every(
    (privilege) =>
      privileges.includes(privilege) ||
      (privileges.includes('ALL') && privilege !== 'GRANT OPTION') ||
      (privileges.includes(EVENTLESS) && !['ALL', 'EVENT', 'GRANT OPTION'].includes(privilege)),
  );
}

/** ALL on databases, although all but EVENT is wanted: it goes with the lock. */
function isButForEvent(grant: Grant, wanted: readonly Grant[]): boolean {
  return grant.startsWith('ALL on ') && wanted.includes(`${EVENTLESS} on ${patternOf(grant)}.*`);
}

/** What really goes of a grant that is revoked, where some of its privileges are granted again in the same step. */
function beyond(grant: Grant, keep: readonly Grant[]): string {
  const [privileges, place] = splitGrant(grant);
  const kept = keep.map(splitGrant).flatMap(([of, where]) => (where === place ? of : []));
  const goes = privileges.flatMap((each) =>
    kept.includes(each) ? [] : each === 'ALL' && kept.includes(EVENTLESS) ? ['EVENT'] : [each],
  );
  return place === undefined ? grant : `${goes.join(', ')} on ${place}`;
}

/** `s51234\_\_%` of `ALL on s51234\_\_%.*` */
function patternOf(grant: Grant): string {
  return (splitGrant(grant)[1] ?? '').replace(/\.\*$/, '');
}

function splitGrant(grant: Grant): [string[], string | undefined] {
  const [privileges = '', place] = grant.split(' on ');
  return [privileges.split(', '), place];
}

/** A default role gives nothing without the role; an unwanted PROXY is a finding. */
function isHarmless(grant: Grant): boolean {
  return grant.startsWith('default role ') || isProxy(grant);
}

function isProxy(grant: Grant): boolean {
  return grant.startsWith('PROXY on ');
}

function findingsOn(seen: SeenServer, user: string, wanted: Wanted): DraftFinding[] {
  const { server, accounts, leftovers, anonymousHosts } = seen;
  const isPlain = accounts.every(
    ({ host, grants, restrictions }) =>
      host === OUR_HOST && !grants.some(isProxy) && restrictions === undefined,
  );
  if (isPlain && leftovers.length + anonymousHosts.length === 0) return [];
  const finding = (object: string, sentence: string): DraftFinding => ({
    object: `${object} on ${server}`,
    code: 'DATABASE_FOREIGN',
    sentence,
  });
  const others = accounts.filter(({ host }) => host !== OUR_HOST);
  const ours = accounts.filter(({ host }) => host === OUR_HOST);
  const proxies = ours.flatMap(({ grants }) => grants.filter(isProxy));
  const restrictions = ours.flatMap((account) => account.restrictions ?? []);
  return [
    ...others.map(({ host }) =>
      host === ''
        ? finding(user, `There is a role with this name. Drop it.`)
        : finding(
            `${user}@${host}`,
            `For connections from ${host}, MariaDB uses this account instead of ${user}@${OUR_HOST}. Drop ${user}@${host}.`,
          ),
    ),
    // a GRANT that creates an account would give it these as well
    ...(leftovers.length === 0 || wanted.state === 'deleted'
      ? []
      : [
          finding(
            user,
            `There is no such account, but it has rights: ${leftovers.join('; ')}. \`DROP USER IF EXISTS ${user}\` removes them.`,
          ),
        ]),
    ...proxies.map((grant) => finding(user, `It has ${grant}. Revoke that as an administrator.`)),
    // an operator may want it: the server may be reached over TLS alone
    ...(restrictions.length === 0 || wanted.state === 'deleted'
      ? []
      : [
          {
            ...finding(
              user,
              `It has ${restrictions.join(', ')}, which Chamberlain does not set, so logins may be refused. If nobody wants that, remove it with ALTER USER.`,
            ),
            advisory: true as const,
          },
        ]),
    // the same for every subject; nevertheless the account of this one is right
    ...anonymousHosts.map((host) => ({
      ...finding(
        `''@${host}`,
        `MariaDB may use this anonymous account for connections from ${host}. Drop it.`,
      ),
      advisory: true as const,
    })),
  ];
}
