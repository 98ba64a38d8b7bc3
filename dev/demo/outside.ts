/** The demo's own reader: it examines the servers with their own programs, and uses nothing of Chamberlain. */
import { execFile } from 'node:child_process';

/** The variables that `dev/stack env` prints for a stack. */
export type StackEnvironment = Readonly<Record<string, string>>;

/** How a program ended. */
export interface Ran {
  code: number;
  stdout: string;
  stderr: string;
  ms: number;
}

/** No program of the demo takes longer. */
const TIMEOUT_MS = 90_000;

/** Runs a program to its end, whatever its exit code. */
export function run(
  program: string,
  args: readonly string[],
  options: { env?: StackEnvironment; input?: string; signal?: AbortSignal } = {},
): Promise<Ran> {
  const begin = performance.now();
  return new Promise((done, fail) => {
    const child = execFile(
      program,
      args,
      {
        env: { ...process.env, ...options.env, LC_ALL: 'C.UTF-8' },
        maxBuffer: 1 << 26,
        timeout: TIMEOUT_MS,
        ...(options.signal === undefined ? {} : { signal: options.signal }),
      },
      (error, stdout, stderr) => {
        // only an exit code is an answer
        const code = error === null ? 0 : error.code;
        if (typeof code === 'number') done({ code, stdout, stderr, ms: performance.now() - begin });
        else fail(new Error(`running ${program}`, { cause: error }));
      },
    );
    child.stdin?.on('error', () => {});
    child.stdin?.end(options.input ?? '');
  });
}

/** Runs a program that must succeed; returns what it printed. */
export async function output(...call: Parameters<typeof run>): Promise<string> {
  const { code, stdout, stderr } = await run(...call);
  if (code !== 0) throw new Error(`${call[0]} exited with code ${code}: ${stderr.trim()}`);
  return stdout;
}

/** An entry as ldapsearch prints it: `attribute: value` lines; the DN is separate. */
export interface Entry {
  dn: string;
  lines: string[];
}

/** Searches as the directory's administrator, which Chamberlain never does. */
export async function searchDirectory(
  env: StackEnvironment,
  filter: string,
  ...attributes: string[]
): Promise<Entry[]> {
  const { LDAP_URI = '', LDAP_ADMIN_DN = '', LDAP_ADMIN_PASSWORD_FILE = '', LDAP_BASE = '' } = env;
  const connection = ['-x', '-H', LDAP_URI, '-D', LDAP_ADMIN_DN, '-y', LDAP_ADMIN_PASSWORD_FILE];
  const text = await output('ldapsearch', [
    ...'-LLL -o ldif-wrap=no'.split(' '),
    ...connection,
    '-b',
    LDAP_BASE,
    filter,
    ...attributes,
  ]);
  return text
    .split('\n\n')
    .filter((block) => block.trim() !== '')
    .map((block) => {
      const [dn = '', ...lines] = block.trim().split('\n').map(decodeLine);
      return { dn: dn.slice('dn: '.length), lines };
    });
}

/** Converts `attribute:: base64` to `attribute: text` (RFC 2849). */
function decodeLine(line: string): string {
  const [, attribute, value] = /^([^:]+):: (.*)$/.exec(line) ?? [];
  if (attribute === undefined || value === undefined) return line;
  return `${attribute}: ${Buffer.from(value, 'base64').toString('utf8')}`;
}

export type DatabaseServer = 'replica' | 'toolsdb';

/** Runs statements on a database server with an account's own credentials file. */
export function queryAs(
  env: StackEnvironment,
  file: string,
  server: DatabaseServer,
  sql: string,
): Promise<Ran> {
  const socket = server === 'replica' ? env['MARIADB_REPLICA_SOCKET'] : env['MARIADB_TOOLS_SOCKET'];
  return run('mariadb', [`--defaults-file=${file}`, `--socket=${socket}`, '-N', '-B', '-e', sql]);
}

/** Runs statements on a database server as its administrator, the system's root. */
export function queryAsRoot(socket: string | undefined, sql: string): Promise<string> {
  return output('mariadb', [
    '--no-defaults',
    `--socket=${socket}`,
    '--user=root',
    '-N',
    '-B',
    '-e',
    sql,
  ]);
}
