/** Where the configuration is: in a private machine, because the last place is in /etc. */
import { generateKeyPairSync } from 'node:crypto';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { composeConfig, IDS, portalWith, writeConfig } from '../../dev/servers/config.ts';
import { openBareHost } from '../../dev/servers/login-host.ts';
import type { Ended, Machine } from '../../dev/servers/private-machine.ts';

const CLONE = '/opt/chamberlain';

let machine: Machine;
beforeAll(async () => {
  machine = await openBareHost();
});
afterAll(() => machine?.close());

const PROGRAMS: [program: string, ...args: string[]][] = [
  ['dist/chamberlain.js', 'status'],
  ['deploy/redis/render.ts'],
  ['deploy/ldap/render.ts', '--out', '/root/out', '--admin-password-file', '/etc/passwd'],
];

function run(
  [program, ...args]: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Ended> {
  const node = join(CLONE, 'node_modules/.bin/node');
  return machine.run([node, join(CLONE, program ?? ''), ...args], { env });
}

/** Writes a configuration whose missing folder of secrets shows, in an error, which one was read. */
function putConfig(path: string, secrets: string): void {
  const file = join(machine.root, path);
  mkdirSync(join(file, '..'), { recursive: true });
  const { publicKey } = generateKeyPairSync('ed25519');
  const key = String(publicKey.export({ type: 'spki', format: 'pem' }));
  const config = composeConfig({
    ...{
      secrets,
      adminKey: '/none',
      ids: IDS,
      dataRoot: '/none',
      portals: [portalWith('portal', key)],
    },
    postgres: { host: '/run/none', port: 5432, database: 'none' },
    redisUrl: 'redis://127.0.0.1:1/0',
    ldap: { uri: 'ldapi://%2Fnone', base: 'dc=example,dc=org' },
    sockets: { replica: '/none', tools: '/none' },
  });
  writeConfig(file, config);
}

describe.each(PROGRAMS.map((program) => ({ program })))('$program.0 reads', ({ program }) => {
  beforeAll(() => {
    putConfig('/etc/chamberlain/config.yaml', '/of-the-machine');
    putConfig('/root/variable.yaml', '/of-the-variable');
    putConfig('/root/option.yaml', '/of-the-option');
  });

  test.each([
    ['the file that --config names', { CHAMBERLAIN_CONFIG: '/root/variable.yaml' }, true, 'option'],
    [
      'else that of CHAMBERLAIN_CONFIG',
      { CHAMBERLAIN_CONFIG: '/root/variable.yaml' },
      false,
      'variable',
    ],
    ['else that of the machine', {}, false, 'machine'],
    ['where the variable is empty too', { CHAMBERLAIN_CONFIG: '' }, false, 'machine'],
  ])('%s', async (_, env, isNamed, which) => {
    const { code, stderr } = await run(
      isNamed ? [...program, '--config', '/root/option.yaml'] : program,
      env,
    );
    expect([code === 0, stderr]).toEqual([
      false,
      expect.stringMatching(
        new RegExp(
          `reading the secret /of-the-${which}/.* If it is new, make it: docs/install\\.md, step 2`,
          'u',
        ),
      ),
    ]);
  });

  test('none if there is none, and says how to name one', async () => {
    rmSync(join(machine.root, '/etc/chamberlain/config.yaml'));
    const { code, stderr } = await run(program);
    expect([code === 0, stderr]).toEqual([
      false,
      expect.stringContaining(
        'there is no configuration file /etc/chamberlain/config.yaml. Give --config FILE, or set CHAMBERLAIN_CONFIG',
      ),
    ]);
  });
});
