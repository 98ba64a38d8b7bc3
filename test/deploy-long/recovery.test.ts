/** A machine that `chamberlain setup` has made loses its servers, and is recovered as docs/recovery.md says. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { blockOf, readPage } from '../page-blocks.ts';
import {
  AS_ALICE,
  bootNamed,
  CHECK,
  GOOD,
  GREEN,
  REALM_ADDRESS as HOST,
  SETUP,
} from './bare-machine.ts';
import { sharedDaemon } from './daemon.ts';
import { eventually } from './patience.ts';
import { type Machine, machinesOf } from './systemd-machines.ts';

const machines = machinesOf(sharedDaemon(), 'recovery');
let machine: Machine;
beforeAll(async () => void (machine = await bootNamed(machines, 'realm')));
afterAll(() => machines.removeAll());

const shell = (script: string): string => machine.run('bash', '-eo', 'pipefail', '-c', script);
/** Each request in turn, by the first admin, until it is applied everywhere. */
function submit(...requests: object[]): void {
  machine.write('/root/requests', requests.map((each) => JSON.stringify(each)).join('\n'));
  shell(`chamberlain submit --file /root/requests ${AS_ALICE} --wait`);
}

const HEAD = readPage('docs/recovery.md').split('\n| lost ')[0]?.replaceAll(/\s+/gu, ' ') ?? '';
const INSTEAD = [...HEAD.matchAll(/(in `systemctl`, )?`([^`]+)` for `([^`]+)`/gu)];
const OPTIONS = [
  ...HEAD.matchAll(/`(psql|pg_restore) ([^`]+)`/gu),
  ...HEAD.matchAll(/Give `(\S+)` the options `([^`]+)`/gu),
];
/** A block, in which is written what the head of the page tells the reader to write instead. */
function asTold(name: string): string {
  let text = blockOf(name);
  for (const [, inSystemctl, ours = '', theirs = ''] of INSTEAD) {
    const there = String.raw`(?<=systemctl \w+ )${theirs}`;
    text = text.replaceAll(inSystemctl === undefined ? theirs : new RegExp(there, 'gu'), ours);
  }
  for (const [, program = '', added = ''] of OPTIONS)
    text = text.replaceAll(`${program} `, `${program} ${added} `);
  return text;
}
/** With the set and the private key that the page lets the reader name. */
const restore = (script: string): string =>
  shell(
    blockOf('recovery:set')
      .replace(/^set=.*$/mu, 'set=$(echo /var/backups/chamberlain/chamberlain-*)')
      .replace(/^key=.*$/mu, 'key=/root/backup-alice.txt') + script,
  );

const MARIADB = '--skip-ssl -S /run/chamberlain-mariadb/toolsdb/mariadb.sock -N -e';
const marker = () => shell(`mariadb ${MARIADB} 'SELECT * FROM mysql.chamberlain_marker'`);
const COPIED = '/root/copied.cnf'; // by bob, who was a maintainer
const opensDatabases = (passwords: string) =>
  machine.start('sh', '-c', `mariadb --defaults-file=${passwords} ${MARIADB} ''`).status === 0;

/** What each server says about bob, by a client of its own. */
const bobsAccess = () =>
  shell(`
  echo list $(chamberlain list people --prefix bob | awk '$1 == "bob" { print $3, $4 }')
  printf 'psql '; runuser -u postgres -- psql -p 5470 -d chamberlain -XAtF ' ' -c "
    SELECT state, uid IN (SELECT person FROM realm_members) FROM people WHERE shell_name = 'bob'"
  ldapsearch -LLL -x -H ldapi://%2Frun%2Fchamberlain-slapd%2Fldapi -D cn=reader,ou=chamberlain,dc=example,dc=org \
    -w "$(cat /etc/chamberlain/secrets/ldap-reader)" -b dc=example,dc=org \
    '(|(uid=bob)(member=uid=bob,ou=people,dc=example,dc=org))' pwdPolicySubentry | grep . | sort
  mariadb ${MARIADB} "SELECT 'locked', json_value(priv, '$.account_locked') FROM mysql.global_priv WHERE user = 'u20001'"
  `).replaceAll(/[\t,][^\n]*dc=org|\t/gu, ' ');
const HAS_ACCESS = `list active yes
psql active t
dn: cn=project-tools 
dn: cn=tools.bridgebot 
dn: uid=bob 
`;
const SUSPENDED = `list suspended yes
psql suspended t
dn: uid=bob 
pwdPolicySubentry: cn=disabled 
`;
const [UNLOCKED, LOCKED] = ['locked NULL\n', 'locked 1\n'];

const tlsOfSlapd = () =>
  machine.start(
    ...['openssl', 's_client', '-connect', `${HOST}:636`, '-servername', HOST],
    ...['-CAfile', '/etc/chamberlain/tls/ca.pem', '-verify_return_error'],
  ).status;

test('a realm has a tool and a second person, and a set of backups is made', () => {
  expect([INSTEAD.length, OPTIONS.length]).toEqual([10, 3]); // the page still says so
  expect(machine.run(...SETUP)).toMatch(GREEN);
  submit(
    { kind: 'person.create', shellName: 'bob', displayName: 'Bob', email: 'bob@example.org' },
    { kind: 'access.grant', person: 'bob' },
    { kind: 'tool.create', name: 'bridgebot', title: 'A bridge', maintainers: ['alice', 'bob'] },
  );
  shell(`cd /root; ${blockOf('backups:key')}
    printf 'backups:\\n  recipients: [%s]\\n' $(age-keygen -y backup-alice.txt) >>/etc/chamberlain/config.yaml
    cp /data/project/bridgebot/replica.my.cnf ${COPIED}
    install -d -m 700 /var/backups/chamberlain; chamberlain backup /var/backups/chamberlain`);
  expect([bobsAccess(), opensDatabases(COPIED)]).toEqual([HAS_ACCESS + UNLOCKED, true]);
});

test('bob loses his access after the backup, and the machine its servers', async () => {
  submit({ kind: 'access.revoke', person: 'bob', reason: 'Has left' });
  expect(bobsAccess()).toBe(`list active no\npsql active f\ndn: uid=bob \n${LOCKED}`);
  expect(opensDatabases(COPIED)).toBe(false);
  const before = marker(); // MariaDB and the homes are not lost, and show when they were current
  await eventually('a marker newer than the backup', () => marker() !== before);
  shell(`systemctl stop 'chamberlain@*'
    systemctl disable --now chamberlain@{intake,relay,directory,homes,databases,sweep} \
      chamberlain-certificates.timer chamberlain-redis chamberlain-slapd postgresql@17-chamberlain
    rm -r /var/lib/postgresql/17/chamberlain /etc/postgresql/17/chamberlain \
      /var/lib/chamberlain-redis /var/lib/chamberlain-slapd /etc/chamberlain`);
});

test('setup makes the servers anew, and stops at the first admin, before any worker runs', () => {
  restore(asTold('restore:files'));
  expect(machine.start('chamberlain', 'setup')).toMatchObject({
    ...{ status: 1, stderr: expect.stringMatching(/^STEP_FAILED: making the first admin: /mu) },
  });
  expect(shell(`systemctl list-units --plain --no-legend 'chamberlain@*'`)).toBe('');
});

test('the servers are restored, the workers run in a frozen realm, and setup has slapd show its certificate', () => {
  shell(/`(runuser [^`]+ dropdb [^`]+)`/u.exec(HEAD)?.[1] ?? 'exit 1');
  restore(asTold('restore:postgres').replace(/^.*\n/u, ''));
  restore(asTold('recovery:slapd'));
  restore(asTold('restore:directory'));
  shell('systemctl start chamberlain-slapd');
  shell(asTold('recovery:freeze'));
  expect(machine.start('bash', '-c', asTold('recovery:start')).stdout).toMatch(/ frozen since /u);
  expect(tlsOfSlapd()).not.toBe(0);
  expect(machine.start('chamberlain', 'setup').status).toBe(3);
  expect(tlsOfSlapd()).toBe(0);
  // what makes `recover` necessary: only MariaDB shows that he has lost it
  expect(bobsAccess()).toBe(HAS_ACCESS + LOCKED);
});

test('recover gives bob nothing back, and the realm goes on', async () => {
  const list = machine.start('chamberlain', 'recover', '--json');
  const { digest, takings } = JSON.parse(list.stdout) as { digest: string; takings: unknown };
  expect([list.status, takings]).toMatchObject([3, [{ account: 'bob', state: 'suspended' }]]);
  machine.run('chamberlain', 'recover', '--expect', digest);
  const settled = /^\w+ +\d+ +0 +0 +0 +0$/gmu; // nothing of a role is due, waiting, failing or parked
  const roles = () => machine.start('chamberlain', 'status').stdout.match(settled);
  await eventually('the work of the roles', () => roles()?.length === 3);
  expect(bobsAccess()).toBe(SUSPENDED + LOCKED);
  expect(machine.run('chamberlain', 'list', 'people')).toMatch(/^alice +20000 +active +yes /mu);

  const before = marker();
  shell(blockOf('recovery:after').replace(/^chamberlain doctor .*\n/mu, ''));
  submit({ kind: 'person.create', shellName: 'carol', displayName: 'C', email: 'c@example.org' });
  // 100 above: a number that was assigned after the backup is never used twice
  expect(machine.run('chamberlain', 'list', 'people')).toMatch(/^carol +20102 /mu);
  await eventually('new markers', () => marker() !== before);
  await eventually('doctor', () => GREEN.test(machine.start('chamberlain', 'doctor').stdout));
  expect(machine.run(...CHECK)).toBe(GOOD);
  expect(
    shell('systemctl is-enabled chamberlain@{intake,relay,directory,homes,databases,sweep}'),
  ).toBe('enabled\n'.repeat(6));
  expect(tlsOfSlapd()).toBe(0);
  expect(bobsAccess()).toBe(SUSPENDED + LOCKED);
  const current = '/data/project/bridgebot/replica.my.cnf';
  expect([COPIED, current].map(opensDatabases)).toEqual([false, true]);
});
