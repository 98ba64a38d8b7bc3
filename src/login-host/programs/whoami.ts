#!/usr/bin/env -S node --disable-sigusr1
/**
 * `chamberlain-whoami`: what this login host knows of the account that runs it. It runs as that account, and
 * reads files that everybody may read. Only the account's own key file is read by another program, `own-keys`,
 * through sudo.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { readIfThere } from '../../shared/durable-file.ts';
import { ChamberlainError, doing } from '../../shared/errors.ts';
import { toolOf } from '../account-names.ts';
import { LOGIN_HOST_CONFIG, loadLoginHostConfig } from '../config.ts';
import { toKeyLine } from '../helper/key-lines.ts';
import { PLACES } from '../places.ts';
import { CLOSED_FILE, readStatus } from '../status.ts';
import { parseSshKey } from '../../ssh-keys/ssh-key.ts';
import { describeFailure } from '../../cli/exit.ts';
import { printable } from '../../shared/printable.ts';
import { paint, print, printJson, renderTable } from '../../cli/table.ts';

const HELP = `Usage: chamberlain-whoami [--json]

Shows who you are to this login host: your access, the tools that you may become, and the fingerprints
of your SSH keys, with the time until which this host accepts each key if it can no longer read the
directory. As a tool (after \`become\`): its maintainers.

A login host does not know the labels of keys: \`ssh-keygen -lf FILE\` prints the fingerprint of a key.

Exit codes:
  0  everything is shown
  1  it failed: standard error says why
  2  the command line or the configuration is wrong
`;

const PUT_OFF =
  'While the directory can be read, the times in the last column are extended again and again.';
const DISABLED_SHELL = '/bin/disabledtoolshell';
const OWN_KEYS = ['-n', '-u', 'chamberlain-lookup', '/usr/lib/chamberlain/own-keys'];
/** The helper writes its status every 5 s. */
const SILENT_MS = 30_000;

/** A line of passwd(5). */
interface Account {
  name: string;
  uid: number;
  gecos: string;
  shell: string;
}

interface Key {
  type: string;
  fingerprint: string;
  /** without `expiry-time` */
  options: string[];
  /**
   * RFC 3339: until when this host accepts it if the directory can no longer be read; null if that time is past
   */
  takenUntil: string | null;
}

interface Answer {
  name: string;
  uid: number;
  realm: string;
  kind: 'person' | 'tool';
  /** a closed person is suspended, archived or without access */
  state: 'active' | 'closed' | 'disabled';
  /** why a tool is disabled, in the words of a maintainer or an admin */
  reason: string | null;
  /** the tools that the account may become */
  tools: string[];
  /** null for a person */
  maintainers: string[] | null;
  keys: Key[];
  /** why this host refuses what the directory now shows of the account */
  refused: string | null;
  /** why what is shown may be old; null if it is current */
  trouble: string | null;
}

function main(): void {
  const { json, help } = readArguments();
  if (help) return void process.stdout.write(HELP);
  const { realm } = loadLoginHostConfig(LOGIN_HOST_CONFIG);
  const answer = lookUp(realm, process.getuid?.() ?? 0, Date.now());
  if (json) printJson(answer);
  else print(render(answer));
}

function readArguments(): { json: boolean; help: boolean } {
  try {
    const { values } = parseArgs({
      options: {
        json: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
    return values;
  } catch (error) {
    throw new ChamberlainError('USAGE', (error as Error).message);
  }
}

function lookUp(realm: string, uid: number, now: number): Answer {
  const accounts = readAccounts();
  const account = accounts.find((each) => each.uid === uid);
  if (account === undefined) {
    const sentence = `your account (uid ${uid}) belongs to this host, not to the realm`;
    const action = 'Run this as a person or a tool of the realm.';
    throw new ChamberlainError('PERSON_UNKNOWN', sentence, { action });
  }
  const { name, gecos, shell } = account;
  const isTool = toolOf(name, realm) !== undefined;
  const isDisabled = shell === DISABLED_SHELL;
  const isClosed = readLines(join(PLACES.login, CLOSED_FILE)).includes(name);
  const members = readMembers(realm);
  const disabled = new Set(
    accounts.filter((each) => each.shell === DISABLED_SHELL).map((each) => each.name),
  );
  return {
    ...{ name, uid, realm, kind: isTool ? 'tool' : 'person' },
    state: isDisabled ? 'disabled' : isClosed ? 'closed' : 'active',
    reason: (isDisabled && /^disabled - (.+)$/.exec(gecos)?.[1]) || null,
    tools: [...members]
      .filter(([group, names]) => names.includes(name) && group !== name && !disabled.has(group))
      .map(([group]) => group.slice(realm.length + 1))
      .toSorted(),
    maintainers: isTool ? (members.get(name) ?? []).filter((each) => each !== name) : null,
    keys: isTool ? [] : readKeys(now),
    ...readDoubts(name, now),
  };
}

function readAccounts(): Account[] {
  return readLines(join(PLACES.extrausers, 'passwd')).map((line) => {
    const [name = '', , uid, , gecos = '', , shell = ''] = line.split(':');
    return { name, uid: Number(uid), gecos, shell };
  });
}

/** By the name of each tool's group. */
function readMembers(realm: string): Map<string, string[]> {
  const groups = readLines(join(PLACES.extrausers, 'group')).map((line) => line.split(':'));
  return new Map(
    groups
      .filter(([group = '']) => toolOf(group, realm) !== undefined)
      .map(([group = '', , , names = '']) => [group, names === '' ? [] : names.split(',')]),
  );
}

/** What a person without rights can do. */
const TELL = 'Tell an operator.';

/** Empty if there is no file: then the helper has not written any yet. */
function readLines(path: string): string[] {
  const read = () => readIfThere(path);
  const text = doing('BACKEND_UNREADABLE', `reading ${path}`, read, TELL);
  return text?.split('\n').slice(0, -1) ?? [];
}

/** The keys that sshd receives for the account. */
function readKeys(now: number): Key[] {
  const { status, stdout, stderr } = spawnSync('/usr/bin/sudo', OWN_KEYS, { encoding: 'utf8' });
  if (status !== 0) {
    const why = stderr.trim() || 'own-keys could not read it';
    throw new ChamberlainError('BACKEND_UNREADABLE', `reading your key file: ${why}`, {
      action: TELL,
    });
  }
  return stdout.split('\n').flatMap((line) => {
    const verdict = parseSshKey(line);
    if (!verdict.ok) return [];
    const { type, fingerprint } = verdict.key;
    const { options, end = 0 } = toKeyLine(verdict.key);
    return [{ type, fingerprint, options, takenUntil: end <= now ? null : renderTime(end) }];
  });
}

function readDoubts(name: string, now: number): Pick<Answer, 'refused' | 'trouble'> {
  const status = readStatus(PLACES.login);
  if (status === undefined) return { refused: null, trouble: 'the login helper has never run' };
  const { at, trusted, why = 'it gives no reason', refused } = status;
  const silence =
    now - at > SILENT_MS ? `the login helper has been silent since ${renderTime(at)}` : null;
  const distrust = trusted ? null : `it does not trust what the directory shows: ${why}`;
  return {
    refused: refused.find(({ entry }) => entry === name)?.why ?? null,
    trouble: silence ?? distrust,
  };
}

function renderTime(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d+Z$/u, 'Z');
}

function render(answer: Answer): string {
  const { name, uid, kind, realm, state, reason, refused, trouble } = answer;
  const access = state === 'closed' ? `none to the realm ${realm}` : `to the realm ${realm}`;
  const status = reason === null ? state : `${state}: ${reason}`;
  const rows: (readonly [what: string, values: readonly string[]])[] = [
    kind === 'person' ? ['access', [access]] : ['state', [status]],
    ['maintainers', answer.maintainers ?? []],
    ['tools', answer.tools],
  ];
  const shown = rows.filter(([what]) => kind === 'tool' || what !== 'maintainers');
  const facts = shown.flatMap(([what, values]) =>
    (values.length === 0 ? ['none'] : values).map(
      (value, index) => `  ${(index === 0 ? what : '').padEnd(12)}  ${printable(value)}`,
    ),
  );
  const doubts = [
    ...(refused === null ? [] : [`This host refuses your entry in the directory: ${refused}.`]),
    ...(trouble === null ? [] : [`What this host knows may be old: ${trouble}.`]),
  ];
  return [
    `${paint('bold', printable(name))}  ${kind} ${uid}`,
    ...doubts.map((doubt) => `  ${paint('red', printable(doubt))}`),
    ...facts,
    ...(kind === 'person' ? ['', renderKeys(answer.keys)] : []),
  ].join('\n');
}

function renderKeys(keys: readonly Key[]): string {
  if (keys.length === 0) return 'no keys';
  const table = renderTable(
    ['key', 'fingerprint', 'options', 'accepted until'],
    keys.map(({ type, fingerprint, options, takenUntil }) => [
      type,
      fingerprint,
      options.join(','),
      takenUntil ?? 'not accepted',
    ]),
  );
  return `${table}\n${paint('dim', PUT_OFF)}`;
}

try {
  main();
} catch (error) {
  const { line, exit } = describeFailure(error);
  process.stderr.write(`${line}\n`);
  process.exitCode = exit;
}
