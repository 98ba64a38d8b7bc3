/**
 * Drifts that everybody has at once, on servers of their own: an anonymous account, a database server that was
 * rebuilt empty, a new one in the configuration, the realm group. For each: a survey names it, a plan shows it,
 * a repair repairs it or leaves it to an admin, and then nothing is left to do. (PostgreSQL restored from an
 * older backup: recover.test.ts.)
 */
import { fixedConfig } from '../../../src/configuration/config-in-use.ts';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { parse, stringify } from 'yaml';
import type { StackConfig } from '../../../dev/servers/config.ts';
import { createMariadbAccounts, mariadbServer } from '../../../dev/servers/mariadb.ts';
import { loadConfig } from '../../../src/shared/config.ts';
import { openLog } from '../../../src/shared/log.ts';
import type { Worker } from '../../../src/shared/loop.ts';
import { startWork } from '../../../workers/main.ts';
import { startServer, stopServer } from '../../stack.ts';
import { change, rename, type DriftCase, type Subject } from './drift-case.ts';
import { lookOutside, type Outside, ownIn, passwordFaults } from './drift-look.ts';
import { type DriftWorld, openDriftWorld, type PlanSeen } from './drift-world.ts';
import { eventually } from '../eventually.ts';
import { loginWith, query, readAccounts } from '../outside.ts';

const NOTHING = { damage: () => {}, shows: [] };
const WHO: readonly DriftCase[] = [
  { what: 'a person', of: 'person', ...NOTHING },
  { what: 'a person without access', of: 'person', is: 'without access', ...NOTHING },
  { what: 'a suspended person', of: 'person', is: 'suspended', ...NOTHING },
  { what: 'a tool', of: 'tool', ...NOTHING },
  { what: 'a disabled tool', of: 'tool', is: 'disabled', ...NOTHING },
];

let drift: DriftWorld;
let subjects: Map<string, Subject>;
let before: Outside;
/** the workers with a configuration that has changed since */
let changedWork: Worker | undefined;

beforeAll(async () => {
  drift = await openDriftWorld('drift servers', { own: true });
  const made = await drift.populate(WHO);
  subjects = new Map([...made].map(([{ what }, subject]) => [what, subject]));
  before = await lookOutside(drift.world, subjects.values());
});

afterAll(async () => {
  await changedWork?.close();
  await drift?.close();
});

/** The plan of each of WHO, in the form of the table of drift.test.ts, with the object. */
function shown({ steps, findings }: PlanSeen): Record<string, string[]> {
  const text = (subject: Subject, object: string) =>
    object.replaceAll(subject.user, 'USER').replaceAll(subject.name, 'NAME');
  return Object.fromEntries(
    [...subjects].map(([who, subject]) => [
      who,
      [
        ...steps
          .filter((step) => step.subject === subject.uid)
          .map(({ effect, target, object }) => `${effect} ${target} ${text(subject, object)}`),
        ...findings
          .filter((finding) => finding.subject === subject.uid)
          .map(
            ({ code, target, object, advisory }) =>
              `${code} ${target} ${text(subject, object)}${advisory ? ' (advisory)' : ''}`,
          ),
      ],
    ]),
  );
}

/** The same for each of WHO, except those who have none. */
const each = (lines: string[], ...without: string[]) =>
  Object.fromEntries(WHO.map(({ what }) => [what, without.includes(what) ? [] : lines]));

const targetsOf = ({ unreadable }: PlanSeen) => [...new Set(unreadable.map((one) => one.target))];

/** Survey and plan say the same; returns the plan. */
async function look(): Promise<PlanSeen> {
  const [surveyed, planned] = await Promise.all([
    drift.ask('survey', '--all'),
    drift.ask('plan', '--all'),
  ]);
  expect(shown(surveyed)).toEqual(shown(planned));
  expect(surveyed.exit).toBe(planned.exit);
  return planned;
}

/** Carries out the whole plan, and checks that nothing is left to do. */
async function mend(plan: PlanSeen): Promise<void> {
  expect(await drift.repair('--all', '--expect', plan.digest)).toMatchObject({ exit: 0, err: '' });
  await expectClean();
}

async function expectClean(): Promise<void> {
  expect(await drift.ask('plan', '--all')).toMatchObject({
    ...{ exit: 0, steps: [], findings: [], waiting: [], unreadable: [] },
  });
}

/** The same as in the beginning, including the password in every file. */
async function expectAsBefore(): Promise<void> {
  const after = await lookOutside(drift.world, subjects.values());
  for (const subject of subjects.values())
    expect(ownIn(after, subject)).toEqual(ownIn(before, subject));
}

const fileOf = (who: string) => join(subjects.get(who)?.home ?? '', 'replica.my.cnf');

/** Starts the workers again: with new connections, and the present configuration. */
async function restartWork(): Promise<void> {
  await drift.stopWork();
  await changedWork?.close();
  const roles = ['intake', 'relay', 'directory', 'homes', 'databases'];
  changedWork = await startWork(fixedConfig(loadConfig(drift.world.configFile)), {
    roles,
    log: openLog('silent'),
  });
}

test('the world was clean before', expectClean);

describe('an anonymous account that takes precedence over everybody’s', () => {
  const sql = (text: string) => drift.hand.sql('replica', text);

  test('of another host: a finding for everybody, and nothing waits for it', async () => {
    const tool = subjects.get('a tool') as Subject;
    await sql(`CREATE USER ''@'10.%'; DROP USER '${tool.user}'@'%';`);
    const finding = "DATABASE_FOREIGN database-account ''@10.% on replica (advisory)";
    const seen = await look();
    expect(seen.exit).toBe(3);
    expect(shown(seen)).toEqual({
      ...each([finding], 'a person without access'),
      'a tool': ['create database-account USER on replica', finding],
    });
    expect(await drift.repair('--all', '--expect', seen.digest)).toMatchObject({ exit: 0 });
    expect(shown(await drift.ask('plan', '--all'))).toEqual(
      each([finding], 'a person without access'),
    );
    await sql(`DROP USER ''@'10.%';`);
    await expectClean();
    await expectAsBefore();
  });

  test('of the workers’ own host: they cannot look, so nothing is known of the server', async () => {
    await sql(`CREATE USER ''@'localhost';`);
    await restartWork();
    await expect(loginWith(drift.world, 'replica', fileOf('a tool'))).rejects.toThrow();
    const seen = await look();
    expect(seen).toMatchObject({ exit: 4, steps: [] });
    expect(targetsOf(seen)).toEqual(['database-account']);
    await sql(`DROP USER ''@'localhost';`);
    await expectClean();
    await loginWith(drift.world, 'replica', fileOf('a tool'));
  });
});

describe('a database server that was rebuilt empty', () => {
  test('is UNREADABLE while it is away, and while Chamberlain has no account on it', async () => {
    const { replica } = drift.world;
    await stopServer(replica);
    const away = await look();
    expect(away).toMatchObject({ exit: 4, steps: [], findings: [] });
    rmSync(join(replica.folder, 'data'), { recursive: true });
    await startServer(replica);
    const empty = await look();
    expect(empty).toMatchObject({ exit: 4, steps: [], findings: [] });
    for (const seen of [away, empty]) {
      expect(targetsOf(seen)).toEqual(['database-account']);
      expect(seen.unreadable[0]?.sentence).toContain('replica');
    }
  });

  test('is filled again, and every password is the old one', async () => {
    const passwords =
      readFileSync(fileOf('a tool'), 'utf8') + readFileSync(fileOf('a person'), 'utf8');
    const { config, replica } = drift.world;
    await createMariadbAccounts(replica, config.secrets);
    // it has no marker: nothing is given there before it has one
    const told = `SELECT FROM place_markers WHERE place = 'replica' AND published_at > $1`;
    const now = await query<{ at: Date }>(drift.world, 'SELECT clock_timestamp() AS at');
    await eventually('its marker to be published', async () => {
      return (await query(drift.world, told, [now[0]?.at])).length > 0;
    });
    const seen = await look();
    expect(seen.exit).toBe(3);
    expect(shown(seen)).toEqual(
      each(['create database-account USER on replica'], 'a person without access'),
    );
    await mend(seen);
    await expectAsBefore();
    expect(readFileSync(fileOf('a tool'), 'utf8') + readFileSync(fileOf('a person'), 'utf8')).toBe(
      passwords,
    );
    await loginWith(drift.world, 'replica', fileOf('a tool'));
    expectLocked(await readAccounts(drift.world, 'replica'));
  });
});

test('a new third server in the configuration gets every account', async () => {
  const { world } = drift;
  const third = { ...mariadbServer(join(world.dir, 'third'), 'replica'), name: 'mariadb-third' };
  await startServer(third);
  try {
    await createMariadbAccounts(third, world.config.secrets);
    const config = parse(readFileSync(world.configFile, 'utf8')) as StackConfig;
    const servers = [
      ...config.databases.servers,
      { name: 'third', kind: third.kind, socket: third.socket },
    ];
    writeFileSync(
      world.configFile,
      stringify({ ...config, databases: { ...config.databases, servers } }),
    );
    // the repairs themselves set these passwords, so no account is checked again
    await query(world, `UPDATE convergence SET next_try_at = now() WHERE role = 'databases'`);
    await restartWork();
    const seen = await look();
    expect(seen.exit).toBe(3);
    expect(shown(seen)).toEqual(
      each(['create database-account USER on third'], 'a person without access'),
    );
    await mend(seen);
    await expectAsBefore();
    await loginWith({ ...world, replica: third }, 'replica', fileOf('a tool'));
    expect(await passwordFaults({ ...world, replica: third }, [...haveAccounts()])).toEqual(
      new Map(),
    );
    expectLocked(await readAccounts({ ...world, replica: third }, 'replica'));
    writeFileSync(world.configFile, stringify(config));
    await restartWork();
    await expectClean();
  } finally {
    await stopServer(third);
  }
});

/** Of all accounts, those of subjects that are not active. */
function expectLocked(accounts: Awaited<ReturnType<typeof readAccounts>>): void {
  const locked = [...accounts].flatMap(([user, one]) => (one.locked ? [user] : []));
  const inactive = ['a suspended person', 'a disabled tool'].map((who) => subjects.get(who)?.user);
  expect(new Set(locked)).toEqual(new Set(inactive));
}

function* haveAccounts(): Iterable<Subject> {
  for (const [who, subject] of subjects) if (who !== 'a person without access') yield subject;
}

describe('the realm group', () => {
  const dn = () => `cn=project-tools,ou=groups,${drift.hand.base}`;

  test('without its members: each is restored', async () => {
    const { hand } = drift;
    const placeholder = `cn=chamberlain,${hand.base}`;
    await hand.ldif(change(dn(), ['replace', 'member', placeholder]));
    const seen = await look();
    const others = ['a person without access', 'a suspended person', 'a tool', 'a disabled tool'];
    expect(shown(seen)).toEqual(
      each(['change realm-membership cn=project-tools,ou=groups'], ...others),
    );
    await mend(seen);
    await expectAsBefore();
  });

  test('with another number: a finding for every person, and no step', async () => {
    const { hand } = drift;
    await hand.ldif(change(dn(), ['replace', 'gidNumber', '501']));
    const seen = await look();
    expect(seen.exit).toBe(3);
    expect(shown(seen)).toEqual(
      each(
        ['NAME_FOREIGN realm-membership cn=project-tools,ou=groups'],
        ...['a tool', 'a disabled tool'],
      ),
    );
    await hand.ldif(change(dn(), ['replace', 'gidNumber', '500']));
    await expectClean();
  });

  test('under another name: its members are unknown', async () => {
    const { hand } = drift;
    await hand.ldif(rename(dn(), 'cn=project-other'));
    const seen = await look();
    expect(seen).toMatchObject({ exit: 4, steps: [], findings: [] });
    expect(targetsOf(seen)).toEqual(['realm-membership']);
    await hand.ldif(rename(dn().replace('project-tools', 'project-other'), 'cn=project-tools'));
    await expectClean();
    await expectAsBefore();
  });
});
