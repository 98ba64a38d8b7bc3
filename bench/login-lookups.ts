/** Lookups of a person's keys as sshd makes them: a process whose output is read to its end. */
import { randomBytes } from 'node:crypto';
import { copyFileSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { LoginSize } from './goals.ts';
import { changeKeys } from './login-changes.ts';
import type { LoginRealm } from './login-realm.ts';
import { keyLine, personName } from './population-names.ts';
import { PROCESS_TIMER, shuffle, type TimedRun, timeProcesses } from './process-timer.ts';

/** Who runs it on a login host, and by which PATH: sshd's for its AuthorizedKeysCommand. */
const USER = 'chamberlain-lookup';
const ENVIRONMENT = { PATH: '/usr/local/bin:/usr/bin:/bin:/usr/games', HOME: '/nonexistent' };
const SSS = '/usr/bin/sss_ssh_authorizedkeys';
/** How many people's keys lie in sssd's cache. */
const SSS_USERS = 500;
const SSS_START_MS = 30_000;
const TIMER_LIMIT_MS = 1_200_000;
const MANY_KEYS = 200;

/** Of the first two people, one logs in, and one has many keys. */
export const LOGIN_PERSON = 0;
const PERSON_OF_MANY_KEYS = 1;
const FIRST_PLAIN_PERSON = 2;

/** Milliseconds of each. */
export type Lookups = Record<
  'fork' | 'true' | 'script' | 'script200' | 'sss' | 'ldapsearch',
  number[]
>;

/**
 * Takes all of them in one run, in turn. sssd is given the right to read keys, and keeps it: nothing
 * that is measured later may need it as it was.
 */
export async function timeLookups(realm: LoginRealm, size: LoginSize): Promise<Lookups> {
  await giveManyKeys(realm);
  const users = Math.min(size.lookupUsers, size.people - FIRST_PLAIN_PERSON);
  const shuffled = shuffle(Array.from({ length: users }, (_, n) => FIRST_PLAIN_PERSON + n));
  const person = (n: number) => personName(shuffled[n % users] ?? FIRST_PLAIN_PERSON);
  const sssUsers = Math.min(SSS_USERS, size.lookupsSss, users);

  await letSssdReadKeys(realm);
  for (let n = 0; n < sssUsers; n++) await warmSssd(realm, person(n));
  const ldapsearch = await ldapsearchAs(realm);
  const script = (user: string) => ({
    argv: ['/usr/lib/chamberlain/authorized-keys', user],
    bytes: statSync(join(realm.keysFolder, user)).size,
  });
  /** [how many, what the nth of them runs] */
  const kinds: Record<keyof Lookups, [number, (n: number) => Omit<TimedRun, 'name'>]> = {
    fork: [size.lookups200, () => ({ argv: [], bytes: 0 })],
    true: [size.lookups, () => ({ argv: ['/bin/true'], bytes: 0 })],
    script: [size.lookups, (n) => script(person(n))],
    script200: [size.lookups200, () => script(personName(PERSON_OF_MANY_KEYS))],
    sss: [size.lookupsSss, (n) => ({ argv: [SSS, person(n % sssUsers)], bytes: undefined })],
    ldapsearch: [
      size.lookupsLdapsearch,
      (n) => ({ argv: ldapsearch(person(n)), bytes: undefined }),
    ],
  };
  // in each round another order: what one leaves in the processor's caches falls to all alike
  const runs = Array.from({ length: size.lookups }, (_, n) =>
    shuffle(
      Object.entries(kinds).flatMap(([name, [count, run]]) => {
        const every = Math.ceil(size.lookups / count);
        return n % every === 0 ? [{ name, ...run(n / every) }] : [];
      }),
    ),
  );
  const times = await timeProcesses(runs.flat(), (input) =>
    realm.host.machine.must(['/usr/bin/perl', join('/opt/chamberlain', PROCESS_TIMER)], {
      ...{ input, user: USER, env: ENVIRONMENT, timeoutMs: TIMER_LIMIT_MS },
    }),
  );
  return Object.fromEntries(
    Object.keys(kinds).map((name) => [name, times.get(name) ?? []]),
  ) as Lookups;
}

/**
 * 200 keys, most of them the longest that there are much of. Nobody has the private halves: the RSA
 * moduli are odd numbers, no more, which is all that the keys agent can see of them.
 */
async function giveManyKeys(realm: LoginRealm): Promise<void> {
  const keys = Array.from({ length: MANY_KEYS }, (_, n) =>
    n % 4 === 0 ? keyLine(1_000_000 + n) : rsaLine(),
  );
  const change = { remove: [keyLine(PERSON_OF_MANY_KEYS)], add: keys };
  await changeKeys(realm, personName(PERSON_OF_MANY_KEYS), change);
}

/** RFC 4253, section 6.6: exponent and modulus; 4096 bits. */
function rsaLine(): string {
  const modulus = randomBytes(512);
  modulus.writeUInt8(modulus.readUInt8(0) | 0x80, 0);
  modulus.writeUInt8(modulus.readUInt8(511) | 1, 511);
  const field = (bytes: Buffer) => {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(bytes.length);
    return Buffer.concat([length, bytes]);
  };
  const blob = [
    Buffer.from('ssh-rsa'),
    Buffer.from([1, 0, 1]),
    Buffer.concat([Buffer.alloc(1), modulus]),
  ];
  return `ssh-rsa ${Buffer.concat(blob.map(field)).toString('base64')}`;
}

/** Only for this comparison: on a login host sssd may not read keys. */
async function letSssdReadKeys({ host, base, secrets }: LoginRealm): Promise<void> {
  const file = join(host.machine.root, 'etc/sssd/sssd.conf');
  const password = (account: string) => readFileSync(join(secrets, `ldap-${account}`), 'utf8');
  const standing = readFileSync(file, 'utf8');
  const changes = [
    [/^services = .*$/m, (line: string) => `${line}, ssh`],
    [`cn=sssd,ou=chamberlain,${base}`, () => `cn=keys-agent,ou=chamberlain,${base}`],
    [password('sssd'), () => `${password('keys-agent')}\nldap_user_ssh_public_key = sshPublicKey`],
  ] as const;
  let text = standing;
  for (const [from, to] of changes) {
    const changed = text.replace(from, to);
    if (changed === text) throw new Error(`sssd.conf has no ${from}`);
    text = changed;
  }
  await host.sssd.stop();
  writeFileSync(file, text);
  await host.sssd.start();
}

/** Asks until sssd gives the person's keys: just started, it may be busy, and say that there are none. */
async function warmSssd({ host }: LoginRealm, person: string): Promise<void> {
  const deadline = performance.now() + SSS_START_MS;
  for (;;) {
    const { stdout, stderr } = await host.machine.run([SSS, person]);
    if (stdout !== '') return;
    if (performance.now() > deadline) {
      throw new Error(`${SSS} gives no key: ${stderr}\n${host.sssd.log()}`);
    }
    await sleep(100);
  }
}

/** The plainest way by LDAP: ask for the one person's keys. */
async function ldapsearchAs({
  host: { machine },
  slapd,
  base,
  secrets,
}: LoginRealm): Promise<(person: string) => string[]> {
  const passwordFile = '/run/bench-ldap-password';
  copyFileSync(join(secrets, 'ldap-keys-agent'), join(machine.root, passwordFile));
  await machine.must(['/bin/chown', USER, passwordFile]);
  await machine.must(['/bin/chmod', '400', passwordFile]);
  return (person) => [
    ...['/usr/bin/ldapsearch', '-x', '-LLL', '-o', 'ldif-wrap=no', '-H', slapd.tcpUri()],
    ...['-D', `cn=keys-agent,ou=chamberlain,${base}`, '-y', passwordFile],
    ...['-b', `ou=people,${base}`, `(uid=${person})`, 'sshPublicKey'],
  ];
}
