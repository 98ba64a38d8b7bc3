/**
 * Lets a machine run roles that ran on this one: the accounts of the roles move there, with their secrets. And ends
 * what such a machine may do.
 */
import { systemdRuns } from '../../deploy/login-host/services.ts';
import { requirePrograms } from '../backup/programs.ts';
import { operatorName } from '../cli/operator.ts';
import { secretsOfRole } from '../doctor/files.ts';
import { replaceAtOnce } from '../secrets/rotating.ts';
import { readSecretFiles } from '../secrets/secret-files.ts';
import { SLAPD, workerUnit } from '../setup/places.ts';
import { requireAlone, restartService, unneeded } from '../setup/programs.ts';
import { carryOut } from '../setup/setup.ts';
import { type Config, machineOf, type RoleMachine } from '../shared/config.ts';
import { removeFile } from '../shared/durable-file.ts';
import { ChamberlainError } from '../shared/errors.ts';
import { type Say, writeAnswer } from './answer-file.ts';
import type { RoleRequest } from './join-request.ts';
import { isTaken, record, withHostAccounts } from './joining.ts';
import { writeMachine } from './machines.ts';
import { readAuthority, reachedServers } from './reaching.ts';
import { authorityFile, type RoleAnswer, SECRETS_FOLDER } from './role-answer.ts';

/** What the machine will receive, and the key that it is encrypted to. */
export interface RoleJoining {
  answer: RoleAnswer;
  key: string;
  /** the services that stop on this machine */
  units: string[];
}

/**
 * What the configuration and the secrets of this machine give another one that runs roles. Throws if other machines
 * cannot reach the servers, if another machine has the name or one of the roles, or if a secret is not here.
 */
export function prepareRole(config: Config, request: RoleRequest): RoleJoining {
  const { kind, name, key, fingerprint, roles } = request;
  const isOther = (machine: RoleMachine): boolean =>
    machine.name === name && machine.fingerprint !== fingerprint;
  if (config.machines.some(isOther)) throw isTaken(name);
  for (const role of roles) {
    const machine = machineOf(config, role);
    if (machine === undefined || machine.name === name) continue;
    throw new ChamberlainError('HOST_TAKEN', `${machine.name} runs the role ${role}`, {
      action: `First run \`chamberlain host remove ${machine.name}\`: a role runs on one machine.`,
    });
  }
  requirePrograms('age');
  const secrets = Object.fromEntries(
    roles.flatMap(secretsOfRole).map((secret) => [secret, readMoved(config, secret)]),
  );
  return {
    answer: { ...{ version: 1, kind, name, fingerprint, roles }, secrets, ...placesOf(config) },
    key,
    units: roles.map(workerUnit),
  };
}

/** A password that is about to be replaced would soon be refused. */
function readMoved(config: Config, name: string): string {
  const { now, next } = readSecretFiles(config, name);
  if (next === undefined || name.endsWith('-key')) return now;
  throw new ChamberlainError('STEP_FAILED', `the rotation of ${name} was interrupted`, {
    action: `First run \`chamberlain secret rotate ${name}\` again.`,
  });
}

/** The settings of what runs on the machine of the realm alone. */
const STAYS: ReadonlySet<string> = new Set(['adminKey', 'api', 'backups']);

/** The configuration of the other machine, and the authorities that it names. */
function placesOf(config: Config): Pick<RoleAnswer, 'config' | 'authorities'> {
  const authorities: Record<string, string> = {};
  function withAuthority<T extends { caFile?: string | undefined }>(name: string, place: T): T {
    if (place.caFile === undefined) return place;
    authorities[`ca-${name}`] = readAuthority(place.caFile);
    return { ...place, caFile: authorityFile(`ca-${name}`) };
  }
  const { postgres, redis, ldap, servers } = reachedServers(config);
  const rest = Object.fromEntries(Object.entries(config).filter(([key]) => !STAYS.has(key)));
  return {
    config: {
      ...(rest as Omit<Config, 'adminKey' | 'backups'>),
      ...{ secrets: SECRETS_FOLDER, machines: [] },
      postgres: withAuthority('postgres', postgres),
      redis: withAuthority('redis', redis),
      ldap: withAuthority('ldap', ldap),
      databases: {
        ...config.databases,
        servers: servers.map((server) => withAuthority(`mariadb-${server.name}`, server)),
      },
    },
    authorities,
  };
}

/** Throws HOST_TAKEN if a login host has joined by this name. */
export async function requireNoLoginHost(config: Config, name: string): Promise<void> {
  const hosts = await withHostAccounts(config, (accounts) => accounts.list());
  if (hosts.some((host) => host.name === name)) throw isTaken(name);
}

/**
 * Writes the answer, names the machine in the configuration, and then stops the services here, so that no role runs
 * twice. Returns the fingerprint of the answer. If anything fails, there is no answer, and the command may be run again.
 */
export async function joinRole(
  config: Config,
  { answer, key, units }: RoleJoining,
  { out, configFile, say }: { out: string; configFile: string; say: Say },
): Promise<string> {
  const { name, fingerprint, roles } = answer;
  await requireAlone(); // setup would start the services again
  const code = await writeAnswer(answer, { key, out, say });
  try {
    say('writing the audit');
    await record(config, 'host.join', [name, fingerprint, ...roles]);
    say(`writing ${configFile}`);
    const at = { joinedAt: new Date().toISOString(), by: operatorName() };
    await writeMachine(configFile, name, { name, roles, fingerprint, ...at });
    if (systemdRuns()) {
      await carryOut(
        units.map((unit) => unneeded(unit, [])),
        say,
        () => {},
      );
    }
    return code;
  } catch (error) {
    removeFile(out);
    throw error;
  }
}

/** What must be done by hand after a machine was removed; sentences. */
export function leftAfterRemoval(config: Config, { roles }: RoleMachine): string[] {
  if (!roles.includes('directory')) return [];
  return [
    ...(hasOwnSlapd(config)
      ? []
      : ['Restart slapd: connections that the machine has open keep their rights until then.']),
    'The machine knew the seal key. Replace it: chamberlain secret rotate seal-key',
  ];
}

/** Whether `setup` has made the directory on this machine. */
const hasOwnSlapd = ({ ldap }: Config): boolean => ldap.uri === SLAPD.uri && systemdRuns();

/**
 * Ends what a machine may do: every password of its roles is replaced, and the sessions that were opened with it end.
 * Then the configuration names it no longer. It may be run again if it was interrupted.
 */
export async function removeRoles(
  config: Config,
  machine: RoleMachine,
  { configFile, say }: { configFile: string; say: Say },
): Promise<void> {
  const { name, fingerprint = '', roles } = machine;
  await requireAlone();
  say('writing the audit');
  await record(config, 'host.remove', [name, fingerprint, ...roles]);
  const passwords = roles.flatMap(secretsOfRole).filter((secret) => !secret.endsWith('-key'));
  for (const secret of passwords) await replaceAtOnce(config, secret, say);
  if (passwords.some((secret) => secret.startsWith('ldap-')) && hasOwnSlapd(config)) {
    say('restarting slapd, which ends the connections of the old password');
    await restartService(SLAPD.unit);
  }
  say(`writing ${configFile}`);
  await writeMachine(configFile, name);
}
