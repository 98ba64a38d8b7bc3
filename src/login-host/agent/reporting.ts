/** What the agent has reported to the login helper, and what the helper answered. */
import type { SeenEntry } from '../../backends/ldap/login-directory.ts';
import type { LoginHelper } from './helper-client.ts';
import { doing } from '../../shared/errors.ts';
import type { Log } from '../../shared/log.ts';
import {
  formatReportLine,
  parseReportAnswer,
  type ReportAnswer,
  type ReportLine,
} from '../report-lines.ts';

/** Upper limits of one report; it may exceed them by one line. */
const REPORT = { lines: 500, characters: 2 * 2 ** 20 };

export interface Reporting {
  /**
   * Sends lines, one report after another. Throws BACKEND_UNAVAILABLE; the helper may then not have received
   * them.
   */
  send(...lines: ReportLine[]): Promise<ReportAnswer>;
  /** Begins to send more than may fit into one report. */
  report(): Report;
  /** the last answer */
  answer(): ReportAnswer | undefined;
  /** when it came, by performance.now() */
  spokeAt(): number;
  /** the entryCSN that was reported of each name; '' if the entry had no seal */
  reported(): ReadonlyMap<string, string>;
  /** Forgets what was reported. */
  beginAnew(): void;
  /** Whether an entry says anything that was not reported. */
  isNews(entry: SeenEntry): boolean;
}

/**
 * Reports of bounded size: the next one is collected while one is being sent. Each call throws as `send` does.
 */
interface Report {
  add(entry: SeenEntry): Promise<void>;
  addGone(name: string): Promise<void>;
  /** Returns once everything has been sent, these lines last. */
  end(...last: ReportLine[]): Promise<void>;
}

/** What `reported` returns for a name once the line is answered; undefined removes the name. */
type News = [name: string, csn: string | undefined];

/** @param preface what every report begins with */
export function openReporting(helper: LoginHelper, preface: () => ReportLine, log: Log): Reporting {
  let reported = new Map<string, string>();
  let answer: ReportAnswer | undefined;
  let spokeAt = -Infinity;
  let before: Promise<unknown> = Promise.resolve();

  async function send(...lines: ReportLine[]): Promise<ReportAnswer> {
    return await sendText(lines.map(formatReportLine).join(''));
  }

  async function sendText(lines: string): Promise<ReportAnswer> {
    const report = formatReportLine(preface()) + lines;
    const earlier = before;
    const answered = (async () => {
      await earlier.catch(() => {}); // its caller handles the error
      return parseAnswer(await helper.report(report));
    })();
    before = answered;
    const [last, now] = [answer, await answered];
    answer = now;
    spokeAt = performance.now();
    const { run, trusted, why } = now;
    if (run !== last?.run || trusted !== last.trusted) {
      log.info({ run, trusted, ...(trusted ? {} : { why }) }, 'the login helper answered');
    }
    return now;
  }

  async function sendNews(lines: string, news: readonly News[]): Promise<void> {
    await sendText(lines);
    for (const [name, csn] of news) {
      if (csn === undefined) reported.delete(name);
      else reported.set(name, csn);
    }
  }

  return {
    send,
    report: () => openReport(sendNews),
    answer: () => answer,
    spokeAt: () => spokeAt,
    reported: () => reported,
    beginAnew: () => void (reported = new Map()),
    isNews({ name, csn, seal }) {
      const known = reported.get(name);
      return seal === undefined ? known !== '' : known !== csn || csn === '';
    },
  };
}

function openReport(sendNews: (lines: string, news: readonly News[]) => Promise<void>): Report {
  let lines = '';
  let news: News[] = [];
  let sent: Promise<void> = Promise.resolve();

  async function sendNext(): Promise<void> {
    await sent;
    sent = sendNews(lines, news);
    sent.catch(() => {}); // the next call reports the error
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
  const act = 'reading the answer of the login helper';
  return doing('BACKEND_UNAVAILABLE', act, () => parseReportAnswer(text));
}
