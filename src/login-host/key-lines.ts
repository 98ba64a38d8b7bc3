/**
 * The lines of a person's key file, as sshd reads them: options, type, base64. Each ends at a time,
 * `expiry-time="YYYYMMDDHHMMSSZ"` (sshd(8), AUTHORIZED_KEYS FILE FORMAT), which sshd itself enforces:
 * the grant of the host, or the key's own end if that is sooner. Times are UTC, whole seconds.
 */
import type { SshKey } from '../model/ssh-key.ts';

/** A key as it goes into a file. */
export interface KeyLine {
  /** type and base64 */
  line: string;
  /** without `expiry-time` */
  options: string[];
  /** the key's own, in milliseconds since the epoch */
  end: number | undefined;
}

const EXPIRY = /^expiry-time="(\d{4})(\d\d)(\d\d)(?:(\d\d)(\d\d)(\d\d)?)?(Z?)"$/;
/** Later than any end that a key has. */
const FAR = Date.UTC(9999, 11, 31);
const EXPIRY_OPTION = /(?:,|^)expiry-time="\d{14}Z"/;
const EXPIRY_IN_LINE = /expiry-time="(\d{14})Z"/g;

/** A key that the strict parser took. Its own end without `Z` is in the host's time, as sshd has it. */
export function toKeyLine({ line, options }: SshKey): KeyLine {
  const ends = options.flatMap((option) => timeOf(EXPIRY.exec(option)) ?? []);
  return {
    line,
    options: options.filter((option) => !option.startsWith('expiry-time=')),
    end: ends.length === 0 ? undefined : Math.min(...ends),
  };
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

/** Until when the file's grant lasts: the latest end in it; undefined where it has none. */
export function grantOf(text: string): number | undefined {
  const ends = [...text.matchAll(EXPIRY_IN_LINE)].map(([, digits = '']) =>
    Date.parse(digits.replace(/^(....)(..)(..)(..)(..)(..)$/, '$1-$2-$3T$4:$5:$6Z')),
  );
  return ends.length === 0 ? undefined : Math.max(...ends);
}

/** The same text exactly for the same keys, options and ends of their own. */
export function renderKeys(keys: readonly KeyLine[]): string {
  return renderKeyFile(keys, FAR);
}

/** The lines of a file whose keys are still among these, with the ends that they have. */
export function keepLines(text: string, keys: readonly KeyLine[]): string {
  const bare = (line: string) => line.replace(EXPIRY_OPTION, '').replace(/^ /, '');
  const wanted = new Set(renderKeys(keys).split('\n').map(bare));
  return text
    .split(/(?<=\n)/)
    .filter((line) => wanted.has(bare(line.trimEnd())))
    .join('');
}

function renderTime(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19).replaceAll(/[-:T]/g, '')}Z`;
}

function timeOf(match: RegExpExecArray | null): number | undefined {
  if (match === null) return undefined;
  const [, year, month, day, hour = '00', minute = '00', second = '00', zone] = match;
  return Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}${zone}`);
}
