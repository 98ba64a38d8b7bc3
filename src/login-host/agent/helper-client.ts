/**
 * Asks the root helper of a login host (src/login-host/helper/helper.ts); what is asked and answered stands in
 * src/login-host/report-lines.ts. A connection for each report.
 */
import { connect } from 'node:net';
import { ChamberlainError } from '../../shared/errors.ts';

/** The files of everybody may have to be written first, on a disk that is busy. */
const ANSWER_TIMEOUT_MS = 60_000;

export interface LoginHelper {
  /**
   * Sends a report, and returns the answer, a line. Throws BACKEND_UNAVAILABLE where the helper cannot be
   * reached, hangs up, or has not answered in 60 s. A report may be repeated.
   */
  report(text: string): Promise<string>;
}

/** Opens nothing yet. */
export function openLoginHelper(socketPath: string, timeoutMs = ANSWER_TIMEOUT_MS): LoginHelper {
  return {
    async report(text) {
      try {
        const answer = await exchange(socketPath, text, timeoutMs);
        if (answer.endsWith('\n')) return answer;
        throw new Error('the answer was cut short');
      } catch (cause) {
        throw new ChamberlainError('BACKEND_UNAVAILABLE', 'telling the root helper', { cause });
      }
    },
  };
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
