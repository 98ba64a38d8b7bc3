/**
 * Asks the root helper of a login host (src/login-host/helper.ts, where the protocol stands) for the few
 * things that the keys agent may not do itself. A connection for each request.
 */
import { connect } from 'node:net';
import { ChamberlainError } from '../errors.ts';

const ACCOUNTS_TIMEOUT_MS = 15_000;
const PASSWD_TIMEOUT_MS = 30_000;

/** The helper takes no more lines in one request. */
const MAX_LINES = 10_000;

/**
 * Every call throws BACKEND_UNAVAILABLE where the helper cannot be reached or does not answer in time,
 * and STEP_FAILED, with its sentence, where it refuses or has failed. All may be repeated.
 */
export interface LoginHelper {
  /** Has this host forget what it knows of these accounts and their groups, and all sudo rules. 15 s. */
  forget(names: readonly string[]): Promise<void>;
  /** Has every process of these people and tools ended on this host, of all at the same time. 15 s. */
  end(...uids: number[]): Promise<void>;
  /**
   * Has the accounts that this host knows without a server replaced by these lines of passwd(5). Says
   * which were left out: how many, and of the first why; undefined where none was. 30 s.
   */
  passwd(lines: readonly string[]): Promise<string | undefined>;
}

/** Opens nothing yet. */
export function openLoginHelper(socketPath: string): LoginHelper {
  async function askEach(act: string, verb: string, of: readonly (string | number)[]) {
    for (let at = 0; at < of.length; at += MAX_LINES) {
      const lines = of.slice(at, at + MAX_LINES).map((one) => `${verb} ${one}`);
      await ask(act, socketPath, lines, ACCOUNTS_TIMEOUT_MS);
    }
  }
  return {
    forget: (names) => askEach('having names forgotten', 'forget', names),
    end: (...uids) => askEach('having sessions ended', 'end', uids),
    async passwd(lines) {
      const request = [`passwd ${lines.length}`, ...lines];
      const answer = await ask('having the accounts kept', socketPath, request, PASSWD_TIMEOUT_MS);
      return answer === '' ? undefined : answer;
    },
  };
}

/** Returns what follows `ok `. */
async function ask(
  act: string,
  socketPath: string,
  lines: readonly string[],
  timeoutMs: number,
): Promise<string> {
  if (lines.some((line) => line.includes('\n'))) {
    throw new ChamberlainError('INTERNAL', `${act}: a line end within a line`);
  }
  let answer: string;
  try {
    answer = await exchange(socketPath, `${lines.join('\n')}\n`, timeoutMs);
  } catch (cause) {
    throw new ChamberlainError('BACKEND_UNAVAILABLE', act, { cause });
  }
  const said = /^(ok|refused:)(?: (.*))?\n$/.exec(answer);
  if (said === null) {
    throw new ChamberlainError('BACKEND_UNAVAILABLE', `${act}: the answer was cut short`);
  }
  const [, verdict, sentence = ''] = said;
  if (verdict !== 'ok') throw new ChamberlainError('STEP_FAILED', act, { cause: sentence });
  return sentence;
}

function exchange(socketPath: string, request: string, timeoutMs: number): Promise<string> {
  return new Promise((resolve, reject) => {
    let answer = '';
    const socket = connect(socketPath).setEncoding('utf8');
    const timer = setTimeout(
      () => socket.destroy(new Error(`${socketPath} has not answered in ${timeoutMs / 1000} s`)),
      timeoutMs,
    );
    socket.on('data', (chunk: string) => (answer += chunk));
    socket.once('end', () => resolve(answer));
    socket.once('error', reject);
    socket.once('close', () => {
      clearTimeout(timer);
      reject(new Error(`${socketPath} has closed the connection`));
    });
    socket.end(request);
  });
}
