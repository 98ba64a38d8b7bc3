/** What `keys-agent status` says. */
import { describe, expect, test } from '@jest/globals';
import {
  exitOf,
  renderStatus,
  runningOf,
  statusJson,
} from '../../../src/login-host/programs/agent-status.ts';
import type { LoginStatus } from '../../../src/login-host/status.ts';
import { expectGolden } from '../../golden.ts';

const NOW = Date.parse('2026-12-01T12:00:00Z');
const MINUTE = 60_000;
const GOOD: LoginStatus = {
  ...{ pid: 4711, startedAt: NOW - 300 * MINUTE, at: NOW - 3000, agentAt: NOW - 2000 },
  ...{ trusted: true, trustedAt: NOW - 3000, server: 'ldaps://one.example.org' },
  ...{
    offlineLimitSeconds: 86_400,
    lasts: { first: NOW + 800 * MINUTE, last: NOW + 1400 * MINUTE },
  },
  ...{ people: 412, tools: 96, files: 388, refused: [], refusedInAll: 0, unwritten: [] },
};
const BAD: LoginStatus = {
  ...GOOD,
  ...{ trusted: false, since: NOW - 7 * MINUTE, trustedAt: NOW - 7 * MINUTE },
  why:
    'the directory role has published no heartbeat for 8 min: the last one says \u001b[31m2026-12-01T11:52:00.000Z, and the clock of this ' +
    "host says 2026-12-01T12:00:00.000Z; check that `chamberlain work directory` runs and that this host's clock is right",
  trouble: 'reading dc=example,dc=org: no answer within 5000 ms',
  refused: [
    { entry: 'alice', why: 'the signature is not valid', since: NOW - 90 * MINUTE },
    { entry: 'tools.bridgebot', why: 'its entry has no seal', since: NOW - 4000 },
  ],
  refusedInAll: 1205,
  disappeared: ['carol', 'tools.gone'],
  held: {
    names: Array.from({ length: 30 }, (_, n) => `person${n}`),
    ...{ inAll: 1030, since: NOW - 7 * MINUTE },
  },
  unwritten: [
    {
      path: '/var/lib/chamberlain/keys/bob',
      why: 'it is a folder',
      since: NOW - 3 * 1440 * MINUTE,
    },
  ],
  accepted: { at: NOW - 200 * MINUTE, what: ['tools.old has disappeared', '3 people are missing'] },
};
const lives = () => true;
const say = (status: LoginStatus, isThere = lives) => {
  const running = runningOf(status, NOW, isThere);
  return { text: renderStatus(status, NOW, running), exit: exitOf(status, running) };
};

test('the page of a host where all is well, and of one where nothing is', () => {
  expectGolden('keys-agent-status/good.txt', say(GOOD).text);
  expectGolden('keys-agent-status/bad.txt', say(BAD).text);
  expectGolden(
    'keys-agent-status/dead.txt',
    say({ ...BAD, at: NOW - 9 * MINUTE, agentAt: NOW - 8 * MINUTE }, () => false).text,
  );
  expect(say({ ...GOOD, at: NOW - 9 * MINUTE })).toMatchObject({
    text: expect.stringContaining('has written no status for 9 min: is the disk full?'),
    exit: 1,
  });
  expect(say({ ...GOOD, at: NOW - 9 * MINUTE }).text).toMatch(/^directory +was trusted then$/m);
  const { lasts: _, trustedAt: __, agentAt: ___, ...young } = GOOD;
  expectGolden(
    'keys-agent-status/young.txt',
    say({
      ...young,
      trusted: false,
      why: 'the directory has not been read yet',
      since: NOW - 1000,
      server: '',
      people: 0,
      tools: 0,
      files: 0,
    }).text,
  );
});

test('logins that have ended without the directory are said to have ended', () => {
  const offline = (first: number, last: number) =>
    /^offline .*$/mu.exec(say({ ...GOOD, lasts: { first, last } }).text)?.[0];
  expect(offline(NOW, NOW + 23 * 60 * MINUTE)).toBe(
    'offline     logins have ended for the first person, and end in 23 h for the last',
  );
  expect(offline(NOW - 5 * MINUTE, NOW)).toBe('offline     logins have ended for everybody');
});

test('the JSON has times as ISO 8601, and null for what there is not', () => {
  const running = { helper: true, lives: true, agent: true };
  expect(statusJson(BAD, NOW, running)).toMatchObject({
    ...{ running: true, trusted: false, since: '2026-12-01T11:53:00.000Z', ageSeconds: 420 },
    helper: { running: true, pid: 4711, at: '2026-12-01T11:59:57.000Z' },
    agent: { running: true, at: '2026-12-01T11:59:58.000Z' },
    ...{ trouble: BAD.trouble, refusedInAll: 1205, lastsSeconds: 48_000 },
    refused: [{ entry: 'alice', since: '2026-12-01T10:30:00.000Z' }, { entry: 'tools.bridgebot' }],
    held: { inAll: 1030, since: '2026-12-01T11:53:00.000Z' },
    accepted: { at: '2026-12-01T08:40:00.000Z', what: BAD.accepted?.what },
  });
  expect(statusJson(GOOD, NOW, running)).toMatchObject({
    ...{ why: null, since: null, trouble: null, held: null, accepted: null, unwritten: [] },
  });
  // nothing of now
  expect(statusJson(GOOD, NOW, { helper: false, lives: false, agent: true })).toMatchObject({
    running: false,
    trusted: false,
  });
});

describe('the exit code', () => {
  test.each<[string, Partial<LoginStatus>, number]>([
    ['all is well', {}, 0],
    ['somebody is refused', { refusedInAll: 1 }, 3],
    ['somebody is kept who is gone', { held: { names: ['x'], inAll: 1, since: NOW } }, 3],
    ['a file cannot be written', { unwritten: [{ path: '/x', why: 'y', since: NOW }] }, 3],
    ['the directory is not trusted', { trusted: false, refusedInAll: 1 }, 4],
    ['the directory cannot be read', { trouble: 'no answer' }, 4],
    ['the agent is silent', { agentAt: NOW - MINUTE, trusted: false }, 1],
    ['the helper is silent', { at: NOW - MINUTE, trusted: false }, 1],
  ])('where %s', (_, changes, exit) => {
    expect(say({ ...GOOD, ...changes }).exit).toBe(exit);
  });

  test('where the helper has just been killed', () => {
    expect(say(GOOD, () => false).exit).toBe(1);
  });
});
