/**
 * Options before a key: an allow-list, in the grammar of sshd (auth-options.c, sshd(8) section
 * AUTHORIZED_KEYS FILE FORMAT). It contains only options that restrict the key.
 */
import { isIP } from 'node:net';
import { quote } from '../shared/printable.ts';

/** Flags, by their lower case, because sshd ignores case. */
const FLAGS: ReadonlyMap<string, string> = new Map(
  [
    'restrict',
    'verify-required',
    'no-agent-forwarding',
    'no-port-forwarding',
    'no-pty',
    'no-user-rc',
    'no-X11-forwarding',
  ].map((name) => [name.toLowerCase(), name]),
);

const VALUES: Record<string, { check: (value: string) => string | undefined }> = {
  from: { check: checkFrom },
  'expiry-time': { check: checkExpiryTime },
};

/** Options of sshd that are not accepted: they run a program, allow forwarding, or give another name. */
const OTHERS =
  /^(?:command|environment|permitopen|permitlisten|principals|tunnel|cert-authority|[a-z0-9]+-forwarding|no-[a-z0-9-]+|pty|user-rc)$/i;

/** The longest accepted text of options. */
const MAX_OPTIONS_LENGTH = 2048;

/**
 * Where the options at the beginning of a line end: at the first blank or tab outside quotes. A backslash escapes a
 * quote (sshkey_advance_past_options).
 */
export function endOfOptions(line: string): number {
  let quoted = false;
  for (let at = 0; at < line.length; at += 1) {
    if (line[at] === '\\' && line[at + 1] === '"') at += 1;
    else if (line[at] === '"') quoted = !quoted;
    else if ((line[at] === ' ' || line[at] === '\t') && !quoted) return at;
  }
  return line.length;
}

/** Whether the first word is meant as options, valid or not. If not, it may be a host name or anything else. */
export function looksLikeOptions(word: string): boolean {
  const [name = ''] = word.split(/[=,]/, 1);
  return (
    word.includes('="') || OTHERS.test(name) || FLAGS.has(name.toLowerCase()) || isValued(name)
  );
}

const MALFORMED =
  'The options before the key are not well formed. Separate them by commas without spaces, and put each value in double quotes.';

/** Parses options into their canonical form, one text each, or says what is wrong with them. */
export function parseOptions(text: string): string[] | { refused: string } {
  if (text.length > MAX_OPTIONS_LENGTH)
    return { refused: 'The options before the key are too long. Remove some.' };
  const options: string[] = [];
  const seen = new Set<string>();
  for (let rest = text; ;) {
    const [whole, word = '', quoted] = /^([A-Za-z0-9-]+)(?:="((?:[^"\\]|\\.)*)")?/.exec(rest) ?? [
      '',
    ];
    const name = word.toLowerCase();
    const option = readOption(name, quoted);
    if (typeof option !== 'string') return option;
    if (seen.has(name)) return { refused: `The option ${name} is given twice. Remove one.` };
    seen.add(name);
    options.push(option);
    rest = rest.slice(whole.length);
    if (rest === '') return options;
    if (!rest.startsWith(',')) return { refused: MALFORMED };
    rest = rest.slice(1);
  }
}

function readOption(name: string, quoted: string | undefined): string | { refused: string } {
  if (name === '') return { refused: MALFORMED };
  const flag = FLAGS.get(name);
  if (flag !== undefined) {
    return quoted === undefined
      ? flag
      : { refused: `The option ${flag} takes no value. Remove the value.` };
  }
  if (!isValued(name)) {
    return { refused: `The option "${name.slice(0, 40)}" is not allowed. Remove it.` };
  }
  if (quoted === undefined)
    return { refused: `The option ${name} needs a value in quotes: ${name}="…".` };
  const wrong = VALUES[name]?.check(quoted);
  return wrong === undefined ? `${name}="${quoted}"` : { refused: wrong };
}

function isValued(name: string): boolean {
  return Object.hasOwn(VALUES, name.toLowerCase());
}

/**
 * Checks a list of addresses, networks (`192.0.2.0/24`) and host patterns with `*` and `?`, each of which `!` may
 * negate. sshd refuses a network with bits set beyond its mask (addr_match_list in addrmatch.c).
 */
function checkFrom(value: string): string | undefined {
  for (const entry of value.split(',')) {
    const pattern = entry.startsWith('!') ? entry.slice(1) : entry;
    const isRight = pattern.includes('/')
      ? isNetwork(pattern)
      : /^[A-Za-z0-9.:*?_-]{1,255}$/.test(pattern);
    if (!isRight) {
      return `In from="…", ${quote(entry)} is not an address, network or host pattern. Correct it, or remove it.`;
    }
  }
  return undefined;
}

function isNetwork(text: string): boolean {
  const [address = '', mask = '', ...more] = text.split('/');
  const version = isIP(address);
  if (more.length > 0 || version === 0 || address.includes('%')) return false;
  const width = version === 4 ? 32 : 128;
  if (!/^(?:0|[1-9][0-9]{0,2})$/.test(mask) || Number(mask) > width) return false;
  const hostBits = BigInt(width - Number(mask));
  return ((version === 4 ? ipv4Bits(address) : ipv6Bits(address)) & ((1n << hostBits) - 1n)) === 0n;
}

function ipv4Bits(address: string): bigint {
  return address.split('.').reduce((bits, part) => (bits << 8n) | BigInt(part), 0n);
}

function ipv6Bits(address: string): bigint {
  const dotted = /^(.*:)([0-9.]+)$/.exec(address);
  if (dotted?.[2]?.includes('.') === true) {
    const low = ipv4Bits(dotted[2]);
    return ipv6Bits(`${dotted[1]}${(low >> 16n).toString(16)}:${(low & 0xffffn).toString(16)}`);
  }
  const [head = '', tail] = address.split('::');
  const [first, last] = [groups(head), groups(tail)];
  const zeros = tail === undefined ? 0 : 8 - first.length - last.length;
  return [...first, ...Array<string>(zeros).fill('0'), ...last].reduce(
    (bits, group) => (bits << 16n) | BigInt(`0x${group}`),
    0n,
  );
}

function groups(text: string | undefined): string[] {
  return text === undefined || text === '' ? [] : text.split(':');
}

/** Checks a time: YYYYMMDD[Z] or YYYYMMDDHHMM[SS][Z] (parse_absolute_time in misc.c). It must exist. */
function checkExpiryTime(value: string): string | undefined {
  const [, year = '', month = '', day = '', hour = '00', minute = '00', second = '00'] =
    /^(\d{4})(\d\d)(\d\d)(?:(\d\d)(\d\d)(\d\d)?)?Z?$/.exec(value) ?? [];
  const text = `${year}-${month}-${day}T${hour}:${minute}:${second}.000Z`;
  const time = Date.parse(text);
  // Formatting the time again reveals days that the month does not have.
  const isTime = time > 0 && new Date(time).toISOString() === text;
  return isTime
    ? undefined
    : 'The option expiry-time="…" must be a time such as 20301231 or 20301231235959Z.';
}
