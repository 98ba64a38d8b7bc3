/** What the schemas accept. */
import { expect, test } from '@jest/globals';
import { schemaOf } from '../../src/requests/kind-schemas.ts';
import { parseRequest } from '../../src/requests/schema.ts';

const problemsOf = (email: string) => {
  const parsed = parseRequest('person.create', {
    ...{ kind: 'person.create', requestedBy: 'steward' },
    ...{ shellName: 'alice', displayName: 'Alice', email },
  });
  return 'problems' in parsed ? parsed.problems : [];
};

test.each(['alice@example.org', 'a+b.c_d-e@x.example.org', "o'neil!#$%&*/=?^`{|}~@example.org"])(
  'the mail address %s is accepted',
  (email) => expect(problemsOf(email)).toEqual([]),
);

// the directory holds ASCII only (RFC 4524, section 2.16), so an accepted address must be nothing else
test.each([
  'ü@example.org',
  'alice@exämple.org',
  'a b@example.org',
  'a\u0000b@example.org',
  'alice',
])('the mail address %j is refused', (email) =>
  expect(problemsOf(email)).toEqual(['email: this is not a mail address of ASCII characters']),
);

test('the JSON Schema has the pattern of a new name, and intake refuses others with a code of its own', () => {
  const { properties } = schemaOf('tool.create') as { properties: { name: { pattern: string } } };
  expect(new RegExp(properties.name.pattern).test('bridgebot')).toBe(true);
  expect(new RegExp(properties.name.pattern).test('Bridge Bot')).toBe(false);
  const asked = { kind: 'tool.create', requestedBy: 'alice', name: 'Bridge Bot', title: 'A bot' };
  expect(parseRequest('tool.create', asked)).toHaveProperty('request.name', 'Bridge Bot');
});

test.each(['\u3164', '\u2800 \u115f', '\ufe0f'])(
  'the title %j shows nothing, and is refused',
  (title) => {
    const asked = { kind: 'tool.create', requestedBy: 'alice', name: 'bot', title };
    expect(parseRequest('tool.create', asked)).toEqual({
      problems: ['title: a title must be one line of printable characters'],
    });
  },
);

test.each([
  ['2026-12-31T12:00:00Z', true],
  ['2026-12-31T12:00:00.123456+15:59', true],
  ['9999-12-31T23:59:59Z', true],
  // PostgreSQL knows no such offset
  ['2026-12-31T12:00:00+16:00', false],
  ['2026-12-31T12:00:00-23:59', false],
  // in UTC, the years 10000 and 0
  ['9999-12-31T23:59:59-01:00', false],
  ['0001-01-01T00:00:00+01:00', false],
  ['0000-01-01T00:00:00Z', false],
])('the time %s: accepted is %s', (expiresAt, isAccepted) => {
  const body = { kind: 'key.add', requestedBy: 'alice', person: 'alice', key: 'ssh-…', expiresAt };
  expect('request' in parseRequest('key.add', body)).toBe(isAccepted);
});
