/**
 * The keys agent: follows the directory, and keeps one key file for each person who may log in.
 *
 * Four times a second it asks for the suffix's contextCSN; when that has moved, for what has changed.
 * Every minute it compares the names of all people, and so finds who is no more. What it has read is
 * believed as src/login-host/trust.ts says; what it then does to files stands in roll.ts.
 *
 * Beside that it tells the root helper which names the name service must forget, whose sessions end,
 * and the list of all accounts. sshd needs none of that: should the helper be away, keys go on.
 *
 * Processes end by a trusted look alone: when a person or tool is closed, and every minute what is left
 * of all that are, also of those who were closed while no agent ran. Their names stand in a file for cron and at.
 *
 * Longer than most: one look is one story, and in which order it does things is what keeps it right.
 */
import { readFileSync, statSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  openLoginDirectory,
  type LoginDirectory,
  type SeenEntry,
} from '../edges/login-directory.ts';
import { openLoginHelper } from '../edges/login-helper.ts';
import { describeError } from '../errors.ts';
import type { Log } from '../log.ts';
import { parseMarker, type Marker } from '../model/marker.ts';
import {
  readAccounts,
  readState,
  writeAccounts,
  writeClosed,
  writeState,
  writeStatus,
} from './agent-status.ts';
import { isShellName, isWithin, toolOf } from './account-names.ts';
import type { LoginHostConfig } from './config.ts';
import { startErrands } from './errands.ts';
import type { Ground } from './judge.ts';
import { openKeyFolder } from './key-folder.ts';
import { parseLocalAccounts, type LocalAccounts } from './passwd-list.ts';
import { openRoll, type JudgedEntry } from './roll.ts';
import { openToolAccounts } from './tool-accounts.ts';
import {
  changesFrom,
  concealment,
  olderThan,
  parseCsns,
  shortness,
  staleness,
  type Csns,
} from './trust.ts';

const LOOK_MS = 250;
const COMPARE_MS = 60_000;
/** After a compare whose answer was short. */
const COMPARE_AGAIN_MS = 5000;
/** Tools only for the list of accounts and for names to forget; their changes are followed anyway. */
const COMPARE_TOOLS_MS = 600_000;
/** What is left of all that are closed: after an agent, or a helper, was away. */
const END_MS = 60_000;
/** A login that was let in right before the key went begins a moment after everything else has ended. */
const END_AGAIN_MS = 2000;
const REPORT_MS = 5000;
/** People whose lines are renewed at one look, so that a look never takes long. */
const RENEW_AT_ONCE = 500;
/** Longer than sssd keeps what it knows (entry_cache_timeout). */
const FORGOTTEN_MS = 600_000;
/** More changed entries than this are read page by page, with everything else. */
const READ_BY_NAME = 2000;
const MOST_REFUSALS_SHOWN = 1000;
/** See GC_EVERY_PAGES of the edge. */
const GC_EVERY = 5000;

export interface Agent {
  close(): Promise<void>;
  /** rejects at a fault of the program itself */
  ended: Promise<void>;
}

/** Starts it. Throws CONFIG_INVALID where the folders, or the password, are not as they must be. */
export function startAgent(config: LoginHostConfig, log: Log): Agent {
  const clock = Date.now;
  const startedAt = clock();
  const folder = openKeyFolder(config.keysFolder);
  const kept = readState(config.stateFolder);
  const accounts = keptAccounts(config);
  const tools = openToolAccounts(accounts.tools);

  let local = readLocal(config.passwdFile);
  let localTrouble: string | undefined;
  const ground = (): Ground => ({
    config,
    localNames: local.names,
    localUids: local.uids,
    knownBad: new Set(config.knownBadKeys),
  });
  const roll = openRoll(folder, {
    limitMs: config.offlineLimitSeconds * 1000,
    clock,
    firstGround: ground(),
    letInBefore: accounts.people,
  });
  const errands = startErrands(
    openLoginHelper(config.helperSocket),
    () => [...roll.passwdLines(), ...tools.passwdLines()],
    // the helper takes nothing of a request that names a local account
    (uid) => !local.uids.has(uid) && (roll.isClosed(uid) || tools.closed().has(uid)),
    log,
  );

  let csns: Csns = kept.csns;
  /** up to where changes have been taken; undefined before the first compare */
  let followed: Csns | undefined;
  let lastClock = kept.clock;
  let marker: Marker | undefined;
  /** to be taken anew because of what else has changed; kept over a look that fails */
  const again = new Set<string>();
  let compareAt = 0;
  let compareToolsAt = 0;
  let toolsKnown = false;
  let endAt = 0;
  /** what has been locked since consequences were last passed on */
  let lockedTools: number[] = [];
  let written = '';
  let writtenClosed: string | undefined;
  /** what was wrong with the last compare */
  let compared: string | undefined = 'nothing has been read yet';
  /** why nothing at all of the last whole answer was taken, if so */
  let hidden: string | undefined;
  let distrust: { since: number; why: string } | undefined = {
    since: startedAt,
    why: 'nothing has been read yet',
  };
  let trustedAt: number | undefined;

  // ------------------------------------------------------------ the directory, one server at a time
  let server = 0;
  let directory: LoginDirectory | undefined;
  const open = (): LoginDirectory =>
    (directory ??= openLoginDirectory({
      uri: config.ldap.uris[server % config.ldap.uris.length] ?? '',
      base: config.ldap.base,
      realm: config.realm,
      caFile: config.ldap.caFile,
      password: readFileSync(config.ldap.passwordFile, 'utf8').replace(/\r?\n$/, ''),
    }));
  const turnAway = async (): Promise<void> => {
    const before = directory;
    directory = undefined;
    server += 1;
    await before?.close();
  };

  function judgeTrust(why: string | undefined): boolean {
    const now = clock();
    if (why === undefined) {
      if (distrust !== undefined)
        log.info({ people: roll.counts().people }, 'the directory is trusted');
      if (distrust !== undefined) endAt = 0; // what was not believed meanwhile
      distrust = undefined;
      trustedAt = now;
    } else if (distrust?.why !== why) {
      // a number in the sentence that counts on does not make it another reason
      if (distrust === undefined)
        log.warn({ why }, 'the directory is not trusted: nothing is renewed');
      distrust = { since: distrust?.since ?? now, why };
    }
    roll.trust(why === undefined, ground());
    return why === undefined;
  }

  async function look(): Promise<void> {
    const now = parseCsns(await open().contextCsns());
    const older = olderThan(now, csns);
    if (older !== undefined) {
      judgeTrust(older);
      await turnAway(); // another server may be further on
      return;
    }
    // sssd forgets by itself what is older
    const known = followed ?? (clock() - kept.clock < FORGOTTEN_MS ? csns : now);
    if (followed === undefined || changesFrom(now, known) !== undefined) {
      // its heartbeat moves the contextCSN too
      marker = parseMarker((await open().marker()) ?? '');
    }
    if (rereadLocal()) {
      followed = undefined; // everybody is judged anew
      compareAt = 0;
    }
    const stale = localTrouble ?? staleness(marker, clock(), lastClock);
    roll.trust(stale === undefined && compared === undefined, ground());
    // one that is not of now does not say who is no longer overdue
    if (stale === undefined)
      for (const name of roll.suspect(marker?.overdue ?? [])) again.add(name);
    const isFirst = followed === undefined;
    const isDue = performance.now() >= compareAt;
    if (isFirst && !isDue) return; // the first compare has failed, or was not believed
    if (isDue) await compare(stale === undefined);
    if (isFirst && hidden !== undefined) {
      judgeTrust(hidden); // nothing of it was taken: there is nothing to go on from
      return;
    }
    // what was first seen now is not news to the name service; what has changed since the last run is
    if (isFirst) roll.consequences();
    await follow(known, now);
    followed = csns = now;
    const trusted = judgeTrust(stale ?? compared);
    // a clock that the marker does not confirm says nothing about what it may not go back behind
    if (trusted) lastClock = Math.max(lastClock, clock());
    if (trusted) await renew();
    passOn();
    if (!trusted || performance.now() < endAt) return;
    endAt = performance.now() + END_MS;
    errands.endLeft([...roll.closed().keys(), ...tools.closed().keys()]);
  }

  /**
   * Compares all tools now and then, beside the looks: 20,000 entries take seconds. At the start after
   * the key files, which are what people wait for.
   */
  async function lookAtTools(): Promise<void> {
    compareToolsAt = Infinity; // one at a time
    try {
      const forget = await tools.takeAll(open().tools(), ground());
      if (toolsKnown) errands.forget(forget);
      toolsKnown = true;
      errands.list();
      endAt = 0;
      compareToolsAt = performance.now() + COMPARE_TOOLS_MS;
    } catch (error) {
      log.warn({ error: describeError(error) }, 'the tools could not be read, and are read again');
      compareToolsAt = performance.now() + COMPARE_AGAIN_MS;
    }
  }

  /** Takes what was written since `known`. */
  async function follow(known: Csns, now: Csns): Promise<void> {
    const from = changesFrom(now, known);
    if (from !== undefined) {
      const changed = await open().changedSince(from);
      if (changed.realmGroup) {
        for (const name of roll.admit(await open().realmMembers())) again.add(name);
      }
      for (const entry of changed.people) {
        roll.take(roll.judge(entry));
        if (entry.name !== undefined) again.delete(entry.name);
        if (followed === undefined && entry.name !== undefined) errands.forget([entry.name]);
      }
      const { forget, end } = tools.take(changed.tools, ground());
      errands.forget(forget);
      lockedTools.push(...end);
      errands.forget(tools.takeRules(changed.sudoRules));
      if (changed.tools.accounts.length > 0) errands.list();
    }
    await takeAgain();
  }

  /** Looks who is there; takes those that are new or changed, and, where it is fresh, the absence of all others. */
  async function compare(isFresh: boolean): Promise<void> {
    compareAt = performance.now() + COMPARE_AGAIN_MS;
    const present = new Set<string>();
    const changed: string[] = [];
    if (followed !== undefined) {
      for await (const page of open().namesOfPeople()) {
        for (const entry of page) {
          present.add(entry.name ?? entry.dn);
          const [csn] = entry.values('entryCSN').map(String);
          const before = entry.name === undefined ? undefined : roll.entryCsnOf(entry.name);
          if (before !== undefined && csn !== undefined && csn < before) {
            // contextCSN does not show it once the directory role has written to the older copy
            throw new Error(
              `${entry.dn} is older than it was: a backup? If the directory is right, restart the agent`,
            );
          }
          if (entry.name !== undefined && before !== csn) changed.push(entry.name);
        }
      }
    }
    const members = await open().realmMembers();
    if (followed === undefined || changed.length > READ_BY_NAME) {
      const everyone: JudgedEntry[] = [];
      for await (const page of open().people()) {
        everyone.push(...page.map((entry) => roll.judge(entry)));
      }
      hidden = concealment(countOf(everyone), marker);
      compared = hidden ?? shortness(everyone.length, marker);
      if (hidden !== undefined) {
        roll.note(everyone);
        return;
      }
      roll.trust(isFresh && compared === undefined, ground());
      roll.admit(members);
      // taken out one by one: what is done with is not held until all are
      for (let entry = everyone.pop(); entry !== undefined; entry = everyone.pop()) {
        present.add(entry.name ?? entry.dn);
        roll.take(entry);
        if (everyone.length % GC_EVERY === 0) globalThis.gc?.();
      }
    } else {
      for (const name of [...changed, ...roll.admit(members)]) again.add(name);
      await takeAgain();
      compared = shortness(present.size, marker);
    }
    if (compared !== undefined) return;
    compareAt = performance.now() + COMPARE_MS;
    if (isFresh) roll.takeAbsence(present);
  }

  async function takeAgain(): Promise<void> {
    const names = [...again];
    for (const entry of await peopleNamed(names)) roll.take(roll.judge(entry));
    for (const name of names) {
      roll.dismiss(name); // of whom nothing was found, perhaps
      again.delete(name);
    }
  }

  async function peopleNamed(names: readonly string[]): Promise<SeenEntry[]> {
    return names.length === 0 ? [] : open().peopleNamed(names);
  }

  /** Writes anew the lines of some of those that are due, from what the directory says now. */
  async function renew(): Promise<void> {
    const due = roll.due(clock(), RENEW_AT_ONCE);
    const found = (await peopleNamed(due)).map((entry) => roll.judge(entry));
    const contradiction = found.find((entry) => roll.contradicts(entry));
    if (contradiction !== undefined) {
      // access rules that have come to hide something change no entry: all of it must be looked at
      followed = undefined;
      compareAt = 0;
      throw new Error(`${contradiction.dn} shows less than before, and has not been changed`);
    }
    for (const entry of found) roll.take(entry);
    if (found.length < due.length) compareAt = 0; // somebody is no more
  }

  function passOn(): void {
    const { forget, end } = roll.consequences();
    const ending = [...end, ...lockedTools];
    lockedTools = [];
    if (distrust === undefined && ending.length > 0) {
      errands.end(ending);
      reportClosed();
      endAt = Math.min(endAt, performance.now() + END_AGAIN_MS);
    }
    errands.forget(forget);
    if (forget.length > 0) errands.list();
  }

  /** Whether the local accounts are others than before. Without the file those of before count, and no key comes. */
  function rereadLocal(): boolean {
    const before = local;
    try {
      local = readLocal(config.passwdFile, local);
      localTrouble = undefined;
    } catch (error) {
      localTrouble = `reading the local accounts: ${describeError(error)}`;
    }
    return local !== before;
  }

  function report(): void {
    const refusals = [...roll.refusals(), ...tools.refusals()];
    const { people, files } = roll.counts();
    const lasts = roll.lasting();
    const helper = errands.trouble();
    writeState(config.stateFolder, { csns, clock: lastClock });
    reportAccounts();
    if (distrust === undefined) reportClosed();
    writeStatus(config.stateFolder, {
      pid: process.pid,
      startedAt,
      at: clock(),
      trusted: distrust === undefined,
      ...(distrust === undefined ? {} : distrust),
      ...(trustedAt === undefined ? {} : { trustedAt }),
      server: config.ldap.uris[server % config.ldap.uris.length] ?? '',
      offlineLimitSeconds: config.offlineLimitSeconds,
      ...(lasts === undefined ? {} : { lasts }),
      people,
      files,
      refusals: refusals.slice(0, MOST_REFUSALS_SHOWN),
      refusalsInAll: refusals.length,
      ...(helper === undefined ? {} : { helper }),
    });
  }

  function reportAccounts(): void {
    const [people, closed] = [roll.letIn(), tools.toKeep()];
    // nobody leaves the one, and the other is short
    const now = `${people.size} ${[...closed.keys()].join(' ')}`;
    if (now === written) return;
    writeAccounts(config.stateFolder, new Map([...people, ...closed]));
    written = now;
  }

  /** For what starts processes by itself: cron and at. */
  function reportClosed(): void {
    const names = [...roll.closed().values(), ...tools.toKeep().values()].sort();
    if (names.join(' ') === writtenClosed) return;
    try {
      writeClosed(config.stateFolder, names);
      writtenClosed = names.join(' ');
    } catch (error) {
      // a full disk is no reason to believe the directory less
      log.warn({ error: describeError(error) }, 'the list of those closed cannot be written');
    }
  }

  const closing = new AbortController();
  const running = (async () => {
    let reported: { at: number; state: string } | undefined;
    while (!closing.signal.aborted) {
      try {
        await look();
        if (followed !== undefined && performance.now() >= compareToolsAt) void lookAtTools();
      } catch (error) {
        judgeTrust(describeError(error));
        passOn();
        await turnAway();
      }
      const state = [distrust === undefined, errands.trouble(), roll.refusals().length].join(' ');
      if (reported?.state !== state || performance.now() - reported.at >= REPORT_MS) {
        reported = { at: performance.now(), state };
        try {
          report();
        } catch (error) {
          log.warn({ error: describeError(error) }, 'the status cannot be written');
        }
      }
      await sleep(LOOK_MS, undefined, { signal: closing.signal }).catch(() => {});
    }
  })();

  return {
    async close() {
      closing.abort();
      await running;
      await errands.close();
      await directory?.close();
    },
    ended: running,
  };
}

/** Whom the last run has let in, and which tools were closed: those that may be ours by today's rules. */
function keptAccounts(config: LoginHostConfig): {
  people: Map<number, string>;
  tools: Map<number, string>;
} {
  const kept = [...readAccounts(config.stateFolder)];
  const { ids, realm } = config;
  return {
    people: new Map(kept.filter(([uid, name]) => isShellName(name) && isWithin(uid, ids.people))),
    tools: new Map(
      kept.filter(([uid, name]) => toolOf(name, realm) !== undefined && isWithin(uid, ids.tools)),
    ),
  };
}

function countOf(entries: readonly JudgedEntry[]): { taken: number; keyed: number } {
  return {
    taken: entries.filter(({ judged }) => judged.account !== undefined).length,
    keyed: entries.filter(({ judged }) => judged.keyed).length,
  };
}

interface Local extends LocalAccounts {
  /** of the file, as it was read */
  version: string;
}

/** The accounts of the passwd file itself, without the name service; `before` where it has not changed. */
function readLocal(file: string, before?: Local): Local {
  const { mtimeMs, size, ino } = statSync(file);
  const version = `${ino} ${size} ${mtimeMs}`;
  if (version === before?.version) return before;
  return { ...parseLocalAccounts(readFileSync(file, 'utf8')), version };
}
