/** `become` on a login host with all tools, and with ten. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { LoginSize } from '../goals.ts';
import type { LoginRealm } from './login-realm.ts';
import { LOGIN_PERSON } from './login-lookups.ts';
import { maintainersOf, personName, toolName } from '../population/population-names.ts';
import { PROCESS_TIMER, shuffle, type TimedRun, timeProcesses } from '../tools/process-timer.ts';

const FEW_TOOLS = 10;
const TURNS = 10;
/** The first of both sets of tools, and the only one of LOGIN_PERSON. */
const TOOL = 0;
const FEW = '/run/bench-few-tools';

/** Milliseconds of each. */
export type Becomes = Record<'true' | 'list' | 'become', number[]>;

/**
 * Alternates between the host as it is, and the host with lists that name only ten of the tools: the same
 * lines, in folders that the timed programs see in place of the host's own.
 */
export async function timeBecomes(
  realm: LoginRealm,
  size: Pick<LoginSize, 'people' | 'tools' | 'becomes'>,
): Promise<Record<'all' | 'few', Becomes>> {
  const tools = Array.from({ length: size.tools }, (_, n) => n);
  const own = tools.filter((n) => maintainersOf(n, size).includes(LOGIN_PERSON));
  if (own.length !== 1 || own[0] !== TOOL)
    throw new Error('an unexpected number of tools is listed');
  realm.makeHome('tool', TOOL);
  await makeFew(realm);
  const name = toolName(TOOL);
  const kinds: TimedRun[] = [
    { name: 'true', argv: ['/bin/true'], bytes: 0 },
    { name: 'list', argv: ['/usr/bin/become', '--list'], bytes: name.length + 1 },
    { name: 'become', argv: ['/usr/bin/become', name, 'true'], bytes: 0 },
  ];
  const times = { all: openTimes(), few: openTimes() };
  const each = Math.ceil(size.becomes / TURNS);
  for (let turn = 0; turn < TURNS; turn++) {
    for (const where of shuffle(['all', 'few'] as const)) {
      const runs = Array.from({ length: each }, () => shuffle(kinds)).flat();
      const taken = await timeProcesses(runs, (input) => runTimer(realm, where, input));
      for (const [kind, samples] of Object.entries(times[where])) {
        samples.push(...(taken.get(kind) ?? []));
      }
    }
  }
  return times;
}

function openTimes(): Becomes {
  return { true: [], list: [], become: [] };
}

/** Runs as in a login of the person: with their user, and sshd's PATH. */
function runTimer({ host }: LoginRealm, where: 'all' | 'few', input: string): Promise<string> {
  const binds = Object.entries(FOLDERS).map(([name, at]) => `mount --bind ${FEW}/${name} ${at}`);
  const script = [
    'set -e',
    ...(where === 'few' ? binds : []),
    'exec runuser -u "$1" -- /usr/bin/perl "$2"',
  ].join('\n');
  return host.machine.must(
    [
      ...['/usr/bin/unshare', '--mount', '/bin/sh', '-c', script, 'sh'],
      ...[personName(LOGIN_PERSON), join('/opt/chamberlain', PROCESS_TIMER)],
    ],
    { input, env: ENVIRONMENT, timeoutMs: 600_000 },
  );
}

const ENVIRONMENT = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' };
const FOLDERS = { extrausers: '/var/lib/extrausers', sudoers: '/etc/sudoers.d' };

async function makeFew({ host, realm, places }: LoginRealm): Promise<void> {
  const { machine } = host;
  await machine.must(['/bin/mkdir', FEW]);
  for (const [name, at] of Object.entries(FOLDERS)) {
    await machine.must(['/bin/cp', '-a', at, `${FEW}/${name}`]);
  }
  const few = Array.from({ length: FEW_TOOLS }, (_, n) => `${realm}.${toolName(n)}`);
  const files = ['passwd', 'shadow', 'group'].map((name) => `extrausers/${name}`);
  for (const path of [...files, `sudoers/${places.sudoers.split('/').at(-1)}`]) {
    const file = join(machine.root, FEW, path);
    const lines = readFileSync(file, 'utf8').split('\n');
    const isLeft = (line: string) => {
      const [, tool] = /^%?([^:\s]+)/.exec(line) ?? [];
      return tool?.startsWith(`${realm}.`) !== true || few.includes(tool);
    };
    writeFileSync(file, lines.filter(isLeft).join('\n'));
  }
}
