/** Proves from outside what the requests have made: with ldapsearch, stat, getfacl, mariadb and redis-cli. */
import { join } from 'node:path';
import {
  output,
  queryAs,
  type DatabaseServer,
  type Ran,
  searchDirectory,
  type StackEnvironment,
} from './outside.ts';
import { attempt, chapter, check, checkSame, remark } from './telling.ts';

/** Who and what the story leaves, by the numbers that the directory gives them. */
interface Numbers {
  alice: number;
  bob: number;
  carol: number;
  dave: number;
  bridgebot: number;
  archivebot: number;
}

/** Looks up the numbers that requests were given: nothing below names one. */
export async function readNumbers(env: StackEnvironment): Promise<Numbers> {
  const number = async (uid: string): Promise<number> => {
    const [entry] = await searchDirectory(env, `(uid=${uid})`, 'uidNumber');
    const text = entry?.lines.find((line) => line.startsWith('uidNumber: '))?.slice(11);
    if (text === undefined) throw new Error(`the directory has no account ${uid}`);
    return Number(text);
  };
  return {
    alice: await number('alice'),
    bob: await number('bob'),
    carol: await number('carol'),
    dave: await number('dave'),
    bridgebot: await number('tools.bridgebot'),
    archivebot: await number('tools.archivebot'),
  };
}

/** The entries' exact shapes: what is expected is all that may be there. */
export async function proveDirectory(env: StackEnvironment, numbers: Numbers): Promise<void> {
  const base = env['LDAP_BASE'] ?? '';
  const person = (name: string) => `uid=${name},ou=people,${base}`;
  const tool = (name: string) => `uid=tools.${name},ou=people,ou=servicegroups,${base}`;
  chapter('The directory, as ldapsearch shows it');

  const [alice] = await searchDirectory(env, '(uid=alice)');
  remark([`dn: ${alice?.dn}`, ...(alice?.lines ?? [])].map((line) => line.slice(0, 90)).join('\n'));
  const keys = (alice?.lines ?? []).filter((line) => line.startsWith('sshPublicKey: '));
  await proveEntry(env, 'alice: a person, the new address, one key left', person('alice'), [
    ...objectClasses('inetOrgPerson', 'ldapPublicKey', 'person', 'posixAccount'),
    ...['uid: alice', 'cn: Alice Arnold', 'sn: Alice Arnold', `uidNumber: ${numbers.alice}`],
    ...['gidNumber: 500', 'homeDirectory: /home/alice', 'loginShell: /bin/bash'],
    'mail: alice@example.net',
    ...keys.slice(0, 1),
  ]);
  check(
    'her key is one canonical line, without its comment',
    /^sshPublicKey: ssh-ed25519 [A-Za-z0-9+/]+=*$/.test(keys[0] ?? ''),
    `${keys[0]?.slice(14, 40)}…`,
  );
  for (const name of ['bridgebot', 'archivebot'] as const) {
    const members =
      name === 'bridgebot'
        ? [person('alice'), person('bob'), tool('bridgebot')]
        : [person('bob'), tool('archivebot'), tool('bridgebot')];
    await proveEntry(
      env,
      `${name}: the group, and who is in it`,
      `cn=tools.${name},ou=servicegroups,${base}`,
      [
        ...objectClasses('groupOfNames', 'posixGroup'),
        ...[`cn: tools.${name}`, `gidNumber: ${numbers[name]}`],
        ...members.map((dn) => `member: ${dn}`),
      ],
    );
    await proveEntry(env, `${name}: the account, uid = gid`, tool(name), [
      ...objectClasses('person', 'posixAccount', 'shadowAccount', 'top'),
      ...[`uid: tools.${name}`, `cn: tools.${name}`, `sn: tools.${name}`],
      ...[`uidNumber: ${numbers[name]}`, `gidNumber: ${numbers[name]}`],
      ...[`homeDirectory: /data/project/${name}`, 'loginShell: /bin/bash'],
    ]);
    await proveEntry(
      env,
      `${name}: the sudo rule, for its members alone`,
      `cn=runas-tools.${name},ou=sudoers,cn=tools,ou=projects,${base}`,
      [
        ...objectClasses('sudoRole'),
        ...[`cn: runas-tools.${name}`, `sudoUser: %tools.${name}`, `sudoRunAsUser: tools.${name}`],
        ...['sudoHost: ALL', 'sudoCommand: ALL', 'sudoOption: !authenticate'],
      ],
    );
  }
  await attempt('the realm group', async () => {
    const [group] = await searchDirectory(env, '(cn=project-tools)', 'member');
    const isMember = (name: string) => group?.lines.includes(`member: ${person(name)}`) === true;
    const seen = ['steward', 'alice', 'bob', 'carol', 'dave'].filter(isMember).join(' ');
    checkSame('the realm group: carol waits, dave has left', seen, 'steward alice bob');
  });
}

async function proveEntry(
  env: StackEnvironment,
  what: string,
  dn: string,
  lines: readonly string[],
): Promise<void> {
  await attempt(what, async () => {
    const [rdn = ''] = dn.split(',');
    const found = (await searchDirectory(env, `(${rdn})`)).find((entry) => entry.dn === dn);
    if (found === undefined) throw new Error(`there is no entry ${dn}`);
    const wanted = new Set(lines);
    const odd = [...wanted.symmetricDifference(new Set(found.lines))];
    check(what, odd.length === 0, odd.length === 0 ? rdn : `not as it must be: ${odd.join(' · ')}`);
  });
}

function objectClasses(...names: string[]): string[] {
  return names.map((name) => `objectClass: ${name}`);
}

/** Owners and modes on the file server. */
export async function proveHomes(env: StackEnvironment, numbers: Numbers): Promise<void> {
  chapter('The homes, as stat shows them', env['DATA_ROOT']);
  const { alice, bridgebot, archivebot } = numbers;
  const tool = (name: string, id: number): [string, string][] => [
    [`data/project/${name}`, `directory 2775 ${id}:${id}`],
    [`data/project/${name}/public_html`, `directory 2775 ${id}:${id}`],
    [`data/project/${name}/logs`, `directory 2775 ${id}:${id}`],
    [`data/project/${name}/replica.my.cnf`, `regular file 440 ${id}:${id}`],
  ];
  const paths: [string, string][] = [
    ...tool('bridgebot', bridgebot),
    ...tool('archivebot', archivebot),
    ['home/alice', `directory 700 ${alice}:500`],
    ['home/alice/replica.my.cnf', `regular file 440 ${alice}:${alice}`],
  ];
  const root = env['DATA_ROOT'] ?? '';
  await attempt('stat', async () => {
    const files = paths.map(([path]) => join(root, path));
    const seen = (await output('stat', ['-c', '%F %a %u:%g', ...files])).trim().split('\n');
    for (const [index, [path, wanted]] of paths.entries()) {
      checkSame(`/${path}`, seen[index] ?? '', wanted);
    }
  });
  await attempt('what bob writes in bridgebot, alice can change', async () => {
    const home = join(root, 'data/project/bridgebot');
    const acl = await output('getfacl', ['-p', '-c', '-d', home]);
    const group = /^(?:default:)?group::(\S+)/m.exec(acl)?.[1] ?? 'no default ACL';
    checkSame(
      'what bob writes in bridgebot, alice can change',
      `new files: group ${group}`,
      'new files: group rwx',
    );
  });
  await attempt('carol, who waits, has no home', async () => {
    const found = await output('find', [join(root, 'home'), '-maxdepth', '1', '-name', 'carol']);
    checkSame('carol, who waits, has no home', found.trim() || 'none', 'none');
  });
}

/** Logs in with the credentials files on both servers, and tries what must and must not work. */
export async function proveDatabases(
  env: StackEnvironment,
  numbers: Numbers,
  oldCredentials: string | undefined,
): Promise<void> {
  chapter(
    'The databases, with nothing but the file in the home',
    'mariadb --defaults-file=…/replica.my.cnf',
  );
  const file = (path: string) => join(env['DATA_ROOT'] ?? '', path, 'replica.my.cnf');
  const bridgebot = file('data/project/bridgebot');
  const archivebot = file('data/project/archivebot');
  const [owner, other] = [`s${numbers.bridgebot}`, `s${numbers.archivebot}`];
  const own = `${owner}__x`;

  for (const [name, credentials, user] of [
    ['bridgebot', bridgebot, owner],
    ['archivebot', archivebot, other],
    ['alice', file('home/alice'), `u${numbers.alice}`],
  ] as const) {
    for (const server of ['replica', 'toolsdb'] as const) {
      await works(
        env,
        `${name} logs in on ${server}`,
        credentials,
        server,
        'SELECT current_user()',
        `${user}@%`,
      );
    }
  }
  await works(
    env,
    'bridgebot reads the published views',
    bridgebot,
    'replica',
    'SELECT count(*) FROM enwiki_p.page',
    '2',
  );
  await fails(
    env,
    'but not what is behind them',
    bridgebot,
    'replica',
    'SELECT * FROM enwiki.page',
  );
  await works(
    env,
    'it makes a database of its own',
    bridgebot,
    'toolsdb',
    `CREATE DATABASE IF NOT EXISTS ${own}; CREATE OR REPLACE TABLE ${own}.t (a INT);
     INSERT INTO ${own}.t VALUES (42); SELECT a FROM ${own}.t`,
    '42',
    `CREATE DATABASE ${own}`,
  );
  await fails(env, 'archivebot cannot read it', archivebot, 'toolsdb', `SELECT a FROM ${own}.t`);
  await fails(env, 'nor drop it', archivebot, 'toolsdb', `DROP DATABASE ${own}`);
  await fails(
    env,
    'nor make one in that name',
    archivebot,
    'toolsdb',
    `CREATE DATABASE ${owner}__y`,
  );
  await fails(env, 'nor one in no name', archivebot, 'toolsdb', 'CREATE DATABASE mine');
  await fails(
    env,
    'nor look at the accounts',
    archivebot,
    'toolsdb',
    'SELECT * FROM mysql.global_priv',
  );
  await fails(env, 'dave, who has left, cannot log in', file('home/dave'), 'toolsdb', 'SELECT 1');
  await fails(env, 'nor on the other server', file('home/dave'), 'replica', 'SELECT 1');
  if (oldCredentials !== undefined) {
    for (const server of ['replica', 'toolsdb'] as const) {
      await fails(
        env,
        `bridgebot's old password is dead on ${server}`,
        oldCredentials,
        server,
        'SELECT 1',
      );
    }
  }
}

async function works(
  env: StackEnvironment,
  what: string,
  file: string,
  server: DatabaseServer,
  sql: string,
  wanted: string,
  saying = '',
): Promise<void> {
  await attempt(what, async () => {
    const { code, stdout, stderr, ms } = await queryAs(env, file, server, sql);
    const got = code === 0 ? stdout.trim() : errorOf({ stderr });
    if (got === wanted && saying !== '') check(what, true, saying, ms);
    else checkSame(what, got, wanted, ms);
  });
}

/** Access denied: 1044 to a database, 1045 to the server, 1142 to a table, 4151 the account is locked. */
const DENIED = /^ERROR (1044|1045|1142|4151)\b/;

async function fails(
  env: StackEnvironment,
  what: string,
  file: string,
  server: DatabaseServer,
  sql: string,
): Promise<void> {
  await attempt(what, async () => {
    const ran = await queryAs(env, file, server, sql);
    const seen = ran.code === 0 ? 'it worked' : errorOf(ran);
    check(what, ran.code !== 0 && DENIED.test(seen), seen.slice(0, 80), ran.ms);
  });
}

function errorOf({ stderr }: Pick<Ran, 'stderr'>): string {
  return stderr
    .trim()
    .replaceAll('\n', ' ')
    .replace(/ at line \d+/, '');
}

/** Looks into the portal's queue of events, as redis-cli shows it: numbered, in order, none left out. */
export async function proveEvents(env: StackEnvironment, request: string): Promise<void> {
  chapter('What the portal hears, in the queue events.portal');
  const redis = (input: string) => output('redis-cli', ['-u', env['REDIS_URL'] ?? ''], { input });
  await attempt('the events are numbered, and in order', async () => {
    const ids = (await redis('LRANGE bull:events.portal:wait 0 -1\n')).trim().split('\n').reverse();
    const jobs = await redis(ids.map((id) => `HGET bull:events.portal:${id} data\n`).join(''));
    const events = jobs
      .trim()
      .split('\n')
      .map((text) => JSON.parse(text) as { seq: number; event: string; request?: string });
    const about = events.filter((event) => event.request === request);
    for (const event of about) remark(JSON.stringify(event));
    checkSame(
      'a tool is accepted, ready, done',
      about.map(({ event }) => event).join(', '),
      'request.accepted, tool.ready, request.done',
    );
    const inOrder = events.every(({ seq }, index) => seq === index + 1);
    check('the events are numbered, and in order', inOrder, `1 to ${events.length}`);
  });
}
