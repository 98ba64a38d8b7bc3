/** The keys agent, killed again and again in the middle of changes: no half file, and in the end no difference. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as breathe, setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { parseSshKey } from '../../src/model/ssh-key.ts';
import { eventually } from './eventually.ts';
import { openLogin, type Login } from './login.ts';
import { changeDirectory, readDirectory } from './outside.ts';

const PEOPLE = Array.from({ length: 40 }, (_, n) => `p${n}`);
const CHANGES = 1000;
/** Between two kills. */
const STRETCH = 100;
const RESTART_MS = 1000;

let login: Login;
/** Public lines that come and go. */
let spare: string[];

beforeAll(async () => {
  login = await openLogin('login-crash');
  await Promise.all(
    PEOPLE.map(async (name) => {
      await login.create(name);
      await login.admit(name);
    }),
  );
  spare = await Promise.all(
    [0, 1, 2, 3].map(async (n) => {
      const { line } = await login.host.newKey(`spare-${n}`);
      return line.split(' ').slice(0, 2).join(' ');
    }),
  );
  await eventually('all key files', () => PEOPLE.every((name) => login.keyFile(name).length === 1));
}, 120_000);

afterAll(async () => {
  await login?.close();
}, 60_000);

/** What is wrong with the folder of keys as anyone would see it now. */
function faultsOfFolder(): string[] {
  const folder = join(login.host.machine.root, 'var/lib/chamberlain/keys');
  return readdirSync(folder).flatMap((name) => {
    if (name.startsWith('.')) return []; // not a name that anybody is looked up by
    let text: string;
    try {
      text = readFileSync(join(folder, name), 'utf8');
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return []; // taken away meanwhile
      throw cause;
    }
    const lines = text.split('\n');
    const isWhole = lines.pop() === '' && lines.length > 0;
    return isWhole && lines.every((line) => parseSshKey(line).ok) ? [] : [`${name}: ${text}`];
  });
}

/** Each person's keys in the directory, and in the files without their expiry-time: as text, sorted. */
async function bothSides(): Promise<{ directory: string[]; files: string[] }> {
  const entries = await readDirectory(login.world, { filter: '(objectClass=ldapPublicKey)' });
  const directory = [...entries.values()].flatMap((entry) =>
    (entry['sshPublicKey'] ?? []).map((key) => `${entry['uid']?.[0]} ${key}`),
  );
  const files = readdirSync(join(login.host.machine.root, 'var/lib/chamberlain/keys')).flatMap(
    (name) =>
      login.keyFile(name).map((line) => `${name} ${line.replace(/^expiry-time="\d+Z" /, '')}`),
  );
  return { directory: directory.sort(), files: files.sort() };
}

test(`killed every ${STRETCH} of ${CHANGES} changes, it ends with what the directory has`, async () => {
  const { agent } = login.host;
  const faults: string[] = [];
  let looks = 0;
  let isOver = false;
  const watching = (async () => {
    while (!isOver) {
      faults.push(...faultsOfFolder());
      looks += 1;
      await breathe();
      await sleep(2);
    }
  })();
  const has = new Set<string>();
  const restarts: number[] = [];
  try {
    for (let change = 0; change < CHANGES; change += STRETCH) {
      const ldif = Array.from({ length: STRETCH }, (_, n) => {
        // every person in turn, and of the spare keys another each time
        const name = PEOPLE[(change + n) % PEOPLE.length] ?? '';
        const key = spare[Math.floor((change + n) / 7) % spare.length] ?? '';
        const id = `${name} ${key}`;
        const verb = has.delete(id) ? 'delete' : (has.add(id), 'add');
        const dn = `uid=${name},ou=people,${login.world.config.ldap.base}`;
        return `dn: ${dn}\nchangetype: modify\n${verb}: sshPublicKey\nsshPublicKey: ${key}\n`;
      });
      const changing = changeDirectory(login.world, 'ldapmodify', ldif.join('\n'));
      // at another point of its work each time: it looks every quarter of a second
      await sleep(40 + 31 * (change / STRETCH));
      await agent.stop('SIGKILL');
      const began = performance.now();
      await agent.start();
      restarts.push(performance.now() - began);
      await changing;
    }
    await eventually('files and directory to be equal', async () => {
      const { directory, files } = await bothSides();
      return JSON.stringify(directory) === JSON.stringify(files);
    });
  } finally {
    isOver = true;
    await watching;
  }
  const { directory, files } = await bothSides();
  expect(files).toEqual(directory);
  expect(faults).toEqual([]);
  expect(looks).toBeGreaterThan(100);
  // each while a hundred changes come in, so that the machine is busy: what it adds to some is not the agent's
  const tookMs = restarts.map(Math.round).sort((a, b) => a - b);
  const [quartile = Infinity, median] = [tookMs[tookMs.length >> 2], tookMs[tookMs.length >> 1]];
  process.stdout.write(
    `killed ${tookMs.length} times: up again after ${median} ms (median), ${tookMs.at(-1)} ms (slowest); ` +
      `${looks} looks at ${PEOPLE.length} files\n`,
  );
  expect(quartile).toBeLessThan(RESTART_MS);
}, 120_000);

test('its folder and its state are writable by nobody else', async () => {
  const { machine } = login.host;
  const found = await machine.must([
    ...['/usr/bin/find', '/var/lib/chamberlain', '-printf', '%m %u %g %y\n'],
  ]);
  expect([...new Set(found.trimEnd().split('\n'))].sort()).toEqual([
    '2750 chamberlain-keys chamberlain-lookup d',
    '600 chamberlain-keys chamberlain-keys f', // what is compiled
    '640 chamberlain-keys chamberlain-keys f',
    '640 chamberlain-keys chamberlain-lookup f',
    '700 chamberlain-keys chamberlain-keys d',
    '755 chamberlain-keys chamberlain-keys d',
    '755 root root d',
  ]);
});
