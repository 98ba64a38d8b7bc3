/** `chamberlain doctor`: checks everything that the realm depends on. Changes nothing. */
import { effectiveOf } from '../../configuration/effective.ts';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from '../../shared/config.ts';
import { lookAtBackupPrograms, lookAtLastBackup } from '../../doctor/backups.ts';
import {
  authorityFiles,
  lookAtAuthority,
  lookAtCertificate,
  tlsServers,
} from '../../doctor/certificates.ts';
import { examine } from '../../doctor/examine.ts';
import { lookAtConfig, lookAtKeys, lookAtSecrets, plausibleOwners } from '../../doctor/files.ts';
import { lookAtLocalAccounts } from '../../doctor/host.ts';
import {
  type Check,
  fix,
  type GroupedLine,
  type Line,
  type Server,
  type State,
} from '../../doctor/line.ts';
import {
  INSTALL_LIMIT_MS,
  loginHostConfig,
  lookAtAgent,
  lookAtInstallation,
} from '../../doctor/login-host.ts';
import {
  type Admin,
  lookAsAdmin,
  lookAtLogins,
  lookAtPostgres,
  linesOnLogins,
} from '../../doctor/postgres/postgres.ts';
import { lookAtProgram } from '../../doctor/program.ts';
import { lookAtRedis } from '../../doctor/redis.ts';
import type { RoleChecks } from '../../doctor/role-checks.ts';
import { judgeRoles } from '../../doctor/roles.ts';
import { lookAtWaiting, lookAtWork } from '../../doctor/work.ts';
import { redisAddress } from '../../backends/redis/redis-connection.ts';
import { listeningServers } from '../../setup/places.ts';
import { ROOT } from '../../shared/root.ts';
import { timeOf } from '../../shared/time.ts';
import type { Role } from '../../reconcile/wanted.ts';
import type { RoleDescriptor } from '../../roles/descriptor.ts';
import { REGISTRY, ROLES } from '../../roles/index.ts';
import {
  type Client,
  nameOfServer,
  openPool,
  type Pool,
  withClient,
} from '../../database/connection.ts';
import { readTroubles, stoppedBy, type Trouble } from '../../database/troubles-table.ts';
import type { Command } from '../command.ts';
import { configOf, configPathOf, wantsJson } from '../configuration.ts';
import { EXIT } from '../exit.ts';
import { printPage } from '../fold.ts';
import { withProgress } from '../progress.ts';
import { LOGINS_LAST } from '../status/away.ts';
import { askRoles } from '../../drift/asking.ts';
import { readAdminKeys } from '../../requests/admin-keys.ts';
import { printable } from '../../shared/printable.ts';
import { paint, printJson, renderAge } from '../table.ts';

/** What other checks want to know of PostgreSQL counts as unknown after this time: what they do then takes time, too. */
const SOON_MS = 1000;
/** The same, for the check of the keys, which does nothing else. */
const KEYS_SOON_MS = 2000;
/** How long a role may take to answer a survey of no subject. */
const ROLE_TIMEOUT_MS = 1500;

const SHOWN: Record<State, string> = {
  fix: 'fix',
  unreadable: 'unreadable',
  elsewhere: 'not looked at',
  ok: 'ok',
};

/** What is shown without --verbose. */
const WRONG: ReadonlySet<State> = new Set(['fix', 'unreadable']);

export function define(command: Command): void {
  command
    .description(
      'Checks everything that the realm depends on: configuration, secrets, servers, accounts, rights,\n' +
        'clocks, certificates, the roles, and this host. It uses the secrets that this machine has and this\n' +
        'user may read. Problems come first, each with what to do. Changes nothing. Waits at most 3 s for\n' +
        'a server that hangs.',
    )
    .option('--verbose', 'also show what is right, and what cannot be checked from here')
    .option('--etc <folder>', "the folder of this host's passwd and group", '/etc')
    .examples(
      'doctor',
      'doctor --verbose',
      'doctor --json | jq \'.lines[] | select(.state == "fix")\'',
    )
    .exits({
      0: 'everything that could be checked is right',
      3: 'there is something to correct',
      4: 'something is UNREADABLE: a server or a role did not answer',
    })
    .action(async () => {
      const { etc, verbose } = command.opts<{ etc: string; verbose?: true }>();
      const config = configOf(command);
      const json = wantsJson(command);
      const lines = await withProgress(json, (say) =>
        examineRealm(config, configPathOf(command), etc, say),
      );
      const totals = countStates(lines);
      if (json) printJson({ totals, lines });
      else printPage(renderLines(lines, totals, verbose === true));
      endChecks(totals);
    });
}

/**
 * The lines of every check. A check that hangs is not waited for, and may keep this process alive.
 *
 * @param etc the folder of this host's passwd and group
 * @param say is called with what is still being checked
 */
export async function examineRealm(
  config: Config,
  configFile: string,
  etc: string,
  say: (text: string) => void,
): Promise<GroupedLine[]> {
  const ofRoles = await loadRoleChecks();
  const { checks, sinceOf, othersAway, close } = checksOf(config, configFile, etc, ofRoles);
  const lines = await examine(checks, say, sinceOf);
  close();
  return [...lines, ...othersAway()];
}

interface Checks {
  checks: Check[];
  /** once the checks are done: since when a server cannot be reached */
  sinceOf: (server: Server) => string;
  /** after that: what a role on another machine cannot reach */
  othersAway: () => GroupedLine[];
  /** Closes the connections that do not hang. */
  close: () => void;
}

/** Of each role that has something to look at. */
type ChecksOfRoles = [Trouble['role'], RoleChecks][];

async function loadRoleChecks(): Promise<ChecksOfRoles> {
  const loading = REGISTRY.map(
    async ({ name, loadChecks }: RoleDescriptor<Role>): Promise<ChecksOfRoles> =>
      loadChecks === undefined ? [] : [[name, await loadChecks()]],
  );
  return (await Promise.all(loading)).flat();
}

function checksOf(config: Config, configFile: string, etc: string, roles: ChecksOfRoles): Checks {
  const now = new Date();
  const logins = lookAtLogins(config);
  let pool: Pool | undefined;
  const admin: Admin = {
    logins,
    pool: () => (pool ??= openPool(config, 'admin', { max: 3, durable: true })),
  };
  const loginHost = loginHostConfig(etc);
  const servers = serversOf(config);
  const { postgres, redis } = servers;
  const ofRoles = roles.flatMap(([role, { checksOf: checksOfRole }]) =>
    checksOfRole({
      ...{ config, root: ROOT, at },
      server: (place, name, key) => serverOf(role, place, name, key),
    }),
  );
  const isHere = ({ group }: Check): boolean => group === 'this host';
  const needsOf = (server: string): readonly Server[] =>
    ({ PostgreSQL: [postgres], Redis: [redis] })[server] ??
    ofRoles.find(({ group, subject }) =>
      group === 'directory' ? server === 'the directory' : subject === server,
    )?.needs ??
    [];
  let troubles: readonly Trouble[] = [];
  const keepTroubles = async (client: Client) => void (troubles = await readTroubles(client));
  const checks: Check[] = [
    ...checksOfConfiguration(config, configFile, etc, admin, now),
    ...checksOfServers(config, admin, servers),
    ...ofRoles.filter((check) => !isHere(check)),
    ...checksOfCertificates(config, now, needsOf),
    ...checksOfRealm(config, etc, admin, servers, now, keepTroubles),
    at('backups', 'the programs for backups', HERE, () => lookAtBackupPrograms(config)),
    ...ofRoles.filter(isHere),
    at('this host', 'the program', HERE, () => lookAtProgram(ROOT, process.versions.node)),
    ...(loginHost === undefined ? [] : checksOfLoginHost(loginHost, now)),
  ];
  const shown = new Set<string>();
  const sinceWhen = ({ since }: Trouble) => `since ${timeOf(since)} (${renderAge(since, now)})`;
  return {
    checks,
    sinceOf({ place }) {
      shown.add(place);
      const trouble = troubles.find((each) => each.place === place);
      return trouble === undefined ? '' : `, ${sinceWhen(trouble)}`;
    },
    othersAway: () =>
      troubles
        .filter(({ place }) => !shown.has(place))
        .map((each) => ({
          group: 'work',
          ...fix(
            `${each.role}, ${sinceWhen(each)}: ${each.sentence}`,
            `Meanwhile ${each.stops}. Check it on the machine where \`chamberlain work ${each.role}\` runs.`,
          ),
        })),
    close: () => void pool?.end().catch(() => {}),
  };
}

/** What PostgreSQL says; undefined if it does not say so soon. */
async function askSoon<T>(
  { logins, pool }: Admin,
  ask: (client: Client) => Promise<T>,
  withinMs = SOON_MS,
): Promise<T | undefined> {
  const asking = logins.then(({ asAdmin }) =>
    asAdmin === 'good' ? withClient(pool(), ask) : undefined,
  );
  const late = sleep(withinMs, undefined, { ref: false });
  return await Promise.race([asking.catch(() => undefined), late]);
}

const HERE = 'Check what the message names.';

function at(
  group: string,
  subject: string,
  todo: string,
  act: () => Line[] | Promise<Line[]>,
  needs: readonly Server[] = [],
): Check {
  return { group, subject, todo, needs, look: async () => act() };
}

function checksOfConfiguration(
  config: Config,
  configFile: string,
  etc: string,
  admin: Admin,
  now: Date,
): Check[] {
  const readKeys = () => askSoon(admin, (client) => readAdminKeys(client, config), KEYS_SOON_MS);
  return [
    at('configuration', configFile, HERE, () => lookAtConfig(configFile, config)),
    at('configuration', 'the secrets', HERE, () =>
      lookAtSecrets(config, plausibleOwners(`${etc}/passwd`)),
    ),
    at('configuration', 'the keys', HERE, () => lookAtKeys(config, readKeys, now)),
  ];
}

/** PostgreSQL and Redis, which every role needs. */
function checksOfServers(
  config: Config,
  admin: Admin,
  { postgres, redis }: ReturnType<typeof serversOf>,
): Check[] {
  return [
    at('PostgreSQL', 'PostgreSQL', postgres.todo, () => linesOnLogins(admin.logins), [postgres]),
    at(
      'PostgreSQL',
      'what PostgreSQL holds',
      postgres.todo,
      () => lookAsAdmin(admin, 'what PostgreSQL holds', (client) => lookAtPostgres(client, ROOT)),
      [postgres],
    ),
    at(
      'Redis',
      'Redis',
      redis.todo,
      () => lookAtRedis(config, () => askSoon(admin, (client) => effectiveOf(config, client))),
      [redis],
    ),
  ];
}

function checksOfCertificates(
  config: Config,
  now: Date,
  needsOf: (server: string) => readonly Server[],
): Check[] {
  return [
    ...authorityFiles(config).map((path) =>
      at('certificates', `the authority ${path}`, HERE, () => lookAtAuthority(path, now)),
    ),
    ...[...tlsServers(config), ...listeningServers(config)].map((each) =>
      at(
        'certificates',
        `the certificate of ${each.name}`,
        'Check that the server runs and can be reached.',
        () => lookAtCertificate(each, now),
        needsOf(each.name),
      ),
    ),
  ];
}

/** What is read from PostgreSQL as an admin. */
function checksOfRealm(
  config: Config,
  etc: string,
  admin: Admin,
  { postgres, redis }: ReturnType<typeof serversOf>,
  now: Date,
  keepTroubles: (client: Client) => Promise<void>,
): Check[] {
  const asAdmin = (
    group: string,
    subject: string,
    todo: string,
    look: (client: Client) => Promise<Line[]>,
    needs: readonly Server[],
  ) => at(group, subject, todo, () => lookAsAdmin(admin, subject, look), needs);
  return [
    {
      ...asAdmin(
        'roles',
        'the roles',
        'The roles are asked through PostgreSQL and Redis: check these.',
        () => lookAtRoles(config),
        [postgres, redis],
      ),
      limitMs: ROLE_TIMEOUT_MS + 1000,
    },
    asAdmin(
      'work',
      'the work',
      'It is read from PostgreSQL: check the server.',
      async (client) => {
        await keepTroubles(client);
        return await lookAtWork(client, await effectiveOf(config, client), now);
      },
      [postgres],
    ),
    asAdmin(
      'work',
      'the requests that wait',
      'They are in Redis: check the server.',
      (client) => lookAtWaiting(client, config, now),
      [postgres, redis],
    ),
    asAdmin(
      'this host',
      'the local accounts',
      'They are compared with PostgreSQL: check the server.',
      (client) => lookAtLocalAccounts(client, config, etc),
      [postgres],
    ),
    asAdmin(
      'backups',
      'the last set of backups',
      'It is read from PostgreSQL: check the server.',
      (client) => lookAtLastBackup(client, config, now),
      [postgres],
    ),
  ];
}

function checksOfLoginHost(configFile: string, now: Date): Check[] {
  const files = at(
    'this login host',
    'its files',
    'Run `chamberlain-login-host --check` yourself, as root (from a clone: `deploy/login-host/install --check`).',
    () => lookAtInstallation(ROOT),
  );
  return [
    at('this login host', 'the keys agent', 'See `keys-agent status`.', () =>
      lookAtAgent(configFile, now),
    ),
    { ...files, limitMs: INSTALL_LIMIT_MS },
  ];
}

const lookAtServer = (key: string) =>
  `Check that the server runs and can be reached, and check \`${key}\` in the configuration.`;

function serverOf(role: Trouble['role'], place: string, name: string, key: string): Server {
  return { name, place, stops: stoppedBy({ role, place }), todo: lookAtServer(key) };
}

/** The servers that belong to no role. */
function serversOf({ postgres, redis }: Config) {
  return {
    postgres: {
      name: nameOfServer(postgres),
      place: 'postgres',
      stops: `no request gets a verdict and nothing changes; logins still work, ${LOGINS_LAST}`,
      todo: lookAtServer('postgres'),
    },
    redis: serverOf('relay', 'redis', `Redis at ${redisAddress({ redis })}`, 'redis'),
  };
}

async function lookAtRoles(config: Config): Promise<Line[]> {
  const askedAt = Date.now();
  const reports = await askRoles(config, [], { roles: ROLES, timeoutMs: ROLE_TIMEOUT_MS });
  return judgeRoles(reports, { askedAt, answeredAt: Date.now() });
}

export function countStates(lines: readonly GroupedLine[]): Record<State, number> {
  const totals = { ok: 0, fix: 0, unreadable: 0, elsewhere: 0 };
  for (const { state } of lines) totals[state] += 1;
  return totals;
}

/** Ends the process as the lines say, without waiting for a check that hangs. */
export function endChecks({ unreadable, fix: wrong }: Record<State, number>): void {
  const exit = unreadable > 0 ? EXIT.unreadable : wrong > 0 ? EXIT.pending : EXIT.done;
  process.exitCode = exit;
  process.stdout.write('', () => process.exit(exit));
}

/** Problems first, each with what to do below it; within a state in the order of the checks. The totals come last. */
export function renderLines(
  lines: readonly GroupedLine[],
  totals: Record<State, number>,
  isVerbose: boolean,
): string {
  const states = Object.keys(SHOWN) as State[];
  const shown = lines.filter(({ state }) => isVerbose || WRONG.has(state));
  const wide = (texts: string[]) => Math.max(...texts.map((text) => text.length));
  const widths = [
    wide(shown.map(({ state }) => SHOWN[state])),
    wide(shown.map(({ group }) => group)),
  ] as const;
  const blank = ' '.repeat(Math.max(0, widths[0] + widths[1] + 4));
  const blocks = states.map((state) =>
    shown
      .filter((line) => line.state === state)
      .flatMap(({ group, what, todo }) => [
        paintState(
          state,
          `${SHOWN[state].padEnd(widths[0])}  ${group.padEnd(widths[1])}  ${printable(what)}`,
        ),
        ...(todo === undefined ? [] : [blank + printable(todo)]),
      ])
      .join('\n'),
  );
  const sum = states.map((state) => `${totals[state]} ${SHOWN[state]}`).join(', ');
  const hint = shown.length < lines.length ? '; `chamberlain doctor --verbose` shows all' : '';
  return [...blocks.filter((block) => block !== ''), sum + hint].join('\n\n');
}

function paintState(state: State, text: string): string {
  return paint(
    ({ ok: 'dim', elsewhere: 'dim', fix: 'red', unreadable: 'yellow' } as const)[state],
    text,
  );
}
