/** What the keys agent does when single reads fail, attributes are hidden, and local accounts come and go. */
import { afterAll, beforeAll, beforeEach, expect, test } from '@jest/globals';
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { grantOf } from '../../src/login-host/key-lines.ts';
import { eventually } from '../scenarios/eventually.ts';
import { modify, newKey, openAgentWorld, person, type AgentWorld } from './agent-world.ts';

/** Short, so that lines are due every eight seconds. */
const LIMIT_SECONDS = 16;
const NAMES = Array.from({ length: 12 }, (_, n) => `p${n}`);
const ALL = { people: NAMES.length, keyed: NAMES.length };

let agents: AgentWorld;
const dn = (name: string) => `uid=${name},${agents.people}`;
const names = () => Object.keys(agents.files()).toSorted();
const everybody = NAMES.toSorted();
const grants = () => Object.values(agents.files()).map((text) => grantOf(text) ?? 0);

beforeAll(async () => {
  agents = await openAgentWorld('agent-faults', {
    offlineLimitSeconds: LIMIT_SECONDS,
    byProxy: true,
  });
  const { base } = agents.world.config.ldap;
  await agents.change(
    NAMES.map((name, n) => person(base, name, agents.uid(n), [newKey()])).join('') +
      modify(agents.realmGroup, ['add', 'member', ...NAMES.map(dn)]),
  );
});

afterAll(async () => agents.close());

beforeEach(async () => {
  await agents.mark(ALL);
  await agents.start();
  await eventually('all files are there', () => names().length === NAMES.length);
  await eventually('trust', () => agents.status().json.trusted);
});

async function hiding(attributes: string, act: () => Promise<void>): Promise<void> {
  const rule = `{0}to dn.onelevel="${agents.people}" attrs=${attributes} by * none`;
  agents.configure(['add', 'olcAccess', rule]);
  try {
    await act();
  } finally {
    agents.configure(['delete', 'olcAccess', rule]);
  }
}

const distrusts = (why: RegExp) =>
  eventually(`the agent says ${why}`, () => why.test(agents.status().json.why ?? ''));

test('access that is taken while a read fails is taken at the next look', async () => {
  const cut = agents.cutAt('p3');
  await agents.change(modify(agents.realmGroup, ['delete', 'member', dn('p3')]));
  await cut;
  await eventually('no file', () => !names().includes('p3'));
  const again = agents.cutAt('p3');
  await agents.change(modify(agents.realmGroup, ['add', 'member', dn('p3')]));
  await again;
  await eventually('a file', () => names().includes('p3'));
});

test('one who is deleted and taken out of the group at once loses the file at once', async () => {
  const { base } = agents.world.config.ldap;
  await agents.change(
    person(base, 'gone', agents.uid(50), [newKey()]) +
      modify(agents.realmGroup, ['add', 'member', dn('gone')]),
  );
  await eventually('a file', () => names().includes('gone'));
  await agents.change(
    modify(agents.realmGroup, ['delete', 'member', dn('gone')]) +
      `dn: ${dn('gone')}\nchangetype: delete\n`,
  );
  await eventually('no file', () => !names().includes('gone'), 3000);
});

test('lines whose renewal has failed once are renewed all the same', async () => {
  const before = Math.max(...grants());
  await agents.cutAt('p5');
  await eventually('every line is renewed', () => Math.min(...grants()) > before);
});

test('keys that come to be hidden while it runs are nobody’s loss', async () => {
  await hiding('sshPublicKey', async () => {
    await distrusts(/shows less than before|keys of 0 people/);
    await eventually('it has looked again', () => {
      const { since } = agents.status().json;
      return Date.now() - Date.parse(since ?? '') > 6000;
    });
    expect(names()).toEqual(everybody);
  });
  await agents.mark(ALL);
  await eventually('trust', () => agents.status().json.trusted);
  expect(names()).toEqual(everybody);
});

test('accounts that are hidden at a start are nobody’s loss', async () => {
  await agents.kill('SIGTERM');
  await hiding('loginShell,homeDirectory', async () => {
    await agents.start();
    await distrusts(/of 12 people no more than 0 are taken/);
    expect(names()).toEqual(everybody);
  });
});

test('a new local account takes its name from the person at once, and gives it back', async () => {
  const passwd = readFileSync(agents.passwd, 'utf8');
  appendFileSync(agents.passwd, 'p7:x:4242:4242::/:/bin/sh\n');
  await eventually('no file', () => !names().includes('p7'));
  writeFileSync(agents.passwd, passwd);
  await eventually('a file', () => names().includes('p7'));
});

test('whoever is overdue does not come back by a marker that is old or none', async () => {
  await agents.mark({ ...ALL, overdue: [agents.uid(8)] });
  await eventually('no file', () => !names().includes('p8'));
  await agents.mark({ ...ALL, at: new Date(Date.now() - 900_000).toISOString() });
  await distrusts(/not been heard of/);
  expect(names()).not.toContain('p8');
  const { base } = agents.world.config.ldap;
  await agents.change(modify(`cn=chamberlain,${base}`, ['replace', 'description', '{"v":2}']));
  await distrusts(/no marker/);
  expect(names()).not.toContain('p8');
  await agents.mark(ALL);
  await eventually('a file', () => names().includes('p8'));
});

test('a member is the same however the name is written', async () => {
  await agents.change(
    modify(
      agents.realmGroup,
      ['delete', 'member', dn('p9')],
      ['add', 'member', `UID=P9, ${agents.people}`],
    ),
  );
  await eventually('it has been seen', () => agents.status().json.trusted);
  await agents.change(modify(dn('p9'), ['replace', 'sshPublicKey', newKey()]));
  const before = agents.files()['p9'];
  await eventually('the new key', () => (agents.files()['p9'] ?? before) !== before);
});
