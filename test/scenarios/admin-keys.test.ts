/** Admins' own keys on real servers: what is in the queues when a key dies, the API, the command line, an ssh-agent. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { generateKeyPairSync, type KeyObject, randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { openQueues, type Queues } from '../../src/backends/redis/queue.ts';
import { openPool, type Pool } from '../../src/database/connection.ts';
import { signToken } from '../../src/requests/token.ts';
import { ADMINS_QUEUE } from '../../src/shared/config.ts';
import { fingerprintOf, lineOf } from '../../src/ssh-keys/ed25519-key.ts';
import { type ApiWorld, openApiWorld } from '../api/api-world.ts';
import { runCli } from '../cli/run-cli.ts';
import { eventually } from './eventually.ts';

let api: ApiWorld;
let owner: Pool;
let queues: Queues;
let folder: string;
const keys = new Map<string, KeyObject>();

const newKey = () => generateKeyPairSync('ed25519').privateKey;
const keyOf = (admin: string) => keys.get(admin) as KeyObject;
type Wish = { kind: string } & Record<string, unknown>;

/** A request as that admin signs it with the key that was added last. */
function tokenOf(admin: string, wish: Wish, jti: string = randomUUID()): Promise<string> {
  return signToken(keyOf(admin), {
    ...{
      portal: `admin.${admin}`,
      realm: api.world.config.realm,
      kid: fingerprintOf(keyOf(admin)),
    },
    ...{ jti, sub: admin, request: { requestedBy: admin, ...wish }, now: new Date() },
  });
}

async function read<Row>(sql: string, values: unknown[] = []): Promise<Row[]> {
  return (await owner.query(sql, values)).rows as Row[];
}

async function get(request: Wish & { requestedBy: string }): Promise<void> {
  const token = api.requestToken('admin.steward', request);
  const body = { type: 'application/jwt', body: token } as const;
  const reply = await api.call('POST', '/v1/requests?wait=verdict', {
    as: 'admin.steward',
    ...body,
  });
  expect(reply.body).toMatchObject({ verdict: 'accepted' });
}

async function newPerson(name: string): Promise<void> {
  const email = `${name}@example.org`;
  const named = { shellName: name, displayName: name, email };
  await get({ kind: 'person.create', requestedBy: 'steward', ...named });
}

/** An admin for a long time, with a key that was added long ago. */
async function newAdmin(name: string): Promise<void> {
  const requestedBy = 'steward';
  await newPerson(name);
  await get({ kind: 'access.grant', requestedBy, person: name });
  await get({ kind: 'maintainer.add', requestedBy, tool: 'admin', person: name });
  await giveKey(name);
  await owner.query('DELETE FROM admin_additions');
}

async function giveKey(name: string, validFor = '1 year'): Promise<string> {
  const key = newKey();
  keys.set(name, key);
  await owner.query(
    `INSERT INTO admin_keys (fingerprint, person, line, label, expires_at, added_by, approved_by, added_at)
     SELECT $1, uid, $2, 'test', now() + $4::interval, 'steward', 'test', now() FROM people WHERE shell_name = $3`,
    [fingerprintOf(key), lineOf(key), name, validFor],
  );
  return fingerprintOf(key);
}

/** Whether the API knows that admin by their key. */
async function statusOf(admin: string): Promise<number> {
  const { status } = await api.get('/v1/admin-keys', {
    as: 'admin.steward',
    ...{ key: keyOf(admin), claims: { iss: `admin.${admin}` } },
    header: { kid: fingerprintOf(keyOf(admin)) },
  });
  return status;
}

beforeAll(async () => {
  api = await openApiWorld('admin keys', { needs: ['postgres', 'redis'], roles: ['intake'] });
  owner = openPool(api.world.config, 'owner', { max: 2, durable: false });
  queues = openQueues(api.world.config, 'admin');
  folder = mkdtempSync(join(tmpdir(), 'admin-keys-'));
  for (const name of ['second', 'third']) await newAdmin(name);
});
afterAll(async () => {
  rmSync(folder, { recursive: true, force: true });
  await queues.close();
  await owner.end();
  await api.close();
});

describe('a key is revoked while 50 of its approvals are in the queue:', () => {
  const names = Array.from({ length: 50 }, (_, n) => `leaver${n}`);
  let approvals: string[];

  const all = async (make: (name: string) => Wish) => {
    const tokens = names.map((name) =>
      api.requestToken('admin.steward', { requestedBy: 'steward', ...make(name) }),
    );
    const body = { type: 'application/json', body: JSON.stringify(tokens) } as const;
    const target = '/v1/requests?wait=verdict';
    const reply = await api.call('POST', target, { as: 'admin.steward', ...body });
    expect(new Set(reply.body.map((each: { verdict: string }) => each.verdict))).toEqual(
      new Set(['accepted']),
    );
  };

  beforeAll(() =>
    all((name) => ({
      ...{ kind: 'person.create', shellName: name, displayName: name },
      email: `${name}@example.org`,
    })),
  );
  beforeEach(async () => {
    await giveKey('second');
    // 50 deletions wait for another admin than steward
    await owner.query(`UPDATE people SET delete_after = NULL WHERE delete_after IS NOT NULL`);
    await all((person) => ({ kind: 'person.delete', person }));
    const waiting = await read<{ request: string }>(
      `SELECT request FROM approvals WHERE state = 'open' ORDER BY opened_at`,
    );
    approvals = waiting.map(({ request }) => request);
    expect(approvals).toHaveLength(names.length);
    await api.world.chamberlain('freeze', '--reason', 'a test');
  });
  afterEach(() =>
    owner.query(
      `UPDATE approvals SET state = 'rejected', body = NULL, decided_at = now(), decided_by = 'test' WHERE state = 'open'`,
    ),
  );

  const approve = async (request: string) => {
    const jti = randomUUID();
    const token = await tokenOf('second', { kind: 'request.approve', request }, jti);
    await queues.addRequest(ADMINS_QUEUE, token, false);
    return jti;
  };
  const revoke = async (by: string, urgent: boolean) => {
    const fingerprint = fingerprintOf(keyOf('second'));
    const jti = randomUUID();
    const token = await tokenOf(by, { kind: 'admin-key.revoke', fingerprint }, jti);
    await queues.addRequest(ADMINS_QUEUE, token, urgent);
    return jti;
  };
  /** Thaws, waits for every verdict, and returns the codes in the order of the ids; '' is accepted. */
  const verdicts = async (ids: readonly string[]): Promise<string[]> => {
    await api.world.chamberlain('thaw');
    return await eventually('the verdicts', async () => {
      const rows = await read<{ jti: string; code: string | null }>(
        'SELECT jti, code FROM requests WHERE jti = ANY ($1)',
        [ids],
      );
      const codes = new Map(rows.map(({ jti, code }) => [jti, code ?? '']));
      return rows.length === ids.length && ids.map((id) => codes.get(id) ?? '?');
    });
  };
  test('in the urgent queue, after all of them: none is accepted', async () => {
    const ids: string[] = [];
    for (const request of approvals) ids.push(await approve(request));
    const last = await revoke('third', true);
    const codes = await verdicts([...ids, last]);
    expect(codes).toEqual([...ids.map(() => 'ADMIN_KEY_DEAD'), '']);
    expect(await read(`SELECT FROM approvals WHERE state = 'open'`)).toHaveLength(names.length);
  });

  test('in the same batch: none after it is accepted', async () => {
    const ids: string[] = [];
    for (const request of approvals.slice(0, 10)) ids.push(await approve(request));
    ids.push(await revoke('second', false));
    for (const request of approvals.slice(10)) ids.push(await approve(request));
    const codes = await verdicts(ids);
    expect(codes).toEqual(ids.map((_, n) => (n <= 10 ? '' : 'ADMIN_KEY_DEAD')));
  });

  test('its owner is suspended in the same batch: none after that is accepted', async () => {
    const ids: string[] = [];
    for (const request of approvals.slice(0, 5)) ids.push(await approve(request));
    const jti = randomUUID();
    const wish = { kind: 'person.suspend', person: 'second', reason: 'x' };
    await queues.addRequest(ADMINS_QUEUE, await tokenOf('third', wish, jti), false);
    ids.push(jti);
    for (const request of approvals.slice(5)) ids.push(await approve(request));
    const codes = await verdicts(ids);
    expect(codes).toEqual(ids.map((_, n) => (n <= 5 ? '' : 'NOT_ALLOWED')));
    await get({ kind: 'person.reinstate', requestedBy: 'steward', person: 'second' });
    await owner.query('DELETE FROM admin_additions');
  });
});

describe('the API', () => {
  test('refuses a key that was revoked, has expired, or whose owner is no admin, at each call', async () => {
    const fingerprint = await giveKey('second');
    expect(await statusOf('second')).toBe(200);
    await get({ kind: 'person.suspend', requestedBy: 'steward', person: 'second', reason: 'x' });
    expect(await statusOf('second')).toBe(401);
    await get({ kind: 'person.reinstate', requestedBy: 'steward', person: 'second' });
    expect(await statusOf('second')).toBe(200);
    await get({ kind: 'admin-key.revoke', requestedBy: 'steward', fingerprint, reason: 'Lost.' });
    expect(await statusOf('second')).toBe(401);
    await giveKey('second', '-1 second');
    expect(await statusOf('second')).toBe(401);
    keys.set('second', newKey());
    expect(await statusOf('second')).toBe(401);
    await giveKey('second');
    await owner.query('DELETE FROM admin_additions');
  });

  test('refuses a revoked key of the configuration', async () => {
    const listed = (await api.get('/v1/admin-keys', { as: 'admin.steward' })).body.items as {
      admin: string;
      fingerprint: string;
    }[];
    const { fingerprint } = listed.find(({ admin }) => admin === 'steward')!;
    const token = await tokenOf('third', { kind: 'admin-key.revoke', fingerprint });
    await queues.addRequest(ADMINS_QUEUE, token, true);
    await eventually('the revocation', async () => {
      const rows = await read('SELECT FROM admin_keys WHERE fingerprint = $1', [fingerprint]);
      return rows.length === 1;
    });
    const reply = await api.get('/v1/admin-keys', { as: 'admin.steward' });
    expect(reply.status).toBe(401);
    expect(reply.body.detail).toMatch(/was revoked by third at/u);
    await owner.query('DELETE FROM admin_keys WHERE fingerprint = $1', [fingerprint]);
  });
});

describe('on the machine of an admin', () => {
  test('a key in an ssh-agent is made known, approved, signs over HTTP, and is in the audit', async () => {
    const home = join(folder, 'agent');
    const socket = join(folder, 'agent.sock');
    const agent = spawn('ssh-agent', ['-D', '-a', socket], { stdio: 'ignore' });
    const env = { HOME: home, SSH_AUTH_SOCK: socket };
    try {
      const file = join(folder, 'id_agent');
      const run = (words: string[]) =>
        spawn(words[0]!, words.slice(1), { env: { ...process.env, ...env }, stdio: 'ignore' });
      await once(run(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-f', file]), 'close');
      await eventually('the agent', async () => {
        const [code] = (await once(run(['ssh-add', '-q', file]), 'close')) as [number];
        return code === 0;
      });
      rmSync(file); // only the agent has it
      const at = `http://127.0.0.1:${api.port}`;
      const made = await runCli(
        [
          '--json',
          'admin-key',
          'new',
          '--person',
          'third',
          '--agent',
          '--realm',
          api.world.config.realm,
          '--api',
          at,
        ],
        { env },
      );
      expect(made).toMatchObject({ exit: 0, err: '' });
      const { fingerprint, request } = JSON.parse(made.out) as {
        fingerprint: string;
        request: Wish;
      };
      // it signs nothing before it is approved
      const submit = [
        'submit',
        'tool.create',
        '--name',
        'agenttool',
        '--title',
        'A',
        '--api',
        '--wait',
      ];
      expect((await runCli(submit, { env })).err).toMatch(/^CALL_UNSIGNED: /u);
      await get({ ...request, requestedBy: 'steward' });
      const [row] = await read<{ number: string }>(
        `SELECT number FROM request_progress WHERE kind = 'admin-key.add' ORDER BY number DESC LIMIT 1`,
      );
      const token = await tokenOf('second', {
        kind: 'request.approve',
        request: (
          await read<{ request: string }>(`SELECT request FROM approvals WHERE state = 'open'`)
        )[0]!.request,
      });
      await queues.addRequest(ADMINS_QUEUE, token, false);
      await eventually('the key', async () => {
        const rows = await read('SELECT FROM admin_keys WHERE fingerprint = $1', [fingerprint]);
        return rows.length === 1 && row !== undefined;
      });
      // no role works here, so that it is not applied
      const sent = await runCli([...submit, '--timeout', '1'], { env });
      expect(sent).toMatchObject({
        exit: 5,
        err: expect.stringMatching(/^TIMEOUT: it is accepted/u),
      });
      const audit = await api.world.chamberlain('audit', '--key', fingerprint, '--json');
      expect(JSON.parse(audit).rows).toEqual([
        expect.objectContaining({
          kind: 'tool.create',
          account: 'tools.agenttool',
          key: fingerprint,
        }),
      ]);
      const list = await api.world.chamberlain('list', 'admin-keys');
      expect(list).toMatch(
        new RegExp(`third +${fingerprint.replaceAll('+', '\\+')} .* steward +second`, 'u'),
      );
      await newPerson('outsider');
      const asks = ['submit', 'access.request', '--person', 'outsider', '--api', '--wait'];
      expect(await runCli(asks, { env })).toEqual({
        exit: 0,
        out: expect.stringMatching(/^[0-9a-f-]{36}\n$/u),
        err: '  ✓ applied\n  … an admin must grant or refuse the access\n',
      });
    } finally {
      agent.kill();
      await owner.query('DELETE FROM admin_additions');
    }
  });

  test('a key with a passphrase is made on the terminal, in a file that only its owner can read', async () => {
    const file = join(folder, 'new-key');
    const made = await runCli(['admin-key', 'new', '--person', 'third', '--out', file], {
      terminal: true,
      input: 'a long passphrase\na long passphrase\n',
    });
    expect(made.exit).toBe(0);
    expect(made.out).not.toMatch(/a long passphrase\r?\n.*a long passphrase[^\n]*SHA256/su);
    expect(made.out).toContain('chamberlain submit admin-key.add --person third --publicKey');
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(readFileSync(file, 'utf8')).toMatch(/^-----BEGIN OPENSSH PRIVATE KEY-----/u);
    const again = await runCli(['admin-key', 'new', '--person', 'third', '--out', file], {
      terminal: true,
      input: 'a long passphrase\na long passphrase\n',
    });
    expect(again.out).toContain('It exists already');
    // it signs what is sent through the queue, after its passphrase
    const line = readFileSync(`${file}.pub`, 'utf8').split(' ').slice(0, 2).join(' ');
    await owner.query(
      `INSERT INTO admin_keys (fingerprint, person, line, label, expires_at, added_by, approved_by, added_at)
       SELECT $1, uid, $2, 'test', now() + interval '1 year', 'steward', 'test', now() FROM people WHERE shell_name = 'third'`,
      [/SHA256:\S+/u.exec(made.out)?.[0], line],
    );
    const submit = [
      'submit',
      'tool.create',
      '--name',
      'filetool',
      '--title',
      'A',
      '--portal-key',
      file,
    ];
    const of = { config: api.world.configFile, terminal: true } as const;
    const wrong = await runCli(submit, { ...of, input: 'another passphrase\n' });
    expect(wrong.out).toMatch(/USAGE: the passphrase of .* is wrong/u);
    const sent = await runCli(submit, { ...of, input: 'oops\u0015a long passphrasx\u007fe\n' });
    expect(sent).toMatchObject({ exit: 0 });
    await eventually('the tool', async () => {
      const rows = await read(`SELECT FROM tools WHERE name = 'filetool'`);
      return rows.length === 1;
    });
  });

  test('without a terminal, no passphrase is asked for', async () => {
    const file = join(folder, 'no-terminal');
    const made = await runCli(['admin-key', 'new', '--person', 'third', '--out', file], {
      prefix: ['setsid', '--wait'],
    });
    expect(made).toMatchObject({
      exit: 2,
      err: expect.stringMatching(/^USAGE: there is no terminal/u),
    });
  });
});

test('the owner of PostgreSQL answers where no other admin can, and only there', async () => {
  const wish = { kind: 'person.delete', requestedBy: 'third', person: 'third' };
  const token = await tokenOf('third', wish);
  await queues.addRequest(ADMINS_QUEUE, token, false);
  const request = await eventually('the request that waits', async () => {
    const [row] = await read<{ request: string }>(
      `SELECT request FROM approvals WHERE state = 'open'`,
    );
    return row?.request;
  });
  const config = { config: api.world.configFile };
  const refused = await runCli(['bootstrap', '--approve', request], config);
  expect(refused).toMatchObject({
    exit: 1,
    err: expect.stringMatching(/^NOT_ALLOWED: .*second, steward can decide on it/u),
  });
  await owner.query(
    `INSERT INTO admin_additions (person, by, at)
     SELECT p.uid, b.uid, now() FROM people p, people b WHERE p.shell_name IN ('second', 'steward') AND b.shell_name = 'third'`,
  );
  expect(await runCli(['bootstrap', '--approve', request], config)).toMatchObject({
    exit: 0,
    out: 'approved: person.delete of third, about third\n',
  });
  expect(await read(`SELECT state FROM people WHERE shell_name = 'third'`)).toEqual([
    { state: 'suspended' },
  ]);
  const [row] = await read<{ requested_by: string; account: string }>(
    `SELECT requested_by, account FROM audit WHERE kind = 'request.approve' ORDER BY id DESC LIMIT 1`,
  );
  expect(row).toEqual({ requested_by: expect.stringMatching(/^unix:/u), account: 'third' });
  expect((await runCli(['bootstrap', '--approve', request], config)).err).toMatch(
    /^NOT_WAITING: /u,
  );
});
