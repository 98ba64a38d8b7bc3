/**
 * The floor of a survey of everything: the time that the servers alone take to list everything, in parallel, to
 * programs that throw it away.
 */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { personName, toolName } from '../population/population-names.ts';
import type { Population } from '../population/population.ts';
import { PROCESS_TIMER, timeProcesses } from '../tools/process-timer.ts';
import type { MeasuredRealm } from '../realm.ts';
import type { FloorLooks } from './sweep-floor-files.ts';

/** How long each took, in milliseconds. */
export type SurveyFloor = Record<'directory' | 'homes' | 'replica' | 'toolsdb', number>;

const PROJECT = join(import.meta.dirname, '../..');
const PAGE = 1000;

/** Reads everything in parallel; the slowest is the floor. */
export async function measureSurveyFloor(
  { stack, config }: MeasuredRealm,
  population: Population,
): Promise<SurveyFloor> {
  const { base } = config.ldap;
  const select = (socket: string) =>
    timed([
      '/usr/bin/mariadb',
      ...['--no-defaults', `--socket=${socket}`, '--user=root', '--batch', '--quick'],
      ...['-e', 'SELECT * FROM mysql.global_priv'],
    ]);
  const [directory, homes, replica, toolsdb] = await Promise.all([
    timed([
      '/usr/bin/ldapsearch',
      ...['-x', '-LLL', '-H', stack.slapd.uri, '-D', `cn=directory-reader,ou=chamberlain,${base}`],
      ...['-y', join(config.secrets, 'ldap-directory-reader')],
      ...['-b', base, '-E', `pr=${PAGE}/noprompt`, '(objectClass=*)'],
    ]),
    lookAtHomes(looksOf(config, population)),
    select(stack.replica.socket),
    select(stack.tools.socket),
  ]);
  return { directory, homes, replica, toolsdb };
}

/** Milliseconds of one process until all its output has been read. */
async function timed(argv: readonly string[]): Promise<number> {
  const run = { name: 'one', argv, bytes: undefined };
  const times = await timeProcesses([run], (input) => runTimer(input));
  return times.get('one')?.[0] ?? NaN;
}

function runTimer(input: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile('/usr/bin/perl', [PROCESS_TIMER], { cwd: PROJECT }, (error, stdout) =>
      error === null ? resolve(stdout) : reject(error),
    );
    child.stdin?.end(input);
  });
}

function looksOf({ files }: MeasuredRealm['config'], { tools, people }: Population): FloorLooks {
  const homes = (area: string, count: number, name: (n: number) => string) =>
    Array.from({ length: count }, (_, n) => `${files.root}${area}/${name(n)}`);
  const toolHomes = homes(files.toolHomes, tools, toolName);
  const personHomes = homes(files.personHomes, people, personName);
  const credentials = [...toolHomes, ...personHomes].map((home) => `${home}/replica.my.cnf`);
  const folders = toolHomes.flatMap((home) => [`${home}/public_html`, `${home}/logs`]);
  return {
    paths: [...toolHomes, ...personHomes, ...folders, ...credentials],
    files: credentials,
  };
}

function lookAtHomes(workerData: FloorLooks): Promise<number> {
  const thread = new Worker(new URL('sweep-floor-files.ts', import.meta.url), { workerData });
  return new Promise((resolve, reject) => {
    thread.once('message', resolve);
    thread.once('error', reject);
  });
}
