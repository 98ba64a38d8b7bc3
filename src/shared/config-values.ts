/** Kinds of values that the configurations share. */
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { type Document, isMap, isNode, isScalar, LineCounter, parseDocument } from 'yaml';
import en from 'zod/v4/locales/en.js';
import * as z from 'zod/mini';
import { cannotRead, ChamberlainError } from './errors.ts';
import { schemaWords } from './schema-words.ts';
import { isThisMachine } from './tls.ts';

// zod/mini has no messages of its own, but builds its schemas in half the time that zod takes
z.config(en());

export const filled = z.string().check(z.minLength(1));
export const absolutePath = z.string().check(z.startsWith('/'));
export const unixName = z.string().check(z.regex(/^[a-z][a-z0-9-]{0,15}$/));

const labels = z.regex(
  /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$/,
  'is not the name of a machine: a-z 0-9 - and dots',
);

/** The name of a machine, as in DNS, in lower case. */
export const hostName = z.string().check(z.maxLength(100), labels);
/** The account of a login host in the directory: its name, and the fingerprint of its join request. */
export const hostAccount = z.string().check(z.maxLength(120), labels);

/** A list with at least one element. */
export const someOf = <T extends z.core.SomeType>(element: T) =>
  z.array(element).check(z.minLength(1));
/** A whole number in a range. */
export const intOf = (least: number, most: number) =>
  z.int().check(z.minimum(least), z.maximum(most));

export const idRange = z.strictObject({
  first: z.int().check(z.minimum(1)),
  last: intOf(1, 2 ** 31 - 2),
});
export type IdRange = z.infer<typeof idRange>;

/** Says which ranges of numbers overlap; undefined if none do. Those of other realms may overlap each other. */
export function overlapOf(ids: {
  people: readonly IdRange[];
  tools: readonly IdRange[];
  others?: readonly IdRange[];
}): string | undefined {
  const own = [...ids.people, ...ids.tools];
  for (const [at, one] of own.entries()) {
    const rest = [...own.slice(at + 1), ...(ids.others ?? [])];
    const other = rest.find(({ first, last }) => first <= one.last && one.first <= last);
    if (other === undefined) continue;
    const [a, b] = [one, other].map(({ first, last }) => `${first}-${last}`);
    return `ids: the ranges ${a} and ${b} overlap`;
  }
  return undefined;
}

/** A server's name or address, and perhaps its port: nothing that could control a terminal. */
const SERVER = String.raw`([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:.]{2,45}\])(:\d{1,5})?`;

export const ldapUri = z
  .string()
  .check(
    z.regex(
      new RegExp(
        String.raw`^(ldaps://${SERVER}|ldapi://%2F[\w.!~*'()%-]+|ldap://(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?)/?$`,
        'i',
      ),
      'must be ldaps://HOST or ldapi://%2FPATH%2FOF%2FSOCKET (or ldap:// to this machine)',
    ),
  );

/** A directory as another machine reaches it. */
export const ldapsUri = z
  .string()
  .check(
    z.regex(new RegExp(`^ldaps://${SERVER}/?$`, 'i'), 'must be ldaps://HOST or ldaps://HOST:PORT'),
  );

/** `unix:///run/redis/redis.sock?db=0`, or as ioredis has it. Plain redis:// would send passwords over a network. */
export const redisUrl = z
  .string()
  .check(
    z.refine(
      (url) =>
        /^(unix:\/\/\/|rediss:\/\/[^/])/.test(url)
          ? URL.canParse(url)
          : url.startsWith('redis://') && URL.canParse(url) && isThisMachine(new URL(url).hostname),
      'must be rediss://HOST:PORT or unix:///PATH/OF/SOCKET (or redis:// to this machine)',
    ),
  );

/** Where a program listens: `HOST:PORT`, `[IPv6]:PORT` or `unix:/PATH`. */
export type Listen = { path: string } | { host: string; port: number };

/** Reads such an address; undefined if it is none. */
export function parseListen(text: string): Listen | undefined {
  if (/^unix:\/[^\0]{0,100}$/.test(text)) return { path: text.slice('unix:'.length) };
  const { host, v6, port } =
    /^(?:(?<host>[a-z0-9.-]+)|\[(?<v6>[\da-f:.]+)\]):(?<port>\d{1,5})$/i.exec(text)?.groups ?? {};
  if (port === undefined || Number(port) > 65_535) return undefined;
  return { host: host ?? v6 ?? '', port: Number(port) };
}

export const listenAddress = z
  .string()
  .check(
    z.refine(
      (text) => parseListen(text) !== undefined,
      'must be HOST:PORT, [IPv6]:PORT or unix:/PATH/OF/SOCKET',
    ),
  );

/** An address, or a network of addresses: `10.1.2.0/24`. */
export const networkAddress = z.string().check(
  z.refine((text) => {
    const [address = '', bits, ...more] = text.split('/');
    const version = isIP(address);
    const most = version === 4 ? 32 : 128;
    return (
      version !== 0 &&
      more.length === 0 &&
      (bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= most))
    );
  }, 'must be an address, or a network such as 10.1.2.0/24'),
);

/** Fingerprints of SSH keys, as `ssh-keygen -l` prints them. */
export const fingerprints = z.prefault(
  z.array(
    z.string().check(z.regex(/^SHA256:[A-Za-z0-9+/]{43}$/, 'must be a fingerprint: SHA256:…')),
  ),
  [],
);

/**
 * Reads a YAML file and checks it. Throws CONFIG_INVALID, naming each setting that is wrong.
 *
 * @param what it holds, for the error
 */
export function loadYaml<T>(path: string, schema: z.ZodMiniType<T>, what = 'configuration'): T {
  const counter = new LineCounter();
  let document: Document;
  let value: unknown;
  try {
    document = parseDocument(readFileSync(path, 'utf8'), { lineCounter: counter });
    for (const error of document.errors) throw error;
    value = document.toJS();
  } catch (cause) {
    throw cannotRead(what, path, cause);
  }
  return checkValue(value, schema, `reading the ${what} ${path}`, (of) => {
    const at = startOf(document, of);
    return at === undefined ? '' : ` (line ${counter.linePos(at).line})`;
  });
}

/** Where a setting stands; if it is missing, what it belongs to. Undefined if that is the whole file. */
function startOf(document: Document, path: readonly PropertyKey[]): number | undefined {
  if (path.length === 0) return undefined;
  const inside = path.slice(0, -1);
  const parent = document.getIn(inside, true);
  const pair = isMap(parent)
    ? parent.items.find(({ key }) => isScalar(key) && key.value === path.at(-1))
    : undefined;
  const node = pair?.key ?? document.getIn(path, true);
  if (isNode(node)) return node.range?.[0];
  return startOf(document, inside);
}

/**
 * Throws CONFIG_INVALID, naming each setting that is wrong.
 *
 * @param place says where in the file a setting stands
 */
export function checkValue<T>(
  document: unknown,
  schema: z.ZodMiniType<T>,
  act: string,
  place: (path: readonly PropertyKey[]) => string = () => '',
): T {
  // it is checked once, so it would be no use to compile the schema
  const result = schema.safeParse(document, { jitless: true, error: schemaWords });
  if (result.success) return result.data;
  const issues = result.error.issues.map((issue) => {
    const unknown = issue.code === 'unrecognized_keys' ? issue.keys.slice(0, 1) : [];
    const at = place([...issue.path, ...unknown]);
    return `${issue.path.join('.') || 'the file'}: ${issue.message}${at}`;
  });
  throw new ChamberlainError('CONFIG_INVALID', `${act}: ${issues.join('; ')}`);
}
