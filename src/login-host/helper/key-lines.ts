/**
 * The lines of a person's key file, as sshd reads them: options, type, base64. Each has an end,
 * `expiry-time="YYYYMMDDHHMMSSZ"` (sshd(8), AUTHORIZED_KEYS FILE FORMAT), which sshd itself enforces: the end
 * of the host's grant, or of the key itself if that is sooner. Times are UTC, in whole seconds.
 */
import { ChamberlainError } from '../../shared/errors.ts';
import type { SshKey } from '../../ssh-keys/ssh-key.ts';
import { KEY_TYPES } from '../../ssh-keys/ssh-key-blob.ts';
import { endOfOptions, parseOptions } from '../../ssh-keys/ssh-key-options.ts';

/** A key as it goes into a file. */
export interface KeyLine {
  /** type and base64 */
  line: string;
  /** without `expiry-time` */
  options: string[];
  /** the key's own end, in milliseconds since the epoch */
  end: number | undefined;
}

const EXPIRY = /^expiry-time="(\d{4})(\d\d)(\d\d)(?:(\d\d)(\d\d)(\d\d)?)?(Z?)"$/;
const EXPIRY_IN_LINE = /expiry-time="(\d{14})Z"/g;

/**
 * Converts a key that the strict parser accepted. If its own end has no `Z`, it is in the host's time zone, as
 * in sshd.
 */
export function toKeyLine({ line, options }: Pick<SshKey, 'line' | 'options'>): KeyLine {
  const ends = options.flatMap((option) => timeOf(EXPIRY.exec(option)) ?? []);
  return {
    line,
    options: options.filter((option) => !option.startsWith('expiry-time=')),
    end: ends.length === 0 ? undefined : Math.min(...ends),
  };
}

/**
 * The keys of a seal: canonical lines separated by line ends. They were parsed when the seal was accepted. Each
 * line has its options before the type, as `toKeyLine` returns them.
 */
export function readKeyLines(list: string): KeyLine[] {
  return list.split('\n').map((text) => {
    const end = endOfOptions(text);
    if (KEY_TYPES.includes(text.slice(0, end))) return { line: text, options: [], end: undefined };
    const options = parseOptions(text.slice(0, end));
    if (!Array.isArray(options)) throw new ChamberlainError('INTERNAL', 'reading a key of a seal');
    return toKeyLine({ line: text.slice(end + 1), options });
  });
}

/** The file's text, where the grant ends at `until` (milliseconds since the epoch). */
export function renderKeyFile(keys: readonly KeyLine[], until: number): string {
  return keys
    .map(({ line, options, end }) => {
      const expiry = `expiry-time="${renderTime(Math.min(until, end ?? until))}"`;
      return `${[...options, expiry].join(',')} ${line}\n`;
    })
    .join('');
}

/** How long the file's grant lasts: the latest end in it; undefined if it has none. */
export function grantOf(text: string): number | undefined {
  const ends = [...text.matchAll(EXPIRY_IN_LINE)].map(([, digits = '']) =>
    Date.parse(digits.replace(/^(....)(..)(..)(..)(..)(..)$/, '$1-$2-$3T$4:$5:$6Z')),
  );
  return ends.length === 0 ? undefined : Math.max(...ends);
}

function renderTime(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19).replaceAll(/[-:T]/g, '')}Z`;
}

function timeOf(match: RegExpExecArray | null): number | undefined {
  if (match === null) return undefined;
  const [, year, month, day, hour = '00', minute = '00', second = '00', zone] = match;
  return Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}${zone}`);
}
