/** Lookups of a person's keys as sshd makes them: a process whose output is read to its end. */
import { randomBytes } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Daemon, Machine } from '../../dev/servers/private-machine.ts';
import type { LoginSize } from '../goals.ts';
import { changeKeys } from './login-changes.ts';
import type { LoginRealm } from './login-realm.ts';
import { keyLine, personName } from '../population/population-names.ts';
import { PROCESS_TIMER, shuffle, type TimedRun, timeProcesses } from '../tools/process-timer.ts';
import type { Closers } from '../realm.ts';

/** The user and the PATH of these programs on a login host: those of sshd's AuthorizedKeysCommand. */
const USER = 'chamberlain-lookup';
const ENVIRONMENT = { PATH: '/usr/local/bin:/usr/bin:/bin:/usr/games', HOME: '/nonexistent' };
const SSS = '/usr/bin/sss_ssh_authorizedkeys';
/** How many people's keys are in sssd's cache. */
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
  'fork' | 'true' | 'script' | 'script200' | 'sss' | 'ldapsearch' | 'id' | 'getent',
  number[]
>;

/** Measures all of them in one run, in turn. */
export async function timeLookups(
  realm: LoginRealm,
  size: LoginSize,
  closers: Closers,
): Promise<Lookups> {
  await giveManyKeys(realm);
  const users = Math.min(size.lookupUsers, size.people - FIRST_PLAIN_PERSON);
  const shuffled = shuffle(Array.from({ length: users }, (_, n) => FIRST_PLAIN_PERSON + n));
  const person = (n: number) => personName(shuffled[n % users] ?? FIRST_PLAIN_PERSON);
  const sssUsers = Math.min(SSS_USERS, size.lookupsSss, users);

  const sssd = await startSssd(realm, closers);
  for (let n = 0; n < sssUsers; n++) await warmSssd(realm.host.machine, sssd, person(n));
  const ldapsearch = await ldapsearchAs(realm);
  const script = (user: string) => ({
    argv: ['/usr/lib/chamberlain/authorized-keys', user],
    bytes: statSync(join(realm.places.keys, user)).size,
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
    id: [size.ids, (n) => ({ argv: ['/usr/bin/id', person(n)], bytes: undefined })],
    getent: [
      size.ids,
      (n) => ({ argv: ['/usr/bin/getent', 'passwd', person(n)], bytes: undefined }),
    ],
  };
  // each round in another order: what one leaves in the processor's caches then benefits all alike
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
  await sssd.stop();
  return Object.fromEntries(
    Object.keys(kinds).map((name) => [name, times.get(name) ?? []]),
  ) as Lookups;
}

/**
 * 200 keys, most of them of the longest common kind. Nobody has the private halves: the RSA moduli are just odd
 * numbers, which is all that the keys agent can check.
 */
async function giveManyKeys(realm: LoginRealm): Promise<void> {
  const keys = Array.from({ length: MANY_KEYS }, (_, n) =>
    n % 4 === 0 ? keyLine(1_000_000 + n) : rsaLine(),
  );
  await changeKeys(realm, PERSON_OF_MANY_KEYS, keys);
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

/**
 * Only for this comparison: another host's sssd, on this one. The timed program asks it by its own socket, not
 * by NSS.
 */
async function startSssd(
  { host: { machine }, slapd, base, realm, secrets }: LoginRealm,
  closers: Closers,
): Promise<Daemon> {
  const password = readFileSync(join(secrets, 'ldap-directory'), 'utf8');
  const lines = [
    ...['[sssd]', 'services = nss, ssh', `domains = ${realm}`, `[domain/${realm}]`],
    ...['id_provider = ldap', 'ldap_schema = rfc2307bis', `ldap_uri = ${slapd.tcpUri()}`],
    ...['ldap_id_use_start_tls = false', `ldap_search_base = ${base}`],
    `ldap_default_bind_dn = cn=directory,ou=chamberlain,${base}`,
    ...[`ldap_default_authtok = ${password}`, 'ldap_user_ssh_public_key = sshPublicKey', ''],
  ];
  mkdirSync(join(machine.root, 'etc/sssd'), { recursive: true });
  writeFileSync(join(machine.root, 'etc/sssd/sssd.conf'), lines.join('\n'), { mode: 0o600 });
  const socket = join(machine.root, 'var/lib/sss/pipes/ssh');
  rmSync(socket, { force: true }); // left by this machine's own sssd
  const sssd = machine.daemon({
    name: 'sssd',
    command: () => ['/usr/sbin/sssd', '-i', '--logger=stderr'],
    answers: () => Promise.resolve(existsSync(socket)),
  });
  closers.push(() => sssd.stop());
  await sssd.start();
  return sssd;
}

/** Asks until sssd returns the person's keys: just after its start, it may be busy and report none. */
async function warmSssd(machine: Machine, sssd: Daemon, person: string): Promise<void> {
  const deadline = performance.now() + SSS_START_MS;
  for (;;) {
    const { stdout, stderr } = await machine.run([SSS, person]);
    if (stdout !== '') return;
    if (performance.now() > deadline) {
      throw new Error(`${SSS} returns no key: ${stderr}\n${sssd.log()}`);
    }
    await sleep(100);
  }
}

/** The plainest way by LDAP: a search for the person's seal. */
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
    ...['-b', `ou=people,${base}`, `(uid=${person})`, 'chamberlainSeal'],
  ];
}
