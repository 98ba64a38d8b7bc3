/**
 * The agent of a login host: follows the directory, and tells the root helper what it shows. It judges nothing
 * and keeps nothing on disk; of each entry it knows the entryCSN of what it has told.
 *
 * | when                                                                       | reads                          |
 * | -------------------------------------------------------------------------- | ------------------------------ |
 * | four times a second                                                        | the suffix's contextCSN        |
 * | that has moved                                                             | the heartbeat and what changed |
 * | every minute, and when it can be read again                                | all names                      |
 * | it starts; the helper is another run; the contextCSN went back, or lacks a | everything                     |
 * | server (an older copy, another directory); another server may do better    |                                |
 *
 * What was told counts as told once the helper has answered. One thing is read and told after another, from one
 * server: nothing that was read earlier can overtake what was read later.
 */
import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  openLoginDirectory,
  type LoginDirectory,
  type SeenEntry,
} from '../edges/login-directory.ts';
import { openLoginHelper } from '../edges/login-helper.ts';
import { ChamberlainError, codeOf, describeError } from '../errors.ts';
import type { Log } from '../log.ts';
import type { LoginHostConfig } from './config.ts';
import { changesFrom, olderThan, parseCsns, type Csns } from './csns.ts';
import { PLACES, type Places } from './places.ts';
import {
  formatReport,
  parseReportAnswer,
  type ReportAnswer,
  type ReportLine,
} from './report-lines.ts';

const LOOK_MS = 250;
/** The helper hears from the agent so often at least. */
const SPEAK_MS = 5000;
const COMPARE_MS = 60_000;
/** After one that has failed. */
const COMPARE_AGAIN_MS = 5000;
/** What a compare asks for is read entry by entry; of more, everything is read. */
const READ_SINGLY = 500;
/** No report is much larger. */
const REPORT = { lines: 500, characters: 2 * 2 ** 20 };

export interface Agent {
  close(): Promise<void>;
  /** rejects at a fault of the program itself */
  ended: Promise<void>;
}

export function startAgent(
  config: LoginHostConfig,
  log: Log,
  { socket }: Pick<Places, 'socket'> = PLACES,
  compareMs = COMPARE_MS,
): Agent {
  const helper = openLoginHelper(socket);
  /** of the helper; one that has not answered yet is none that has been told anything */
  let answer: ReportAnswer | undefined;
  let isHelperAway = false;
  let spokeAt = -Infinity;
  /** why the directory could not be read; '' once a look was whole */
  let trouble = '';

  /** the entryCSN of what was told under each name; '' where it had no seal */
  let told = new Map<string, string>();
  /** up to where changes have been told */
  let csns: Csns = {};
  let heartbeat = '';
  let compareAt = Infinity;
  let isEverythingDue = true;
  const everythingPace = openPace();

  // ------------------------------------------------------------ the directory, one server at a time
  const { uris } = config.ldap;
  let server = 0;
  let directory: LoginDirectory | undefined;
  const turnPace = openPace();
  /** how many were passed over since one was looked at */
  let passedOver = 0;
  const uri = () => uris[server % uris.length] ?? '';
  const open = (): LoginDirectory =>
    (directory ??= openLoginDirectory({
      uri: uri(),
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

  // ------------------------------------------------------------ telling

  async function tell(lines: readonly ReportLine[]): Promise<ReportAnswer> {
    const before = answer;
    const text = await helper.report(formatReport([['trouble', uri(), trouble], ...lines]));
    try {
      answer = parseReportAnswer(text);
    } catch (cause) {
      throw new ChamberlainError('BACKEND_UNAVAILABLE', 'reading what the root helper answers', {
        cause,
      });
    }
    spokeAt = performance.now();
    if (answer.run !== before?.run) isEverythingDue = true;
    if (answer.trusted !== before?.trusted) {
      const { trusted, why } = answer;
      log.info({ trusted, ...(trusted ? {} : { why }) }, 'what the root helper thinks of it');
    }
    return answer;
  }

  /** Collects lines into reports of bounded size. */
  function openReport() {
    let lines: ReportLine[] = [];
    /** what `told` is to say of a name; undefined: nothing */
    let news: [name: string, csn: string | undefined][] = [];
    let characters = 0;
    const send = async () => {
      await tell(lines);
      for (const [name, csn] of news) {
        if (csn === undefined) told.delete(name);
        else told.set(name, csn);
      }
      [lines, news, characters] = [[], [], 0];
    };
    const add = async (line: ReportLine, name: string, csn: string | undefined) => {
      lines.push(line);
      news.push([name, csn]);
      characters += line.reduce((sum, part) => sum + part.length, 0);
      if (lines.length >= REPORT.lines || characters >= REPORT.characters) await send();
    };
    return {
      add: ({ name, csn, seal }: SeenEntry) =>
        seal === undefined
          ? add(['unsealed', name], name, '')
          : add(['seal', name, seal], name, csn),
      addGone: (name: string) => add(['gone', name], name, undefined),
      async end(...last: ReportLine[]): Promise<void> {
        lines.push(...last);
        if (lines.length > 0) await send();
      },
    };
  }

  // ------------------------------------------------------------ reading

  /** False where this server is passed over. */
  async function look(): Promise<boolean> {
    const now = parseCsns(await open().contextCsns());
    if (Object.keys(now).length === 0) {
      throw new ChamberlainError('BACKEND_UNREADABLE', 'the directory shows no contextCSN');
    }
    const older = olderThan(now, csns);
    if (older !== undefined) {
      heartbeat = await open().heartbeat();
      const { tryAnother } = await tell([['heartbeat', heartbeat]]);
      if (tryAnother === true && passedOver < uris.length - 1) {
        passedOver += 1;
        await turnAway();
        return false;
      }
      if (!isEverythingDue) log.warn({ server: uri(), older }, 'everything is read again');
      isEverythingDue = true;
    }
    passedOver = 0;
    if (isEverythingDue && everythingPace.take()) {
      await readEverything(now);
    } else {
      await follow(now);
      if (!isEverythingDue && performance.now() >= compareAt) await compare();
    }
    if (answer?.tryAnother === true && uris.length > 1 && turnPace.take()) {
      isEverythingDue = true; // the next one may show what this one hides, and no contextCSN says so
      await turnAway();
    }
    return true;
  }

  async function readEverything(now: Csns): Promise<void> {
    const token = randomUUID();
    heartbeat = await open().heartbeat();
    const { run } = await tell([
      ['heartbeat', heartbeat],
      ['all', token, 'begin'],
    ]);
    told = new Map();
    csns = now;
    for await (const page of open().everything()) {
      const report = openReport();
      for (const entry of page) await report.add(entry);
      await report.end();
      if (answer?.run !== run) return;
    }
    await follow(parseCsns(await open().contextCsns())); // what has changed meanwhile
    if (answer?.run !== run) return;
    isEverythingDue = false;
    compareAt = performance.now() + compareMs;
    await tell([['all', token, 'end']]);
  }

  /** Tells what has changed, then the heartbeat that was read before: all that it counts on has been told. */
  async function follow(now: Csns): Promise<void> {
    const from = changesFrom(now, csns);
    if (from === undefined && performance.now() < spokeAt + SPEAK_MS) return;
    const before = heartbeat;
    heartbeat = await open().heartbeat();
    // written, and the contextCSN has not moved: the clock of that server was ahead before
    if (from === undefined && heartbeat !== before) compareAt = -Infinity;
    const report = openReport();
    if (from !== undefined) {
      for await (const page of open().changedSince(from)) {
        for (const entry of page) if (isNews(entry)) await report.add(entry);
      }
    }
    await report.end(['heartbeat', heartbeat]);
    csns = now;
  }

  function isNews({ name, csn, seal }: SeenEntry): boolean {
    const before = told.get(name);
    return seal === undefined ? before !== '' : before !== csn || csn === '';
  }

  /** Compares names: tells who is no more, and what no contextCSN has shown. */
  async function compare(): Promise<void> {
    compareAt = performance.now() + Math.min(compareMs, COMPARE_AGAIN_MS);
    const gone = new Set(told.keys());
    const differing: string[] = [];
    // access rules that no longer hide a seal change no entry
    const unsealed: string[] = [];
    for await (const page of open().names()) {
      for (const { dn, name, csn } of page) {
        gone.delete(name);
        const before = told.get(name);
        if (before === '') unsealed.push(dn);
        else if (before !== csn || csn === '') differing.push(dn);
      }
    }
    const areTooMany = unsealed.length > READ_SINGLY;
    if (differing.length > READ_SINGLY || (areTooMany && answer?.trusted !== true)) {
      isEverythingDue = true;
      return;
    }
    if (!areTooMany) differing.push(...unsealed);
    const report = openReport();
    for (const name of gone) await report.addGone(name);
    for (const entry of await open().entries(differing)) {
      if (isNews(entry)) await report.add(entry);
    }
    await report.end();
    compareAt = performance.now() + compareMs;
  }

  // ------------------------------------------------------------ for ever

  async function lookOnce(): Promise<void> {
    try {
      if (isHelperAway) await tell([]);
      if (isHelperAway) log.info('the root helper answers again');
      isHelperAway = false;
      const isWhole = await look();
      if (!isWhole || trouble === '') return;
      log.info({ server: uri() }, 'the directory can be read again');
      trouble = '';
      // what came back may be an older copy that was written to since: its contextCSN does not say so
      compareAt = -Infinity;
      await tell([]);
    } catch (error) {
      if (codeOf(error) === 'BACKEND_UNAVAILABLE') {
        if (!isHelperAway) log.warn({ error: describeError(error) }, 'the root helper is away');
        isHelperAway = true;
        return;
      }
      const isNew = trouble === '';
      trouble = describeError(error);
      if (isNew) log.warn({ error: trouble }, 'the directory cannot be read');
      if (isNew || performance.now() >= spokeAt + SPEAK_MS) {
        await tell([]).catch(() => (isHelperAway = true));
      }
      await turnAway();
    }
  }

  const closing = new AbortController();
  const ended = (async () => {
    while (!closing.signal.aborted) {
      await lookOnce();
      await sleep(LOOK_MS, undefined, { signal: closing.signal }).catch(() => {});
    }
  })();

  return {
    async close() {
      closing.abort();
      await ended;
      await directory?.close();
    },
    ended,
  };
}

/** Something that costs much may be done at once, then after a second, two, four … a minute; rest makes it new. */
function openPace() {
  const [least, most] = [1000, 60_000];
  let wait = 0;
  let last = -Infinity;
  return {
    /** Whether it may be done now. */
    take(): boolean {
      const since = performance.now() - last;
      if (since < wait) return false;
      wait = since > 2 * most ? least : Math.min(2 * wait, most);
      last = performance.now();
      return true;
    },
  };
}
