/** Lets a host join: makes its account in the directory, and the answer that it alone can read. */
import { createPublicKey, randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { writeOperatorAction } from '../audit/operator-actions.ts';
import {
  accountOf,
  type Host,
  type HostRecord,
  type Hosts,
  withHosts,
} from '../backends/ldap/directory-hosts.ts';
import { directoryPlace } from '../backends/ldap/directory-health.ts';
import { openLoginDirectory } from '../backends/ldap/login-directory.ts';
import { requirePrograms } from '../backup/programs.ts';
import { withAdmin } from '../cli/admin.ts';
import { operatorName } from '../cli/operator.ts';
import { makePassword } from '../credentials/credentials.ts';
import { saltedSha1 } from '../secrets/secret.ts';
import { readSecretFiles } from '../secrets/secret-files.ts';
import { type Config, readSecret } from '../shared/config.ts';
import { removeFile } from '../shared/durable-file.ts';
import { ChamberlainError, codeOf, CORRECT_AND_RUN_AGAIN } from '../shared/errors.ts';
import { type Say, writeAnswer } from './answer-file.ts';
import type { JoinAnswer } from './join-answer.ts';
import type { LoginHostRequest } from './join-request.ts';
import { directoryUri, readAuthority } from './reaching.ts';

/** What the host will receive, besides its password. */
export type Joining = Omit<JoinAnswer, 'password'> & { key: string };

/**
 * What the configuration and the secrets of this machine give a host. Throws CONFIG_INVALID if other machines cannot
 * reach the directory, or if something is not on this machine.
 */
export function prepareJoining(config: Config, request: LoginHostRequest): Joining {
  const { kind, name, key, fingerprint } = request;
  const { ldap, realm, ids, files, keys } = config;
  if (config.machines.some((machine) => machine.name === name)) throw isTaken(name);
  const uri = directoryUri(config);
  requirePrograms('age');
  const ca = ldap.caFile === undefined ? undefined : readAuthority(ldap.caFile);
  return {
    ...{ version: 1, kind, name, key, fingerprint, realm },
    account: accountOf(name, fingerprint),
    realmGid: ids.realmGid,
    ids: { people: [...ids.people], tools: [...ids.tools] },
    homes: { people: files.personHomes, tools: files.toolHomes },
    knownBadKeys: [...keys.knownBad],
    ldap: { uris: [uri], base: ldap.base, ...(ca === undefined ? {} : { ca }) },
    sealKeys: readSealKeys(config),
  };
}

/** The public halves of the key that signs seals, and of the next one during a change. */
function readSealKeys(config: Config): string[] {
  const { now, next } = readSecretFiles(config, 'seal-key');
  try {
    return [now, ...(next === undefined ? [] : [next])].map((pem) =>
      createPublicKey(pem).export({ type: 'spki', format: 'pem' }).toString(),
    );
  } catch {
    // the cause of OpenSSL would not help
    const path = join(config.secrets, 'seal-key');
    throw new ChamberlainError('CONFIG_INVALID', `${path} is not a private key in PEM`);
  }
}

/** Runs `act` with the accounts of hosts. Throws CONFIG_INVALID if this machine does not have the secret ldap-admin. */
export async function withHostAccounts<T>(
  config: Config,
  act: (hosts: Hosts) => Promise<T>,
): Promise<T> {
  const password = readSecret(config, 'ldap', 'admin');
  return withHosts(directoryPlace(config), password, act);
}

/** The host that has joined by this name. Throws HOST_TAKEN if it is another machine, with another key. */
export async function findJoined(hosts: Hosts, joining: Joining): Promise<Host | undefined> {
  const { name, key, account } = joining;
  const before = (await hosts.list()).filter((host) => host.name === name);
  const isOther = (host: Host) => host.record?.key !== key || host.account !== account;
  if (before.some(isOther)) throw isTaken(name);
  return before[0];
}

export const isTaken = (name: string) =>
  new ChamberlainError('HOST_TAKEN', `another machine has joined as ${name}`);

/**
 * Makes the account, with a new password, and writes the answer. Returns the fingerprint of the answer.
 *
 * The answer is written first: if age refuses the key, nothing has changed. If anything fails later, the file is
 * removed, and the command may be run again.
 */
export async function joinHost(
  config: Config,
  joining: Joining,
  { out, say }: { out: string; say: Say },
): Promise<string> {
  const { key, ...known } = joining;
  const { name, account, kind, fingerprint } = known;
  const password = makePassword(randomBytes);
  const by = operatorName();
  /** what is known of the password that the host has had until now */
  let old = 'counts' as 'counts' | 'may have ended' | 'has ended';
  const answer = await writeAnswer({ ...known, password }, { key, out, say });
  try {
    await withHostAccounts(config, async (hosts) => {
      const before = await findJoined(hosts, joining); // it may have changed while the operator was asked
      say('writing the audit');
      await record(config, 'host.join', [name, fingerprint]);
      say('writing the account into the directory');
      const of: HostRecord = { kind, key, fingerprint, joinedAt: new Date().toISOString(), by };
      if (before !== undefined) old = 'may have ended';
      const written = await hosts.put(name, of, saltedSha1(password, randomBytes(16)), before);
      if (written === 'taken') throw isTaken(name);
      if (written === 'done') {
        if (before !== undefined) old = 'has ended';
        return;
      }
      const what = `another command has changed or removed the account of ${name} at the same time`;
      throw new ChamberlainError('STEP_FAILED', what, { action: 'Run the command again.' });
    });
    say('logging in to the directory as the host');
    await checkLogin(config, account, password);
    return answer;
  } catch (error) {
    removeFile(out);
    if (old === 'counts') throw error;
    const { message, cause, action } = error as Partial<ChamberlainError>;
    throw new ChamberlainError(codeOf(error), message ?? `joining ${name}`, {
      ...(cause === undefined ? {} : { cause }),
      action: `The old password of ${name} ${old}, and there is no answer with a new one. ${action ?? CORRECT_AND_RUN_AGAIN}`,
    });
  }
}

/** Proves that the host will be able to read the directory: its rules may be older than this version. */
async function checkLogin(config: Config, hostAccount: string, password: string): Promise<void> {
  const { uri, base, caFile } = config.ldap;
  const { realm } = config;
  const directory = openLoginDirectory({ uri, base, caFile, realm, hostAccount, password });
  try {
    await directory.contextCsns();
  } catch (cause) {
    throw new ChamberlainError('STEP_FAILED', `reading the directory as ${hostAccount}`, {
      cause,
      action:
        'Load the rules of the directory again: see "To load the rules again" in docs/install.md, step 7. Then run the command again.',
    });
  } finally {
    await directory.close();
  }
}

/** Ends the account of a host at once. Throws HOST_UNKNOWN if it has none. */
export async function removeHost(config: Config, name: string): Promise<void> {
  await withHostAccounts(config, async (hosts) => {
    for (const host of await requireHost(hosts, name)) {
      const of = host.record ? [host.record.fingerprint] : [];
      await record(config, 'host.remove', [name, ...of]);
      await hosts.remove(host);
    }
  });
}

/** The host of that name; more than one, if `chamberlain join` was interrupted. Throws HOST_UNKNOWN. */
export async function requireHost(hosts: Hosts, name: string): Promise<Host[]> {
  const found = (await hosts.list()).filter((host) => host.name === name);
  if (found.length > 0) return found;
  throw new ChamberlainError('HOST_UNKNOWN', `no host has joined as ${name}`);
}

export async function record(
  config: Config,
  kind: 'host.join' | 'host.remove',
  fields: readonly string[],
): Promise<void> {
  const act = { kind, by: operatorName(), fields };
  await withAdmin(config, (client) => writeOperatorAction(client, act));
}
