/**
 * The client of the login helper (src/login-host/helper/helper.ts). src/login-host/report-lines.ts
 * describes reports and answers. Each report has its own connection.
 */
import { connect } from 'node:net';
import { doing } from '../../shared/errors.ts';

/** The helper may first have to write everybody's files, on a busy disk. */
const ANSWER_TIMEOUT_MS = 60_000;

export interface LoginHelper {
  /**
   * Sends a report, and returns the answer, one line. Throws BACKEND_UNAVAILABLE if the helper cannot be
   * reached, hangs up, or does not answer within 60 s. A report may be repeated.
   */
  report(text: string): Promise<string>;
}

/** Opens nothing yet. */
export function openLoginHelper(socketPath: string, timeoutMs = ANSWER_TIMEOUT_MS): LoginHelper {
  return {
    report: (text) =>
      doing('BACKEND_UNAVAILABLE', 'reporting to the login helper', async () => {
        const answer = await exchange(socketPath, text, timeoutMs);
        if (answer.endsWith('\n')) return answer;
        throw new Error('the answer was cut short');
      }),
  };
}

function exchange(socketPath: string, request: string, timeoutMs: number): Promise<string> {
  return new Promise((resolve, reject) => {
    let answer = '';
    const socket = connect(socketPath).setEncoding('utf8');
    const timer = setTimeout(
      () => socket.destroy(new Error(`${socketPath} did not answer within ${timeoutMs / 1000} s`)),
      timeoutMs,
    );
    socket.on('data', (chunk: string) => (answer += chunk));
    socket.once('end', () => resolve(answer));
    socket.once('error', reject);
    socket.once('close', () => {
      clearTimeout(timer);
      reject(new Error(`${socketPath} closed the connection`));
    });
    socket.end(request);
  });
}
