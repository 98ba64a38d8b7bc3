/** The configuration is changed while requests come: no restart, and nothing is lost or decided by two of them. */
import { generateKeyPairSync } from 'node:crypto';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { runCli } from '../../cli/run-cli.ts';
import { eventually } from '../eventually.ts';
import { query } from '../outside.ts';
import { openReloads, type Realm, reloadUnderLoad } from './reloads.ts';

let realm: Realm;

beforeAll(async () => {
  realm = await openReloads('reload');
});
afterAll(async () => {
  await realm?.close();
});

const chamberlain = (...args: string[]) => runCli(args, { config: realm.world.configFile });

interface Shown {
  digest: string;
  processes: { works: string[]; digest: string; since: string; why: string | null }[];
}

async function readUses(): Promise<Shown> {
  const { out } = await chamberlain('status', '--json');
  return (JSON.parse(out) as { configuration: Shown }).configuration;
}

test('status shows which configuration each process uses, and a changed file that none uses yet', async () => {
  const [use] = await eventually('the process', async () => {
    const { processes } = await readUses();
    return processes.length > 0 ? processes : undefined;
  });
  expect(use).toMatchObject({ works: ['intake', 'relay'], why: null });
  realm.write((config) => ({ ...config, reservedNames: ['dragons'] }));
  const { digest, processes } = await readUses();
  expect(processes).toMatchObject([{ digest: use!.digest, why: 'it uses another configuration' }]);
  expect((await chamberlain('status')).out).toContain('Run `chamberlain reload`');
  expect(await chamberlain('reload', '--json')).toMatchObject({ exit: 0 });
  const after = await readUses();
  expect(after.processes).toMatchObject([{ digest, why: null }]);
  expect(Date.parse(after.processes[0]!.since)).toBeGreaterThan(Date.parse(use!.since));
});

test('a wrong file changes nothing: reload says which line is wrong, and a process that was told records it', async () => {
  const before = await readUses();
  realm.write((config) => ({ ...config, reservedNames: ['fine', 'Wrong!'] }));
  const { exit, err } = await chamberlain('reload');
  expect(exit).toBe(2);
  expect(err).toMatch(/reservedNames\.1: is not a shell name: .* \(line \d+\)/u);
  realm.work().kill('SIGHUP');
  await eventually('the error', async () => {
    const [row] = await query(realm.world, 'SELECT digest, error FROM configurations');
    expect(row?.['digest']).toBe(before.processes[0]?.digest);
    return row?.['error'] as string | null;
  });
  realm.write((config) => ({ ...config, reservedNames: ['dragons'] }));
  const { processes } = await readUses();
  expect(processes[0]?.why).toContain('reservedNames.1');
  expect(await chamberlain('reload')).toMatchObject({ exit: 0 });
  expect((await readUses()).processes).toMatchObject([{ why: null }]);
});

test('what a request adds counts also where the file is wrong, and no edit of it counts without a reload', async () => {
  const [first] = (await readUses()).processes;
  const digestNow = async () =>
    (await query(realm.world, 'SELECT digest FROM configurations'))[0]?.['digest'];
  realm.write((config) => ({ ...config, reservedNames: ['edited'] }));
  const publicKey = generateKeyPairSync('ed25519').publicKey.export({
    type: 'spki',
    format: 'pem',
  });
  const settings = { events: 'http', kinds: 'all', keys: [{ kid: 'one', publicKey }] };
  await query(
    realm.world,
    `INSERT INTO portals (name, settings, fingerprints, added_by, approved_by, added_at, changed_by, changed_at)
     VALUES ('added', $1, '{}', 'a', 'b', now(), 'a', now())`,
    [settings],
  );
  await eventually('the portal', async () => (await digestNow()) !== first?.digest);
  expect((await readUses()).processes).toMatchObject([{ why: 'it uses another configuration' }]);
  realm.write((config) => ({ ...config, reservedNames: ['Wrong!'] }));
  await query(
    realm.world,
    `UPDATE portals SET removed_at = now(), removed_by = 'a' WHERE name = 'added'`,
  );
  await eventually('its end', async () => (await digestNow()) === first?.digest);
  // a reload that finds the file wrong takes nothing from a request of the same moment
  await query(
    realm.world,
    `WITH reload AS (SELECT ask_reload())
     UPDATE portals SET removed_at = NULL FROM reload WHERE name = 'added'`,
  );
  await eventually('the portal again', async () => (await digestNow()) !== first?.digest);
  // where intake finds it replaced by the file, the others must read the file too
  await query(
    realm.world,
    `UPDATE portals SET removed_at = now(), removed_by = 'the configuration file' WHERE name = 'added'`,
  );
  const [reloads] = await query(realm.world, 'SELECT number = file AS "areEqual" FROM reloads');
  expect(reloads).toEqual({ areEqual: true });
  await query(realm.world, `DELETE FROM portals WHERE name = 'added'`);
  realm.write((config) => ({ ...config, reservedNames: ['dragons'] }));
  expect(await chamberlain('reload')).toMatchObject({ exit: 0 });
});

test('what is wrong with the file is not forgotten while what a request added is wrong too', async () => {
  const errorNow = async () =>
    (await query(realm.world, 'SELECT error FROM configurations'))[0]?.['error'] as string | null;
  realm.write((config) => ({ ...config, reservedNames: ['Wrong!'] }));
  realm.work().kill('SIGHUP');
  await eventually('the error of the file', async () =>
    (await errorNow())?.includes('reservedNames'),
  );
  await query(
    realm.world,
    `INSERT INTO portals (name, settings, fingerprints, added_by, approved_by, added_at, changed_by, changed_at)
     VALUES ('added', '{"events": "nowhere"}', '{}', 'a', 'b', now(), 'a', now())`,
  );
  await eventually('the error of the row', async () => (await errorNow())?.includes('added'));
  await query(realm.world, `DELETE FROM portals WHERE name = 'added'`);
  expect(
    await eventually('another', async () => {
      const error = await errorNow();
      return error?.includes('added') === true ? undefined : [error];
    }),
  ).toEqual([expect.stringContaining('reservedNames')]);
  realm.write((config) => ({ ...config, reservedNames: ['dragons'] }));
  expect(await chamberlain('reload')).toMatchObject({ exit: 0 });
});

test('what needs a restart is refused with the rest, before any process is told', async () => {
  realm.write((config) => ({ ...config, admin: 'wardens', reservedNames: ['griffins'] }));
  const { exit, err } = await chamberlain('reload');
  expect(exit).toBe(2);
  expect(err).toContain(
    'admin changed, which these processes read only when they start: intake relay',
  );
  realm.write((config) => config);
  expect(await chamberlain('reload')).toMatchObject({ exit: 0 });
});

test('reload waits for a leader that cannot say what it uses, and does not take it for none', async () => {
  const right = 'EXECUTE ON FUNCTION note_configuration';
  await query(realm.world, `REVOKE ${right} FROM chamberlain_intake`);
  await query(realm.world, 'SELECT pg_terminate_backend(pid) FROM configurations');
  await eventually('nobody says it', async () => (await readUses()).processes.length === 0);
  const asked = async () => (await query(realm.world, 'SELECT number::int FROM reloads'))[0];
  const before = await asked();
  const reloading = chamberlain('reload', '--json');
  await eventually('the reload', async () => (await asked())?.['number'] !== before?.['number']);
  await query(realm.world, `GRANT ${right} TO chamberlain_intake`);
  const { exit, out } = await reloading;
  expect(exit).toBe(0);
  expect(JSON.parse(out)).toMatchObject({ processes: [{ why: null }], silent: [] });
});

test('a portal that is removed finds its requests decided when it comes again', async () => {
  const [portal] = realm.portals;
  const update = { kind: 'person.update', requestedBy: 'steward', person: 'steward' };
  await portal!.ask({ ...update, displayName: 'First' });
  realm.write((config) => ({
    ...config,
    portals: config.portals.filter(({ name }) => name !== portal!.name),
  }));
  expect(await chamberlain('reload')).toMatchObject({ exit: 0 });
  const asked = portal!.ask({ ...update, displayName: 'S' });
  await eventually('the request to wait', async () => (await realm.waiting(portal!.name)) === 1);
  expect((await chamberlain('status')).out).toMatch(
    /requests of portals .* are waiting; the oldest, of the portal p0, has waited for .*\. They get verdicts only if the configuration lists their portal again,/u,
  );
  realm.write((config) => config);
  expect(await chamberlain('reload')).toMatchObject({ exit: 0 });
  expect(await asked).toMatchObject({ verdict: 'accepted' });
});

test('10 reloads during 160 requests from eight portals, with portals gone and back, a wrong file and a kill', async () => {
  const heardBefore = realm.portals.reduce((sum, { heard }) => sum + heard.length, 0);
  const accepted = await query(realm.world, `SELECT FROM requests WHERE portal ~ '^p[0-9]'`);
  const outcome = await reloadUnderLoad(realm, {
    ...{ each: 20, reloads: 10, killAt: [7], withinMs: 60_000 },
  });
  expect(outcome).toMatchObject({
    ...{ sent: 140, accepted: 140 + accepted.length, refused: 0, disorder: [] },
    ...{ told: 140 + heardBefore, mixed: { accepted: 0, waiting: 0 } },
  });
  expect(outcome.exits['2']).toBeGreaterThanOrEqual(1);
});
