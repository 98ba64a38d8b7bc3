/** A mail address counts as verified only if a portal with the right, or an admin, says so of this very address. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import type { Config } from '../../src/shared/config.ts';
import {
  type AskOptions,
  type BootstrappedRealm,
  openBootstrappedRealm,
} from './bootstrapped-realm.ts';

const NOW = new Date('2026-12-01T12:00:00Z');
const THEN = '2026-11-30T10:00:00.000Z';
const LATER = '2026-12-01T11:00:00.000Z';
const ACCEPTED = { verdict: 'accepted' };

let realm: BootstrappedRealm;
/** `portal` has the defaults of a portal */
let byDefault: Config;
/** `portal` may say that an address is verified, and nothing for admins */
let verifying: Config;

beforeAll(async () => {
  realm = await openBootstrappedRealm('verified-mail');
  const of = (verifiesMail: boolean): Config => ({
    ...realm.world.config,
    portals: realm.world.config.portals.map((portal) => ({
      ...{ ...portal, speaksForAdmins: false, verifiesMail },
    })),
  });
  [byDefault, verifying] = [of(false), of(true)];
});
afterAll(() => realm.close());

const create = (shellName: string, more: Record<string, unknown> = {}, config = verifying) =>
  realm.ask(
    {
      ...{ kind: 'person.create', requestedBy: shellName, shellName, displayName: shellName },
      ...{ email: `${shellName}@example.org`, ...more },
    },
    config,
    { now: NOW },
  );
const update = (
  person: string,
  change: Record<string, unknown>,
  config = verifying,
  { by = person, ...options }: AskOptions & { by?: string } = {},
) =>
  realm.ask({ kind: 'person.update', requestedBy: by, person, ...change }, config, {
    ...{ now: NOW, ...options },
  });

async function mailOf(person: string): Promise<[email: string, verified: string | undefined]> {
  const { rows } = await realm.owner.query(
    'SELECT email, mail_verified_at AS at FROM people WHERE shell_name = $1',
    [person],
  );
  const [{ email, at }] = rows as [{ email: string; at: Date | null }];
  return [email, at?.toISOString()];
}

const readAudit = async (person: string) => {
  const { rows } = await realm.owner.query(
    `SELECT fields FROM audit WHERE account = $1 AND verdict = 'accepted' ORDER BY id`,
    [person],
  );
  return (rows as { fields: string[] }[]).map(({ fields }) => fields);
};

test('a portal without the right is refused, and nothing of its request is done', async () => {
  expect(await create('anna', { mailVerifiedAt: THEN }, byDefault)).toEqual({
    verdict: 'refused',
    code: 'MAIL_NOT_VERIFIABLE',
    sentence:
      'The portal portal may not say that a mail address is verified. Leave mailVerifiedAt out, have an admin ' +
      'sign the request with their own key, or have `verifiesMail` set for the portal: in the configuration, or by portal.update.',
  });
  expect(await create('anna', {}, byDefault)).toEqual(ACCEPTED);
  const verified = { verifiedEmail: 'anna@example.org', mailVerifiedAt: THEN };
  for (const change of [verified, { email: 'a@example.org', mailVerifiedAt: THEN }]) {
    const { code } = await update('anna', { displayName: 'Another', ...change }, byDefault);
    expect(code).toBe('MAIL_NOT_VERIFIABLE');
  }
  // in an admin's name too, if the portal does not speak for admins
  const { code } = await update('anna', verified, byDefault, { by: 'steward' });
  expect(code).toBe('NOT_ALLOWED');
  expect(await mailOf('anna')).toEqual(['anna@example.org', undefined]);
});

test('with the right, it is verified with its person, later, or with a new address', async () => {
  expect(await create('bert', { mailVerifiedAt: THEN })).toEqual(ACCEPTED);
  expect(await mailOf('bert')).toEqual(['bert@example.org', THEN]);
  expect(await create('carl')).toEqual(ACCEPTED);
  const verified = { verifiedEmail: 'carl@example.org', mailVerifiedAt: THEN };
  expect(await update('carl', verified)).toEqual(ACCEPTED);
  expect(await mailOf('carl')).toEqual(['carl@example.org', THEN]);
  // at the same time as the one before it
  expect(await update('carl', { email: 'c@example.org', mailVerifiedAt: THEN })).toEqual(ACCEPTED);
  expect(await mailOf('carl')).toEqual(['c@example.org', THEN]);
  expect(await readAudit('carl')).toEqual([
    ['shellName', 'displayName', 'email'],
    ['mailVerifiedAt'],
    ['email', 'mailVerifiedAt'],
  ]);
});

test('another address is not verified, the same address stays so', async () => {
  expect(await create('dora', { mailVerifiedAt: THEN })).toEqual(ACCEPTED);
  expect(await update('dora', { email: 'dora@example.org' })).toEqual(ACCEPTED);
  expect(await mailOf('dora')).toEqual(['dora@example.org', THEN]);
  expect(await update('dora', { email: 'd@example.org' })).toEqual(ACCEPTED);
  expect(await mailOf('dora')).toEqual(['d@example.org', undefined]);
  expect((await readAudit('dora')).at(-1)).toEqual(['email', 'mailVerifiedAt']);
});

test('if the address changed between the verification and the request, nothing is done', async () => {
  expect(await create('emil')).toEqual(ACCEPTED);
  expect(await update('emil', { email: 'new@example.org' })).toEqual(ACCEPTED);
  const verified = { verifiedEmail: 'emil@example.org', mailVerifiedAt: LATER };
  expect(await update('emil', { displayName: 'Emil E.', ...verified })).toEqual({
    verdict: 'refused',
    code: 'MAIL_CHANGED',
    sentence:
      'emil has another mail address than the one that was verified. Have the present address verified.',
  });
  expect(await mailOf('emil')).toEqual(['new@example.org', undefined]);
  const { rowCount } = await realm.owner.query(`SELECT FROM people WHERE display_name = 'Emil E.'`);
  expect(rowCount).toBe(0);
});

test('an admin may verify it: with the own key, or through a portal that speaks for admins', async () => {
  expect(await create('fred')).toEqual(ACCEPTED);
  expect(await create('gina')).toEqual(ACCEPTED);
  const of = (person: string) => ({
    ...{ verifiedEmail: `${person}@example.org`, mailVerifiedAt: THEN },
  });
  const own = { by: 'steward', as: 'steward' };
  expect(await update('fred', of('fred'), byDefault, own)).toEqual(ACCEPTED);
  const { config } = realm.world;
  expect(await update('gina', of('gina'), config, { by: 'steward' })).toEqual(ACCEPTED);
  expect([(await mailOf('fred'))[1], (await mailOf('gina'))[1]]).toEqual([THEN, THEN]);
  // the portal speaks for admins, not as one
  expect((await update('gina', of('gina'), config)).code).toBe('MAIL_NOT_VERIFIABLE');
});

test('the last time stays, and a time to come is refused', async () => {
  expect(await create('hugo', { mailVerifiedAt: LATER })).toEqual(ACCEPTED);
  const at = (mailVerifiedAt: string) =>
    update('hugo', { verifiedEmail: 'hugo@example.org', mailVerifiedAt });
  expect(await at(THEN)).toEqual(ACCEPTED);
  expect(await mailOf('hugo')).toEqual(['hugo@example.org', LATER]);
  expect((await readAudit('hugo')).at(-1)).toEqual([]);
  const { code, sentence } = await at('2026-12-01T12:01:01Z');
  expect([code, sentence]).toEqual([
    'REQUEST_INVALID',
    'mailVerifiedAt is in the future. Give the time of the verification.',
  ]);
  expect(await at('2026-12-01T12:00:59Z')).toEqual(ACCEPTED);
  expect(await at('0001-01-01T00:00:00Z')).toEqual(ACCEPTED);
  expect(await mailOf('hugo')).toEqual(['hugo@example.org', '2026-12-01T12:00:59.000Z']);
});

test('no server is touched for a verification alone', async () => {
  const { rows } = await realm.owner.query(
    `SELECT r.kind, EXISTS (SELECT FROM request_touches g WHERE g.request = r.id) AS touches
     FROM requests r JOIN people p ON p.uid = r.subject
     WHERE p.shell_name = 'carl' AND r.verdict = 'accepted' ORDER BY r.id`,
  );
  expect(rows.map(({ touches }) => touches as boolean)).toEqual([true, false, true]);
});

test.each([
  ['a time without an address', { mailVerifiedAt: THEN }],
  ['an address without a time', { verifiedEmail: 'x@example.org' }],
  [
    'two addresses',
    { email: 'x@example.org', verifiedEmail: 'x@example.org', mailVerifiedAt: THEN },
  ],
  ['no time', { email: 'x@example.org', mailVerifiedAt: 'yesterday' }],
])('%s is refused', async (_, change) => {
  expect((await update('bert', change)).code).toBe('REQUEST_INVALID');
});

test('the database itself clears it with the address, for an erasure too', async () => {
  const { owner } = realm;
  await owner.query(`UPDATE people SET email = 'b@example.org' WHERE shell_name = 'bert'`);
  expect(await mailOf('bert')).toEqual(['b@example.org', undefined]);
  await expect(
    owner.query(`UPDATE people SET email = '', mail_verified_at = now() WHERE shell_name = 'dora'`),
  ).resolves.toBeDefined();
  expect((await mailOf('dora'))[1]).toBeUndefined();
  await expect(
    owner.query(`UPDATE people SET mail_verified_at = now() WHERE shell_name = 'dora'`),
  ).rejects.toThrow(/people_mail_verified/);
});
