/** For the laws: roles with real readers and writers, wanted states, and a look at everything from outside. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { type Connection, createConnection } from 'mariadb';
import pg from 'pg';
import { realmOf } from '../src/shared/config.ts';
import { prepareFileAreas } from '../src/backends/files/file-acls.ts';
import { prepareArchives } from '../src/archives/homes/file-archive-mount.ts';
import type { Role } from '../src/reconcile/wanted.ts';
import type { Action } from '../src/reconcile/action.ts';
import { apply, type Writer, survey, type SubjectSurvey } from '../src/reconcile/engine.ts';
import { connectionSettings, openPool, type Pool } from '../src/database/connection.ts';
import { readWanted } from '../src/reconcile/wanted-queries.ts';
import { DATABASES } from '../src/roles/databases/worker.ts';
import { DIRECTORY } from '../src/roles/directory/worker.ts';
import { HOMES } from '../src/roles/homes/worker.ts';
import type { RoleParts } from '../src/reconcile/role.ts';
import { openWorld, type World, type WorldOptions } from './stack.ts';

export const PARTS = {
  directory: DIRECTORY,
  homes: HOMES,
  databases: DATABASES,
} as unknown as Record<Role, RoleParts<unknown>>;

export const ROLE_ORDER: readonly Role[] = ['directory', 'homes', 'databases'];

/** Thrown by a writer that has died. */
export class Death extends Error {}

/**
 * Writer that die at the n-th action, before it or just after it, and stay dead. To die before one leaves all as to die
 * after the one before it.
 */
export function dyingWriter(writer: Writer, n: number, when: 'before' | 'after'): Writer {
  let count = 0;
  return {
    async do(action) {
      if (count > n) throw new Death();
      count += 1;
      if (count > n && when === 'before') throw new Death();
      await writer.do(action);
      if (count > n) throw new Death();
    },
  };
}

export interface LawsWorld {
  world: World;
  owner: Pool;
  /** surveys of subjects by one role, through its reader */
  look(role: Role, uids: readonly number[]): Promise<SubjectSurvey[]>;
  /** one run of a role on a subject: survey and apply, with this writer or its own; the actions done */
  run(role: Role, uid: number, writer?: (own: Writer) => Writer): Promise<Action[]>;
  /** runs of all roles until none has a step left */
  settle(uids: readonly number[]): Promise<void>;
  /** everything outside, as a map from what to what */
  dump(): Promise<Map<string, string>>;
  close(): Promise<void>;
}

export async function openLawsWorld(name: string, options?: WorldOptions): Promise<LawsWorld> {
  const world = await openWorld(name, options);
  const { config } = world;
  await prepareFileAreas(config.files);
  await prepareArchives(config.archives.homes);
  const realm = realmOf(config);
  const owner = openPool(config, 'owner', { max: 2, durable: false });
  const roles = await Promise.all(
    ROLE_ORDER.map(async (role) => {
      const pool = openPool(config, role, { max: 4, durable: false });
      const holder = new pg.Client(connectionSettings(config, role));
      await holder.connect();
      return {
        role,
        pool,
        reader: PARTS[role].openReader(config),
        writer: PARTS[role].openWriter(config, { pool, holderOf: () => holder }),
        holder,
        targets: PARTS[role].targets,
      };
    }),
  );
  const of = (role: Role) => roles.find((each) => each.role === role)!;
  const look = async (role: Role, uids: readonly number[]) => {
    const { targets, pool, reader } = of(role);
    return survey(targets, await readWanted(pool, role, uids), realm, reader);
  };
  const run = async (role: Role, uid: number, wrap = (own: Writer) => own) => {
    const { targets, writer } = of(role);
    const done: Action[] = [];
    const [found] = await look(role, [uid]);
    const wrapped = wrap(writer);
    const troubles = await apply(targets, found!, {
      async do(action) {
        await wrapped.do(action);
        done.push(action);
      },
    });
    if (troubles.length > 0 && wrapped === writer) {
      throw new Error(
        troubles.map((each) => `${each.target}: ${each.code} ${each.sentence}`).join('\n'),
      );
    }
    return done;
  };
  /** one to each database server, once there was a dump */
  const admins = new Map<string, Connection>();
  const adminOf = async ({ name: server, socket }: World['replica']) => {
    const admin =
      admins.get(server) ?? (await createConnection({ socketPath: socket, user: 'root' }));
    admins.set(server, admin);
    return admin;
  };
  return {
    world,
    owner,
    look,
    run,
    async settle(uids) {
      for (const uid of uids) for (const role of ROLE_ORDER) await run(role, uid);
    },
    async dump() {
      const all = dumpOutside(world);
      const { people, tools } = config.ids;
      const range = [people[0]?.first, tools[0]?.last];
      for (const server of [world.replica, world.tools]) {
        const admin = await adminOf(server);
        for (const sql of ACCOUNTS) {
          const rows = await admin.query<unknown[][]>({ sql, rowsAsArray: true }, range);
          for (const row of rows) all.set(`${server.name} ${row.join('\t')}`, '');
        }
      }
      return all;
    },
    async close() {
      await Promise.all([...admins.values()].map((admin) => admin.end()));
      await Promise.all(
        roles.flatMap(({ reader, writer, pool, holder }) => [
          reader.close(),
          writer.close(),
          pool.end(),
          holder.end(),
        ]),
      );
      await owner.end();
      await world.close();
    },
  };
}

/** Of the database users of a world: they are named by its numbers. */
const ACCOUNTS = [
  'SELECT User, Host, Priv FROM mysql.global_priv',
  'SELECT User, Host, Db, Select_priv, Drop_priv FROM mysql.db',
  'SELECT * FROM mysql.roles_mapping',
].map((select) => `${select} WHERE User REGEXP '^[su][0-9]+$' AND SUBSTR(User, 2) BETWEEN ? AND ?`);

/** Directory, and files with owners, modes and the time of their last change. */
function dumpOutside({ slapd, ldapAdmin, dataRoot }: World): Map<string, string> {
  const all = new Map<string, string>();
  const ldif = execFileSync(
    'ldapsearch',
    [
      '-LLL',
      '-x',
      '-o',
      'ldif-wrap=no',
      '-H',
      slapd.uri,
      '-D',
      ldapAdmin.dn,
      '-w',
      ldapAdmin.password,
      '-b',
      slapd.base,
      '*',
      'modifyTimestamp',
      'entryCSN',
    ],
    { encoding: 'utf8', maxBuffer: 1 << 26 },
  );
  for (const entry of ldif.split('\n\n')) {
    const [dn = '', ...lines] = entry.split('\n');
    if (dn !== '') all.set(dn, lines.sort().join('\n'));
  }
  const files = execFileSync(
    'find',
    [
      dataRoot,
      '-mindepth',
      '3',
      '-not',
      '-path',
      '*/.chamberlain*',
      '-printf',
      '%P\t%y %U:%G %m %l %i %C@\n',
    ],
    { encoding: 'utf8' },
  );
  for (const line of files.split('\n').filter((text) => text !== '')) {
    const [path = '', rest = ''] = line.split('\t');
    all.set(`file ${path}`, rest);
  }
  return all;
}

/** What stands in one dump and not, or otherwise, in the other. */
export function differences(before: Map<string, string>, after: Map<string, string>): string[] {
  const keys = new Set([...before.keys(), ...after.keys()]);
  return [...keys].filter((key) => before.get(key) !== after.get(key)).sort();
}

let made = 0;

/** Writes a person into the wanted state, as requests would. */
export async function wantPerson(
  owner: Pool,
  world: World,
  { realmMember = true, keys = 1 } = {},
): Promise<{ uid: number; name: string }> {
  const n = (made += 1);
  const uid = world.config.ids.people[0]!.first + n;
  const name = `p${n}`;
  await owner.query(`INSERT INTO posix_ids VALUES ($1, 'person')`, [uid]);
  await owner.query('INSERT INTO names VALUES ($1, $2)', [name, uid]);
  await owner.query(
    `INSERT INTO people (uid, shell_name, display_name, display_name_key, email, admitted_at)
     VALUES ($1, $2, $3, lower($3), $4, CASE WHEN $5 THEN now() END)`,
    [uid, name, `Person (${n}) *`, `${name}@example.org`, realmMember],
  );
  if (realmMember) {
    await owner.query('INSERT INTO realm_members VALUES ($1)', [uid]);
    await owner.query('INSERT INTO credentials VALUES ($1)', [uid]);
  }
  for (let key = 0; key < keys; key += 1) await wantKey(owner, uid);
  return { uid, name };
}

export async function wantKey(owner: Pool, person: number): Promise<string> {
  const bytes = createHash('sha256')
    .update(`key ${(made += 1)}`)
    .digest();
  const blob = Buffer.concat([Buffer.from('0000000b7373682d6564323535313900000020', 'hex'), bytes]);
  const fingerprint = `SHA256:${createHash('sha256').update(blob).digest('base64').replace(/=+$/, '')}`;
  await owner.query(
    'INSERT INTO ssh_keys (person, fingerprint, line, label) VALUES ($1, $2, $3, $4)',
    [person, fingerprint, `ssh-ed25519 ${blob.toString('base64')}`, `Laptop ${made}`],
  );
  return fingerprint;
}

/** Writes a tool into the wanted state, as tool.create would. */
export async function wantTool(
  owner: Pool,
  world: World,
  maintainers: readonly number[],
): Promise<{ uid: number; name: string }> {
  const n = (made += 1);
  const uid = world.config.ids.tools[0]!.first + n;
  const name = `t${n}`;
  await owner.query(`INSERT INTO posix_ids VALUES ($1, 'tool')`, [uid]);
  await owner.query('INSERT INTO names VALUES ($1, $2)', [`tools.${name}`, uid]);
  await owner.query('INSERT INTO tools (uid, name, account, title) VALUES ($1, $2, $3, $4)', [
    uid,
    name,
    `tools.${name}`,
    'a tool',
  ]);
  await owner.query('INSERT INTO credentials VALUES ($1)', [uid]);
  await owner.query('INSERT INTO maintainers SELECT $1, unnest($2::int[])', [uid, maintainers]);
  return { uid, name };
}
