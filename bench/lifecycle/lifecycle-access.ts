/** A person's access, tested from outside: how soon a suspension revokes each part of it. */
import { existsSync, readFileSync, statSync } from 'node:fs';
import { open, readFile, rename } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Attribute, Change, Client } from 'ldapts';
import { type Connection, createConnection } from 'mariadb';
import type pg from 'pg';
import { adminDn } from '../../deploy/ldap/render.ts';
import type { LoginHost } from '../../dev/servers/login-host.ts';
import { ensurePassword } from '../../dev/servers/secret.ts';
import { readSecret } from '../../src/shared/config.ts';
import { PLACES } from '../../src/login-host/places.ts';
import { CLOSED_FILE } from '../../src/login-host/status.ts';
import {
  CREDENTIALS_NAME,
  parseCredentialsFile,
  renderCredentialsFile,
  verifierOf,
} from '../../src/credentials/credentials.ts';
import { STEWARD } from '../idle.ts';
import {
  maintainersOf,
  PEOPLE_FIRST,
  personName,
  toolName,
  TOOLS_FIRST,
} from '../population/population-names.ts';
import type { Portal } from '../portal.ts';
import { FLOOR_IDS, type MeasuredRealm } from '../realm.ts';

/** Between two tests: often enough to see the change, seldom enough not to be the load. */
const TRY_EVERY_MS = 5;
const TIMEOUT_MS = 30_000;
/** The agent looks at intervals: a suspension comes at any moment between two looks. */
const PAUSE_MS = 500;

/** The server's answer to a wrong password, and to a right one of a locked account. */
const ACCESS_DENIED = 1045;
const ACCOUNT_LOCKED = 4151;

/** By kind of access, milliseconds from `Queue.add`. */
export type Closing = Record<string, number>;

export interface Access {
  /** Suspends the nth of those who maintain a tool. Each kind of access worked before. */
  suspend(n: number): Promise<Closing>;
  /** The same writes by plain programs in parallel, each as soon as what it needs exists; ms. */
  floor(n: number): Promise<number>;
  close(): Promise<void>;
}

/** Opens what is needed for the tests; the login host's agent has everybody's key by then. */
export async function openAccess(
  realm: MeasuredRealm,
  portal: Portal,
  host: LoginHost,
  population: { tools: number; people: number },
): Promise<Access> {
  const { config, stack } = realm;
  const { base } = config.ldap;
  const path = decodeURIComponent(stack.slapd.uri.slice('ldapi://'.length));
  const directory = new Client({
    url: 'ldap://localhost',
    timeout: TIMEOUT_MS,
    createConnection: () => connect({ path }),
  });
  await directory.bind(adminDn(base), ensurePassword(config.secrets, 'ldap-admin'));
  const floorEntry = `cn=bench,${base}`;
  await directory.add(floorEntry, { objectClass: ['top', 'applicationProcess'], cn: 'bench' });
  const postgres = await realm.connect();
  await postgres.query('CREATE TABLE bench_floor (what text)');
  const servers = [stack.replica, stack.tools].map(({ name, socket }) => ({ name, socket }));
  const writer = await Promise.all(
    servers.map(({ socket }) =>
      createConnection({
        socketPath: socket,
        user: 'chamberlain_databases',
        password: readSecret(config, 'mariadb', 'databases'),
      }),
    ),
  );
  const floorUser = `s${FLOOR_IDS.last}`;
  for (const connection of writer) {
    await connection.query(`CREATE USER '${floorUser}'@'%' IDENTIFIED BY PASSWORD ?`, [
      verifierOf('floor'),
    ]);
  }
  const toolsOf = Map.groupBy(
    Array.from({ length: population.tools }, (_, tool) => tool).flatMap((tool) =>
      maintainersOf(tool, population).map((person) => ({ tool, person })),
    ),
    ({ person }) => person,
  );
  const leavers = [...toolsOf.keys()].toSorted((a, b) => a - b);
  const inside = (...parts: string[]) => join(host.machine.root, ...parts);
  const groupFile = inside(PLACES.extrausers, 'group');
  // the host's first reading of the directory
  while (!existsSync(groupFile)) await sleep(TRY_EVERY_MS);
  const groups = openReader(groupFile);
  const closed = openReader(inside(PLACES.login, CLOSED_FILE));
  const files = config.files.root + config.files.toolHomes;

  async function finds(filter: string): Promise<boolean> {
    const attributes = ['1.1'];
    const { searchEntries } = await directory.search(base, { filter, attributes });
    return searchEntries.length > 0;
  }

  return {
    async suspend(n) {
      const number = leavers[n];
      if (number === undefined) throw new Error('there are not enough people with tools');
      const person = personName(number);
      const tools = (toolsOf.get(number) ?? []).map(({ tool }) => tool);
      const dn = `uid=${person},ou=people,${base}`;
      const passwords = await readPasswords(realm, tools, number);
      const own = `u${PEOPLE_FIRST + number}`;
      const locked = (socket: string) => refuses(socket, own, passwords, ACCOUNT_LOCKED);
      const keyFile = inside(PLACES.keys, person);
      const membership = new RegExp(`[:,]${person}(,|$)`, 'm');
      const closure = new RegExp(`^${person}$`, 'm');
      const access: Record<string, () => boolean | Promise<boolean>> = {
        'the key file': () => !existsSync(keyFile),
        'every group on the login host': () => !membership.test(groups()),
        "the login host's list of closed accounts": () => closure.test(closed()),
        'the account in the directory': () => finds(`(&(uid=${person})(pwdAccountLockedTime=*))`),
        'every group in the directory': async () => !(await finds(`(member=${dn})`)),
      };
      for (const { name, socket } of servers) {
        access[`the own account on ${name}`] = () => locked(socket);
        const left = tools.map((tool) => `s${TOOLS_FIRST + tool}`);
        access[`the password of each tool on ${name}`] = async () => {
          while (left[0] !== undefined) {
            if (!(await refuses(socket, left[0], passwords, ACCESS_DENIED))) return false;
            left.shift();
          }
          return true;
        };
      }
      for (const [name, isClosed] of Object.entries(access)) {
        await until(`${name} of ${person} to work`, async () => !(await isClosed()));
      }
      await sleep(Math.random() * PAUSE_MS);
      const signed = await portal.sign(STEWARD, {
        ...{ kind: 'person.suspend', person, reason: 'measured' },
      });
      const done = portal.until(signed.jti, 'request.done');
      const begin = performance.now();
      await portal.send([signed], { urgent: true });
      const closing = Object.fromEntries(
        await Promise.all(
          Object.entries(access).map(async ([name, isClosed]) => {
            await until(`${name} of ${person} to be revoked`, isClosed);
            return [name, performance.now() - begin] as const;
          }),
        ),
      );
      await done;
      return closing;
    },

    async floor(n) {
      const tools = toolsOf.get(leavers[n] ?? 0)?.length ?? 0;
      const begin = performance.now();
      await commit(postgres, 'verdict');
      await Promise.all([
        (async () => {
          // the account, the realm group, each tool's group
          for (let entry = 0; entry < 2 + tools; entry++) {
            await directory.modify(floorEntry, change(`${n} ${entry}`));
          }
        })(),
        Promise.all(writer.map((connection) => lock(connection, floorUser))),
        (async () => {
          for (let tool = 0; tool < tools; tool++) await writeFile(files, `.bench-${tool}`);
          await commit(postgres, 'verifiers');
          await Promise.all(
            writer.map(async (connection) => {
              for (let tool = 0; tool < tools; tool++) {
                await changePassword(connection, floorUser);
              }
            }),
          );
        })(),
      ]);
      return performance.now() - begin;
    },

    async close() {
      for (const connection of writer) {
        await connection.query(`DROP USER '${floorUser}'@'%'`).catch(() => {});
        await connection.end();
      }
      await directory.del(floorEntry).catch(() => {});
      await directory.unbind();
      await postgres.query('DROP TABLE bench_floor').catch(() => {});
      await postgres.end();
    },
  };
}

/** By database user, as the account itself reads it: after each rotation, its file has another password. */
async function readPasswords(
  { config }: MeasuredRealm,
  tools: readonly number[],
  person: number,
): Promise<Map<string, string>> {
  const { root, toolHomes, personHomes } = config.files;
  const homes = [
    ...tools.map((tool) => `${root}${toolHomes}/${toolName(tool)}`),
    `${root}${personHomes}/${personName(person)}`,
  ];
  const read = await Promise.all(
    homes.map(async (home) => {
      const text = await readFile(join(home, CREDENTIALS_NAME), 'utf8');
      const credentials = parseCredentialsFile(text);
      if (credentials === undefined) throw new Error(`${home} has no credentials`);
      return [credentials.user, credentials.password] as const;
    }),
  );
  return new Map(read);
}

/** Reads a file that is replaced, never written to: only if it is another file than before. */
function openReader(file: string): () => string {
  let [seen, text] = ['', ''];
  return () => {
    const { ino, ctimeMs } = statSync(file);
    const now = `${ino} ${ctimeMs}`;
    if (now !== seen) [seen, text] = [now, readFileSync(file, 'utf8')];
    return text;
  };
}

/** Tries to log in; returns whether the server refuses with that error. */
async function refuses(
  socketPath: string,
  user: string,
  passwords: ReadonlyMap<string, string>,
  errno: number,
): Promise<boolean> {
  const password = passwords.get(user) ?? '';
  try {
    const connection = await createConnection({ socketPath, user, password });
    connection.on('error', () => {}); // it may be killed at this moment
    await connection.end().catch(() => {});
    return false;
  } catch (error) {
    return (error as { errno?: number }).errno === errno;
  }
}

function change(text: string): Change {
  const modification = new Attribute({ type: 'description', values: [text] });
  return new Change({ operation: 'replace', modification });
}

async function until(what: string, look: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + TIMEOUT_MS;
  while (!(await look())) {
    if (performance.now() > deadline) throw new Error(`timed out waiting for ${what}`);
    await sleep(TRY_EVERY_MS);
  }
}

// ---- what the servers alone take ----------------------------------------------------------------

async function commit(client: pg.Client, what: string): Promise<void> {
  await client.query('INSERT INTO bench_floor VALUES ($1)', [what]);
}

async function writeFile(folder: string, name: string): Promise<void> {
  const file = await open(`${folder}/${name}.new`, 'w', 0o600);
  try {
    await file.writeFile(renderCredentialsFile('s1', 'x'.repeat(32)));
    await file.sync();
  } finally {
    await file.close();
  }
  await rename(`${folder}/${name}.new`, `${folder}/${name}`);
}

async function lock(connection: Connection, user: string): Promise<void> {
  await connection.query(`ALTER USER '${user}'@'%' ACCOUNT LOCK`);
  await connection.query(`KILL USER '${user}'`);
}

async function changePassword(connection: Connection, user: string): Promise<void> {
  await connection.query(`ALTER USER '${user}'@'%' IDENTIFIED BY PASSWORD ?`, [
    verifierOf('floor'),
  ]);
  await connection.query(`KILL USER '${user}'`);
}
