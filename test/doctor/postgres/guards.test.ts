/** Triggers, functions and policies as SQL writes them, and which of them were altered. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import {
  alteredFunctions,
  alteredPolicies,
  alteredTriggers,
  fencesOf,
  parseFunctions,
  parsePolicies,
  parseSecured,
  parseTriggers,
} from '../../../src/doctor/postgres/guards.ts';

const MIGRATIONS = join(import.meta.dirname, '../../../migrations');
const SQL = readdirSync(MIGRATIONS)
  .toSorted()
  .map((name) => readFileSync(join(MIGRATIONS, name), 'utf8'))
  .join('\n');

test('each trigger and each secured table of migrations/ is understood', () => {
  const triggers = parseTriggers(SQL);
  const names = [...SQL.matchAll(/\bCREATE [A-Z ]*\bTRIGGER (\w+)/gu)].map(([, name]) => name);
  expect(new Set([...triggers.map(({ name }) => name), 'events_number'])).toEqual(new Set(names));
  const appendOnly = triggers.filter(({ calls }) => calls === 'refuse_change');
  expect(appendOnly.map(({ table }) => table).toSorted()).toEqual([
    ...['audit', 'audit_closings', 'audit_seals', 'names', 'posix_ids'],
  ]);
  const fences = fencesOf(SQL, ['people', 'leases', 'tools']);
  expect(fences.filter(({ name }) => name === 'check_lease').map(({ table }) => table)).toEqual(
    expect.arrayContaining(['people', 'tools']),
  );
  expect(fences.map(({ table }) => table)).not.toContain('leases');
  expect(parseSecured(SQL)).toHaveLength(SQL.match(/ENABLE ROW LEVEL SECURITY/gu)?.length ?? 0);
});

describe('a trigger', () => {
  const wanted = parseTriggers(
    `CREATE TRIGGER guard BEFORE INSERT OR UPDATE OF state ON t
       FOR EACH ROW WHEN (NEW.state = 'deleted' AND (OLD.a, OLD.b) IS DISTINCT FROM (NEW.a, NEW.b)) EXECUTE FUNCTION refuse();`,
  );
  const had =
    `CREATE TRIGGER guard BEFORE INSERT OR UPDATE OF state ON public.t FOR EACH ROW ` +
    `WHEN (((new.state = 'deleted'::text) AND ((old.a IS DISTINCT FROM new.a) OR (old.b IS DISTINCT FROM new.b)))) ` +
    `EXECUTE FUNCTION refuse();`;
  const altered = (text: string) =>
    alteredTriggers(parseTriggers(text), wanted).map(({ name }) => name);

  test('is the same as PostgreSQL prints it', () => expect(altered(had)).toEqual([]));

  test.each([
    ['time', had.replace('BEFORE', 'AFTER')],
    ['events', had.replace('INSERT OR ', '')],
    ['columns', had.replace(' OF state', '')],
    ['table', had.replace('public.t', 'public.u')],
    ['rows', had.replace('EACH ROW', 'EACH STATEMENT')],
    ['condition', had.replace(`'deleted'`, `'Deleted'`)],
    ['columns that are compared', had.replace('old.b', 'old.a')],
    ['function', had.replace('refuse()', 'allow()')],
    ['existence', ''],
  ])('altered in %s', (_, text) => expect(altered(text)).toEqual(['guard']));

  test('that is dropped and created again counts as it is created again', () => {
    const again = `DROP TRIGGER guard ON t;\n${had.replace('INSERT OR ', '')}`;
    expect(parseTriggers(`${had}\n${again}`)).toEqual(parseTriggers(again));
    expect(parseTriggers(`${had}\nDROP TRIGGER guard ON t;`)).toEqual([]);
  });
});

test('each function and policy of migrations/ is understood', () => {
  const functions = parseFunctions(SQL);
  const names = [...SQL.matchAll(/^CREATE (?:OR REPLACE )?FUNCTION (\w+)/gmu)].map(
    ([, name]) => name,
  );
  const gone = ['number_event', 'take_lock'];
  expect(new Set([...functions.map(({ name }) => name), ...gone])).toEqual(new Set(names));
  expect(functions.find(({ name }) => name === 'note_unsealed')).toEqual({
    name: 'note_unsealed',
    source: expect.stringMatching(/^\nBEGIN\n {2}INSERT INTO public\.audit_unsealed [^]*END $/u),
    definer: true,
    settings: 'search_path=pg_catalog, public, pg_temp',
  });
  // every later ALTER has a form that is understood
  const altered = [...SQL.matchAll(/^ALTER FUNCTION (\w+)\(.*\) SET (\w+) = (.*);$/gmu)];
  expect(altered).toHaveLength(SQL.match(/ALTER FUNCTION/gu)?.length ?? 0);
  for (const [, name, setting, value] of altered) {
    expect(functions.find((each) => each.name === name)?.settings).toBe(`${setting}=${value}`);
  }
  expect(functions.find(({ name }) => name === 'refuse_change')).toMatchObject({
    definer: false,
    settings: '',
  });
  const policies = parsePolicies(SQL);
  expect(policies.length).toBe(SQL.match(/^CREATE POLICY/gmu)?.length);
  for (const { roles, using } of policies) {
    expect(roles.every((role) => /^(public|chamberlain_[a-z]+)$/u.test(role))).toBe(true);
    expect(using).not.toBe('');
    // once for a statement, not for each row
    expect(using).not.toMatch(/(?<!\(SELECT )substring\(/u);
  }
});

test('of two functions with the same name, the last one counts', () => {
  const sql = (body: string) => `CREATE OR REPLACE FUNCTION f() RETURNS int AS $$${body}$$;\n`;
  expect(parseFunctions(sql('a') + sql('b')).map(({ source }) => source)).toEqual(['b']);
});

test('a dropped function is no longer wanted, until it is created again', () => {
  const made = 'CREATE FUNCTION f() RETURNS int AS $$x$$;\n';
  expect(parseFunctions(`${made}DROP FUNCTION f();\n`)).toEqual([]);
  expect(parseFunctions(`${made}DROP FUNCTION f();\n${made}`)).toHaveLength(1);
});

test('a later setting counts, until the function is created again', () => {
  const made = 'CREATE OR REPLACE FUNCTION f(a int)\nRETURNS int SET search_path = a AS $$x$$;\n';
  const altered = 'ALTER FUNCTION f(int) SET search_path = a, pg_temp;\n';
  const settings = (sql: string) => parseFunctions(sql).map((each) => each.settings);
  expect(settings(made)).toEqual(['search_path=a']);
  expect(settings(made + altered)).toEqual(['search_path=a, pg_temp']);
  expect(settings(made + altered + made)).toEqual(['search_path=a']);
});

test('a function counts as altered by its source, its rights, its settings, a second one, or its absence', () => {
  const f = { name: 'f', source: 'x', definer: true, settings: 'search_path=public' };
  expect(alteredFunctions([f, { ...f, name: 'g' }], [f])).toEqual([]);
  for (const had of [
    [],
    [{ ...f, source: 'x ' }],
    [{ ...f, definer: false }],
    [{ ...f, settings: '' }],
    [f, { ...f, source: 'y' }],
  ]) {
    expect(alteredFunctions(had, [f])).toEqual(['f']);
  }
});

describe('a policy', () => {
  const ours = parsePolicies(
    `CREATE POLICY own ON t TO b, a
       USING (role = (SELECT substring(current_user::text from '^c_([a-z]+)'))) WITH CHECK (true);`,
  );
  const had = {
    table: 't',
    name: 'own',
    roles: ['a', 'b'],
    using: `(role = ( SELECT "substring"((CURRENT_USER)::text, '^c_([a-z]+)'::text) AS "substring"))`,
    check: 'true',
    special: false,
  };

  test('is the same in each form in which PostgreSQL prints it', () => {
    const newer = `(role = ( SELECT SUBSTRING((CURRENT_USER)::text FROM '^c_([a-z]+)'::text) AS "substring"))`;
    for (const using of [had.using, newer]) {
      expect(alteredPolicies([{ ...had, using }], ours)).toEqual({ altered: [], unmanaged: [] });
    }
  });

  test.each([
    ['roles', { roles: ['a', 'b', 'c'] }],
    ['all roles', { roles: ['public'] }],
    ['what is seen', { using: 'true' }],
    ['what is seen, by a pattern', { using: had.using.replace('[a-z]+', '[A-Z]+') }],
    ['what is seen, by a group', { using: had.using.replace(/[()](?=\[|')/gu, '') }],
    ['what is written', { check: '' }],
    ['commands', { special: true }],
  ])('altered in %s', (_, change) => {
    expect(alteredPolicies([{ ...had, ...change }], ours)).toEqual({
      altered: ['own of t'],
      unmanaged: [],
    });
  });

  test('that is missing, or additional', () => {
    expect(alteredPolicies([{ ...had, name: 'more' }], ours)).toEqual({
      altered: ['own of t'],
      unmanaged: ['more of t'],
    });
  });
});
