/** Chamberlain's own command line, as the demo uses it: it only starts the program. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { StackEnvironment } from './outside.ts';

export const CHAMBERLAIN = join(import.meta.dirname, '../chamberlain');

/** What `submit --wait --json` prints of a request. */
export interface Outcome {
  id: string;
  kind: string;
  verdict: 'accepted' | 'refused' | null;
  /** everything that it touched is applied */
  done: boolean;
  code?: string;
  sentence?: string;
  elapsedMs: number;
}

/**
 * Sends requests, one JSON object a line, each followed to its end before the next; reports each as it ends.
 * Throws if the program ends before it has reported all of them.
 */
export async function submit(
  env: StackEnvironment,
  speaker: readonly string[],
  lines: readonly string[],
  onEnd: (outcome: Outcome) => void,
  signal: AbortSignal,
): Promise<void> {
  const words = ['submit', ...speaker, '--file', '-', '--wait', '--json'];
  const child = spawn(CHAMBERLAIN, words, { env: { ...process.env, ...env }, signal });
  let trouble = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (trouble += text));
  child.stdin.on('error', () => {});
  child.stdin.end(lines.map((line) => `${line}\n`).join(''));
  const ended = new Promise<void>((done, fail) => {
    child.once('error', fail);
    child.once('close', () => done());
  });
  ended.catch(() => {});
  let reported = 0;
  for await (const line of createInterface({ input: child.stdout })) {
    onEnd(JSON.parse(line) as Outcome);
    reported += 1;
  }
  await ended;
  if (reported !== lines.length) {
    throw new Error(
      `chamberlain submit ended after ${reported} of ${lines.length} requests: ${trouble}`,
    );
  }
}
