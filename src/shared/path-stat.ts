/** Looks at paths without being blocked by a file server that does not answer. */
import { spawn } from 'node:child_process';

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
  const child = spawn('stat', ['-c', '%u %f', '--', ...paths], {
    cwd: '/',
    env: { PATH: process.env['PATH'], LC_ALL: 'C' },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  const text = { out: '', err: '' };
  child.stdout.setEncoding('utf8').on('data', (part: string) => (text.out += part));
  child.stderr.setEncoding('utf8').on('data', (part: string) => (text.err += part));
  const end = await new Promise<number | null | 'no answer'>((resolve, reject) => {
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      resolve('no answer'); // a process that waits for a server may survive the signal
    }, limitMs);
    child.on('error', reject);
    child.on('close', (code) => {
      clearTimeout(timer);
      resolve(code);
    });
  });
  if (end === 'no answer') return end;
  if (end === 0) {
    return text.out
      .trimEnd()
      .split('\n')
      .map((line) => {
        const [uid = '', mode = ''] = line.split(' ');
        return { uid: Number(uid), mode: Number.parseInt(mode, 16) };
      });
  }
  if (text.err.includes('Permission denied')) return 'not for us';
  if (/No such file or directory|Not a directory/u.test(text.err)) return 'not there';
  throw new Error(text.err.trim().split('\n')[0] ?? 'looking at paths');
}
