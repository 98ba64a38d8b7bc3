/** What the login helper knows and holds open: opened once, and passed to everything that it does. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { randomUUID } from 'node:crypto';
import { ChamberlainError, describeError } from '../../shared/errors.ts';
import type { Log } from '../../shared/log.ts';
import type { SealKeys } from '../../seals/seal.ts';
import { sealKeysOf, type LoginHostConfig } from '../config.ts';
import { openEnding, type Ending } from './ending.ts';
import { openHeartbeats } from './registry/directory-trust.ts';
import { readKeptState, rulesOf, type KeptState } from './kept-state.ts';
import { openKeyFolder, type KeyFolder, type KeyWish } from './key-folder.ts';
import { openListFiles, type ListFiles } from './list-files.ts';
import { openLocalFiles, type LocalAccounts, type LocalFiles } from './local-accounts.ts';
import type { Places } from '../places.ts';
import type { Trust } from './registry/disappeared.ts';
import { loadLine } from './registry/entries.ts';
import { openRegistry, setLocal, type ListName, type Registry } from './registry/registry.ts';
import { JOURNAL_FILE, openSealJournal, type SealJournal } from './seal-journal.ts';
import { openTroubles, type Troubles } from './troubles.ts';

/** The group of sshd's AuthorizedKeysCommandUser. */
const LOOKUP_GROUP = 'chamberlain-lookup';

export interface Host {
  readonly config: LoginHostConfig;
  readonly places: Places;
  readonly log: Log;
  readonly keys: SealKeys;
  readonly registry: Registry;
  readonly journal: SealJournal;
  readonly folder: KeyFolder;
  readonly lists: ListFiles;
  readonly ending: Ending;
  readonly troubles: Troubles;
  readonly localFiles: LocalFiles;
  /** the rules by which the journal is judged */
  readonly rules: string;
  readonly startedAt: number;
  local: LocalAccounts;
  /** the id of this run; everything must be reported to a new run */
  run: string;
  /** everything was reported at least once: what is not known does not exist */
  isWhole: boolean;
  trust: Trust;
  /** since when the directory is trusted, or not; and when it last was */
  since: number;
  trustedAt: number | undefined;
  /** what the agent says of itself, and when it last sent anything */
  server: string;
  trouble: string;
  agentAt: number | undefined;
  accepted: { at: number; what: string[] } | undefined;
  /**
   * lists that are out of date; since when, by performance.now(); whether an account has lost something by it
   */
  stale: { lists: Set<ListName>; since: number; isLoss: boolean };
  /** some of what was accepted could not be kept */
  isUnkept: boolean;
  /** everything must be reported again */
  needsFullReport: boolean;
}

/** Opens everything, and loads what the last run knew. Throws CONFIG_INVALID, and as node:fs does. */
export function openHost(config: LoginHostConfig, log: Log, places: Places): Host {
  const troubles = openTroubles(log, Date.now);
  const localFiles = openLocalFiles(places);
  const local = localFiles.read();
  const keys = sealKeysOf(config);
  mkdirSync(places.login, { recursive: true, mode: 0o755 });
  const { registry, ...kept } = loadRegistry(config, log, places, keys, local);
  const limitMs = config.offlineLimitSeconds * 1000;
  const gid = gidOf(LOOKUP_GROUP, local, places);
  const startedAt = Date.now();
  const host: Host = {
    ...{ config, places, log, keys, registry, troubles, localFiles, local, startedAt, ...kept },
    folder: openKeyFolder(places.keys, gid, limitMs, (name) => wishOf(host, name), troubles),
    lists: openListFiles(config, places, registry, () => host.local, troubles),
    ending: openEnding((uid) => mayEnd(host, uid), log),
    run: randomUUID(),
    trust: { trusted: false, why: 'the directory has not been read yet', tryAnother: false },
    ...{ since: startedAt, trustedAt: undefined },
    ...{ server: '', trouble: '', agentAt: undefined, accepted: undefined },
    stale: { lists: new Set(), since: 0, isLoss: false },
    ...{ isUnkept: false, needsFullReport: false },
  };
  return host;
}

/** Throws CONFIG_INVALID if the host has no such group. */
export function gidOf(group: string, { groups }: LocalAccounts, places: Places): number {
  const gid = groups.get(group);
  if (gid !== undefined) return gid;
  throw new ChamberlainError('CONFIG_INVALID', `${places.group} has no group ${group}`, {
    action:
      'Run `chamberlain-login-host`, which creates the group (from a clone: `deploy/login-host/install`).',
  });
}

function loadRegistry(
  config: LoginHostConfig,
  log: Log,
  places: Places,
  keys: SealKeys,
  local: LocalAccounts,
) {
  let before: KeptState | undefined;
  try {
    before = readKeptState(places.login);
  } catch (error) {
    log.warn(
      { error: describeError(error) },
      'the stored state cannot be read: the login helper starts without it',
    );
  }
  const rules = rulesOf(config);
  const heartbeats = openHeartbeats(config.realm, before?.at);
  const registry = openRegistry(config, new Set(keys.keys()), heartbeats, local, before);
  const path = join(places.login, JOURNAL_FILE);
  const journal = openSealJournal(path, (line) =>
    loadLine(registry, line, before?.rules !== rules),
  );
  const { unread } = journal;
  if (unread > 0) log.warn({ path, unread }, 'some lines of the journal cannot be read');
  setLocal(registry, local, Date.now());
  return { registry, journal, rules, isWhole: before?.isWhole === true && unread === 0 };
}

function wishOf({ registry, isWhole, trust, config }: Host, name: string): KeyWish | undefined {
  const person = registry.byName.get(name);
  if (person === undefined || !person.isPerson) {
    return isWhole ? { list: '', until: 0, untrustedUntil: 0, mayRenew: false } : undefined;
  }
  return {
    list: person.isInForce && person.isActive ? person.list : '',
    until: person.until,
    untrustedUntil: registry.heartbeats.at() + config.offlineLimitSeconds * 1000,
    mayRenew: trust.trusted && person.presence === 'present' && !person.isRefused,
  };
}

function mayEnd({ registry, local }: Host, uid: number): boolean {
  return registry.byUid.get(uid)?.isClosed === true && !local.uids.has(uid);
}
