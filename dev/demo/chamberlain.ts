/** Chamberlain's own command line, as the demo uses it: a program to start, and no more. */
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
  /** all that it touched is applied */
  done: boolean;
  code?: string;
  sentence?: string;
  elapsedMs: number;
}

/**
 * Sends requests, one JSON object a line, each followed to its end before the next; tells of each as
 * it ends. Throws where the program ends before it has told of them all.
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
  let told = 0;
  for await (const line of createInterface({ input: child.stdout })) {
    onEnd(JSON.parse(line) as Outcome);
    told += 1;
  }
  await ended;
  if (told !== lines.length) {
    throw new Error(
      `chamberlain submit ended after ${told} of ${lines.length} requests: ${trouble}`,
    );
  }
}
