/** A running realm whose things are damaged by hand, one kind for each target, and repaired. */
import { type ChildProcess, execFileSync } from 'node:child_process';
import { chmodSync, lstatSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import type { Role } from '../../../src/reconcile/wanted.ts';
import type { Report } from '../../../src/reconcile/report.ts';
import { LOCK_CLASS } from '../../../src/database/connection.ts';
import { type Ended, endOf, runCli, startCli } from '../../cli/run-cli.ts';
import { administer, type World, type WorldOptions } from '../../stack.ts';
import { eventually } from '../eventually.ts';
import { changeDirectory, homeOf, query, readAccounts, readDirectory } from '../outside.ts';
import { admit, openRunning, type Running } from '../running.ts';

/** Every role but the sweep, which would mend on its own time what is damaged here. */
export const ROLES = ['intake', 'relay', 'directory', 'homes', 'databases'];

/** What `plan --json` says. */
interface Planned extends Report {
  exit: number | null;
  out: string;
  digest: string;
}

/** What `repair --json` says. */
interface Repaired extends Pick<Ended, 'exit' | 'err'> {
  repair: string | null;
  parts: { subject: number; account: string; role: Role; state: string; code?: string }[];
  owed: { account: string; code: string; sentence: string }[];
  withheld: { target: string; object: string }[];
}

export interface RepairWorld extends Running {
  /** by tool name */
  uids: Record<string, number>;
  /** Runs a command as people do. */
  cli(...args: string[]): Promise<Ended>;
  plan(...args: string[]): Promise<Planned>;
  repair(...args: string[]): Promise<Repaired>;
  /** Starts a repair, and returns its id once it is recorded; `ended` is its end. */
  startRepair(...args: string[]): Promise<Started>;
  /** The same in a process of its own, which may be killed. */
  startRepairApart(...args: string[]): Promise<Started & { child: ChildProcess }>;
  /** Holds the lock of a subject with a role, so that the role does nothing for it. */
  hold(tool: string, role: Role): Promise<() => Promise<void>>;
}

export interface Started {
  id: string;
  ended: Promise<Repaired>;
}

/** A world with these tools, all as wanted. */
export async function openRepairWorld(
  name: string,
  tools: readonly string[],
  options: WorldOptions = {},
): Promise<RepairWorld> {
  const running = await openRunning(name, options);
  const { world, portal } = running;
  await running.stopWork();
  await running.startWork(ROLES);
  await admit(portal, 'alice', 'bob');
  await Promise.all(
    tools.map((tool) => {
      const wish = { kind: 'tool.create', requestedBy: 'alice', name: tool, title: 'A tool' };
      return portal.get({ ...wish, maintainers: ['alice', 'bob'] });
    }),
  );
  const rows = await query<{ name: string; uid: number }>(world, 'SELECT name, uid FROM tools');
  const uids = Object.fromEntries(rows.map((row) => [row.name, row.uid]));
  const cli = (...args: string[]) => runCli(args, { config: world.configFile });
  const started = async (begin: () => Promise<Ended>): Promise<Started> => {
    const known = await query<{ id: string }>(world, 'SELECT id FROM repairs');
    const ended = begin().then(asRepaired);
    ended.catch(() => {}); // whoever waits for it is told
    const id = await eventually('a repair', async () => {
      const now = await query<{ id: string }>(world, 'SELECT id FROM repairs');
      return now.find((row) => known.every((each) => each.id !== row.id))?.id;
    });
    return { id, ended };
  };
  return {
    ...running,
    uids,
    cli,
    async plan(...args) {
      const { exit, out, err } = await cli('plan', '--json', ...args);
      if (out === '') throw new Error(err);
      return { ...(JSON.parse(out) as Report & { digest: string }), exit, out };
    },
    repair: async (...args) => asRepaired(await cli('repair', '--json', ...args)),
    startRepair: (...args) => started(() => cli('repair', '--json', ...args)),
    async startRepairApart(...args) {
      let child: ChildProcess | undefined;
      const begin = () => {
        child = startCli(['repair', '--json', ...args], { config: world.configFile });
        return endOf(child);
      };
      return { ...(await started(begin)), child: child! };
    },
    hold: (tool, role) => hold(world, uids[tool] ?? 0, role),
  };
}

/** Holds the lock of a subject with a role, so that the role does nothing for it. */
export async function hold(world: World, uid: number, role: Role): Promise<() => Promise<void>> {
  const { host, port } = world.postgres;
  const { database } = world.config.postgres;
  const client = new pg.Client({ host, port, user: 'postgres', database });
  client.on('error', () => {}); // the server may be ended meanwhile
  await client.connect();
  await client.query('SELECT pg_advisory_lock($1, $2)', [LOCK_CLASS[role], uid]);
  return () => client.end();
}

function asRepaired({ exit, out, err }: Ended): Repaired {
  if (out === '') throw new Error(`exit ${exit}: ${err}`);
  return { ...(JSON.parse(out) as Repaired), exit, err };
}

/** Waits until a repair's part of a tool with a role has ended; returns how. */
export async function partEnded(
  { world, uids }: RepairWorld,
  { id }: Started,
  [tool, role]: readonly [tool: string, role: Role],
): Promise<string> {
  return eventually(`the part of ${tool} with ${role}`, async () => {
    const [row] = await query<{ state: string }>(
      world,
      'SELECT state FROM repair_parts WHERE repair = $1 AND subject = $2 AND role = $3',
      [id, uids[tool], role],
    );
    return row !== undefined && row.state !== 'asked' && row.state;
  });
}

const accountDn = ({ config }: World, tool: string) =>
  `uid=tools.${tool},ou=people,ou=servicegroups,${config.ldap.base}`;
const ruleDn = ({ config }: World, tool: string) =>
  `cn=runas-tools.${tool},ou=sudoers,cn=tools,ou=projects,${config.ldap.base}`;

/** Damage to one tool's things: one step of a plan each. */
export const DAMAGE = {
  /** directory, unix-account */
  shell: ({ world }: RepairWorld, tool: string, shell = '/bin/zsh') =>
    changeDirectory(
      world,
      'ldapmodify',
      `dn: ${accountDn(world, tool)}\nchangetype: modify\nreplace: loginShell\nloginShell: ${shell}\n`,
    ),
  /** directory, sudo-rule */
  rule: ({ world }: RepairWorld, tool: string) =>
    changeDirectory(world, 'ldapmodify', `dn: ${ruleDn(world, tool)}\nchangetype: delete\n`),
  /** homes, home-directory */
  mode({ world }: RepairWorld, tool: string) {
    chmodSync(homeOf(world, { tool }), 0o2777);
  },
  /** homes, credentials-file */
  credentials({ world }: RepairWorld, tool: string) {
    rmSync(join(homeOf(world, { tool }), 'replica.my.cnf'));
  },
  /** databases, database-account on toolsdb */
  limit: ({ world, uids }: RepairWorld, tool: string) =>
    administer(world.tools.socket, `ALTER USER 's${uids[tool]}'@'%' WITH MAX_USER_CONNECTIONS 3;`),
};

/** What of a tool is as damaged, by the names of DAMAGE; credentials are right where both servers know them. */
export async function damageOf(
  repairs: RepairWorld,
  tool: string,
): Promise<(keyof typeof DAMAGE)[]> {
  const { world, uids } = repairs;
  const directory = await readDirectory(world);
  const limit = await administer(
    world.tools.socket,
    `SELECT JSON_VALUE(Priv, '$.max_user_connections') FROM mysql.global_priv WHERE User = 's${uids[tool]}';`,
  );
  const file = join(homeOf(world, { tool }), 'replica.my.cnf');
  const whole: Record<keyof typeof DAMAGE, boolean> = {
    shell: directory.get(accountDn(world, tool))?.['loginShell']?.[0] === '/bin/bash',
    rule: directory.has(ruleDn(world, tool)),
    mode: (lstatSync(homeOf(world, { tool })).mode & 0o7777) === 0o2775,
    credentials:
      lstatSync(file, { throwIfNoEntry: false }) !== undefined &&
      (['replica', 'tools'] as const).every((server) => opens(world, server, file)),
    limit: limit.trim() === '10',
  };
  return (Object.keys(DAMAGE) as (keyof typeof DAMAGE)[]).filter((each) => !whole[each]);
}

/** Whether a server lets in whoever has this credentials file. */
function opens(world: World, server: 'replica' | 'tools', file: string): boolean {
  try {
    const options = [`--defaults-file=${file}`, `--socket=${world[server].socket}`];
    execFileSync('mariadb', [...options, '-e', 'SELECT 1'], { stdio: 'ignore', timeout: 20_000 });
    return true;
  } catch {
    return false;
  }
}

/** The verifiers of a tool, by server. */
export async function verifiersOf({ world, uids }: RepairWorld, tool: string): Promise<unknown[]> {
  const both = [await readAccounts(world, 'replica'), await readAccounts(world, 'tools')];
  return both.map((accounts) => accounts.get(`s${uids[tool]}`)?.verifier);
}
