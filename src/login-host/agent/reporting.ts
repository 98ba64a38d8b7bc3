/** What the agent has told the root helper, and how that answered. */
import type { SeenEntry } from '../../backends/ldap/login-directory.ts';
import type { LoginHelper } from './helper-client.ts';
import { ChamberlainError } from '../../shared/errors.ts';
import type { Log } from '../../shared/log.ts';
import {
  formatReportLine,
  parseReportAnswer,
  type ReportAnswer,
  type ReportLine,
} from '../report-lines.ts';

/** No report is much larger. */
const REPORT = { lines: 500, characters: 2 * 2 ** 20 };

export interface Reporting {
  /** Tells lines, one report after another. Throws BACKEND_UNAVAILABLE: then they may not have been heard. */
  tell(...lines: ReportLine[]): Promise<ReportAnswer>;
  /** Begins to tell more than may fit into one report. */
  report(): Report;
  /** the last answer */
  answer(): ReportAnswer | undefined;
  /** when it came, by performance.now() */
  spokeAt(): number;
  /** the entryCSN of what was told under each name; '' where it had no seal */
  told(): ReadonlyMap<string, string>;
  /** Forgets what was told. */
  beginAnew(): void;
  /** Whether an entry says anything that was not told. */
  isNews(entry: SeenEntry): boolean;
}

/** Reports of bounded size: the next one is collected while one is being told. Each call throws as `tell`. */
interface Report {
  add(entry: SeenEntry): Promise<void>;
  addGone(name: string): Promise<void>;
  /** Returns once all of it was told, and these lines last. */
  end(...last: ReportLine[]): Promise<void>;
}

/** What `told` says once a line was answered; undefined: nothing any more. */
type News = [name: string, csn: string | undefined];

/** @param preface what every report begins with */
export function openReporting(helper: LoginHelper, preface: () => ReportLine, log: Log): Reporting {
  let told = new Map<string, string>();
  let answer: ReportAnswer | undefined;
  let spokeAt = -Infinity;
  let before: Promise<unknown> = Promise.resolve();

  async function tell(...lines: ReportLine[]): Promise<ReportAnswer> {
    return await tellText(lines.map(formatReportLine).join(''));
  }

  async function tellText(lines: string): Promise<ReportAnswer> {
    const report = formatReportLine(preface()) + lines;
    const earlier = before;
    const answered = (async () => {
      await earlier.catch(() => {}); // whoever told that hears of it
      return parseAnswer(await helper.report(report));
    })();
    before = answered;
    const [last, now] = [answer, await answered];
    answer = now;
    spokeAt = performance.now();
    const { run, trusted, why } = now;
    if (run !== last?.run || trusted !== last.trusted) {
      log.info({ run, trusted, ...(trusted ? {} : { why }) }, 'the root helper has answered');
    }
    return now;
  }

  async function tellNews(lines: string, news: readonly News[]): Promise<void> {
    await tellText(lines);
    for (const [name, csn] of news) {
      if (csn === undefined) told.delete(name);
      else told.set(name, csn);
    }
  }

  return {
    tell,
    report: () => openReport(tellNews),
    answer: () => answer,
    spokeAt: () => spokeAt,
    told: () => told,
    beginAnew: () => void (told = new Map()),
    isNews({ name, csn, seal }) {
      const known = told.get(name);
      return seal === undefined ? known !== '' : known !== csn || csn === '';
    },
  };
}

function openReport(tellNews: (lines: string, news: readonly News[]) => Promise<void>): Report {
  let lines = '';
  let news: News[] = [];
  let sent: Promise<void> = Promise.resolve();

  async function sendNext(): Promise<void> {
    await sent;
    sent = tellNews(lines, news);
    sent.catch(() => {}); // it is heard of with the next one
    [lines, news] = ['', []];
  }

  async function add(line: ReportLine, one: News): Promise<void> {
    lines += formatReportLine(line);
    news.push(one);
    if (news.length >= REPORT.lines || lines.length >= REPORT.characters) await sendNext();
  }

  return {
    add: ({ name, csn, seal }) =>
      seal === undefined
        ? add(['unsealed', name], [name, ''])
        : add(['seal', name, seal], [name, csn]),
    addGone: (name) => add(['gone', name], [name, undefined]),
    async end(...last) {
      lines += last.map(formatReportLine).join('');
      if (lines !== '') await sendNext();
      await sent;
    },
  };
}

function parseAnswer(text: string): ReportAnswer {
  try {
    return parseReportAnswer(text);
  } catch (cause) {
    const act = 'reading what the root helper answers';
    throw new ChamberlainError('BACKEND_UNAVAILABLE', act, { cause });
  }
}
