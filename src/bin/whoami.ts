#!/usr/bin/env -S node --disable-sigusr1
/**
 * `chamberlain-whoami`: what the directory and this login host know of who asks. It runs as the keys
 * agent's user, by a sudo rule for everyone; of its caller it believes what sudo says, SUDO_USER and
 * SUDO_UID, and it tells nobody anything of another. So it has no option that names a file or a person.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { readLoginPerson, type LoginPerson } from '../edges/login-person.ts';
import { ChamberlainError, codeOf, describeError } from '../errors.ts';
import {
  LOGIN_HOST_CONFIG,
  loadLoginHostConfig,
  type LoginHostConfig,
} from '../login-host/config.ts';
import { isShellName } from '../login-host/account-names.ts';
import { toKeyLine } from '../login-host/key-lines.ts';
import { parseSshKey, type SshKey } from '../model/ssh-key.ts';
import { describeFailure, EXIT } from './exit.ts';
import { paint, print, printJson, renderTable, withoutControls } from './table.ts';

const HELP = `Usage: chamberlain-whoami [--json]

Shows who you are to this login host: your access, the tools that you may become, and your SSH keys
with their labels, ends, and until when this host takes each if it hears nothing more of the directory.
As a tool (after \`become\`): its maintainers.

Exit codes:
  0  all of it is shown
  1  it failed: standard error says why
  2  the command line or the configuration is wrong
  4  the directory could not be read: what is shown is what this host knows alone
`;

const ALONE = 'The directory could not be read. This is what this host knows alone.';
const PUT_OFF =
  'The last column is put off again and again for as long as the directory can be read.';

const TIMEOUT_MS = 2000;

interface Caller {
  name: string;
  uid: number;
}

/** Times are RFC 3339. */
interface Key {
  type: string;
  fingerprint: string;
  /** '' where it has none, or the directory could not be read */
  label: string;
  /** without `expiry-time` */
  options: string[];
  /** the key's own end, as the directory has it */
  end: string | null;
  /** until when this host takes it if nothing more is heard; null where it does not take it now */
  takenUntil: string | null;
}

interface Answer extends Caller {
  realm: string;
  kind: 'person' | 'tool';
  /** a sentence, where the directory could not be read: then what stands there alone is null or none */
  unreadable: string | null;
  locked: boolean | null;
  realmMember: boolean | null;
  tools: string[] | null;
  maintainers: string[] | null;
  keys: Key[];
  /** of what the directory has as keys and this host never takes: why */
  refusedKeys: string[];
}

async function main(): Promise<void> {
  const { json, help } = readArguments();
  if (help) return void process.stdout.write(HELP);
  const caller = readCaller(process.env);
  const answer = await lookUp(loadLoginHostConfig(LOGIN_HOST_CONFIG), caller, Date.now());
  if (json) printJson(answer);
  else print(render(answer));
  if (answer.unreadable !== null) process.exitCode = EXIT.unreadable;
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

/** Who started this through sudo. Throws USAGE where nobody did. */
function readCaller({ SUDO_USER: name = '', SUDO_UID: uid = '' }: NodeJS.ProcessEnv): Caller {
  if (name !== '' && /^[0-9]{1,10}$/u.test(uid)) return { name, uid: Number(uid) };
  throw new ChamberlainError('USAGE', 'run chamberlain-whoami, which starts this through sudo');
}

async function lookUp(config: LoginHostConfig, caller: Caller, now: number): Promise<Answer> {
  const found = await askDirectory(config, caller);
  const unreadable = 'unreadable' in found ? found.unreadable : null;
  const account = 'unreadable' in found ? undefined : found;
  const kind = caller.name.startsWith(`${config.realm}.`) ? 'tool' : 'person';
  const knownBad = new Set(config.knownBadKeys);
  const verdicts = (account?.keys ?? []).map((line) => parseSshKey(line, knownBad));
  const there = verdicts.flatMap((verdict) => (verdict.ok ? [verdict.key] : []));
  const hasFile = kind === 'person' && isShellName(caller.name);
  const here = hasFile ? readKeyFile(join(config.keysFolder, caller.name)) : [];
  return {
    ...caller,
    realm: config.realm,
    kind,
    unreadable,
    locked: account?.locked ?? null,
    realmMember: kind === 'person' ? (account?.realmMember ?? null) : null,
    tools: account?.tools ?? null,
    maintainers: kind === 'tool' ? (account?.maintainers ?? null) : null,
    keys: describeKeys(there, here, account?.descriptions ?? [], now),
    refusedKeys: verdicts.flatMap((verdict) =>
      verdict.ok ? [] : [`${verdict.code}: ${verdict.sentence}`],
    ),
  };
}

async function askDirectory(
  { ldap, realm }: LoginHostConfig,
  caller: Caller,
): Promise<LoginPerson | { unreadable: string }> {
  const password = readPassword(ldap.passwordFile);
  let person;
  try {
    person = await readLoginPerson({ ...ldap, realm, password, timeoutMs: TIMEOUT_MS }, caller);
  } catch (error) {
    if (codeOf(error) !== 'BACKEND_UNREADABLE') throw error;
    return { unreadable: describeError(error) };
  }
  if (person !== undefined) return person;
  const who = `${caller.name} (uid ${caller.uid})`;
  throw new ChamberlainError(
    'PERSON_UNKNOWN',
    `${who} is an account of this host, not of the realm`,
  );
}

function readPassword(path: string): string {
  try {
    return readFileSync(path, 'utf8').replace(/\r?\n$/u, '');
  } catch (cause) {
    throw new ChamberlainError('CONFIG_INVALID', `reading the password ${path}`, { cause });
  }
}

/** The keys that sshd is given for a person; none where it is given no file. */
function readKeyFile(path: string): SshKey[] {
  try {
    const verdicts = readFileSync(path, 'utf8')
      .split('\n')
      .map((line) => parseSshKey(line));
    return verdicts.flatMap((verdict) => (verdict.ok ? [verdict.key] : []));
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw new ChamberlainError('BACKEND_UNREADABLE', `reading ${path}`, { cause });
  }
}

/** @param there what the directory has @param here what sshd is given: it ends when the grant ends */
function describeKeys(
  there: readonly SshKey[],
  here: readonly SshKey[],
  descriptions: readonly string[],
  now: number,
): Key[] {
  const all = new Map([...here, ...there].map((key) => [key.line, key]));
  return [...all.values()].map((key) => {
    const taken = here.find(({ line }) => line === key.line);
    const until = taken === undefined ? undefined : toKeyLine(taken).end;
    const prefix = `${key.fingerprint} `;
    return {
      type: key.type,
      fingerprint: key.fingerprint,
      label: descriptions.find((each) => each.startsWith(prefix))?.slice(prefix.length) ?? '',
      options: toKeyLine(key).options,
      end: there.includes(key) ? renderTime(toKeyLine(key).end) : null,
      takenUntil: until === undefined || until <= now ? null : renderTime(until),
    };
  });
}

function renderTime(ms: number | undefined): string | null {
  return ms === undefined ? null : new Date(ms).toISOString().replace(/\.\d+Z$/u, 'Z');
}

function render(answer: Answer): string {
  const { name, uid, kind, realm, unreadable, realmMember, locked } = answer;
  const rows: [name: string, values: readonly string[] | null][] = [
    ['access', choose(realmMember, `to the realm ${realm}`, `none to the realm ${realm}`)],
    ['state', choose(locked, 'locked', 'active')],
    ['maintainers', answer.maintainers],
    ['tools', answer.tools],
  ];
  const facts = rows.flatMap(([what, values]) =>
    (values?.length === 0 ? ['none'] : (values ?? [])).map(
      (value, index) => `  ${(index === 0 ? what : '').padEnd(12)}  ${withoutControls(value)}`,
    ),
  );
  return [
    `${paint('bold', withoutControls(name))}  ${kind} ${uid}`,
    ...(unreadable === null
      ? []
      : [paint('red', `  ${ALONE}`), `  ${withoutControls(unreadable)}`]),
    ...facts,
    ...(kind === 'person' ? ['', renderKeys(answer)] : []),
  ].join('\n');
}

function choose(fact: boolean | null, yes: string, no: string): string[] | null {
  return fact === null ? null : [fact ? yes : no];
}

function renderKeys({ keys, refusedKeys }: Answer): string {
  const table =
    keys.length === 0
      ? 'no keys'
      : renderTable(
          ['key', 'fingerprint', 'label', 'options', 'ends', 'taken until'],
          keys.map(({ type, fingerprint, label, options, end, takenUntil }) => [
            type,
            fingerprint,
            label,
            options.join(','),
            end,
            takenUntil ?? 'not taken',
          ]),
        );
  return [
    table,
    ...refusedKeys.map((why) => `A key in the directory is not taken. ${withoutControls(why)}`),
    ...(keys.some(({ takenUntil }) => takenUntil !== null) ? [paint('dim', PUT_OFF)] : []),
  ].join('\n');
}

try {
  await main();
} catch (error) {
  const { line, exit } = describeFailure(error);
  process.stderr.write(`${line}\n`);
  process.exitCode = exit;
}
// A connection that is being opened to a server that hangs would keep us.
process.exit();
