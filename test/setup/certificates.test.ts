/** The certificates that `chamberlain setup` makes, as openssl sees them, and when they are renewed. No servers. */
import { execFileSync } from 'node:child_process';
import { X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { ageOf, faultOf } from '../../src/setup/certificates.ts';
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
    expect(faultOf(text, HOST)).toBe('is no certificate with its key in PEM');
  }
});

test.each([
  ['at first', 0, undefined],
  ['when a third of its life is left', 59.9, undefined],
  ['after that', 60.1, 'ends on 2026-04-01'],
  ['when it has ended', 91, 'ends on 2026-04-01'],
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
