/** A survey of a world with every kind of drift in it changes nothing there. It is a part of drift.test.ts. */
import { execFileSync } from 'node:child_process';
import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test } from '@jest/globals';
import type { Group } from '../../../src/drift/survey-groups.ts';
import { describedRole, ROLES } from '../../../src/roles/index.ts';
import { runCli } from '../../cli/run-cli.ts';
import { administer, type World } from '../../stack.ts';
import type { DriftCase, Subject } from './drift-case.ts';
import type { DriftWorld, PlanSeen } from './drift-world.ts';
import { dumpTables, readDirectory } from '../outside.ts';

const BASE = 'dc=example,dc=org';

/** @param drifted the world, once there is drift in it */
export function describeUntouched(
  drifted: () => { drift: DriftWorld; subjects: Map<DriftCase, Subject> },
): void {
  /** All that a survey could have changed outside, in full. */
  async function lookAtAll(): Promise<Record<string, unknown>> {
    const directory = await readDirectory(world, { operational: true });
    // the directory role tells in the marker that it lives, and the suffix says that something was written
    for (const dn of [`cn=chamberlain,${BASE}`, BASE]) directory.delete(dn);
    return {
      directory: [...directory].toSorted(([a], [b]) => (a < b ? -1 : 1)),
      files: [...walk(world.dataRoot)],
      acls: execFileSync('getfacl', ['-R', '-P', '-n', '-p', world.dataRoot], {
        encoding: 'utf8',
        maxBuffer: 1 << 26,
      })
        .split('\n\n')
        .filter((text) => !text.includes('/.chamberlain/')),
      replica: await administer(world.replica.socket, accountsSql()),
      tools: await administer(world.tools.socket, accountsSql()),
      postgres: await dumpTables(world, [
        ...[
          'surveys',
          'reports',
          'survey_progress',
          'unmanaged_sightings',
          'unmanaged',
          'unmanaged_looks',
          'troubles',
        ],
        ...['directory_heartbeat', 'audit_seals', 'audit_unsealed', 'event_deliveries', 'sweeps'],
        ...['place_markers', 'leases'],
      ]),
    };
  }

  /** Every path with what lstat says of it, but for when it was last read; without where the areas' markers are written. */
  function* walk(path: string): Generator {
    const stats = lstatSync(path);
    const { ino, mode, uid, gid, nlink, size, mtimeMs, ctimeMs } = stats;
    const link = stats.isSymbolicLink() ? readlinkSync(path) : undefined;
    const text =
      stats.isFile() && size < 1 << 20 ? readFileSync(path).toString('base64') : undefined;
    yield { path, ino, mode, uid, gid, nlink, size, mtimeMs, ctimeMs, link, text };
    if (stats.isDirectory()) {
      const names = readdirSync(path).filter((name) => name !== '.chamberlain');
      for (const name of names.toSorted()) yield* walk(join(path, name));
    }
  }

  /** Every row of the tables of rights about the accounts of this world: other tests use the servers too. */
  const accountsSql = () => {
    const isOurs = [...world.config.ids.people, ...world.config.ids.tools]
      .map(({ first, last }) => `CAST(SUBSTRING(User, 2) AS UNSIGNED) BETWEEN ${first} AND ${last}`)
      .join(' OR ');
    return ['global_priv', 'db', 'tables_priv', 'procs_priv', 'proxies_priv', 'roles_mapping']
      .map((table) => `SELECT * FROM mysql.${table} WHERE ${isOurs} ORDER BY 1, 2, 3;`)
      .join('\n');
  };

  const print = (...args: string[]) => runCli(args, { config: world.configFile });

  let drift: DriftWorld;
  let world: World;
  let subjects: Map<DriftCase, Subject>;
  /** of everything, as it is printed */
  let printed: string;
  let plan: Omit<PlanSeen, 'exit'>;
  let before: Record<string, unknown>;

  beforeAll(async () => {
    ({ drift, subjects } = drifted());
    ({ world } = drift);
    before = await lookAtAll();
    const { exit, out, err } = await print('plan', '--all', '--json');
    expect([exit, err]).toEqual([3, '']);
    printed = out;
    plan = JSON.parse(out) as typeof plan;
  }, 120_000);

  test('all of it is seen', () => {
    expect(new Set(plan.steps.map(({ target }) => target)).size).toBe(9);
    expect(new Set(plan.steps.map(({ action }) => action.verb)).size).toBeGreaterThan(12);
    for (const server of ['replica', 'tools']) {
      expect(String(before[server]).split('\n').length).toBeGreaterThan(subjects.size);
    }
  });

  test('two plans of it are the same bytes', async () => {
    expect((await print('plan', '--json')).out).toBe(printed);
    const text = await print('plan');
    expect((await print('plan')).out).toBe(text.out);
    expect(text.out).toContain(`\ndigest ${plan.digest}\n`);
  });

  test('a role, or a target, alone: what all of it shows of that', async () => {
    for (const role of ROLES) {
      const targets: readonly string[] = describedRole(role).targets.map(({ name }) => name);
      const { steps, findings } = await drift.ask('plan', '--role', role);
      expect(steps).toEqual(plan.steps.filter(({ target }) => targets.includes(target)));
      expect(findings).toEqual(plan.findings.filter(({ target }) => targets.includes(target)));
    }
    const { steps, findings } = await drift.ask('survey', '--target', 'unix-group');
    expect(steps).toEqual(plan.steps.filter(({ target }) => target === 'unix-group'));
    expect(findings).toEqual(plan.findings.filter(({ target }) => target === 'unix-group'));
  });

  test('a survey holds the same, in groups whose counts are those of all', async () => {
    const survey = (await drift.ask('survey')) as PlanSeen & { groups: Group[] };
    expect([survey.exit, survey.digest]).toEqual([3, plan.digest]);
    expect(survey.steps).toEqual(plan.steps);
    const counted = (...kinds: string[]) =>
      survey.groups
        .filter(({ kind }) => kinds.includes(kind))
        .reduce((sum, { count }) => sum + count, 0);
    expect(counted('drift')).toBe(plan.steps.length);
    // a home of a name that nobody has, beside what stands in the way of a subject
    expect(survey.unmanaged?.map(({ kind }) => kind)).toEqual(['home']);
    expect(counted('finding', 'advisory')).toBe(plan.findings.length + 1);
    const account = plan.steps[0]?.account ?? '';
    const { steps } = await drift.ask('survey', account);
    expect(steps).toEqual(plan.steps.filter((step) => step.account === account));
  });

  test('and nothing has changed outside, nor of what is wanted', async () => {
    const after = await lookAtAll();
    for (const [what, seen] of Object.entries(after)) {
      expect([what, seen]).toEqual([what, before[what]]);
    }
  });
}
