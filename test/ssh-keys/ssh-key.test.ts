import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import * as fc from 'fast-check';
import { execFileSync } from 'node:child_process';
import { createHash, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CODES } from '../../src/shared/errors.ts';
import { isEd25519Point } from '../../src/ssh-keys/ed25519-point.ts';
import { KNOWN_BAD_KEYS } from '../../src/ssh-keys/known-bad-keys.ts';
import { parseSshKey, type SshKey } from '../../src/ssh-keys/ssh-key.ts';
import { KEY_TYPES } from '../../src/ssh-keys/ssh-key-blob.ts';

interface Horror {
  why: string;
  code: string;
  text: string;
}
const HORRORS = JSON.parse(
  readFileSync(new URL('../horrors/ssh-keys.json', import.meta.url), 'utf8'),
) as Horror[];

let folder: string;
/** one line for each type and size that ssh-keygen or a security key makes, with a comment */
const lines: string[] = [];

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'ssh-key-'));
  for (const [type, bits] of [
    ['ed25519', '256'],
    ['ecdsa', '256'],
    ['ecdsa', '384'],
    ['ecdsa', '521'],
    ['rsa', '2048'],
    ['rsa', '3072'],
  ] as const) {
    const file = join(folder, `${type}-${bits}`);
    execFileSync('ssh-keygen', [
      '-q',
      '-t',
      type,
      '-b',
      bits,
      '-N',
      '',
      '-C',
      'me@host',
      '-f',
      file,
    ]);
    lines.push(readFileSync(`${file}.pub`, 'utf8').trim());
  }
  lines.push(`${ed25519Key('sk-ssh-ed25519@openssh.com', 'ssh:')} me@host`);
  lines.push(`${ecdsaKey('sk-ecdsa-sha2-nistp256@openssh.com', 'ssh:backup')} me@host`);
});

afterAll(() => rmSync(folder, { recursive: true }));

/** A line with these blanks between its fields, and a comment of two words. */
const spread = (key: string, blanks: string): string => [...key.split(' '), 'me  you'].join(blanks);

describe('an accepted key', () => {
  test('may have any type that OpenSSH makes today, and has the fingerprint that OpenSSH prints', () => {
    const keys = lines.map(take);
    expect(new Set(keys.map(({ type }) => type))).toEqual(new Set(KEY_TYPES));
    expect(keys.map(({ fingerprint, bits }) => `${bits} ${fingerprint}`)).toEqual(
      keygenReads(lines).map((read) => read?.summary),
    );
    for (const [index, key] of keys.entries()) {
      expect(key).toMatchObject({ options: [], label: 'me@host' });
      expect(`${key.line} me@host`).toBe(lines[index]);
    }
  });

  test.each<[string, (key: string) => string, Partial<SshKey>]>([
    ['as it is in its file', (key) => `${key} me@host\n`, { label: 'me@host' }],
    ['with a line end of Windows', (key) => `${key} me@host\r\n`, { label: 'me@host' }],
    ['with blanks and tabs around it', (key) => ` \t${key} \t\n `, { label: '' }],
    ['with no comment', (key) => key, { label: '' }],
    ['with a comment of several words', (key) => `${key}  my  old key `, { label: 'my  old key' }],
    [
      'with a comment of other letters',
      (key) => `${key} Ключ «ноутбук» 🔑`,
      { label: 'Ключ «ноутбук» 🔑' },
    ],
    [
      'with a comment of 255 characters, whatever their size',
      (key) => `${key} ${'🔑'.repeat(255)}`,
      { label: '🔑'.repeat(255) },
    ],
    [
      'with a comment that looks like another key',
      (key) => `${key} ssh-rsa AAAA`,
      { label: 'ssh-rsa AAAA' },
    ],
    ['with several blanks between its fields', (key) => spread(key, '   '), { label: 'me  you' }],
    ['with tabs between its fields', (key) => spread(key, '\t'), { label: 'me  you' }],
    ['with blanks and tabs between its fields', (key) => spread(key, ' \t '), { label: 'me  you' }],
    [
      'with options and more than one blank behind them',
      (key) => `restrict,from="a" \t ${spread(key, ' \t')}`,
      { options: ['restrict', 'from="a"'], label: 'me  you' },
    ],
    ['with options', (key) => `restrict,no-pty ${key}`, { options: ['restrict', 'no-pty'] }],
    [
      'with options in capitals, which sshd reads too',
      (key) => `RESTRICT,no-x11-forwarding,From="a" ${key}`,
      { options: ['restrict', 'no-X11-forwarding', 'from="a"'] },
    ],
    [
      'with addresses, networks and patterns',
      (key) =>
        `from="192.0.2.7,192.0.2.0/24,!192.0.2.9,2001:db8::/32,::ffff:192.0.2.0/120,*.example.org,10.?.*" ${key}`,
      {
        options: [
          'from="192.0.2.7,192.0.2.0/24,!192.0.2.9,2001:db8::/32,::ffff:192.0.2.0/120,*.example.org,10.?.*"',
        ],
      },
    ],
    [
      'with networks of all and of one',
      (key) => `from="0.0.0.0/0,::/0,192.0.2.1/32,2001:db8::1/128" ${key}`,
      { options: ['from="0.0.0.0/0,::/0,192.0.2.1/32,2001:db8::1/128"'] },
    ],
    ...['20301231', '20301231Z', '203012312359', '20280229235959Z'].map(
      (time): [string, (key: string) => string, Partial<SshKey>] => [
        `with the end ${time}`,
        (key) => `expiry-time="${time}" ${key}`,
        { options: [`expiry-time="${time}"`] },
      ],
    ),
    [
      'with everything that may be taken away',
      (key) => `verify-required,no-agent-forwarding,no-port-forwarding,no-user-rc ${key}`,
      { options: ['verify-required', 'no-agent-forwarding', 'no-port-forwarding', 'no-user-rc'] },
    ],
  ])('%s', (_, paste, expected) => {
    const key = (lines[0] ?? '').replace(' me@host', '');
    const text = paste(key);
    expect(take(text)).toMatchObject({ ...expected, line: key });
    expect(keygenReads([text.trim().split('\n')[0] ?? ''])[0]?.fingerprint).toBe(
      take(text).fingerprint,
    );
  });

  test('gives the same result when its line is parsed again', () => {
    for (const line of lines) {
      const key = take(`restrict,from="192.0.2.0/24" ${line}`);
      expect(take(`${key.options.join(',')} ${key.line}`)).toEqual({ ...key, label: '' });
    }
  });
});

/** Parsing takes some milliseconds. With a backtracking pattern it would take minutes. */
const AT_ONCE_MS = 2000;

/** Processor time of this process. Other load on the machine makes it somewhat longer, but never many times. */
function cpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

describe('a refused paste', () => {
  test.each(HORRORS.map((horror): [string, Horror] => [horror.why, horror]))('%s', (_, horror) => {
    const verdict = parseSshKey(horror.text);
    expect(verdict).toMatchObject({ ok: false, code: horror.code });
    if (!verdict.ok) expect(verdict.sentence).toMatch(/^[A-Z][^\p{C}\p{Zl}\p{Zp}]{15,250}\.$/u);
  });

  test('may be a key that the realm adds to the known bad keys', () => {
    const { fingerprint } = take(lines[0] ?? '');
    const verdict = parseSshKey(lines[0] ?? '', new Set([fingerprint]));
    expect(verdict).toMatchObject({ ok: false, code: 'KEY_KNOWN_BAD' });
  });

  test('may be 1 MB of anything, and is refused quickly', () => {
    const pieces = [
      'a',
      '\n',
      ' ',
      'M',
      '"kty"',
      'BEGIN A A A ',
      '<RSAKeyValue>',
      '\\"',
      'AAAA ',
      '🔑',
    ];
    for (const piece of pieces) {
      const text = piece.repeat(Math.ceil(1_000_000 / piece.length));
      const begin = cpuMs();
      expect(parseSshKey(text)).toMatchObject({ ok: false, code: 'KEY_MALFORMED' });
      expect(cpuMs() - begin).toBeLessThan(AT_ONCE_MS);
    }
  });

  test('never takes long, even with the longest text that is parsed', () => {
    const pieces = [
      'a',
      ' ',
      ',',
      'restrict,',
      'from="',
      '\\"',
      '"',
      '0:',
      'no-',
      'AAAA',
      'ssh-rsa ',
    ];
    for (const piece of pieces) {
      for (const before of ['', 'x', 'from="', 'restrict,', `${lines[0]} `]) {
        const text = `${before}${piece.repeat(20_000)}`.slice(0, 16_383);
        const begin = cpuMs();
        expect(parseSshKey(`${text}\0`).ok).toBe(false);
        expect(parseSshKey(`${text}x`)).toBeDefined();
        expect(cpuMs() - begin).toBeLessThan(AT_ONCE_MS);
      }
    }
  });

  test('has a reason for each bad example, and there is an example for each code', () => {
    const fromElsewhere = ['KEY_TAKEN', 'KEY_ALREADY', 'KEY_UNKNOWN', 'KEY_TOO_MANY'];
    const codes = Object.keys(CODES).filter((code) => code.startsWith('KEY_'));
    expect(new Set(HORRORS.map(({ code }) => code))).toEqual(
      new Set(codes.filter((code) => !fromElsewhere.includes(code))),
    );
    expect(new Set(HORRORS.map(({ why }) => why)).size).toBe(HORRORS.length);
  });
});

describe('whatever is pasted', () => {
  const anyLine = fc.constantFrom(0, 1, 2, 3, 4, 5, 6, 7).map((index) => lines[index] ?? '');
  const anything = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.string({ unit: 'grapheme' }),
    fc.tuple(fc.string(), fc.string()).map(([before, after]) => `${before} ssh-ed25519 ${after}`),
  );

  test('never throws, and an accepted key is one line without control characters', () => {
    fc.assert(
      fc.property(anything, (text) => {
        const verdict = parseSshKey(text);
        if (verdict.ok) expect(JSON.stringify(verdict)).not.toMatch(/\\[nrtu]/);
      }),
    );
  });

  test('a key with anything after its line end is refused', () => {
    fc.assert(
      fc.property(
        anyLine,
        fc.constantFrom('\n', '\r\n', '\r'),
        fc.string({ minLength: 1 }),
        (line, end, more) => {
          fc.pre(/[^ \t]/.test(more));
          expect(parseSshKey(`${line}${end}${more}`).ok).toBe(false);
        },
      ),
    );
  });

  test('a comment never changes the key, and is kept as it is', () => {
    fc.assert(
      fc.property(anyLine, fc.string({ unit: 'grapheme', maxLength: 60 }), (line, comment) => {
        const verdict = parseSshKey(`${line} ${comment}`);
        if (!verdict.ok) return expect(verdict.code).toMatch(/^KEY_(COMMENT|MALFORMED|PRIVATE)$/);
        expect(verdict.key.label).toBe(`me@host ${comment}`.replace(/ +$/, ''));
        expect(line).toBe(`${verdict.key.line} me@host`);
      }),
    );
  });

  test('a key with changed bytes is refused, or accepted as the key that it is then', () => {
    const change = fc.record({
      line: anyLine,
      at: fc.nat({ max: 600 }),
      with: fc.nat({ max: 255 }),
      cut: fc.nat({ max: 3 }),
      grow: fc.uint8Array({ maxLength: 5 }),
    });
    const taken: string[] = [];
    fc.assert(
      fc.property(change, (mutation) => {
        const [type = '', base64 = ''] = mutation.line.split(' ');
        const blob = Buffer.from(base64, 'base64');
        blob[mutation.at % blob.length] = mutation.with;
        const changed = Buffer.concat([
          blob.subarray(0, blob.length - mutation.cut),
          mutation.grow,
        ]);
        const text = `${type} ${changed.toString('base64')}`;
        const verdict = parseSshKey(text);
        if (verdict.ok) {
          expect(verdict.key.line).toBe(text);
          taken.push(text);
        }
      }),
      { numRuns: 4_000 },
    );
    // ssh-keygen accepts every key that we accept, with the same size and fingerprint.
    expect(taken.length).toBeGreaterThan(50);
    expect(taken.map((text) => summaryOf(take(text)))).toEqual(
      keygenReads(taken).map((read) => read?.summary),
    );
  });

  test('a line with changed characters is refused, or ssh-keygen reads it in the same way', () => {
    const taken: string[] = [];
    const insertion = fc.constantFrom(
      ' ',
      '\t',
      '"',
      ',',
      '=',
      'A',
      '/',
      '+',
      '\\',
      '#',
      'restrict ',
      '\u00a0',
      '@',
    );
    fc.assert(
      fc.property(
        anyLine,
        fc.nat(),
        fc.nat({ max: 2 }),
        insertion,
        fc.boolean(),
        (line, place, cut, more, early) => {
          const key = `restrict,from="192.0.2.0/24" ${line.replace(' me@host', '')}`;
          const at = place % (early ? 60 : key.length + 1);
          const text = `${key.slice(0, at)}${more}${key.slice(at + cut)}`;
          if (parseSshKey(text).ok) taken.push(text);
        },
      ),
      { numRuns: 4_000 },
    );
    expect(taken.map((text) => summaryOf(take(text)))).toEqual(
      keygenReads(taken).map((read) => read?.summary),
    );
  });

  test('every key that ssh-keygen makes is accepted', () => {
    const keys = Array.from({ length: 200 }, (_, index) =>
      index % 2 === 0 ? ed25519Key('ssh-ed25519') : ecdsaKey('ecdsa-sha2-nistp256'),
    );
    expect(keys.map((line) => summaryOf(take(line)))).toEqual(
      keygenReads(keys).map((read) => read?.summary),
    );
  });
});

test('an Ed25519 key with a point of small order is refused even if it was accepted before', () => {
  const keyOf = (hex: string) => {
    const type = Buffer.from('0000000b7373682d6564323535313900000020', 'hex');
    return `ssh-ed25519 ${Buffer.concat([type, Buffer.from(hex, 'hex')]).toString('base64')}`;
  };
  const [noPoint, ofSmallOrder] = [
    '90caae96db66ea6b738295f526a765be5189799bc17810da70655adad319920b',
    '01'.padEnd(64, '0'),
  ].map(keyOf);
  const takes = (key = '', isSealed = false) => parseSshKey(key, new Set(), isSealed).ok;
  expect([takes(noPoint), takes(ofSmallOrder)]).toEqual([false, false]);
  expect([takes(noPoint, true), takes(ofSmallOrder, true)]).toEqual([true, false]);
});

describe('an Ed25519 point', () => {
  test('is valid if a key pair has it', () => {
    for (let count = 0; count < 200; count += 1) {
      const { publicKey } = generateKeyPairSync('ed25519');
      expect(isEd25519Point(coordinate(publicKey, 'x'))).toBe(true);
    }
  });

  test('is valid if it satisfies the equation of the curve, by Euler’s criterion', () => {
    const hashes = Array.from({ length: 400 }, (_, index) =>
      createHash('sha256').update(`${index}`).digest(),
    );
    const sound = hashes.filter((bytes) => isEd25519Point(bytes));
    expect(sound).toEqual(hashes.filter((bytes) => hasX(bytes)));
    expect(sound.length).toBeGreaterThan(150);
    expect(sound.length).toBeLessThan(250);
  });

  test.each([
    // chosen so that (y² − 1)·(d·y² + 1) is 3·2⁴⁰ and 21·2⁴⁰
    ['a0c7775b5bd9d643c24134265eee1423de41166a27083020017cf399bfcf8b74', true],
    ['90caae96db66ea6b738295f526a765be5189799bc17810da70655adad319920b', false],
  ])('is judged correctly if 2 divides often: %s', (hex, isSound) => {
    const bytes = Buffer.from(hex, 'hex');
    expect([isEd25519Point(bytes), hasX(bytes)]).toEqual([isSound, isSound]);
  });
});

test('the known bad keys are listed by fingerprint', () => {
  expect(KNOWN_BAD_KEYS.size).toBeGreaterThanOrEqual(2);
  for (const fingerprint of KNOWN_BAD_KEYS.keys()) {
    expect(fingerprint).toMatch(/^SHA256:[A-Za-z0-9+/]{43}$/);
  }
});

/** RFC 8032, section 5.1.3: x² = (y² − 1) / (d·y² + 1), with d = −121665 / 121666; z^((p−1)/2) is 1 for squares. */
function hasX(bytes: Buffer): boolean {
  const p = 2n ** 255n - 19n;
  const y = BigInt(`0x${Buffer.from(bytes.toReversed()).toString('hex')}`) & (2n ** 255n - 1n);
  const power = (base: bigint, exponent: bigint): bigint => {
    if (exponent === 0n) return 1n;
    const half = power((base * base) % p, exponent >> 1n);
    return exponent % 2n === 0n ? half : (half * base) % p;
  };
  const top = (y * y - 1n) * 121666n;
  const bottom = 121666n - 121665n * y * y;
  const square = (((top * bottom) % p) + p) % p;
  return y < p && power(square, (p - 1n) / 2n) <= 1n;
}

function take(text: string): SshKey {
  const verdict = parseSshKey(text);
  if (!verdict.ok) throw new Error(`${verdict.code}: ${verdict.sentence} ${JSON.stringify(text)}`);
  return verdict.key;
}

function summaryOf({ bits, fingerprint }: SshKey): string {
  return `${bits} ${fingerprint}`;
}

/** What the real ssh-keygen reads from each line alone. Undefined if it reads no key. */
function keygenReads(texts: string[]): ({ summary: string; fingerprint: string } | undefined)[] {
  const file = join(folder, 'lines');
  // It continues after a line that is not a key, and repeats comments, so the number of the line identifies each. After
  // options it accepts only one blank; sshd accepts any number.
  const withOne = texts.map((text) => text.replaceAll(/[ \t]+/g, ' '));
  writeFileSync(file, withOne.map((text, index) => `${text} line-${index}-\n`).join(''));
  const printed =
    texts.length === 0 ? '' : execFileSync('ssh-keygen', ['-l', '-f', file], { encoding: 'utf8' });
  return texts.map((_, index) => {
    const line = printed
      .split('\n')
      .find((one) => one.includes(` line-${index}- `) || one.includes(`line-${index}- (`));
    const [bits, fingerprint] = line?.split(' ') ?? [];
    return fingerprint === undefined
      ? undefined
      : { summary: `${bits} ${fingerprint}`, fingerprint };
  });
}

function ed25519Key(type: string, application?: string): string {
  const point = coordinate(generateKeyPairSync('ed25519').publicKey, 'x');
  return encode(type, [point, ...(application === undefined ? [] : [Buffer.from(application)])]);
}

function ecdsaKey(type: string, application?: string): string {
  const { publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const point = Buffer.concat([
    Buffer.from([4]),
    coordinate(publicKey, 'x'),
    coordinate(publicKey, 'y'),
  ]);
  return encode(type, [
    Buffer.from('nistp256'),
    point,
    ...(application === undefined ? [] : [Buffer.from(application)]),
  ]);
}

function coordinate(key: KeyObject, name: 'x' | 'y'): Buffer {
  return Buffer.from(key.export({ format: 'jwk' })[name] ?? '', 'base64url');
}

function encode(type: string, fields: Buffer[]): string {
  const blob = Buffer.concat(
    [Buffer.from(type), ...fields].flatMap((field) => {
      const length = Buffer.alloc(4);
      length.writeUInt32BE(field.length);
      return [length, field];
    }),
  );
  return `${type} ${blob.toString('base64')}`;
}
