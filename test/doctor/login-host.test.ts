/** What `doctor` says about a login host's own files, on a machine that `install` may change. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { INSTALL, openBareHost } from '../../dev/servers/login-host.ts';
import type { Machine } from '../../dev/servers/private-machine.ts';
import { newSealKey } from '../login-host/seal-key.ts';

const CLONE = INSTALL.replace('/deploy/login-host/install', '');
const TOLD = [
  ...['--ldap-uri', 'ldaps://one.example.org', '--base', 'dc=example,dc=org'],
  ...['--agent-password-file', '/root/agent', '--seal-key', '/root/seal.pub'],
];
let machine: Machine;
beforeAll(async () => {
  machine = await openBareHost();
  await sh('echo the-secret-of-the-agent >/root/agent');
  writeFileSync(join(machine.root, '/root/seal.pub'), newSealKey().publicPem);
});
afterAll(() => machine.close());

const sh = (script: string): Promise<string> => machine.must(['/bin/sh', '-ec', script]);

/** Runs `lookAtInstallation` on that machine, as that user if one is named. */
async function look(uid = 0): Promise<unknown> {
  const script = `process.setgid(${uid}); process.setuid(${uid});
    const { lookAtInstallation } = await import('${CLONE}/src/doctor/login-host.ts');
    console.log(JSON.stringify(await lookAtInstallation('${CLONE}')));`;
  const node = `${CLONE}/node_modules/.bin/node`;
  return JSON.parse(await machine.must([node, '--input-type=module', '-e', script]));
}

test('a machine that is not set up, one that is, and one that has drifted; only root may check it', async () => {
  expect(await look()).toEqual([
    {
      state: 'unreadable',
      what: expect.stringMatching(/install --check: install: --ldap-uri is missing/u),
      todo: `Run ${INSTALL} --check yourself.`,
    },
  ]);
  await machine.must([INSTALL, ...TOLD]);
  const good = { state: 'ok', what: "this login host's files are as `install` makes them" };
  expect(await look()).toEqual([good]);
  await sh(`echo "# by hand" >>/etc/sudoers.d/chamberlain
    chmod 644 /etc/chamberlain/secrets/ldap-keys-agent`);
  const drifted = await look();
  expect(drifted).toEqual([
    {
      state: 'fix',
      what: expect.stringMatching(/^\/etc\/chamberlain\/secrets\/ldap-keys-agent: /u),
      todo: `Run ${INSTALL}.`,
    },
    {
      state: 'fix',
      what: expect.stringMatching(/^\/etc\/sudoers\.d\/chamberlain: /u),
      todo: `Run ${INSTALL}.`,
    },
  ]);
  expect(JSON.stringify(drifted)).not.toContain('the-secret');
  expect(await look(65534)).toEqual([
    { state: 'elsewhere', what: "this login host's own files", todo: 'Run this as root.' },
  ]);
});
