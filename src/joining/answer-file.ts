/** The file of a join answer, which only the machine that has asked can decrypt. */
import { closeSync, fstatSync, fsyncSync, openSync, readSync } from 'node:fs';
import { Readable } from 'node:stream';
import { removeFile } from '../shared/durable-file.ts';
import { ChamberlainError, CORRECT_AND_RUN_AGAIN, doing } from '../shared/errors.ts';
import { runPrograms } from '../shared/run-programs.ts';
import { fingerprintOf } from './join-request.ts';

/** Reports the next step. */
export type Say = (step: string) => void;

/** Writes the answer, and returns its fingerprint. If it fails, there is no file. */
export async function writeAnswer(
  answer: object,
  { key, out, say }: { key: string; out: string; say: Say },
): Promise<string> {
  const file = openAnswer(out);
  try {
    say('encrypting the answer');
    await encrypt(JSON.stringify(answer), key, file);
    return fingerprintOf(readWhole(file));
  } catch (error) {
    removeFile(out);
    throw error;
  } finally {
    closeSync(file);
  }
}

function openAnswer(out: string): number {
  try {
    return openSync(out, 'wx+', 0o600);
  } catch (cause) {
    throw new ChamberlainError('USAGE', `writing the answer to ${out}`, {
      cause,
      action:
        'Give another file with --out, or remove that one. An interrupted `chamberlain join` may have left an answer there that is not valid: remove it, and run the command again.',
    });
  }
}

/** What was written to the open file: others may have put another file in its place if they can write its folder. */
function readWhole(file: number): Buffer {
  const bytes = Buffer.alloc(fstatSync(file).size);
  let at = 0;
  for (let read = -1; read !== 0 && at < bytes.length; at += read) {
    read = readSync(file, bytes, at, bytes.length - at, at);
  }
  return bytes.subarray(0, at);
}

/** The text is in no argument and no file that is not encrypted. */
async function encrypt(text: string, key: string, file: number): Promise<void> {
  const age = { name: 'age', args: ['-r', key], stdout: file };
  const { signal } = new AbortController();
  await doing(
    'STEP_FAILED',
    'encrypting the answer',
    () => runPrograms([age], { from: Readable.from([Buffer.from(text)]), signal }),
    CORRECT_AND_RUN_AGAIN,
  );
  fsyncSync(file);
}
