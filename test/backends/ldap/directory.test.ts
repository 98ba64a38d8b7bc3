/** The directory's reader and writer on a real slapd, as deploy/ldap describes it. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { generateKeyPairSync } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { connect, createServer as createRelay } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createServer, type Server as TlsServer } from 'node:tls';
import { runningPid, startServer, stopServer } from '../../../dev/servers/daemon.ts';
import { run } from '../../../dev/servers/processes.ts';
import { slapdServer } from '../../../dev/servers/slapd.ts';
import { sealKeyId, verifying, verifyPayload } from '../../../src/seals/seal.ts';
import {
  openDirectoryReader,
  openDirectoryWriter,
  type TracedEntry,
} from '../../../src/backends/ldap/directory.ts';
import { cannotWrite } from '../../../src/backends/ldap/ldap.ts';
import { describeError } from '../../../src/shared/errors.ts';
import type { Wanted } from '../../../src/reconcile/wanted.ts';
import type { Action, EntryRef } from '../../../src/reconcile/action.ts';
import { orderSteps, type Finding, type Step } from '../../../src/reconcile/plan.ts';
import { realmMembership } from '../../../src/targets/realm-membership.ts';
import { addSealed, seal } from '../../../src/targets/seal.ts';
import { sshKeys } from '../../../src/targets/ssh-keys.ts';
import { sudoRule } from '../../../src/targets/sudo-rule.ts';
import type { Target } from '../../../src/targets/target.ts';
import { unixAccount } from '../../../src/targets/unix-account.ts';
import { unixGroup } from '../../../src/targets/unix-group.ts';
import { eventually } from '../../scenarios/eventually.ts';
import { completed, KEY, OTHER_KEY, person, REALM, tool } from '../../targets/directory-cases.ts';

const BASE = 'dc=example,dc=org';
const TARGETS = [unixGroup, unixAccount, sshKeys, sudoRule, realmMembership] as Target<
  unknown,
  unknown,
  unknown
>[];
const REALM_GROUP = 'groups/cn=project-tools' as const;

const folder = mkdtempSync(join(tmpdir(), 'directory-'));
chmodSync(folder, 0o755);
const OPTIONS = {
  base: BASE,
  realm: 'tools',
  ids: {
    people: [{ first: 1000, last: 49999 }],
    tools: [{ first: 50000, last: 59999 }],
    realmGid: 500,
  },
  secrets: join(folder, 'secrets'),
};
const slapd = slapdServer(join(folder, 'slapd'), OPTIONS);
const passwordOf = (account: string) =>
  readFileSync(join(folder, 'secrets', `ldap-${account}`), 'utf8');
const settings = (
  account: string,
  changes: { uri?: string; password?: string; caFile?: string } = {},
) => ({
  uri: slapd.uri,
  base: BASE,
  realm: 'tools',
  password: passwordOf(account),
  ...changes,
});

const { privateKey } = generateKeyPairSync('ed25519');
const sealKey = { id: sealKeyId(privateKey), privateKey };
let reader: ReturnType<typeof openDirectoryReader>;
let writer: ReturnType<typeof openDirectoryWriter>;

beforeAll(async () => {
  mkdirSync(join(folder, 'secrets'), { mode: 0o700 });
  await startServer(slapd);
  reader = openDirectoryReader(settings('directory-reader'));
  writer = openDirectoryWriter({ ...settings('directory'), sealKey: () => sealKey });
});

afterAll(async () => {
  await reader.close();
  await writer.close();
  await stopServer(slapd);
  rmSync(folder, { recursive: true });
});

// ---------------------------------------------------------------- looking and writing from outside

const asAdmin = () => [
  ...['-H', slapd.uri, '-x', '-D', `cn=admin,${BASE}`],
  ...['-y', join(folder, 'secrets/ldap-admin')],
];
const write = (ldif: string) =>
  execFileSync('ldapmodify', asAdmin(), { input: ldif, stdio: ['pipe', 'ignore', 'pipe'] });
const writeConfig = (ldif: string) =>
  execFileSync('ldapmodify', ['-Q', '-Y', 'EXTERNAL', '-H', slapd.uri], {
    input: ldif,
    stdio: ['pipe', 'ignore', 'pipe'],
  });
const read = (dn: string, ...attributes: string[]) =>
  execFileSync(
    'ldapsearch',
    [...asAdmin(), '-LLL', '-o', 'ldif-wrap=no', '-s', 'base', '-b', dn, ...attributes],
    { encoding: 'utf8' },
  )
    .trim()
    .split('\n')
    .toSorted();

async function until(check: () => boolean): Promise<void> {
  while (!check()) await sleep(1);
}

async function survey(subjects: Wanted[]): Promise<{ steps: Step[]; findings: Finding[] }> {
  const steps: Step[] = [];
  const findings: Finding[] = [];
  for (const target of TARGETS) {
    const own = subjects.filter(({ kind }) => target.of.includes(kind));
    const have = await target.observe(reader, own, REALM);
    own.forEach((subject, i) => {
      const drafted = target.plan(target.want(subject, REALM), have[i], subject);
      const plan = completed(target.name, subject, drafted);
      steps.push(...plan.steps);
      findings.push(...plan.findings);
    });
  }
  return { steps: orderSteps(steps), findings };
}

async function converge(...subjects: Wanted[]): Promise<string[]> {
  const { steps, findings } = await survey(subjects);
  expect(findings).toEqual([]);
  for (const step of steps) await writer.do(step.action);
  expect(await survey(subjects)).toEqual({ steps: [], findings: [] });
  return steps.map(({ effect, target }) => `${effect} ${target}`);
}

const named = (uid: number, name: string) =>
  person({ uid, account: name as never, shellName: name as never, displayName: `The ${name}` });
const bot = (changes: Parameters<typeof tool>[0] = {}) =>
  tool({ members: tool().members!.filter(({ account }) => account !== 'tools.other'), ...changes });

// ---------------------------------------------------------------- tests

describe('the directory’s targets, through reader and writer', () => {
  test('bring people and tools from each state to each other, and then have nothing to do', async () => {
    const alone = bot().members!.slice(1);
    expect(await converge(person(), bot())).toEqual([
      'create unix-group',
      'create unix-account',
      'create unix-account',
      'change ssh-keys',
      'create sudo-rule',
      'change realm-membership',
    ]);
    expect(await converge(person({ state: 'suspended' }), bot({ members: alone }))).toEqual([
      'revoke unix-group',
      'revoke unix-account',
      'revoke ssh-keys',
      'revoke realm-membership',
    ]);
    expect(await converge(person(), bot({ state: 'disabled' }))).toEqual([
      'revoke unix-account',
      'revoke sudo-rule',
      'change unix-group',
      'change unix-account',
      'change ssh-keys',
      'change realm-membership',
    ]);
    expect(
      await converge(person({ displayName: 'Alice Over', email: undefined as never }), bot()),
    ).toEqual(['change unix-account', 'change unix-account', 'create sudo-rule']);
    const deleted = await converge(person({ state: 'deleted' }), bot({ state: 'deleted' }));
    expect(deleted.filter((line) => line.startsWith('destroy'))).toHaveLength(3);
    expect(await converge(person({ state: 'suspended', uid: 1004 }))).toEqual([
      'create unix-account',
    ]);
    await converge(person({ state: 'deleted', uid: 1004 }));
  });

  test('create entries in the shape of the realm', async () => {
    const key = { line: OTHER_KEY, fingerprint: '', label: '' };
    await converge(
      person({ displayName: 'Ünder, Älice', keys: [key] }),
      bot({ state: 'disabled' }),
      bot({
        uid: 50002,
        account: 'tools.b' as never,
        name: 'b' as never,
        members: [{ kind: 'tool', account: 'tools.b' as never, uid: 50002 }],
      }),
    );
    const alice = `uid=alice,ou=people,${BASE}`;
    const display = Buffer.from('Ünder, Älice').toString('base64');
    expect(read(alice)).toEqual(
      [
        `dn: ${alice}`,
        ...['inetOrgPerson', 'ldapPublicKey', 'person', 'posixAccount'].map(
          (name) => `objectClass: ${name}`,
        ),
        `cn:: ${display}`,
        `sn:: ${display}`,
        'gidNumber: 500',
        'homeDirectory: /home/alice',
        'loginShell: /bin/bash',
        'mail: alice@example.org',
        `sshPublicKey: ${OTHER_KEY}`,
        'uid: alice',
        'uidNumber: 1003',
      ].toSorted(),
    );
    const account = `uid=tools.bot,ou=people,ou=servicegroups,${BASE}`;
    expect(read(account, '*', 'pwdPolicySubentry', 'pwdAccountLockedTime')).toEqual(
      [
        `dn: ${account}`,
        ...['person', 'posixAccount', 'shadowAccount', 'top'].map((name) => `objectClass: ${name}`),
        ...['cn', 'sn', 'uid'].map((name) => `${name}: tools.bot`),
        'gidNumber: 50001',
        'homeDirectory: /data/project/bot',
        'loginShell: /bin/disabledtoolshell',
        `pwdPolicySubentry: cn=disabled,ou=ppolicies,${BASE}`,
        'uidNumber: 50001',
      ].toSorted(),
    );
    const group = `cn=tools.bot,ou=servicegroups,${BASE}`;
    expect(read(group)).toEqual(
      [
        `dn: ${group}`,
        'cn: tools.bot',
        'gidNumber: 50001',
        `member: ${alice}`,
        `member: ${account}`,
        'objectClass: groupOfNames',
        'objectClass: posixGroup',
      ].toSorted(),
    );
    const rule = `cn=runas-tools.b,ou=sudoers,cn=tools,ou=projects,${BASE}`;
    expect(read(rule)).toEqual(
      [
        `dn: ${rule}`,
        'cn: runas-tools.b',
        'objectClass: sudoRole',
        'sudoCommand: ALL',
        'sudoHost: ALL',
        'sudoOption: !authenticate',
        'sudoRunAsUser: tools.b',
        'sudoUser: %tools.b',
      ].toSorted(),
    );
    expect(read(`cn=project-tools,ou=groups,${BASE}`, 'member')).toEqual([
      `dn: cn=project-tools,ou=groups,${BASE}`,
      `member: cn=chamberlain,${BASE}`,
      `member: ${alice}`,
    ]);
  });

  test('see no drift in a DN that is only written differently', async () => {
    const group = `cn=tools.bot,ou=servicegroups,${BASE}`;
    write(
      `dn: ${group}\nchangetype: modify\nreplace: member\nmember: UID=Alice , OU=People,DC=Example,dc=org\nmember: uid=tools\\2Ebot,ou=people,ou=servicegroups,${BASE}\n`,
    );
    expect(await survey([bot({ state: 'disabled' })])).toEqual({ steps: [], findings: [] });
  });

  test('remove what somebody else has added: members, keys (including bytes that are not text)', async () => {
    const alice = `uid=alice,ou=people,${BASE}`;
    write(
      `dn: ${alice}\nchangetype: modify\nadd: sshPublicKey\nsshPublicKey:: /wBh\nsshPublicKey: bytes:ff\n`,
    );
    write(
      `dn: cn=tools.bot,ou=servicegroups,${BASE}\nchangetype: modify\nadd: member\nmember: cn=x\\, y+uid=z,o=far\nmember: uid=eve,ou=people,${BASE}\n`,
    );
    const wanted = person({ displayName: 'Ünder, Älice' });
    expect(await converge(wanted, bot({ state: 'disabled' }))).toEqual([
      'revoke unix-group',
      'revoke ssh-keys',
      'change ssh-keys',
    ]);
    expect(read(alice, 'sshPublicKey')).toEqual([`dn: ${alice}`, `sshPublicKey: ${KEY}`]);
  });

  test('see only the realm’s own sudo rules, and leave those of another project', async () => {
    const project = `cn=far,ou=projects,${BASE}`;
    const rule = `cn=runas-tools.near,ou=sudoers,${project}`;
    write(
      `dn: ${project}\nchangetype: add\nobjectClass: groupOfNames\ncn: far\nmember: cn=x\n\n` +
        `dn: ou=sudoers,${project}\nchangetype: add\nobjectClass: organizationalUnit\nou: sudoers\n\n` +
        `dn: ${rule}\nchangetype: add\nobjectClass: sudoRole\ncn: runas-tools.near\nsudoUser: ALL\n`,
    );
    const before = read(rule, '*', '+');
    const account = 'tools.near' as never;
    const near = tool({
      uid: 51001,
      account,
      name: 'near' as never,
      members: [{ kind: 'tool', account, uid: 51001 }],
    });
    const { findings } = await survey([near]);
    expect(findings).toEqual([]);
    expect(await converge(near)).toContain('create sudo-rule');
    expect(read(rule, '*', '+')).toEqual(before);
    await converge({ ...near, state: 'deleted' });
    expect(read(rule, '*', '+')).toEqual(before);
  });

  test('report what is not ours, and leave it', async () => {
    const eve = `uid=eve,ou=people,${BASE}`;
    const shape =
      'objectClass: person\nobjectClass: posixAccount\nsn: x\nhomeDirectory: /x\ngidNumber: 500';
    write(`dn: ${eve}\nchangetype: add\n${shape}\nuid: eve\ncn: eve\nuidNumber: 1900\n`);
    write(
      `dn: cn=tools.role,ou=groups,${BASE}\nchangetype: add\nobjectClass: groupOfNames\ncn: tools.role\nmember: ${eve}\n`,
    );
    const before = [read(eve, '*', '+'), read(`cn=tools.role,ou=groups,${BASE}`, '*', '+')];
    const name = 'tools.role';
    const subjects = [
      named(1901, 'eve'),
      named(1900, 'mal'),
      tool({
        uid: 51000,
        account: name as never,
        members: [{ kind: 'tool', account: name as never, uid: 51000 }],
      }),
    ];
    const { steps, findings } = await survey(subjects);
    expect(findings.map(({ code, account, target }) => `${account}: ${code} by ${target}`)).toEqual(
      [
        'tools.role: NAME_FOREIGN by unix-group',
        'eve: NAME_FOREIGN by unix-account',
        'mal: ID_FOREIGN by unix-account',
      ],
    );
    for (const step of steps.filter(({ account }) => account === 'eve'))
      await writer.do(step.action);
    expect([read(eve, '*', '+'), read(`cn=tools.role,ou=groups,${BASE}`, '*', '+')]).toEqual(
      before,
    );
    expect(steps.filter(({ account }) => account === 'eve')).toEqual([]);
  });
});

describe('the writer', () => {
  const add = (name: string, number: number): Action => ({
    verb: 'ldap.add',
    entry: `toolGroups/cn=${name}`,
    attributes: {
      objectClass: ['groupOfNames', 'posixGroup'],
      cn: [name],
      gidNumber: [String(number)],
      member: ['people/uid=alice'],
    },
  });
  const modify = (changes: { remove?: string[]; add?: string[] }, gid = '52000'): Action => ({
    verb: 'ldap.modify',
    entry: 'toolGroups/cn=tools.stale',
    expect: { gidNumber: gid },
    changes: [{ attribute: 'member', remove: [], add: [], ...changes }],
  });
  const remove = (gid: string): Action => ({
    verb: 'ldap.delete',
    entry: 'toolGroups/cn=tools.stale',
    expect: { gidNumber: gid },
  });

  test('refuses a step that is stale, and changes nothing', async () => {
    const stale = { code: 'STEP_STALE' };
    const dn = `cn=tools.stale,ou=servicegroups,${BASE}`;
    await expect(writer.do(modify({ add: ['people/uid=bob'] }))).rejects.toMatchObject(stale);
    await expect(writer.do(remove('52000'))).rejects.toMatchObject(stale);
    await writer.do(add('tools.stale', 52000));
    const before = read(dn, '*', '+');
    await expect(writer.do(add('tools.stale', 52001))).rejects.toMatchObject(stale);
    await expect(writer.do(modify({ add: ['people/uid=bob'] }, '52001'))).rejects.toMatchObject(
      stale,
    );
    await expect(writer.do(modify({ add: ['people/uid=alice'] }))).rejects.toMatchObject(stale);
    await expect(
      writer.do(modify({ add: ['people/uid=bob'], remove: ['people/uid=eve'] })),
    ).rejects.toMatchObject(stale);
    await expect(writer.do(remove('52001'))).rejects.toMatchObject(stale);
    expect(read(dn, '*', '+')).toEqual(before);
    await writer.do(remove('52000'));
  });

  test('reports what the server refuses, and why', async () => {
    const error: unknown = await writer
      .do(add('tools.out', 777))
      .catch((caught: unknown) => caught);
    expect(error).toMatchObject({
      code: 'STEP_FAILED',
      message: 'adding cn=tools.out,ou=servicegroups',
    });
    expect(describeError(error)).toMatch(/constraint/);
  });

  test.each(['olcReadOnly: TRUE', 'olcRestrict: write'])(
    'takes a directory that is read-only for one that is away: %s',
    async (line) => {
      const [name] = line.split(':');
      const change = (lines: string) =>
        writeConfig(`dn: olcDatabase={1}mdb,cn=config\nchangetype: modify\n${lines}\n`);
      const make = add('tools.later', 52010);
      change(`replace: ${name}\n${line}`);
      try {
        const error: unknown = await writer.do(make).catch((caught: unknown) => caught);
        expect(error).toMatchObject({ code: 'BACKEND_UNAVAILABLE' });
        expect(describeError(error)).toContain('operation restricted (LDAP result 53)');
      } finally {
        change(`delete: ${name}`);
      }
      await writer.do(make);
      await writer.do({
        ...{ verb: 'ldap.delete', entry: 'toolGroups/cn=tools.later' },
        expect: { gidNumber: '52010' },
      });
    },
  );

  test('takes a directory whose database is full for one that is away', async () => {
    const full = slapdServer(join(folder, 'full'), OPTIONS);
    await startServer({
      ...full,
      async prepare() {
        await full.prepare();
        const config = join(full.folder, 'config');
        await run('/usr/sbin/slapmodify', ['-F', config, '-n', '0'], {
          input: `dn: olcDatabase={1}mdb,cn=config\nchangetype: modify\nreplace: olcDbMaxSize\nolcDbMaxSize: 600000\n`,
        });
        await run('/usr/bin/chown', ['-R', 'openldap:openldap', config]);
      },
    });
    const filling = openDirectoryWriter({
      ...settings('directory', { uri: full.uri }),
      sealKey: () => sealKey,
    });
    try {
      let error: unknown;
      // an entry or two may be refused with another text before
      const isFull = () => describeError(error).includes('txn_commit failed (LDAP result 80)');
      for (let number = 52000; !isFull() && number < 54000; number += 1) {
        error = await filling
          .do(add(`tools.n${number}`, number))
          .catch((caught: unknown) => caught);
      }
      expect(isFull()).toBe(true);
      expect(error).toMatchObject({ code: 'BACKEND_UNAVAILABLE' });
    } finally {
      await filling.close();
      await stopServer(full);
    }
  });

  test('takes no other text of the same results for that', () => {
    for (const [code, text] of [
      [53, 'no global superior knowledge'],
      [80, 'unique_search failed'],
      [80, 'index generation failed'],
      [19, 'operation restricted'],
    ] as const) {
      const error = Object.assign(new Error(`${text} (LDAP result ${code})`), { code });
      expect(cannotWrite(error)).toBe(false);
    }
  });

  test('adds an account with its signed seal in one write', async () => {
    const subject = {
      ...named(1950, 'sealed'),
      seal: { number: 7, until: '2026-12-06T00:00:00Z' },
    };
    const planOf = (target: typeof seal | typeof unixAccount, have: never) =>
      completed(target.name, subject, target.plan(target.want(subject, REALM), have, subject))
        .steps;
    const steps = addSealed([
      ...planOf(unixAccount, [] as never),
      ...planOf(seal, undefined as never),
    ]);
    expect(steps.map(({ action }) => action.verb)).toEqual(['ldap.add']);
    for (const { action } of steps) await writer.do(action);
    const [have] = await seal.observe(reader, [subject], REALM);
    const [text = ''] = have?.attributes['chamberlainSeal'] ?? [];
    expect(verifyPayload(text, verifying(sealKey))).toEqual({
      ok: true,
      payload: seal.want(subject, REALM).attributes['chamberlainSeal']?.[0],
    });
    expect(planOf(seal, have as never)).toEqual([]);
    await writer.do({
      verb: 'ldap.delete',
      entry: 'people/uid=sealed',
      expect: { uidNumber: '1950' },
    });
  });

  test('knows no other verbs', async () => {
    const action: Action = { verb: 'db.dropUser', server: 'x', user: 's1' };
    await expect(writer.do(action)).rejects.toMatchObject({ code: 'INTERNAL' });
  });

  test('keeps a name that looks like more than one RDN in its place', async () => {
    const name = 'x,ou=groups+cn=y "\\#<>;=';
    const entry: EntryRef = `people/uid=${name}`;
    // the access rules do not let the role itself write such a name
    write(
      [
        String.raw`dn: uid=x\,ou=groups\+cn=y \"\\#\<\>\;=,ou=people,${BASE}`,
        ...['changetype: add', 'objectClass: inetOrgPerson', 'objectClass: posixAccount'],
        ...[
          `uid: ${name}`,
          'cn: x',
          'sn: x',
          'uidNumber: 1800',
          'gidNumber: 500',
          'homeDirectory: /x',
        ],
      ].join('\n'),
    );
    const found = await reader.find({
      any: [{ attribute: 'uid', values: [name] }],
      attributes: ['uid'],
    });
    expect(found).toEqual([{ ref: entry, attributes: { uid: [name] } }]);
    await writer.do({ verb: 'ldap.delete', entry, expect: { uidNumber: '1800' } });
  });
});

describe('the reader', () => {
  const many = Array.from({ length: 620 }, (_, i) => named(2000 + i, `many${i}`));

  beforeAll(async () => {
    const { steps } = await survey(many);
    const adds = steps.filter(({ target }) => target === 'unix-account');
    await Promise.all(adds.map((step) => writer.do(step.action)));
  });

  const findMany = () =>
    reader.find({
      any: [
        { attribute: 'uid', values: many.map(({ account }) => account) },
        { attribute: 'uidNumber', values: many.map(({ uid }) => String(uid)) },
      ],
      attributes: ['uid', 'mail', 'title'],
    });

  test('finds each of many entries once, with the requested attributes, absent ones as an empty list', async () => {
    const found = await findMany();
    expect(found).toHaveLength(620);
    expect(found.find(({ ref }) => ref === 'people/uid=many7')).toEqual({
      ref: 'people/uid=many7',
      attributes: { uid: ['many7'], mail: ['alice@example.org'], title: [] },
    });
  });

  test('finds in a place only what is directly below it', async () => {
    const name = 'tools.below';
    const account = { account: name as never, name: 'below' as never, uid: 51002 };
    const members = [{ kind: 'tool' as const, account: name as never, uid: 51002 }];
    await converge(tool({ ...account, members }));
    const any = [{ attribute: 'cn', values: [name] }];
    const found = await reader.find({ place: 'toolGroups', any, attributes: [] });
    // the tool's account has the same cn, one level deeper
    expect(found.map(({ ref }) => ref)).toEqual([`toolGroups/cn=${name}`]);
    expect(await reader.find({ any, attributes: [] })).toHaveLength(2);
    await converge(tool({ ...account, members, state: 'deleted' }));
  });

  test('lists a place page by page, and only what is directly below it', async () => {
    const sizes: number[] = [];
    const refs = new Set<string>();
    for await (const page of reader.list('people', ['uid'])) {
      sizes.push(page.length);
      for (const { ref } of page) refs.add(ref);
    }
    expect(sizes[0]).toBe(100);
    expect(many.every(({ account }) => refs.has(`people/uid=${account}`))).toBe(true);
    for await (const page of reader.list('toolGroups', [])) {
      expect(page.every(({ ref }) => ref.startsWith('toolGroups/'))).toBe(true);
    }
  });

  test('returns page by page what others have changed, and who did, however much that is', async () => {
    const before = await changedByOthers();
    expect(many.some(({ account }) => before.has(`people/uid=${account}`))).toBe(false);
    const change = ({ account }: Wanted) =>
      `dn: uid=${account},ou=people,${BASE}\nchangetype: modify\nreplace: title\ntitle: T\n`;
    write(many.map(change).join('\n'));
    const after = await changedByOthers();
    for (const { account, uid } of many) {
      expect(after.get(`people/uid=${account}`)).toMatchObject({
        dn: `uid=${account},ou=people,${BASE}`,
        changedBy: `cn=admin,${BASE}`,
        attributes: { uidNumber: [String(uid)] },
      });
    }
    write(many.map((each) => change(each).replace('\ntitle: T', '')).join('\n'));
  });

  async function changedByOthers() {
    const found = new Map<string, TracedEntry>();
    for await (const page of reader.changedByOthers()) {
      expect(page.length).toBeLessThanOrEqual(100);
      for (const entry of page) found.set(entry.ref, entry);
    }
    return found;
  }

  test.each(['*', 'many1*', '*)(uid=*', 'x)(|(uid=*', '\\2a', 'many1\0', '(', ''])(
    'takes the value %j literally, not as a pattern',
    async (value) => {
      const any = [{ attribute: 'uid', values: [value] }];
      expect(await reader.find({ any, attributes: ['uid'] })).toEqual([]);
    },
  );

  test('returns the members of a group, few or many, whatever the case', async () => {
    const members = many.map(({ account }) => `people/uid=${account}` as const);
    const half = members.filter((_, i) => i % 2 === 0);
    await writer.do({
      verb: 'ldap.modify',
      entry: REALM_GROUP,
      expect: { gidNumber: '500' },
      changes: [{ attribute: 'member', remove: [], add: half }],
    });
    expect(await reader.membersOf(REALM_GROUP, members)).toEqual(new Set(half));
    expect(await reader.membersOf(REALM_GROUP, members.slice(0, 10))).toEqual(
      new Set(half.slice(0, 5)),
    );
    expect(await reader.membersOf(REALM_GROUP, ['people/uid=MANY0'])).toEqual(
      new Set(['people/uid=MANY0']),
    );
  });

  test('reports "unreadable", not "no member", if there is no such group', async () => {
    const members = many.map(({ account }) => `people/uid=${account}` as const);
    for (const count of [1, members.length]) {
      await expect(
        reader.membersOf('groups/cn=none', members.slice(0, count)),
      ).rejects.toMatchObject({ code: 'BACKEND_UNREADABLE' });
    }
  });

  test('is not cut short by a size limit of the server: complete, or unreadable', async () => {
    const limits = (size: string) =>
      writeConfig(
        'dn: olcDatabase={1}mdb,cn=config\nchangetype: modify\nreplace: olcLimits\n' +
          `olcLimits: {0}dn.onelevel="ou=chamberlain,${BASE}" size=${size} time=unlimited\n`,
      );
    const list = async () => {
      let count = 0;
      for await (const page of reader.list('people', ['uid'])) count += page.length;
      return count;
    };
    const all = await list();
    limits('5');
    try {
      expect(await findMany()).toHaveLength(620);
      await expect(list()).rejects.toMatchObject({ code: 'BACKEND_UNREADABLE' });
    } finally {
      limits('unlimited');
    }
    expect(await list()).toBe(all);
  });

  test('may not write, and cannot open what the writer opens', async () => {
    const asReader = [
      ...['-H', slapd.uri, '-x', '-D', `cn=directory-reader,ou=chamberlain,${BASE}`],
      ...['-y', join(folder, 'secrets/ldap-directory-reader'), `uid=many1,ou=people,${BASE}`],
    ];
    expect(() => execFileSync('ldapdelete', asReader, { stdio: 'pipe' })).toThrow(/access/i);
    const masked = openDirectoryWriter({ ...settings('directory-reader'), sealKey: () => sealKey });
    const action: Action = { verb: 'ldap.delete', entry: 'people/uid=many1', expect: {} };
    await expect(masked.do(action)).rejects.toMatchObject({ code: 'BACKEND_UNAVAILABLE' });
    await masked.close();
  });
});

describe('a connection', () => {
  const ALICE = { any: [{ attribute: 'uid', values: ['alice'] }], attributes: ['uidNumber'] };
  const unreadable = { code: 'BACKEND_UNREADABLE' };
  beforeAll(() => converge(person()));
  const change = (remove: string[], add: string[]): Action => ({
    verb: 'ldap.modify',
    entry: 'people/uid=alice',
    expect: { uidNumber: '1003' },
    changes: [{ attribute: 'loginShell', remove, add }],
  });

  test('that binds but sees nothing is unreadable: absent is not empty', async () => {
    const access = execFileSync(
      'ldapsearch',
      [
        '-Q',
        '-Y',
        'EXTERNAL',
        '-H',
        slapd.uri,
        '-LLL',
        '-o',
        'ldif-wrap=no',
        '-s',
        'base',
        '-b',
        'olcDatabase={1}mdb,cn=config',
        'olcAccess',
      ],
      { encoding: 'utf8' },
    );
    const rules = access.split('\n').filter((line) => line.startsWith('olcAccess:'));
    const replace = (lines: string[]) =>
      writeConfig(
        `dn: olcDatabase={1}mdb,cn=config\nchangetype: modify\nreplace: olcAccess\n${lines.join('\n')}\n`,
      );
    replace([rules[0] ?? '', 'olcAccess: {1}to * by * none']);
    const blind = openDirectoryReader(settings('directory-reader'));
    try {
      const error: unknown = await blind.find(ALICE).catch((caught: unknown) => caught);
      expect(error).toMatchObject(unreadable);
      expect(describeError(error)).toMatch(/does not exist, or may not be read/);
    } finally {
      replace(rules);
    }
    expect(await blind.find(ALICE)).toHaveLength(1);
    await blind.close();
  });

  test('with a wrong or an empty password reads nothing, and names no password', async () => {
    for (const password of ['wrong-password', '']) {
      const stranger = openDirectoryReader(settings('directory-reader', { password }));
      const error: unknown = await stranger.find(ALICE).catch((caught: unknown) => caught);
      expect(error).toMatchObject(unreadable);
      expect(describeError(error)).not.toContain('wrong-password');
      await stranger.close();
    }
  });

  test('without encryption is possible only to this machine', async () => {
    for (const uri of [
      'ldap://ldap.example.org',
      'ldap://127.0.0.1.example.org',
      'http://localhost',
      'ldapi://',
      'x',
    ]) {
      const far = openDirectoryReader(settings('directory-reader', { uri }));
      const error: unknown = await far.find(ALICE).catch((caught: unknown) => caught);
      expect(error).toMatchObject(unreadable);
      expect(describeError(error)).toContain('must be ldapi:// or ldaps://');
    }
    const near = openDirectoryReader(settings('directory-reader', { uri: slapd.tcpUri() }));
    expect(await near.find(ALICE)).toHaveLength(1);
    await near.close();
  });

  test('over ldaps is made only with a certificate that its authority signed', async () => {
    const key = join(folder, 'key.pem');
    const certificate = join(folder, 'certificate.pem');
    execFileSync(
      'openssl',
      [
        ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'],
        ...['-keyout', key, '-out', certificate, '-days', '2', '-subj', '/CN=localhost'],
        ...['-addext', 'subjectAltName=DNS:localhost'],
      ],
      { stdio: 'ignore' },
    );
    const server: TlsServer = createServer(
      { key: readFileSync(key), cert: readFileSync(certificate) },
      (client) => {
        const inner = connect({ path: join(folder, 'slapd/run/ldapi') });
        client.on('error', () => inner.destroy()).pipe(inner);
        inner.on('error', () => client.destroy()).pipe(client);
      },
    );
    server.on('tlsClientError', () => {});
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as { port: number };
    const uri = `ldaps://localhost:${port}`;
    const trusting = openDirectoryReader(
      settings('directory-reader', { uri, caFile: certificate }),
    );
    expect(await trusting.find(ALICE)).toHaveLength(1);
    const wary = openDirectoryReader(settings('directory-reader', { uri }));
    await expect(wary.find(ALICE)).rejects.toMatchObject(unreadable);
    await trusting.close();
    await wary.close();
    server.close();
  });

  test('that is cut is opened again and bound: no answer of an anonymous connection is ever used', async () => {
    // here anonymous users may search, and find nothing: the worst that a directory can do
    const rules = 'dn: olcDatabase={1}mdb,cn=config\nchangetype: modify\n';
    const rule = `to dn.base="${BASE}" attrs=entry by anonymous read by * break`;
    writeConfig(`${rules}add: olcAccess\nolcAccess: {0}${rule}\n`);
    const cuts = new Set<() => void>();
    const relay = createRelay((client) => {
      const inner = connect({ path: join(folder, 'slapd/run/ldapi') });
      const cut = () => void (client.destroy(), inner.destroy(), cuts.delete(cut));
      cuts.add(cut);
      client.on('error', cut).on('close', cut).pipe(inner);
      inner.on('error', cut).pipe(client);
    });
    const path = join(folder, 'relay');
    await new Promise<void>((resolve) => relay.listen(path, resolve));
    const uri = `ldapi://${encodeURIComponent(path)}`;
    const cutOff = openDirectoryReader(settings('directory-reader', { uri }));
    let right = 0;
    let failed = 0;
    const isDone = () => right > 300 && failed > 10;
    const look = async () => {
      while (!isDone()) {
        const answer = await cutOff.find(ALICE).catch((error: unknown) => {
          expect(error).toMatchObject(unreadable);
          failed++;
        });
        await sleep(Math.random() * 3);
        if (answer === undefined) continue;
        expect(answer).toHaveLength(1);
        right++;
      }
    };
    const cutting = async () => {
      while (!isDone()) {
        const enough = right + 10;
        await until(() => right >= enough || isDone());
        for (const cut of cuts) if (Math.random() < 0.7) cut();
      }
    };
    try {
      await Promise.all([cutting(), ...Array.from({ length: 4 }, look)]);
    } finally {
      await cutOff.close();
      relay.close();
      writeConfig(`${rules}delete: olcAccess\nolcAccess: {0}\n`);
    }
  });

  test('whose server stops fails at once, and works again when the server does', async () => {
    let right = 0;
    let failed = 0;
    const stop = new AbortController();
    const look = async () => {
      while (!stop.signal.aborted) {
        try {
          expect(await reader.find(ALICE)).toEqual([
            { ref: 'people/uid=alice', attributes: { uidNumber: ['1003'] } },
          ]);
          right++;
        } catch (error) {
          if ((error as { code?: string }).code !== 'BACKEND_UNREADABLE') throw error;
          failed++;
          await sleep(5);
        }
      }
    };
    const looking = Promise.all(Array.from({ length: 40 }, look));
    for (let round = 0; round < 4; round++) {
      await sleep(150);
      const pid = runningPid(slapd);
      if (pid === undefined) throw new Error('slapd is gone');
      process.kill(pid, round % 2 === 0 ? 'SIGKILL' : 'SIGTERM');
      while (runningPid(slapd) !== undefined) await sleep(5);
      const at = performance.now();
      await expect(reader.find(ALICE)).rejects.toMatchObject(unreadable);
      await expect(writer.do(change([], ['/x']))).rejects.toMatchObject({
        code: 'BACKEND_UNAVAILABLE',
      });
      // the attempt to connect is given up after 3 s
      expect(performance.now() - at).toBeLessThan(2900);
      await startServer(slapd);
    }
    await sleep(150);
    stop.abort();
    await looking;
    expect(right).toBeGreaterThan(0);
    expect(failed).toBeGreaterThan(0);
    expect(await reader.find(ALICE)).toHaveLength(1);
    await writer.do(change(['/bin/bash'], ['/bin/sh']));
    await writer.do(change(['/bin/sh'], ['/bin/bash']));
  });

  test('to a server that hangs is given up in time, and works again once the server does', async () => {
    await reader.find(ALICE);
    const pid = runningPid(slapd);
    if (pid === undefined) throw new Error('slapd is gone');
    process.kill(pid, 'SIGSTOP');
    await stopped(pid);
    const at = performance.now();
    try {
      const fresh = openDirectoryReader(settings('directory-reader'));
      await Promise.all([
        expect(reader.find(ALICE)).rejects.toMatchObject(unreadable),
        expect(fresh.find(ALICE)).rejects.toMatchObject(unreadable),
        expect(writer.do(change(['/x'], ['/y']))).rejects.toMatchObject({
          code: 'BACKEND_UNAVAILABLE',
        }),
      ]);
      expect(performance.now() - at).toBeLessThan(30_000);
      await fresh.close();
    } finally {
      process.kill(pid, 'SIGCONT');
    }
    expect(await reader.find(ALICE)).toHaveLength(1);
  });
});

/** Returns when no thread runs any more: a signal reaches them one after another, and one may still answer. */
async function stopped(pid: number): Promise<void> {
  const tasks = `/proc/${pid}/task`;
  await eventually('the stop', () =>
    readdirSync(tasks).every((task) =>
      /\) T /.test(readFileSync(join(tasks, task, 'stat'), 'utf8')),
    ),
  );
}
