/** The certificates that `chamberlain setup` makes, as openssl sees them, and when they are renewed. No servers. */
import { execFileSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { ageOf, faultOf, givenCertificate, ownAuthority } from '../../src/setup/certificates.ts';
import { TLS } from '../../src/setup/places.ts';
import { certificateIn, keyIn, makeAuthority, makeCertificate } from '../../src/setup/openssl.ts';

const DAY_MS = 86_400_000;
const HOST = 'realm.example.org';
const folder = mkdtempSync(join(tmpdir(), 'chamberlain-certificates-'));
afterAll(() => rmSync(folder, { recursive: true }));
const at = (name: string): string => join(folder, name);

const START = new Date('2026-01-01T00:00:00Z');
const after = (days: number): Date => new Date(START.getTime() + days * DAY_MS);
const lasting = (days: number) => ({ from: START, until: after(days) });

/** An authority, in a file. */
async function authority(name: string): Promise<string> {
  writeFileSync(at(name), await makeAuthority(name, lasting(3650)));
  return at(name);
}

let ca: string;
let other: string;
let pem: string;
let ofCa: string;
beforeAll(async () => {
  [ca, other] = [await authority('Chamberlain realm tools'), await authority('another')];
  pem = await makeCertificate(`DNS:${HOST}`, ca, lasting(90));
  ofCa = execFileSync('openssl', ['x509', '-in', ca], { encoding: 'utf8' });
});

test('it is for the name alone, and openssl accepts it strictly', () => {
  writeFileSync(at('server.pem'), pem);
  const strict = ['-x509_strict', '-purpose', 'sslserver', '-attime', `${+after(1) / 1000}`];
  const verify = (caFile: string, host: string) =>
    execFileSync(
      'openssl',
      ['verify', ...strict, '-CAfile', caFile, '-verify_hostname', host, at('server.pem')],
      { encoding: 'utf8', stdio: 'pipe' },
    );
  expect(verify(ca, HOST)).toContain(': OK');
  expect(() => verify(ca, 'example.org')).toThrow('hostname mismatch');
  expect(() => verify(other, HOST)).toThrow();

  const { subject, keyUsage, publicKey } = new X509Certificate(certificateIn(pem));
  expect([subject, publicKey.asymmetricKeyDetails, keyUsage]).toEqual([
    `CN=${HOST}`,
    { namedCurve: 'prime256v1' },
    ['1.3.6.1.5.5.7.3.1'], // serverAuth
  ]);
  expect(new X509Certificate(ofCa).subject).toBe('CN=Chamberlain realm tools');
});

test('a certificate for another name, with another key or without one is refused', async () => {
  expect(faultOf(pem, HOST)).toBeUndefined();
  expect(faultOf(pem, 'other.example.org')).toBe('is not for other.example.org');
  const second = await makeCertificate(`DNS:${HOST}`, ca, lasting(90));
  expect(faultOf(`${certificateIn(pem)}${keyIn(second)}`, HOST)).toBe('has another key');
  for (const text of ['', certificateIn(pem), keyIn(pem)]) {
    expect(faultOf(text, HOST)).toBe('is not a certificate with its key, in PEM');
  }
});

test.each([
  ['before it is valid', -0.1, 'is not valid before 2026-01-01'],
  ['at first', 0, undefined],
  ['when a third of its life is left', 59.9, undefined],
  ['after that', 60.1, 'expires on 2026-04-01'],
  ['when it has ended', 91, 'expires on 2026-04-01'],
])('%s, it is renewed or not', (_, days, differs) => {
  expect(ageOf(pem, ofCa, after(days))).toBe(differs);
});

test('it is renewed if another authority has signed it, even one of the same name', async () => {
  expect(ageOf(pem, await makeAuthority('another', lasting(3650)), START)).toBe(
    'was not signed by this authority',
  );
  const again = certificateIn(await makeAuthority('Chamberlain realm tools', lasting(3650)));
  expect(ageOf(pem, again, START)).toBe('was not signed by this authority');
});

describe("the operator's own certificate", () => {
  const files = (name: string) => ({
    ...{ ca: at(`${name}-ca.pem`), caKey: at(`${name}-ca.key`) },
    ...{ certificate: at(`${name}-certificate.pem`), key: at(`${name}-key.pem`) },
  });
  const now = Date.now();
  const around = (from: number, until: number) => ({
    ...{ from: new Date(now + from * DAY_MS), until: new Date(now + until * DAY_MS) },
  });
  const place = { ...TLS, ...files('given') };
  const { check } = givenCertificate(HOST, place);
  /** Puts the files there, of an authority and a certificate that openssl makes. */
  async function give(
    { life = around(-1, 9), caLife = around(-1, 99), extensions = [] as string[] } = {},
    signer?: string,
  ): Promise<void> {
    const own = await makeAuthority('mine', caLife);
    writeFileSync(place.caKey, own);
    writeFileSync(place.ca, certificateIn(own));
    const text = await makeCertificate(`DNS:${HOST}`, signer ?? place.caKey, life);
    writeFileSync(place.certificate, certificateIn(text));
    writeFileSync(place.key, keyIn(text), { mode: 0o600 });
    if (extensions.length === 0) return;
    writeFileSync(at('extensions'), extensions.join('\n'));
    const args = ['-in', place.certificate, '-CA', place.caKey, '-CAkey', place.caKey];
    const again = ['-clrext', '-extfile', at('extensions'), '-days', '9', '-out', at('again.pem')];
    execFileSync('openssl', ['x509', ...args, ...again], { stdio: 'pipe' });
    writeFileSync(place.certificate, readFileSync(at('again.pem')));
  }

  test('is accepted as its clients would', async () => {
    await give();
    expect(await check()).toBeUndefined();
  });

  test.each([
    ['has ended', { life: around(-9, -1) }, /certificate has expired$/u],
    ['has not begun', { life: around(1, 9) }, /certificate is not yet valid$/u],
    [
      'is for clients',
      { extensions: ['extendedKeyUsage = clientAuth', `subjectAltName = DNS:${HOST}`] },
      /unsuitable certificate purpose$/u,
    ],
    ['has an authority that has ended', { caLife: around(-9, -1) }, /^needs another \S+-ca.pem: /u],
  ])('is refused if it %s', async (_, how, why) => {
    await give(how);
    expect(await check()).toMatch(why);
  });

  test('is refused with another authority, with none, and with a key that others may read', async () => {
    await give({}, ca);
    expect(await check()).toMatch(/ accept with \S+-ca.pem: unable to get local issuer/u);
    writeFileSync(place.ca, 'garbage');
    expect(await check()).toMatch(/^needs another \S+-ca.pem: that one is not a certificate/u);
    await give();
    chmodSync(place.key, 0o640);
    expect(await check()).toBe(`needs ${place.key} to belong to root, with mode 0600`);
    rmSync(place.certificate);
    expect(await check()).toBe(`needs ${place.certificate}`);
  });

  test('an authority that setup has not made is never replaced, even next to one of its own', async () => {
    const own = { ...TLS, ...files('own') };
    const piece = ownAuthority('tools', true, own);
    const renewed = ownAuthority('tools', false, own);
    await expect(async () => renewed.make()).rejects.toThrow('there is none');
    await piece.make();
    expect(await piece.check()).toBeUndefined();
    chmodSync(own.caKey, 0o644);
    chownSync(own.caKey, 1, 1);
    expect(await piece.check()).toMatch(/^has a key that /u);
    await piece.make();
    expect(await piece.check()).toBeUndefined();
    const { uid, mode } = statSync(own.caKey);
    expect([uid, mode & 0o7777]).toEqual([0, 0o600]);

    const theirs = certificateIn(await makeAuthority('mine', around(-1, 9)));
    writeFileSync(own.ca, theirs);
    expect(await piece.check()).toMatch(
      /^does not belong to \S+-ca.key\. If it is your own authority, put /u,
    );
    await expect(async () => piece.make()).rejects.toThrow('never replaced');
    rmSync(own.caKey);
    await expect(async () => piece.make()).rejects.toThrow('never replaced');
    expect(readFileSync(own.ca, 'utf8')).toBe(theirs);
  });
});
