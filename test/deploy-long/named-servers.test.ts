/** `chamberlain setup` with servers that are there already. */
import { afterAll, expect, test } from '@jest/globals';
import {
  ANSWERS,
  bootNamed,
  CHECK,
  GOOD,
  GREEN,
  REALM_ADDRESS as HOST,
  SETUP,
} from './bare-machine.ts';
import { sharedDaemon } from './daemon.ts';
import { machinesOf } from './systemd-machines.ts';

const machines = machinesOf(sharedDaemon(), 'servers');
afterAll(() => machines.removeAll());

/** Servers that are there already. Redis does not run: it has no users yet. */
const THERE = `
  set -e; cd /root
  apt-get -q update; apt-get -q -y install --no-install-recommends redis-server; systemctl stop redis-server
  openssl req -x509 -noenc -newkey rsa:2048 -keyout own.key -out /srv/ca.pem -subj /CN=mine -days 999
  openssl req -x509 -noenc -newkey rsa:2048 -keyout key.pem -out certificate.pem -subj /CN=${HOST} -days 99 \
    -addext subjectAltName=DNS:${HOST} -addext basicConstraints=critical,CA:FALSE -CA /srv/ca.pem -CAkey own.key
  for user in postgres redis mysql; do
    install -o $user -m 600 /dev/null /srv/$user.pem; cat key.pem certificate.pem >/srv/$user.pem
  done
  cd /etc/postgresql/17/main
  printf "%s = '%s'\\n" listen_addresses '*' max_connections 200 ssl_cert_file /srv/postgres.pem \
    ssl_key_file /srv/postgres.pem >conf.d/tls.conf
  sed -i '1i local chamberlain /^chamberlain scram-sha-256' pg_hba.conf
  sed -i '1i hostssl chamberlain /^chamberlain all scram-sha-256' pg_hba.conf
  printf '%s\\n' '[mariadbd]' bind-address=* max-connections=300 require-secure-transport=1 \
    ssl-cert=/srv/mysql.pem ssl-key=/srv/mysql.pem >/etc/mysql/mariadb.conf.d/99-tls.cnf
  printf '%s\\n' 'include /usr/lib/chamberlain/deploy/redis/redis.conf' 'port 0' 'tls-port 6379' 'bind * -::*' \
    'tls-cert-file /srv/redis.pem' 'tls-key-file /srv/redis.pem' 'tls-auth-clients no' >>/etc/redis/redis.conf
  systemctl start postgresql@17-main mariadb
  echo a-password-of-boss >/root/boss
  mariadb --skip-ssl -e "CREATE USER boss@'%' IDENTIFIED BY 'a-password-of-boss'; GRANT ALL ON *.* TO boss@'%' WITH GRANT OPTION"`;
const NAMED = `${ANSWERS}postgres: { host: ${HOST}, caFile: /srv/ca.pem }
redis: { url: "rediss://${HOST}:6379", caFile: /srv/ca.pem }
database:
  { name: toolsdb, kind: toolsdb, host: ${HOST}, caFile: /srv/ca.pem, administrator: { user: boss, passwordFile: /root/boss } }
`;
const BY_ADMINISTRATORS = `
  set -e; cd /etc/chamberlain/for-administrators
  runuser -u postgres -- psql -X -q -d postgres <postgresql.sql
  [ ! -e mariadb-toolsdb.sql ] # setup has the login of an administrator there
  install -o redis -g redis -m 600 redis-users.acl /etc/redis/users.acl
  systemctl restart redis-server`;

test('with servers that are there already, it says what their administrators must run, and then makes the realm', async () => {
  const machine = await bootNamed(machines, 'realm', NAMED);
  machine.run('sh', '-c', THERE);
  const first = machine.start(...SETUP);
  expect([first.status, first.stderr]).toEqual([
    1,
    expect.stringMatching(/postgresql\.sql is for .*redis-users\.acl is for [^;]*$/su),
  ]);
  const check = machine.start(...CHECK);
  expect([check.status, check.stdout]).toEqual([
    3,
    expect.stringMatching(
      /^what the administrators of other servers make differs: PostgreSQL at [^;]*; Redis at [^;]*$/mu,
    ),
  ]);
  machine.run('sh', '-c', BY_ADMINISTRATORS);
  const second = machine.start(...SETUP);
  expect([second.status, second.stdout]).toEqual([0, expect.stringMatching(GREEN)]);
  expect(machine.run('chamberlain', 'list', 'people')).toContain('alice');
  expect(machine.run('chamberlain', 'setup')).toMatch(/^nothing was to be done\n/u);
  expect(machine.run(...CHECK)).toBe(GOOD);
  expect(machine.run('cat', '/etc/chamberlain/config.yaml')).not.toContain('boss');
  const units = ['chamberlain-redis', 'chamberlain-mariadb@toolsdb', 'postgresql@17-chamberlain'];
  expect(machine.start('systemctl', 'is-active', ...units).stdout).not.toMatch(/^active/mu);
});
