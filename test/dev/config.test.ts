/** What `dev/stack up` does with an existing configuration. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from '@jest/globals';
import { composeConfig, IDS, keepConfig, portalWith } from '../../dev/servers/config.ts';
import { loadConfig } from '../../src/shared/config.ts';
import { newPortalKey } from '../scenarios/portal.ts';
import { makeTemporaryFolder } from '../shared-servers.ts';

let dir: string;
beforeEach(() => {
  dir = makeTemporaryFolder();
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const withRedisAt = (port: number) =>
  composeConfig({
    ...{ secrets: dir, adminKey: join(dir, 'admin.pem'), ids: IDS, dataRoot: dir },
    postgres: { host: dir, port: 5432, database: 'chamberlain' },
    redisUrl: `redis://127.0.0.1:${port}/0`,
    ldap: { uri: 'ldapi://%2Fldapi', base: 'dc=example,dc=org' },
    sockets: { replica: '/replica', tools: '/tools' },
    portals: [portalWith('portal', newPortalKey('portal').publicKey)],
  });

test('edits of it stay, except the address of Redis', () => {
  const file = join(dir, 'config.yaml');
  keepConfig(file, withRedisAt(7001));
  const edited = readFileSync(file, 'utf8').replace(
    'maxPerPerson: 50',
    'maxPerPerson: 3 # three are enough',
  );
  writeFileSync(file, edited);
  keepConfig(file, withRedisAt(7001));
  expect(readFileSync(file, 'utf8')).toBe(edited);
  keepConfig(file, withRedisAt(7002));
  expect(readFileSync(file, 'utf8')).toBe(edited.replace('7001', '7002'));
  expect(loadConfig(file).keys.maxPerPerson).toBe(3);
});

test('one that cannot be read is named, and left alone', () => {
  const file = join(dir, 'config.yaml');
  writeFileSync(file, 'realm: [');
  expect(() => keepConfig(file, withRedisAt(7001))).toThrow(
    `${file} cannot be read; correct it, or remove it: `,
  );
  expect(readFileSync(file, 'utf8')).toBe('realm: [');
});
