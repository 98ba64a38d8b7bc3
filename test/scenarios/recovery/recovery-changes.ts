/** What happens between a backup and a loss, and what is restored before the next. */
import type { Login } from '../login/login.ts';
import { newKey } from '../../login-host/agent-world.ts';
import { eventually } from '../eventually.ts';
import { query } from '../outside.ts';
import type { Wish } from '../portal.ts';

/** A request that waits in the queue reinstates `alice`; `mallory` is an admin, too. */
export const PEOPLE = ['alice', 'bob', 'carol', 'dave', 'erin', 'mallory'];
export const TOOLS = ['one', 'two', 'three', 'four'];
const HOUR_MS = 3_600_000;

const asSteward = (kind: string, fields: object): Wish => ({
  ...{ kind, requestedBy: 'steward' },
  ...fields,
});

export const newPerson = (shellName: string): Wish => ({
  ...{ kind: 'person.create', requestedBy: shellName, shellName },
  ...{ displayName: `The ${shellName}`, email: `${shellName}@example.org` },
});

export const newTool = (name: string, ...maintainers: string[]): Wish =>
  asSteward('tool.create', { name, title: name, maintainers: ['steward', ...maintainers] });

export interface Changes {
  /** Makes this many changes, and waits for the verdicts. */
  make(count: number): Promise<void>;
  /** Suspends dave until a date; the first of the following changes suspends him for longer. */
  suspendUntil(): Promise<void>;
  /** Makes dates in our database become due. */
  letDatesPass(): Promise<void>;
  /** Reinstates everybody. */
  reopen(): Promise<void>;
  /** names of people and tools that were created, and keys that were added to PEOPLE */
  readonly made: Record<'people' | 'tools' | 'keys', string[]>;
}

/** @param random in [0, 1) */
export function changesOf({ world, portal }: Login, random: () => number): Changes {
  const one = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)] as T;
  const made: Changes['made'] = { people: [], tools: [], keys: [] };
  let isDated = false;
  let count = 0;
  const ask = (wish: Wish) => portal.ask(wish);

  async function addKey(person: string): Promise<void> {
    const key = newKey();
    made.keys.push(key);
    await ask(asSteward('key.add', { person, key }));
  }

  async function removeKey(person: string): Promise<void> {
    const [row] = await query<{ fingerprint: string }>(
      world,
      `SELECT fingerprint FROM ssh_keys JOIN people ON uid = person
       WHERE shell_name = $1 AND removed_at IS NULL ORDER BY fingerprint LIMIT 1`,
      [person],
    );
    if (row !== undefined) await ask(asSteward('key.remove', { person, ...row }));
  }

  async function createPerson(name: string): Promise<void> {
    made.people.push(name);
    await ask({ ...newPerson(name), key: newKey() });
    await ask(asSteward('access.grant', { person: name }));
  }

  async function createTool(name: string): Promise<void> {
    made.tools.push(name);
    await ask(newTool(name));
  }

  /** With its archives, as if the grace time were over. */
  async function deleteTool(name: string): Promise<void> {
    made.tools.push(name);
    await portal.get(newTool(name));
    await portal.get(asSteward('tool.delete', { tool: name }));
    await query(
      world,
      `UPDATE tools SET delete_after = now() - interval '2 min', days_warned = 1,
         warned_at = now() - interval '25 hours' WHERE name = $1`,
      [name],
    );
    await eventually(`${name} to be deleted`, async () => {
      const [row] = await query(world, 'SELECT state FROM tools WHERE name = $1', [name]);
      return row?.['state'] === 'deleted';
    });
  }

  /** A key that seals show, and a person whom only the directory and the login host know. */
  async function endWithWhatFewShow(): Promise<void> {
    await ask(asSteward('person.reinstate', { person: 'erin' }));
    await ask(asSteward('access.grant', { person: 'erin' }));
    await addKey('erin');
    const name = `new${(count += 1)}`;
    made.people.push(name);
    await ask(newPerson(name));
  }

  const until = () => new Date(Date.now() + HOUR_MS).toISOString();
  function draw(): () => Promise<unknown> {
    const [person, tool] = [one(PEOPLE), one(TOOLS)];
    // nothing shows which keys a suspended person had: see docs/recovery.md
    const owner = person === 'alice' ? 'bob' : person;
    count += 1;
    const name = `new${count}`;
    const wishes: (() => Promise<unknown>)[] = [
      () => addKey(owner),
      () => removeKey(owner),
      () => ask(asSteward('person.suspend', { person, reason: 'a drill' })),
      () => ask(asSteward('person.suspend', { person, reason: 'a drill', until: until() })),
      () => ask(asSteward('person.reinstate', { person })),
      () => ask(asSteward('access.revoke', { person, reason: 'a drill' })),
      () => ask(asSteward('access.grant', { person })),
      () => ask(asSteward('tool.disable', { tool, reason: 'a drill' })),
      () => ask(asSteward('tool.delete', { tool })),
      () => ask(asSteward('tool.enable', { tool })),
      () => ask(asSteward('maintainer.add', { tool, person })),
      () => ask(asSteward('maintainer.remove', { tool, person })),
      () => ask(asSteward('credentials.rotate', { tool, atOnce: true })),
      () => createTool(name),
      () => createPerson(name),
    ];
    return one(wishes);
  }

  return {
    made,
    async make(times) {
      let left = times;
      if (isDated && left > 0) {
        await ask(
          asSteward('person.suspend', { person: 'dave', reason: 'longer', until: until() }),
        );
        left -= 1;
      }
      isDated = false;
      const isLong = left > 10;
      if (isLong) await deleteTool(`gone${(count += 1)}`);
      for (left -= isLong ? 5 : 0; left > 0; left -= 1) await draw()();
      if (isLong) await endWithWhatFewShow();
    },
    async suspendUntil() {
      await ask(asSteward('person.suspend', { person: 'dave', reason: 'a drill', until: until() }));
      isDated = true;
    },
    async letDatesPass() {
      await query(
        world,
        `UPDATE people SET suspended_until = now() - interval '1 min' WHERE suspended_until IS NOT NULL`,
      );
    },
    async reopen() {
      const closed = await query<{ shell_name: string; state: string; member: boolean }>(
        world,
        `SELECT shell_name, state, EXISTS (SELECT FROM realm_members WHERE person = uid) AS member
         FROM people WHERE shell_name = ANY ($1)`,
        [PEOPLE],
      );
      const tools = await query<{ name: string }>(
        world,
        `SELECT name FROM tools WHERE state = 'disabled' AND name = ANY ($1)`,
        [TOOLS],
      );
      await Promise.all([
        ...closed.flatMap(({ shell_name: person, state, member }) => [
          ...(state === 'active' ? [] : [ask(asSteward('person.reinstate', { person }))]),
          ...(member ? [] : [ask(asSteward('access.grant', { person }))]),
        ]),
        ...tools.map(({ name }) => ask(asSteward('tool.enable', { tool: name }))),
      ]);
      await ask(asSteward('maintainer.add', { tool: 'admin', person: 'mallory' }));
    },
  };
}
