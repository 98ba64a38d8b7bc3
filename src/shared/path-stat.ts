/** Looks at paths without being blocked by a file server that does not answer. */
import { runProgram } from './run-programs.ts';

/** The owner of a path, and its mode with the file type. */
export interface Owned {
  uid: number;
  mode: number;
}

/**
 * Looks at paths in a program of its own, without following a link at their end. A call that waits for a file
 * server cannot be interrupted, and Node.js does not exit before its own calls have returned. Throws the other
 * errors of `stat`.
 */
export async function statPaths(
  paths: readonly string[],
  limitMs: number,
): Promise<Owned[] | 'not there' | 'not for us' | 'no answer'> {
  const { code, out, err } = await runProgram('stat', ['-c', '%u %f', '--', ...paths], {
    env: { PATH: process.env['PATH'], LC_ALL: 'C' },
    timeoutMs: limitMs,
  });
  if (code === null) return 'no answer';
  if (code === 0) {
    return out
      .trimEnd()
      .split('\n')
      .map((line) => {
        const [uid = '', mode = ''] = line.split(' ');
        return { uid: Number(uid), mode: Number.parseInt(mode, 16) };
      });
  }
  if (err.includes('Permission denied')) return 'not for us';
  if (/No such file or directory|Not a directory/u.test(err)) return 'not there';
  throw new Error(err.trim().split('\n')[0] ?? 'looking at paths');
}
