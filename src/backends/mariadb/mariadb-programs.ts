/** Client programs of databases: their logins, and what their complaints mean. */
import { closeSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { secretNow } from '../../secrets/secret.ts';
import { caFileOf, isThisMachine } from '../../shared/tls.ts';
import type { DatabaseLogin, DatabaseServerPlace } from './mariadb-connections.ts';

/** Whether a client program has failed because it did not reach its server, or lost it. */
export function isServerAway(error: unknown): boolean {
  const { message } = error as { message?: unknown };
  return typeof message === 'string' && /\b[Ee](?:rror|RROR):? 20(?:02|03|06|13)\b/.test(message);
}

/** Whether a client program was refused an object with another definer. */
export function isForAnother(error: unknown): boolean {
  const { message } = error as { message?: unknown };
  return typeof message === 'string' && /\bERROR 1227\b/.test(message);
}

/** How a client program reaches a server: arguments in addition to the file with the login. */
export function placeArguments(place: DatabaseServerPlace): string[] {
  const { socket, host = 'localhost', port = 3306 } = place;
  if (socket !== undefined) return ['--protocol=socket', `--socket=${socket}`];
  const tls = isThisMachine(host)
    ? ['--skip-ssl']
    : ['--ssl-verify-server-cert', `--ssl-ca=${caFileOf(place)}`];
  return ['--protocol=tcp', ...tls, `--host=${host}`, `--port=${port}`];
}

/** The first argument of a client program that has the login as its file `options`. */
export const LOGIN_ARGUMENT = '--defaults-file=/proc/self/fd/3';

/** Lends an open file with a login, in the clients' format; for a moment it has a name in `folder`. */
export async function withLogin<T>(
  folder: string,
  { user, password }: DatabaseLogin,
  act: (options: number) => Promise<T>,
): Promise<T> {
  const text = `[client]\nuser=${quoted(user)}\npassword=${quoted(secretNow(password))}\n`;
  return withUnnamedFile(folder, text, act);
}

/**
 * Lends an open file with that text; for a moment it has a name in `folder`. A password that a program receives in
 * this way is in no argument and no environment, and nothing is left of it.
 */
export async function withUnnamedFile<T>(
  folder: string,
  text: string,
  act: (options: number) => Promise<T>,
): Promise<T> {
  const path = join(folder, `.login-${process.pid}-${(logins += 1)}`);
  rmSync(path, { force: true });
  let options: number;
  try {
    writeFileSync(path, text, { mode: 0o600, flag: 'wx' });
    options = openSync(path, 'r');
  } finally {
    rmSync(path, { force: true });
  }
  try {
    return await act(options);
  } finally {
    closeSync(options);
  }
}

let logins = 0;

/** Quotes a text as option files do. */
function quoted(text: string): string {
  const escaped = text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
  return `"${escaped}"`;
}
