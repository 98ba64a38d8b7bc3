/** Writes to our tables what a recovery changes because of the evidence (src/recovery/lesser.ts). */
import type { Open, SealedKey, Taking } from './taking.ts';
import { type RoleTouch, touchesOfChange, touchesOfEach } from '../roles/touches.ts';
import { noteKnown, wantNewEpochsOfReached } from '../credentials/credentials-table.ts';
import { RECOVERY } from '../lifecycle/holds-table.ts';
import { findKey, putKey, removeKeys } from '../ssh-keys/keys-table.ts';
import {
  admitPeople,
  touchesOfAccess,
  reinstatePeople,
  removeRealmMembers,
  suspendPeople,
} from '../identity/people-table.ts';
import type { Client } from '../database/connection.ts';
import { disableTools, openTools, removeMaintainers } from '../identity/tools-table.ts';

/** Longer reasons are cut. */
const LONGEST_REASON = 200;

/** The touches, where access is taken away and where it is given. */
export interface Taken {
  lost: RoleTouch[];
  gained: RoleTouch[];
  /** what could not be written */
  open: Open[];
}

/**
 * Writes the takings, all of one kind with one statement, because there may be one for every subject. People come
 * first, because they know the passwords of the tools that they lose.
 */
export async function writeTakings(
  client: Client,
  takings: readonly Taking[],
  now: Date,
): Promise<Taken> {
  const of = Map.groupBy(takings, ({ kind }) => kind);
  const people = await takePeople(client, of.get('person') ?? [], now);
  const tools = await takeTools(client, of.get('tool') ?? [], now);
  return {
    lost: [...people.lost, ...tools.lost],
    gained: [...people.gained, ...tools.gained],
    open: [...people.open, ...tools.open],
  };
}

/** Whether a taking takes anything away. */
function isLoss({ state, member, keysRemoved, membersRemoved }: Taking): boolean {
  return (
    (state !== undefined && state !== 'active') ||
    member === false ||
    keysRemoved !== undefined ||
    membersRemoved !== undefined
  );
}

async function takePeople(client: Client, people: readonly Taking[], now: Date): Promise<Taken> {
  const suspended = people.filter(({ state }) => state === 'suspended');
  const admitted = subjectsOf(people.filter(({ member }) => member === true));
  const closed = people.filter(({ state, member }) => state === 'suspended' || member === false);
  const opened = people.filter(({ state, member }) => state === 'active' || member === true);
  const closing = await touchesOfAccess(client, subjectsOf(closed));
  const reached = await wantNewEpochsOfReached(client, subjectsOf(closed), now);
  await suspendPeople(client, subjectsOf(suspended), {
    ...{ by: RECOVERY, reason: suspended.map(reasonOf), until: null, now },
  });
  await reinstatePeople(client, subjectsOf(people.filter(({ state }) => state === 'active')));
  await removeRealmMembers(client, subjectsOf(people.filter(({ member }) => member === false)));
  await admitPeople(client, admitted);
  const opening = await touchesOfAccess(client, subjectsOf(opened));
  await removeKeys(
    client,
    people.flatMap(({ keysRemoved = [] }) => keysRemoved),
  );
  const open: Open[] = [];
  for (const { subject, account, keysAdded = [] } of people) {
    for (const key of keysAdded) {
      if (await addKey(client, subject, key)) continue;
      const sentence = `${account} had the key ${key.fingerprint}, but another person here has or had it: it is not restored`;
      open.push({ account, sentence });
    }
  }
  const touchesOf = ({ subject }: Taking): RoleTouch[] => touchesOfChange(subject, 'account');
  const gains = people.filter((taking) => !isLoss(taking));
  return {
    lost: [
      ...people.filter(isLoss).flatMap(touchesOf),
      ...closing,
      ...reached.flatMap(({ uid }) => touchesOfChange(uid, 'credentials')),
    ],
    gained: [...gains.flatMap(touchesOf), ...opening, ...touchesOfEach(admitted, 'credentials')],
    open,
  };
}

function subjectsOf(takings: readonly Taking[]): number[] {
  return takings.map(({ subject }) => subject);
}

/** Adds a key. Returns false if another person has or had it. */
async function addKey(client: Client, person: number, key: SealedKey): Promise<boolean> {
  const { fingerprint, line, options } = key;
  const stored = await findKey(client, fingerprint);
  if (stored !== undefined && stored.person !== person) return false;
  const label = stored?.label ?? '';
  await putKey(client, { person, fingerprint, line, options, label, expiresAt: undefined });
  return true;
}

async function takeTools(client: Client, tools: readonly Taking[], now: Date): Promise<Taken> {
  const disabled = tools.filter(({ state }) => state === 'disabled');
  await disableTools(client, subjectsOf(disabled), {
    ...{ by: RECOVERY, reason: disabled.map(reasonOf), now },
  });
  await openTools(client, subjectsOf(tools.filter(({ state }) => state === 'active')));
  const removed = tools.flatMap(({ subject: tool, membersRemoved = [] }) =>
    membersRemoved.map(({ uid: maintainer }) => ({ tool, maintainer })),
  );
  for (const [tool, from] of Map.groupBy(removed, (each) => each.tool)) {
    const by = from.map(({ maintainer }) => maintainer);
    await noteKnown(client, tool, by);
  }
  await removeMaintainers(client, removed);
  const added = await addMaintainersNamed(client, tools);
  const known = new Set(added.map(({ name }) => name));
  const open = tools.flatMap(({ account, membersAdded = [] }) =>
    membersAdded
      .filter((name) => !known.has(name))
      .map((name) => ({
        account,
        sentence: `${name} was a maintainer of ${account}, but is not known here`,
      })),
  );
  const membersOf = Map.groupBy([...removed, ...added], ({ tool }) => tool);
  const touchesOf = ({ subject }: Taking): RoleTouch[] => [
    ...touchesOfChange(subject, 'access', 'databaseAccess'),
    ...(membersOf.get(subject) ?? []).flatMap(({ maintainer }) =>
      touchesOfChange(maintainer, 'memberOf'),
    ),
  ];
  const gains = tools.filter((taking) => !isLoss(taking));
  return {
    lost: tools.filter(isLoss).flatMap(touchesOf),
    gained: gains.flatMap(touchesOf),
    open,
  };
}

/** Adds the maintainers whose names are known, and returns them. Unknown names are skipped. */
async function addMaintainersNamed(
  client: Client,
  tools: readonly Taking[],
): Promise<{ tool: number; maintainer: number; name: string }[]> {
  const added = tools.flatMap(({ subject: tool, membersAdded = [] }) =>
    membersAdded.map((name) => ({ tool, name })),
  );
  const { rows } = await client.query(
    `WITH known AS (SELECT a.tool, n.subject AS maintainer, name
                    FROM unnest($1::int[], $2::text[]) AS a (tool, name) JOIN names n USING (name)),
          added AS (INSERT INTO maintainers (tool, maintainer) SELECT tool, maintainer FROM known ON CONFLICT DO NOTHING)
     SELECT tool, maintainer, name FROM known`,
    [added.map(({ tool }) => tool), added.map(({ name }) => name)],
  );
  return rows as { tool: number; maintainer: number; name: string }[];
}

function reasonOf({ by }: Taking): string {
  return `after a recovery, according to ${by.join(', ')}`.slice(0, LONGEST_REASON);
}
