/**
 * The floor of an agent: a program that asks the directory for its contextCSN, as often as the keys agent does,
 * and does nothing else. Arguments: LDAP URI, base, realm, password file. Prints `ready` after the first
 * answer.
 */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { openLoginDirectory } from '../../src/backends/ldap/login-directory.ts';

const LOOK_MS = 250;

const [uri = '', base = '', realm = '', passwordFile = ''] = process.argv.slice(2);
const password = readFileSync(passwordFile, 'utf8');
const directory = openLoginDirectory({ uri, base, realm, password });
await directory.contextCsns();
process.stdout.write('ready\n');
for (;;) {
  await sleep(LOOK_MS);
  await directory.contextCsns();
}
