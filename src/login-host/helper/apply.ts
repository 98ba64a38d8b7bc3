/**
 * Brings this host to what the registry knows. After a piece of a report, and after a tick, in this order:
 *
 * 1. what was taken is kept in the journal, so that no number goes back;
 * 2. key files of accounts that have lost something;
 * 3. lists: closed, sudoers, group, passwd, shadow, each only if its content changes;
 * 4. the other key files;
 * 5. sessions end: by then, a closed account cannot log in again.
 *
 * A list is as long as the realm. While everything is being reported, lists are therefore written within a
 * second if an account has lost something, and otherwise at the end.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Host } from './host.ts';
import { checkKeyFiles, settleKeyFile, settlePresent } from './key-folder.ts';
import { writeKeptState } from './kept-state.ts';
import { takeUnkept } from './registry/disappeared.ts';
import { keptOf, type ListName, takeConsequences } from './registry/registry.ts';
import { flushFolder } from '../../shared/durable-file.ts';
import {
  appendLines,
  JOURNAL_FILE,
  requireRoom,
  type SealJournal,
  tidyJournal,
} from './seal-journal.ts';
import { CLOSED_FILE } from '../status.ts';

const LOSSES_WAIT_MS = 1000;
const GAINS_WAIT_MS = 5000;
const SETTLED_AT_ONCE = 200;
const SETTLE_PAUSE_MS = 20;
const ALL_LISTS: ListName[] = ['closed', 'sudoers', 'group', 'passwd', 'shadow'];

export async function apply(host: Host): Promise<void> {
  const { registry, folder, places, troubles, ending } = host;
  const { journal, isLoss, lost, changed, lists, ended, isKeptNew } = takeConsequences(registry);
  if (journal.length > 0) {
    const isKept = tryJournal(host, (file) => appendLines(file, journal, isLoss));
    if (!isKept) {
      takeUnkept(registry, changed);
      host.isUnkept = true;
    }
  }
  for (const { isPerson, name } of lost) if (isPerson) settleKeyFile(folder, name, Date.now());
  makeStale(host, lists, lost.size > 0);
  if (mayWriteLists(host)) await writeLists(host);
  for (const subject of changed) {
    if (subject.isPerson && !lost.has(subject)) settleKeyFile(folder, subject.name, Date.now());
  }
  if (lost.size > 0) troubles.attempt(places.keys, () => flushFolder(folder.root));
  ending.end(ended);
  if (isKeptNew) keepState(host, true);
}

/**
 * Runs once at the start: applies what was known when the last run ended, in the background if it takes time.
 */
export async function applyKnown(host: Host): Promise<void> {
  const { registry, folder, places, ending } = host;
  ending.end(takeConsequences(registry).ended);
  if (host.isWhole) makeStale(host, ALL_LISTS);
  else if (!existsSync(join(places.login, CLOSED_FILE)))
    await host.lists.write(new Set(['closed']));
  let count = 0;
  for (const { isPerson, name } of registry.byUid.values()) {
    if (!isPerson) continue;
    settleKeyFile(folder, name, Date.now());
    // the agent is reporting everything meanwhile, which takes precedence
    if ((count += 1) % SETTLED_AT_ONCE === 0) await sleep(SETTLE_PAUSE_MS);
  }
  settlePresent(folder, Date.now());
}

/** Everything has been reported for the first time. From now on, what is not known does not exist. */
export function becomeWhole(host: Host): void {
  host.isWhole = true;
  makeStale(host, ALL_LISTS);
  settlePresent(host.folder, Date.now());
  keepState(host, true);
}

export function makeStale({ stale }: Host, lists: Iterable<ListName>, isLoss = false): void {
  const isFirst = stale.lists.size === 0;
  for (const list of lists) stale.lists.add(list);
  if (stale.lists.size === 0) return;
  if (isFirst) stale.since = performance.now();
  stale.isLoss ||= isLoss;
}

function mayWriteLists({ stale, isWhole, registry }: Host): boolean {
  if (stale.lists.size === 0 || !isWhole) return false;
  if (registry.reading === undefined) return true;
  return performance.now() - stale.since >= (stale.isLoss ? LOSSES_WAIT_MS : GAINS_WAIT_MS);
}

async function writeLists(host: Host): Promise<void> {
  const { lists } = host.stale;
  host.stale = { lists: new Set(), since: 0, isLoss: false };
  await host.lists.write(lists);
}

/** Restores whatever somebody else has changed, and writes again what could not be written. */
export function mend(host: Host): void {
  const { registry, folder, lists, places, troubles, ending } = host;
  ending.endLeft(
    [...registry.byUid.values()].flatMap(({ isClosed, uid }) => (isClosed ? [uid] : [])),
  );
  void checkKeyFiles(folder, Date.now).then(
    () => troubles.remove(places.keys),
    (error: unknown) => troubles.add(places.keys, error),
  );
  if (host.isWhole) makeStale(host, lists.check());
  tryJournal(host, (file) => tidyJournal(file));
  keepState(host, false);
}

/** If something could not be kept and there is room now, everything must be reported again. */
export function keepUnkept(host: Host): void {
  if (!host.isUnkept) return;
  const hasRoom = tryJournal(host, (file) => requireRoom(file));
  if (!hasRoom || !keepState(host, true)) return;
  host.isUnkept = false;
  host.needsFullReport = true;
}

/** Returns whether it succeeded. */
function tryJournal(
  { journal, places, troubles }: Host,
  act: (journal: SealJournal) => void,
): boolean {
  return troubles.attempt(join(places.login, JOURNAL_FILE), () => act(journal));
}

/** Returns whether it succeeded. */
export function keepState(
  { registry, places, troubles, rules, isWhole }: Host,
  flush: boolean,
): boolean {
  return troubles.attempt(join(places.login, 'state.json'), () => {
    writeKeptState(places.login, { ...keptOf(registry), rules, isWhole }, flush);
    if (flush) flushFolder(places.login);
  });
}
