/** Connections to our PostgreSQL: one pool per role, each statement with a time limit. */
import { statSync } from 'node:fs';
import { Socket } from 'node:net';
import pg from 'pg';
import { type Config, findSecret, nextOf, secretPath, secretReader } from '../shared/config.ts';
import { ChamberlainError, codeOf } from '../shared/errors.ts';
import { isThisMachine, tlsOptions } from '../shared/tls.ts';
import type { Role } from '../reconcile/wanted.ts';
import { describedRole, ROLES } from '../roles/index.ts';

export type Client = pg.PoolClient | pg.Client;
export type Pool = pg.Pool;

/**
 * The roles besides the owner, who runs migrations and `bootstrap`: `chamberlain_<role>`. migrations/roles.sql
 * says what each may read and write.
 */
export const POSTGRES_ROLES: readonly Exclude<PostgresRole, 'owner'>[] = [
  'intake',
  'relay',
  ...ROLES.flatMap((role) => [role, readerOf(role)]),
  'sweep',
  'api',
  'admin',
];
export type PostgresRole =
  'owner' | 'intake' | 'relay' | Role | `${Role}_reader` | 'sweep' | 'api' | 'admin';

/** The login by which a role reads. */
export function readerOf(role: Role): `${Role}_reader` {
  return `${role}_reader`;
}

/**
 * Roles whose statements are planned once for each connection. The plans were checked in a realm of 40,000
 * subjects, and are the same that PostgreSQL made anew for each list of subjects. Intake is not among them, except when
 * it looks at the calendar: its requests name too different numbers of subjects.
 */
const PLANNED_ONCE: ReadonlySet<PostgresRole> = new Set([
  'relay',
  ...ROLES.flatMap((role) => [role, readerOf(role)]),
]);

/**
 * Those of them whose statements find a few rows by their keys: a plan that was made while the tables were
 * small would read whole tables for as long as it is kept. Roles that count all subjects now and then are not
 * among them.
 */
const BY_KEY: ReadonlySet<PostgresRole> = new Set([
  'relay',
  ...ROLES.filter((role) => describedRole(role).countsAll !== true),
]);

/** The name of that role in PostgreSQL. */
export function loginOf(role: PostgresRole): string {
  return role === 'owner' ? 'chamberlain' : `chamberlain_${role}`;
}

/** The settings of a connection as that role. A statement may take 5 s, a lock 3 s. */
export function connectionSettings(config: Config, role: PostgresRole): pg.ClientConfig {
  return {
    host: config.postgres.host,
    port: config.postgres.port,
    database: config.postgres.database,
    ...(isThisMachine(config.postgres.host) ? {} : { ssl: tlsOptions(config.postgres) }),
    user: loginOf(role),
    password: passwordReader(config, role),
    application_name: `chamberlain ${role}`,
    connectionTimeoutMillis: 3000,
    // on the server, and a little later here, for a server that hangs instead of failing
    statement_timeout: 5000,
    lock_timeout: 3000,
    query_timeout: 7000,
    idle_in_transaction_session_timeout: 10_000,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
    // on the server, too: otherwise the locks of a worker whose machine lost its power would stay for two
    // hours, or for a quarter of an hour if something was being sent to it
    options:
      '-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3 -c tcp_user_timeout=20000' +
      // each statement is short; without sequential scans, its cost seems so high that compiling it would take seconds
      ' -c jit=off' +
      // its views stand there, under the names of the tables
      (role === 'api' ? ' -c search_path=api,public' : '') +
      (PLANNED_ONCE.has(role) ? ' -c plan_cache_mode=force_generic_plan' : '') +
      (BY_KEY.has(role) ? ' -c enable_seqscan=off' : ''),
    // queries that are not awaited one by one are sent at once, and answered in order
    pipeline: true,
    stream: () => new GatheringSocket(secretPath(config, 'postgres', role)),
  };
}

/**
 * PostgreSQL knows only one password of a role. So while a password and then its file are being changed, nobody
 * begins to log in: meanwhile the new password is in a second file next to the first. After an interrupted
 * change, it stays there for longer.
 */
export const CHANGING_MS = { settles: 1000, most: 2000 };
const LOOK_MS = 20;

function isChanging(secret: string): boolean {
  const since = statSync(nextOf(secret), { throwIfNoEntry: false })?.mtimeMs;
  return since !== undefined && Math.abs(Date.now() - since) < CHANGING_MS.most;
}

/** The last password that was accepted, and the last that was refused, by login. */
const lastTried = new Map<string, string>();
const lastRefused = new Map<string, string>();

/**
 * Reads the password for each login. After an interrupted change, only PostgreSQL knows which of the two
 * counts: if it has refused one, the other is tried.
 */
function passwordReader(config: Config, role: PostgresRole): () => string {
  const read = secretReader(config, 'postgres', role);
  return () => {
    const now = read();
    const next =
      lastRefused.get(loginOf(role)) === now && findSecret(config, 'postgres', `${role}.next`);
    const password = next || now;
    lastTried.set(loginOf(role), password);
    return password;
  };
}

/** Notes whether PostgreSQL has refused a password: the next login then tries the other. */
function noteRefusal(login: string | undefined, error: unknown): boolean {
  if (sqlState(error) !== '28P01') return false; // invalid_password
  lastRefused.set(login ?? '', lastTried.get(login ?? '') ?? '');
  return true;
}

/**
 * Sends everything that is written in one turn of the event loop in one call: a call costs as much as a
 * statement. The driver corks the socket for each statement that has a name or values; here it is uncorked at
 * the end of the turn. While the password is being changed it waits, because PostgreSQL reads the stored
 * password when a client connects, before it asks for the password.
 */
class GatheringSocket extends Socket {
  readonly #secret: string;
  constructor(secret: string) {
    super();
    this.#secret = secret;
  }
  override uncork(): void {
    process.nextTick(() => super.uncork());
  }
  override connect(...to: unknown[]): this {
    if (this.destroyed) return this;
    if (!isChanging(this.#secret)) return super.connect(...(to as [number, string]));
    setTimeout(() => this.connect(...to), LOOK_MS);
    return this;
  }
}

/** For a leader: if it dies or hangs in the middle of a transaction, PostgreSQL soon ends that transaction. */
function leaderSettings(config: Config, role: PostgresRole): pg.ClientConfig {
  const settings = connectionSettings(config, role);
  return {
    ...settings,
    idle_in_transaction_session_timeout: 5000,
    options: `${settings.options} -c client_connection_check_interval=1000`,
  };
}

/** The name of one of our servers in messages: `PostgreSQL at db.example.org:5432`. */
export function nameOfServer({ host, port }: { host?: string; port?: number }): string {
  return `PostgreSQL at ${host}:${port}`;
}

/**
 * A pool of connections of that role. An idle connection that breaks is dropped silently: the next use reports
 * the error.
 *
 * @param options.durable whether a commit waits for the disk. If it does not, a crash of PostgreSQL may lose
 *   the last commits, but never one that came before a durable commit. Use that only for work that is repeated
 *   by itself.
 * @param options.epoch the number of the lease under which all of them write
 * @param options.readsWithinMs it only reads, and may count whole tables; each statement has this time instead
 */
export function openPool(
  config: Config,
  role: PostgresRole,
  {
    max,
    durable,
    epoch,
    readsWithinMs,
  }: { max: number; durable: boolean; epoch?: string; readsWithinMs?: number },
): Pool {
  const settings =
    epoch === undefined ? connectionSettings(config, role) : leaderSettings(config, role);
  const options = [
    settings.options,
    ...(durable ? [] : ['-c synchronous_commit=off']),
    ...(epoch === undefined ? [] : [`-c chamberlain.epoch=${epoch}`]),
    ...(readsWithinMs === undefined ? [] : [READS]),
  ].join(' ');
  const pool = new pg.Pool({
    ...settings,
    ...(readsWithinMs === undefined ? {} : limitsOf(readsWithinMs)),
    options,
    max,
    idleTimeoutMillis: 30_000,
  });
  pool.on('error', () => {});
  return pool;
}

/** Its statements are few, and not of the kinds for which BY_KEY and PLANNED_ONCE are meant. */
const READS = '-c default_transaction_read_only=on -c enable_seqscan=on -c plan_cache_mode=auto';

function limitsOf(ms: number): pg.ClientConfig {
  return { connectionTimeoutMillis: ms, statement_timeout: ms, query_timeout: ms };
}

const lost = new WeakSet<object>();

/**
 * A process that hangs must not keep locks. PostgreSQL ends a session that has been silent for `ends`, so a
 * connection that holds locks sends something every five seconds. After `isLost` the process assumes that its
 * locks are lost: when it wakes up, it starts nothing that another process may be doing.
 */
export const SILENT_MS = { ends: 30_000, isLost: 15_000 };
const BEAT_MS = 5000;
const beats = new WeakMap<Client, { timer: NodeJS.Timeout; heardAt: number }>();

/** Starts to send something on this connection regularly, until `stopBeating`. */
export function startBeating(client: Client): void {
  stopBeating(client);
  const beat = { heardAt: performance.now(), timer: setInterval(() => void hear(), BEAT_MS) };
  beats.set(client, beat);

  async function hear(): Promise<void> {
    // the time when it was sent: the answer may have waited for long
    const at = performance.now();
    const isHeard = await client.query('SELECT 1').then(
      () => true,
      () => false,
    );
    if (isHeard) beat.heardAt = at;
  }
}

export function stopBeating(client: Client): void {
  clearInterval(beats.get(client)?.timer);
  beats.delete(client);
}

/** Whether a connection from `withClient` has ended meanwhile, or may have, and all its locks with it. */
export function isLost(client: Client): boolean {
  const { heardAt = Infinity } = beats.get(client) ?? {};
  return lost.has(client) || performance.now() - heardAt > SILENT_MS.isLost;
}

/** Runs `act` on one connection, which is discarded after an error of the connection. */
export async function withClient<T>(
  pool: Pool,
  act: (client: pg.PoolClient) => Promise<T>,
): Promise<T> {
  const client = await connect(pool);
  let broken: Error | boolean = false;
  const onError = (error: Error) => {
    broken = error;
    lost.add(client);
  };
  client.on('error', onError);
  try {
    return await act(client);
  } catch (error) {
    // after a refusal of ours, or an answer of the server (five-letter SQLSTATE), the connection is still good;
    // after anything else it may not be
    const answered = codeOf(error) !== 'INTERNAL' || sqlState(error) !== undefined;
    if (!answered) broken ||= true;
    throw error;
  } finally {
    client.removeListener('error', onError);
    client.release(broken);
  }
}

/** Runs `act` in one transaction on a connection of the pool. See `transact`. */
export async function inTransaction<T>(
  pool: Pool,
  act: (client: Client) => Promise<T>,
  options: { durable?: boolean } = {},
): Promise<T> {
  return withClient(pool, (client) => transact(client, () => act(client), options));
}

/**
 * The error of a step outside PostgreSQL when PostgreSQL fails it: BACKEND_UNAVAILABLE, or STEP_FAILED if it
 * refuses.
 */
export function faultOf(cause: unknown, act: string): ChamberlainError {
  const refused = /^(22|23|42)/.test(sqlState(cause) ?? '');
  return new ChamberlainError(refused ? 'STEP_FAILED' : 'BACKEND_UNAVAILABLE', act, { cause });
}

/**
 * Runs `act` in one transaction: committed when it returns, rolled back when it throws. With `durable` the
 * commit waits for the disk, whatever the connection does otherwise.
 */
export async function transact<T>(
  client: Client,
  act: () => Promise<T>,
  { durable = false } = {},
): Promise<T> {
  await client.query(durable ? 'BEGIN; SET LOCAL synchronous_commit = on' : 'BEGIN');
  try {
    const result = await act();
    await client.query('COMMIT');
    return result;
  } catch (error) {
    await client.query('ROLLBACK').catch(() => {});
    throw error;
  }
}

/** Runs `act` in one transaction that is always rolled back, and returns what would have come of it. */
export async function rehearse<T>(client: Client, act: () => Promise<T>): Promise<T> {
  await client.query('BEGIN');
  try {
    return await act();
  } finally {
    await client.query('ROLLBACK').catch(() => {});
  }
}

/** Runs `act` within a transaction so that, when it throws, only what it wrote is undone. */
export async function attempt<T>(client: Client, act: () => Promise<T>): Promise<T> {
  // sent together with what follows; if it fails, all that follows fails, too
  const saved = client.query({ name: 'attempt', text: 'SAVEPOINT attempt' });
  try {
    const [result] = await Promise.all([act(), saved]);
    return result;
  } catch (error) {
    await client.query('ROLLBACK TO SAVEPOINT attempt');
    throw error;
  }
}

/** A connection as the owner, without a time limit for statements. */
export async function openOwner(config: Config): Promise<pg.Client> {
  const client = new pg.Client({
    ...connectionSettings(config, 'owner'),
    statement_timeout: 0,
    query_timeout: 0,
    idle_in_transaction_session_timeout: 0,
    lock_timeout: 30_000,
  });
  client.on('error', () => {}); // the statement in progress reports it
  try {
    await client.connect();
    return client;
  } catch (cause) {
    await client.end().catch(() => {});
    throw unreachable(config.postgres, cause, ' as owner');
  }
}

/** A lease (migrations/0012_leases.sql). */
export interface Lease {
  /** the connection that has taken it, and carries its number: the lease ends with it */
  client: pg.Client;
  /** its fencing number: PostgreSQL refuses what is written under an older one */
  epoch: string;
}

/**
 * Takes the lease of that role, on a connection of its own. Returns undefined if another process has it and
 * makes progress.
 */
export async function openLease(config: Config, role: PostgresRole): Promise<Lease | undefined> {
  const client = new pg.Client(leaderSettings(config, role));
  client.on('error', () => {}); // the next use reports the error
  try {
    await client.connect();
    const { rows } = await client.query('SELECT take_lease() AS epoch');
    const { epoch } = rows[0] as { epoch: string | null };
    if (epoch !== null) return { client, epoch };
  } catch (cause) {
    noteRefusal(client.user, cause);
    void client.end().catch(() => {});
    throw unreachable(config.postgres, cause);
  }
  await client.end().catch(() => {});
  return undefined;
}

/** Throws if another process has the lease by now. Renews nothing. */
export async function confirmLease(client: Client): Promise<void> {
  await client.query('SELECT confirm_lease()');
}

/** Records that the work under a lease has made progress; refused if another process has the lease by now. */
export async function renewLease({ client }: Lease): Promise<void> {
  await client.query('SELECT renew_lease()');
}

/** Whether PostgreSQL has refused something because another process has the lease. */
export function isLeaseLost(error: unknown): boolean {
  return sqlState(error) === '55000'; // object_not_in_prerequisite_state
}

/**
 * Each transaction that gives verdicts holds it shared; a transaction during which none may be given holds it
 * alone.
 */
export const VERDICTS_LOCK = 4;

/**
 * The class of a role's advisory locks, as in the table `roles`; the second number of the lock is the subject that is
 * worked on.
 */
export const LOCK_CLASS = Object.fromEntries(
  ROLES.map((role, index) => [role, 101 + index]),
) as Record<Role, number>;

/** Connects; if the password was refused, connects again, because it may have been changed. */
async function connect(pool: Pool): Promise<pg.PoolClient> {
  try {
    return await pool.connect().catch((error: unknown) => {
      if (noteRefusal(pool.options.user, error)) return pool.connect();
      throw error;
    });
  } catch (cause) {
    throw unreachable(pool.options, cause);
  }
}

/** What the driver says of a server that accepts a connection and is silent. */
const TIMED_OUT = /^(Connection terminated due to connection timeout|timeout expired)$/u;

/** The error for a connection that could not be made. */
export function unreachable(
  server: Parameters<typeof nameOfServer>[0],
  cause: unknown,
  as = '',
): ChamberlainError {
  const act = `connecting to ${nameOfServer(server)}${as}`;
  // the driver says that it was terminated, but not why
  const isLate = TIMED_OUT.test((cause as Error).message);
  const why = isLate ? new Error('it does not answer') : cause;
  return new ChamberlainError('BACKEND_UNAVAILABLE', act, { cause: why });
}

/** The SQLSTATE of an error that the server answered with; otherwise undefined. */
export function sqlState(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null)?.code;
  return typeof code === 'string' && /^[0-9A-Z]{5}$/.test(code) ? code : undefined;
}
