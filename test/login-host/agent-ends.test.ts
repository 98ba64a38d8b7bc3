/**
 * Whose processes the keys agent has ended, against a real slapd. In the place of the root helper stands who
 * only writes down what is asked: what it then does is in helper.test.ts and sessions.test.ts.
 */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { createServer, type Server } from 'node:net';
import { appendFileSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { eventually } from '../scenarios/eventually.ts';
import { line, modify, newKey, openAgentWorld, person, type AgentWorld } from './agent-world.ts';

const NAMES = ['anna', 'bert', 'cleo', 'dora', 'emil', 'fred'];
/** has an account, and no access */
const STRANGER = 'gast';
const TOOLS = ['bot', 'cat', 'dog'];
const KEYS = Object.fromEntries([...NAMES, STRANGER].map((name) => [name, newKey()]));
const ALL = { people: NAMES.length + 1, keyed: NAMES.length + 1 };
const LOCKED = '000001010000Z';

let agents: AgentWorld;
let helper: Server;
let base: string;
/** what was asked to be ended since `begin`, request by request */
let asked: number[][] = [];
/** how often it was given the list of accounts: at a start, once all tools have been read */
let lists = 0;

const dn = (name: string) => `uid=${name},${agents.people}`;
const uid = (name: string) => agents.uid([...NAMES, STRANGER].indexOf(name));
const toolDn = (name: string) => `uid=tools.${name},ou=people,ou=servicegroups,${base}`;
const toolUid = (name: string) =>
  (agents.world.config.ids.tools[0]?.first ?? 0) + TOOLS.indexOf(name);
const askedNow = () => asked.flat().toSorted((a, b) => a - b);
const only = (...uids: number[]) => uids.toSorted((a, b) => a - b);

/** Read as the agent writes it: the command that tells of it takes a second each time. */
const status = () =>
  JSON.parse(readFileSync(join(agents.state, 'status.json'), 'utf8')) as {
    trusted: boolean;
    why?: string;
    refusalsInAll: number;
  };

/** Whom cron and at are to start nothing for, by name. */
const closed = () => readFileSync(join(agents.state, 'closed'), 'utf8').split('\n').slice(0, -1);

const lock = (of: string) => modify(of, ['add', 'pwdAccountLockedTime', LOCKED]);
const unlock = (of: string) => modify(of, ['delete', 'pwdAccountLockedTime']);
const remove = (of: string) => `dn: ${of}\nchangetype: delete\n\n`;
const leave = (name: string) => modify(agents.realmGroup, ['delete', 'member', dn(name)]);
const admit = (name: string) => modify(agents.realmGroup, ['add', 'member', dn(name)]);
const personLdif = (name: string) => person(base, name, uid(name), [KEYS[name] ?? '']);

function toolLdif(name: string): string {
  const account = `tools.${name}`;
  const number = String(toolUid(name));
  const attributes = {
    ...{ uid: account, cn: account, sn: account, uidNumber: number, gidNumber: number },
    ...{ homeDirectory: `/data/project/${name}`, loginShell: '/bin/bash' },
  };
  return [
    `dn: ${toolDn(name)}`,
    'changetype: add',
    ...['shadowAccount', 'posixAccount', 'person', 'top'].map((each) => `objectClass: ${each}`),
    ...Object.entries(attributes).map(([attribute, value]) => line(attribute, value)),
    '',
    '',
  ].join('\n');
}

beforeAll(async () => {
  agents = await openAgentWorld('agent-ends');
  base = agents.world.config.ldap.base;
  const change = [...NAMES, STRANGER].map(personLdif).join('') + TOOLS.map(toolLdif).join('');
  await agents.change(change + NAMES.map(admit).join(''));
  helper = createServer({ allowHalfOpen: true }, (socket) => {
    let text = '';
    socket.on('error', () => undefined); // who asked was killed
    socket.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
    socket.on('end', () => {
      const uids = [...text.matchAll(/^end (\d+)$/gm)].map(([, number]) => Number(number));
      if (uids.length > 0) asked.push(uids);
      if (text.startsWith('passwd ')) lists += 1;
      socket.end('ok\n');
    });
  }).listen(join(agents.state, '../nobody.sock'));
});

afterAll(async () => {
  helper?.close();
  await agents?.close();
});

/** Each test begins with everybody as at the first, and an agent that knows nothing of before. */
beforeEach(async () => {
  await agents.kill();
  rmSync(join(agents.state, 'accounts'), { force: true });
  rmSync(join(agents.state, 'state.json'), { force: true });
  await start();
});

/** Starts the agent, and waits until it has asked for all that it asks for at its start. */
async function start(): Promise<void> {
  asked = [];
  lists = 0;
  await agents.mark(ALL);
  await agents.start();
  await eventually('trust', () => status().trusted);
  await eventually('all tools', () => lists > 0);
}

/** Ends the agent once it has written down whom it has let in. */
async function stop(...knows: number[]): Promise<void> {
  await eventually('it is written down', () => {
    const text = readFileSync(join(agents.state, 'accounts'), 'utf8');
    return knows.every((each) => text.includes(`${each} `));
  });
  await agents.kill('SIGTERM');
}

/** Waits until the agent has looked once more, and asked for what follows: it does so in this order. */
async function another(): Promise<void> {
  const key = newKey();
  await agents.change(modify(dn('fred'), ['replace', 'sshPublicKey', key]));
  await eventually('the new key', () => agents.files()['fred']?.includes(key));
  await agents.change(modify(dn('fred'), ['replace', 'sshPublicKey', KEYS['fred'] ?? '']));
  await eventually('the old key', () => agents.files()['fred']?.includes(KEYS['fred'] ?? ''));
}

describe('at once', () => {
  test('of a person who is locked', async () => {
    await another(); // what it asks for at its start is over
    await agents.change(lock(dn('anna')));
    await eventually('it is asked', () => asked.length > 0);
    // a login may have been under way
    await eventually('it is asked once more', () => asked.length > 1, 10_000);
    await agents.change(unlock(dn('anna')));
    await another();
    expect(new Set(asked.flat())).toEqual(new Set([uid('anna')]));
  });

  test('of a person who has no access any more', async () => {
    await agents.change(leave('bert'));
    await eventually('it is asked', () => asked.length > 0);
    await agents.change(admit('bert'));
    await another();
    expect(new Set(asked.flat())).toEqual(new Set([uid('bert')]));
  });

  test('of a person who is deleted', async () => {
    await agents.change(leave('cleo') + remove(dn('cleo')));
    await eventually('it is asked', () => asked.length > 0);
    expect([asked[0], closed()]).toEqual([[uid('cleo')], ['cleo']]);
    await agents.change(personLdif('cleo') + admit('cleo'));
    await eventually('a file', () => 'cleo' in agents.files());
  });

  test('of a tool that is disabled', async () => {
    await agents.change(modify(toolDn('bot'), ['replace', 'loginShell', '/bin/disabledtoolshell']));
    await eventually('it is asked', () => asked.length > 0);
    await agents.change(modify(toolDn('bot'), ['replace', 'loginShell', '/bin/bash']));
    await another();
    expect(new Set(asked.flat())).toEqual(new Set([toolUid('bot')]));
  });
});

describe('after a restart', () => {
  test('of who was locked, lost access, or was deleted meanwhile, person or tool; of nobody else', async () => {
    await agents.change(lock(toolDn('cat')));
    await stop(uid('anna'), toolUid('cat'));
    await agents.change(
      lock(dn('anna')) +
        leave('bert') +
        leave('cleo') +
        remove(dn('cleo')) +
        lock(toolDn('bot')) +
        // was locked when the agent last saw it; the other never was
        remove(toolDn('cat')) +
        remove(toolDn('dog')),
    );
    ALL.people -= 1;
    ALL.keyed -= 1;
    const gone = only(uid('anna'), uid('bert'), uid('cleo'), toolUid('bot'), toolUid('cat'));
    try {
      await start();
      await eventually('all are asked for', () => {
        const last = asked.at(-1) ?? [];
        return last.length >= gone.length && last;
      });
      expect(only(...(asked.at(-1) ?? []))).toEqual(gone);
      expect(askedNow()).not.toContain(uid(STRANGER));
      // and those who are given back are not ended by what is remembered of them
      await stop(toolUid('bot'));
      await agents.change(unlock(dn('anna')) + admit('bert') + unlock(toolDn('bot')));
      await start();
      await eventually('the last are asked for', () => (asked.at(-1)?.length ?? 0) >= 2);
      await another();
      expect(new Set(asked.flat())).toEqual(new Set([uid('cleo'), toolUid('cat')]));
    } finally {
      ALL.people += 1;
      ALL.keyed += 1;
      await agents.change(personLdif('cleo') + admit('cleo') + toolLdif('cat') + toolLdif('dog'));
    }
  });

  test('not of numbers that a local account has, or that are out of the ranges', async () => {
    await stop(uid('anna'));
    const passwd = readFileSync(agents.passwd, 'utf8');
    appendFileSync(agents.passwd, `other:x:${uid('dora')}:1::/:/bin/sh\n`);
    appendFileSync(join(agents.state, 'accounts'), '0 root\n7 old\n1 tools.old\nhalf a li');
    await agents.change(remove(dn('dora')) + leave('dora') + lock(dn('emil')));
    ALL.people -= 1;
    ALL.keyed -= 1;
    try {
      await start();
      await eventually('it is asked', () => asked.length > 0);
      expect(asked[0]).toEqual([uid('emil')]);
    } finally {
      ALL.people += 1;
      ALL.keyed += 1;
      writeFileSync(agents.passwd, passwd);
      await agents.change(personLdif('dora') + admit('dora') + unlock(dn('emil')));
    }
  });
});

describe('nobody’s, by what is not trusted', () => {
  test('until it is', async () => {
    const at = new Date(Date.now() - 90_000).toISOString();
    await agents.mark({ ...ALL, at });
    await eventually('distrust', () => !status().trusted);
    await agents.change(lock(dn('anna')) + lock(toolDn('bot')) + leave('bert'));
    await eventually('the keys are gone', () => !('anna' in agents.files()));
    await agents.change(modify(dn('dora'), ['replace', 'sshPublicKey', 'none']));
    await eventually('it has looked again, and said so', () => status().refusalsInAll === 1);
    expect([asked, closed()]).toEqual([[], []]);
    await agents.mark(ALL);
    await eventually('all are asked for', () => askedNow().length >= 3);
    expect(askedNow()).toEqual(only(uid('anna'), uid('bert'), toolUid('bot')));
    expect(closed()).toEqual(['anna', 'bert', 'tools.bot']);
    await agents.change(
      unlock(dn('anna')) +
        unlock(toolDn('bot')) +
        admit('bert') +
        modify(dn('dora'), ['replace', 'sshPublicKey', KEYS['dora'] ?? '']),
    );
    await eventually('the key is back', () => 'dora' in agents.files());
    await eventually('nobody is closed', () => closed().length === 0, 10_000);
  });

  test('by fewer people than there are', async () => {
    await stop(uid('anna'));
    await agents.change(remove(dn('anna')) + leave('anna'));
    try {
      asked = [];
      await agents.mark(ALL);
      await agents.start();
      await eventually('distrust', () => /6 people where/.test(status().why ?? ''));
      await agents.change(modify(dn('dora'), ['delete', 'sshPublicKey']));
      await eventually('it has looked again', () => !('dora' in agents.files()));
      expect(asked).toEqual([]);
    } finally {
      await agents.change(
        personLdif('anna') +
          admit('anna') +
          modify(dn('dora'), ['add', 'sshPublicKey', KEYS['dora'] ?? '']),
      );
    }
  });
});
