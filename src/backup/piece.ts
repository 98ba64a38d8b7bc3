/** One file of a set. `age` encrypts it on its way to the disk, so that nothing is stored unencrypted. */
import { createHash } from 'node:crypto';
import { closeSync, fsyncSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { runPrograms, type Program } from '../shared/run-programs.ts';
import { ChamberlainError } from '../shared/errors.ts';

/** The name of the file of a piece. */
export function fileOf(name: string): string {
  return `${name}.age`;
}

/** The size and the digest of an unencrypted piece. */
export interface Measured {
  bytes: number;
  sha256: string;
}

/** Measures the data that is added. */
function startMeasure(): { add: (chunk: Uint8Array) => void; end: () => Measured } {
  const hash = createHash('sha256');
  let bytes = 0;
  return {
    add(chunk) {
      hash.update(chunk);
      bytes += chunk.length;
    },
    end: () => ({ bytes, sha256: hash.digest('hex') }),
  };
}

/** Encrypts the output of a program, or the given texts, into a file of the folder, durably. */
export async function writePiece(
  folder: string,
  name: string,
  source: Program | readonly string[],
  {
    recipients,
    signal,
    moved,
  }: { recipients: readonly string[]; signal: AbortSignal; moved: () => void },
): Promise<Measured> {
  const measure = startMeasure();
  const add = (chunk: Uint8Array) => {
    moved();
    measure.add(chunk);
  };
  const stdout = openSync(join(folder, fileOf(name)), 'wx', 0o600);
  try {
    const args = recipients.flatMap((recipient) => ['-r', recipient]);
    const age: Program = { name: 'age', args, stdout };
    if ('args' in source) await runPrograms([source, age], { between: add, signal });
    else await runPrograms([age], { from: measured(source, add), signal });
    fsyncSync(stdout);
  } finally {
    closeSync(stdout);
  }
  return measure.end();
}

async function* measured(
  texts: readonly string[],
  add: (chunk: Uint8Array) => void,
): AsyncGenerator<Uint8Array> {
  for (const text of texts) {
    const chunk = Buffer.from(text);
    add(chunk);
    yield chunk;
  }
}

export interface Opening {
  /** the folder of the set */
  set: string;
  /** the file of the private key */
  key: string;
  signal: AbortSignal;
}

/** Decrypts a piece. Throws BACKUP_DAMAGED if it does not exist or was changed after the encryption. */
export async function readPiece(
  opening: Opening,
  name: string,
  into: (chunk: Uint8Array) => void,
): Promise<Measured> {
  const measure = startMeasure();
  try {
    await withCiphertext(opening, name, (age) =>
      runPrograms([age], {
        into(chunk) {
          measure.add(chunk);
          into(chunk);
        },
        signal: opening.signal,
      }),
    );
  } catch (cause) {
    opening.signal.throwIfAborted();
    const path = join(opening.set, fileOf(name));
    throw new ChamberlainError('BACKUP_DAMAGED', `reading ${path}`, { cause });
  }
  return measure.end();
}

/** The text of a piece. */
export async function readPieceText(opening: Opening, name: string): Promise<string> {
  const chunks: Uint8Array[] = [];
  await readPiece(opening, name, (chunk) => void chunks.push(chunk));
  return Buffer.concat(chunks).toString('utf8');
}

/** Gives a piece to a program as its input. Throws what the program complains about. */
export async function feedPiece(opening: Opening, name: string, program: Program): Promise<void> {
  await withCiphertext(opening, name, (age) =>
    runPrograms([age, program], { signal: opening.signal }),
  );
}

async function withCiphertext(
  { set, key }: Opening,
  name: string,
  act: (age: Program) => Promise<void>,
): Promise<void> {
  const stdin = openSync(join(set, fileOf(name)), 'r');
  try {
    await act({ name: 'age', args: ['-d', '-i', key], stdin });
  } finally {
    closeSync(stdin);
  }
}
