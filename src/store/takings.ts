/** Makes our tables say what a recovery takes from the evidence (src/recovery/lesser.ts). */
import type { Open, SealedKey, Taking } from '../model/taking.ts';
import type { Raise } from './convergence.ts';
import { noteKnown, wantNewEpochsOfReached } from './credentials.ts';
import { RECOVERY } from './holds.ts';
import { findKey, putKey, removeKey } from './keys.ts';
import {
  admitPerson,
  raisesOfDoors,
  reinstatePeople,
  removeRealmMember,
  suspendPeople,
} from './people.ts';
import type { Client } from './postgres.ts';
import { disable, openTool, removeMaintainers } from './tools.ts';

/** Longer reasons say no more. */
const LONGEST_REASON = 200;

/** What is to be raised: where access is taken away, and where it is given. */
export interface Taken {
  lost: Raise[];
  gained: Raise[];
  /** what could not be taken */
  open: Open[];
}

/** Writes them. People come first: of the tools that they lose they know the passwords. */
export async function writeTakings(
  client: Client,
  takings: readonly Taking[],
  now: Date,
): Promise<Taken> {
  const taken: Taken = { lost: [], gained: [], open: [] };
  for (const taking of takings.toSorted(
    (a, b) => Number(a.kind === 'tool') - Number(b.kind === 'tool'),
  )) {
    const raised =
      taking.kind === 'person'
        ? await takePerson(client, taking, now, taken.open)
        : await takeTool(client, taking, now, taken.open);
    (isLoss(taking) ? taken.lost : taken.gained).push(...raised);
  }
  return taken;
}

/** Whether anything is taken away by it. */
function isLoss({ state, member, keysRemoved, membersRemoved }: Taking): boolean {
  return (
    (state !== undefined && state !== 'active') ||
    member === false ||
    keysRemoved !== undefined ||
    membersRemoved !== undefined
  );
}

async function takePerson(
  client: Client,
  taking: Taking,
  now: Date,
  open: Open[],
): Promise<Raise[]> {
  const { subject, state, member, by } = taking;
  const raised: Raise[] = [{ subject, role: 'directory' }];
  if (state === 'suspended' || member === false) {
    raised.push(...(await raisesOfDoors(client, [subject])));
    const tools = await wantNewEpochsOfReached(client, [subject], now);
    raised.push(...tools.flatMap(({ uid }) => raisesOfPassword(uid)));
  }
  if (state === 'suspended') {
    await suspendPeople(client, [subject], {
      by: RECOVERY,
      reason: reasonOf(by),
      until: null,
      now,
    });
  }
  if (state === 'active') await reinstatePeople(client, [subject]);
  if (member === false) await removeRealmMember(client, subject);
  if (member === true) {
    await admitPerson(client, subject);
    raised.push({ subject, role: 'homes' });
  }
  if (state === 'active' || member === true)
    raised.push(...(await raisesOfDoors(client, [subject])));
  for (const fingerprint of taking.keysRemoved ?? []) await removeKey(client, fingerprint);
  for (const key of taking.keysAdded ?? []) {
    if (!(await addKey(client, subject, key))) {
      const sentence = `${taking.account} had the key ${key.fingerprint}, which is another's here`;
      open.push({ account: taking.account, sentence });
    }
  }
  return raised;
}

/** False: another has it, or had. */
async function addKey(client: Client, person: number, key: SealedKey): Promise<boolean> {
  const { fingerprint, line, options } = key;
  const stored = await findKey(client, fingerprint);
  if (stored !== undefined && stored.person !== person) return false;
  const label = stored?.label ?? '';
  await putKey(client, { person, fingerprint, line, options, label, expiresAt: undefined });
  return true;
}

async function takeTool(client: Client, taking: Taking, now: Date, open: Open[]): Promise<Raise[]> {
  const { subject, account, state, by, membersRemoved = [], membersAdded = [] } = taking;
  if (state === 'disabled')
    await disable(client, subject, { by: RECOVERY, reason: reasonOf(by), now });
  if (state === 'active') await openTool(client, subject);
  const removed = membersRemoved.map(({ uid }) => uid);
  await noteKnown(client, subject, removed);
  await removeMaintainers(client, subject, removed);
  const added = await addMaintainersNamed(client, subject, membersAdded);
  const unknown = membersAdded.filter((name) => !added.some(({ name: known }) => known === name));
  for (const name of unknown) {
    open.push({ account, sentence: `${name} maintained ${account}, and is not known here` });
  }
  return [
    ...(['directory', 'databases'] as const).map((role) => ({ subject, role })),
    ...[...removed, ...added.map(({ uid }) => uid)].map((of): Raise => ({
      subject: of,
      role: 'directory',
      target: 'unix-account',
    })),
  ];
}

/** Those of these names who are known; of the others nothing is written. */
async function addMaintainersNamed(
  client: Client,
  tool: number,
  accounts: readonly string[],
): Promise<{ name: string; uid: number }[]> {
  const { rows } = await client.query(
    `WITH known AS (SELECT name, subject AS uid FROM names WHERE name = ANY ($2)),
          added AS (INSERT INTO maintainers (tool, maintainer) SELECT $1, uid FROM known ON CONFLICT DO NOTHING)
     SELECT name, uid FROM known`,
    [tool, accounts],
  );
  return rows as { name: string; uid: number }[];
}

function raisesOfPassword(subject: number): Raise[] {
  return [
    { subject, role: 'homes' },
    { subject, role: 'databases', waits: true },
  ];
}

function reasonOf(by: readonly string[]): string {
  return `as ${by.join(', ')} shows after a recovery`.slice(0, LONGEST_REASON);
}
