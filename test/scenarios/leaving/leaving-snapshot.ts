/**
 * What a person or tool has created, and what the whole system says of it: seen from outside, for comparison.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { treeOf } from '../../backends/files/hostile-home.ts';
import { administer, type World } from '../../stack.ts';
import { archivesOf, owedOf, stateOf, type Subject, withdrawnIn } from './leaving-world.ts';
import { homeOf, query, readCredentials, readDirectory } from '../outside.ts';

/**
 * Fills a home with files that are hard to preserve, and creates databases with what tenants create in them.
 */
export async function fill(world: World, subject: Subject, { rows = 3 } = {}): Promise<void> {
  const { uid, leaver } = subject;
  const home = homeOf(world, leaver);
  mkdirSync(join(home, 'data', 'inner'), { recursive: true });
  writeFileSync(join(home, 'data', 'precious'), 'kept\n', { mode: 0o640 });
  writeFileSync(join(home, 'data', 'inner', 'script'), '#!/bin/sh\n');
  execFileSync(
    'sh',
    [
      '-euc',
      `ln -s /etc/passwd elsewhere; ln precious hard; mkfifo fifo; truncate -s 900K sparse
       setfacl -m u:60003:rw,g:60004:--- precious; setfacl -d -m u:60005:rwx inner
       printf x > "$(printf 'new\\nline \\377')"; chmod 1777 inner
       chown -hR ${uid}:${uid} .; chown 60001:60002 inner/script; chmod 2755 inner/script; touch -d @1.5 precious`,
    ],
    { cwd: join(home, 'data') },
  );
  await fillDatabases(world, subject, rows);
}

async function fillDatabases(world: World, { user }: Subject, rows: number): Promise<void> {
  const [data, odd] = [`\`${user}__data\``, `\`${user}__o"dd\``];
  await administer(
    world.tools.socket,
    `CREATE DATABASE ${data} CHARACTER SET latin1;
     CREATE TABLE ${data}.t (n INT AUTO_INCREMENT PRIMARY KEY, x VARBINARY(16), y TEXT, KEY (x)) COMMENT='a \\'t';
     INSERT INTO ${data}.t (x, y) SELECT UNHEX(MD5(seq)), CONCAT('row ', seq, 'ö\\n') FROM ${data}.seq_1_to_${rows};
     CREATE TABLE ${data}.a (n INT, d DATE) ENGINE=Aria;
     INSERT INTO ${data}.a VALUES (1, '2026-01-01'), (NULL, NULL);
     CREATE DEFINER='${user}'@'%' SQL SECURITY INVOKER VIEW ${data}.v AS SELECT n, y FROM ${data}.t WHERE n > 1;
     CREATE DATABASE ${odd}; CREATE TABLE ${odd}.\`t\`\`b\` (n INT PRIMARY KEY);
     INSERT INTO ${odd}.\`t\`\`b\` VALUES (42);`,
  );
}

/**
 * Everything that a subject has created: each file of its home, each row; with the same number, name and time.
 */
export interface Treasure {
  home: string[];
  databases: string[];
}

/** `home` may be elsewhere than in its place. */
export async function treasureOf(
  world: World,
  subject: Subject,
  home = homeOf(world, subject.leaver),
): Promise<Treasure> {
  return { home: homeLines(home), databases: await databaseLines(world, subject) };
}

/** Without what changes with the password: that file, and the time of the folder that contains it. */
function homeLines(home: string): string[] {
  if (!existsSync(home)) return [];
  return treeOf(home)
    .filter((line) => !line.includes('./replica.my.cnf'))
    .map((line) => (line.startsWith('folder . ') ? line.replace(/mtime \S+/, '') : line));
}

async function databaseLines(world: World, { user }: Subject): Promise<string[]> {
  const ask = async (sql: string) =>
    (await administer(world.tools.socket, sql)).split('\n').filter((line) => line !== '');
  const like = `'${user}\\_\\_%'`;
  const schemas = await ask(
    `SELECT CONCAT_WS(' ', 'database', schema_name, default_character_set_name, default_collation_name)
     FROM information_schema.schemata WHERE schema_name LIKE ${like} ORDER BY 1;`,
  );
  const tables = await ask(
    `SELECT CONCAT('\`', REPLACE(table_schema, '\`', '\`\`'), '\`.\`', REPLACE(table_name, '\`', '\`\`'), '\`'), table_type
     FROM information_schema.tables WHERE table_schema LIKE ${like} ORDER BY 1;`,
  );
  const lines = [...schemas];
  for (const [table = '', type] of tables.map((line) => line.split('\t'))) {
    const rows = await ask(
      `SHOW CREATE TABLE ${table}; SELECT '${type}'; SELECT * FROM ${table} ORDER BY 1;
       ${type === 'VIEW' ? '' : `CHECKSUM TABLE ${table} EXTENDED;`}`,
    );
    lines.push(...rows.map((row) => `${table} ${row}`));
  }
  return lines;
}

/**
 * What the whole system says of a subject, line by line, such that two subjects of the same kind with the same
 * history have the same: names, numbers and times are left out.
 */
export async function snapshotOf(world: World, subject: Subject): Promise<string[]> {
  const { uid, account, name, leaver, user } = subject;
  const lines: string[] = [`state ${await stateOf(world, subject)}`];
  const owed = await owedOf(world, subject);
  lines.push(...owed.map((line) => `owed ${line}`));
  const archivals = await query<Record<string, boolean>>(
    world,
    `SELECT left_at IS NOT NULL AS left, expired_at IS NOT NULL AS expired, back_at IS NOT NULL AS back,
       returning_at IS NOT NULL AS returning FROM archivals WHERE subject = $1 ORDER BY archival`,
    [uid],
  );
  lines.push(...archivals.map((row) => `archival ${JSON.stringify(row)}`));
  const archives = await archivesOf(world, subject);
  lines.push(...archives.map((each) => `archive of ${each.role}`));
  for (const role of ['homes', 'databases'] as const) {
    lines.push(
      ...filesIn(world.config.archives[role], account).map((each) => `${role} has ${each}`),
    );
  }
  lines.push(...(await directoryLines(world, subject)));
  for (const server of ['replica', 'tools'] as const) {
    lines.push(...(await accountLines(world, server, subject)));
  }
  const home = homeOf(world, leaver);
  lines.push(
    ...homeLines(home).map((line) => `home ${line.replace(/mtime \S+/, '')}`),
    ...withdrawnIn(world, subject).map((path) => `withdrawn ${path}`),
  );
  if (existsSync(join(home, 'replica.my.cnf'))) {
    const { mode, uid: owner } = readCredentials(world, leaver);
    lines.push(`credentials ${mode.toString(8)} ${owner}`);
  }
  lines.push(...(await databaseLines(world, subject)));
  const names: [RegExp, string][] = [
    [new RegExp(`\\b${name}\\b`, 'g'), 'NAME'],
    [new RegExp(`(?<![0-9])${uid}(?![0-9])`, 'g'), 'NUMBER'],
    [new RegExp(`\\b${user}`, 'g'), 'USER'],
  ];
  return lines.map((line) => names.reduce((text, [from, to]) => text.replaceAll(from, to), line));
}

/** The content of a folder of archives of an account, including incomplete archives and empty folders. */
function filesIn(folder: string, account: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { withFileTypes: true })
    .filter(({ name }) => name.replace(/^\./, '').startsWith(`${account}.`))
    .flatMap((each) => {
      if (!each.isDirectory()) return [`${each.name}:`];
      const inside = readdirSync(join(folder, each.name)).sort();
      return [[`${each.name}:`, ...inside].join(' ')];
    })
    .sort();
}

/** Entries of the account, and the groups that it is a member of. */
async function directoryLines(world: World, { account, leaver }: Subject): Promise<string[]> {
  const { base } = world.config.ldap;
  const dn =
    'tool' in leaver
      ? `uid=${account},ou=people,ou=servicegroups,${base}`
      : `uid=${account},ou=people,${base}`;
  const lines: string[] = [];
  for (const [entryDn, entry] of await readDirectory(world, { operational: true })) {
    const isOf = entryDn.split(',')[0]?.split('=')[1];
    if (isOf === account || isOf === `runas-${account}`) {
      for (const [attribute, values] of Object.entries(entry)) {
        if (OF_TIME.test(attribute)) continue;
        const shown = attribute === 'pwdAccountLockedTime' ? ['set'] : values.map(withoutEnd);
        lines.push(`${entryDn} ${attribute}: ${shown.join(' | ')}`);
      }
    } else if ((entry['member'] ?? []).includes(dn)) {
      lines.push(`${entryDn} holds ${dn}`);
    }
  }
  return lines.sort();
}

/** A seal without its number, and without what follows from the time when it was made. */
function withoutEnd(value: string): string {
  return value.replace(/^[0-9a-f]{16} \S{88} (\{.*),"number":\d+,"until":"[^"]*"\}$/, 'sealed $1');
}

/** Attributes that the server maintains by itself. */
const OF_TIME =
  /^(entry(UUID|CSN|DN)|(create|modify)Timestamp|(creators|modifiers)Name|structuralObjectClass|subschemaSubentry|hasSubordinates)$/;

/**
 * Fields of `mysql.global_priv` by name, without the time, and without the field that it is not locked, which
 * may be absent.
 */
function sortedRights(json: string): string {
  const fields = Object.entries(JSON.parse(json) as Record<string, unknown>);
  return JSON.stringify(
    fields
      .filter(([name, value]) => name !== 'password_last_changed' && value !== false)
      .toSorted(([a], [b]) => (a < b ? -1 : 1)),
  );
}

/** The account on a database server: its rights, whether its password is the recorded one, and the lock. */
async function accountLines(
  world: World,
  server: 'replica' | 'tools',
  { uid, user }: Subject,
): Promise<string[]> {
  const out = await administer(
    world[server].socket,
    `SELECT Host, Priv FROM mysql.global_priv WHERE User = '${user}';
     SELECT 'db', Db, Select_priv, Drop_priv FROM mysql.db WHERE User = '${user}';
     SELECT 'role', Role FROM mysql.roles_mapping WHERE User = '${user}';`,
  );
  const [verifiers] = await query<{ verifier: string; previous: string | null }>(
    world,
    'SELECT verifier, previous_verifier AS previous FROM database_verifiers WHERE account = $1',
    [uid],
  );
  return out
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const known = [
        [verifiers?.verifier, 'the verifier'],
        [verifiers?.previous, 'the verifier before'],
      ] as const;
      const named = known.reduce((text, [of, as]) => (of ? text.replaceAll(of, as) : text), line);
      // in the order in which they were set
      return `${server} ${named.replace(/\{.*\}/, sortedRights)}`;
    })
    .sort();
}
