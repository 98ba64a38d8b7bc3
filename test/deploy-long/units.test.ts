/** The units of the package, run by systemd: what each role reaches, and what not; hangs, outages and ends. */
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { HANGS_MS } from '../../src/shared/progress.ts';
import { shellWord } from '../../src/shared/run-programs.ts';
import { WORK_ROLES } from '../../workers/main.ts';
import { AS_ALICE, bootBare, SETUP } from './bare-machine.ts';
import { sharedDaemon } from './daemon.ts';
import { eventually } from './patience.ts';
import { type Machine, machinesOf } from './systemd-machines.ts';

const machines = machinesOf(sharedDaemon(), 'units');

let machine: Machine;
beforeAll(async () => {
  machine = await bootBare(machines, 'realm');
  // homes see what is mounted later, as where systemd is not in a container
  run('mount --make-rshared /; systemctl daemon-reexec');
  machine.run(...SETUP);
});
afterAll(() => machines.removeAll());

const run = (script: string): string => machine.run('bash', '-ec', script);
const show = (role: string, property: string): string =>
  run(`systemctl show --value --property ${property} chamberlain@${role}`).trim();
const restarts = (): string[] => WORK_ROLES.map((role) => show(role, 'NRestarts'));
const submit = (request: string): string => run(`chamberlain submit ${request} ${AS_ALICE} --wait`);
const psql = (text: string): string =>
  run(`export PGPASSWORD=$(cat /etc/chamberlain/secrets/postgres-owner)
    psql -qAt -h /run/postgresql -p 5470 -U chamberlain -c ${shellWord(text)}`).trim();

/** Runs a unit with other settings, until it is done. */
async function withDropIn<T>(role: string, text: string, act: () => Promise<T> | T): Promise<T> {
  const dropIn = `/run/systemd/system/chamberlain@${role}.service.d`;
  run(`mkdir -p ${dropIn}; printf '[Service]\n%s\n' ${shellWord(text)} >${dropIn}/test.conf
    systemctl stop chamberlain@${role}; systemctl daemon-reload`);
  try {
    return await act();
  } finally {
    run(`rm ${dropIn}/test.conf; systemctl daemon-reload
      systemctl reset-failed chamberlain@${role} || :
      if systemctl is-enabled --quiet chamberlain@${role}; then systemctl restart chamberlain@${role}; fi`);
  }
}

const SOCKET = '--socket=/run/chamberlain-mariadb/toolsdb/mariadb.sock';

describe('the roles do their work:', () => {
  const home = '/data/project/tool';

  test('a tool is created, with a home and a database', () => {
    submit('tool.create --name tool --title T --maintainers alice');
    run('chamberlain sweep now && chamberlain status && chamberlain doctor');
    expect(run(`stat -c %A ${home}`)).toBe('drwxrwsr-x\n');
  });

  test('it is archived and restored, with what only root can create in a home', async () => {
    run(`cd ${home}; mknod null c 1 3; mkfifo fifo; touch file; chmod 4755 file
        setfattr -n trusted.x -v 1 file; setfacl -m u:1234:r file
        mariadb --defaults-file=${home}/replica.my.cnf ${SOCKET} -e 'create database s50001__x;
          create table s50001__x.t (a int); insert into s50001__x.t values (7)'`);
    const look = (): string =>
      run(`cd ${home}; stat -c '%n %A %t,%T' null fifo file; getfattr -d -m - file
          mariadb --defaults-file=${home}/replica.my.cnf ${SOCKET} -N -e 'select a from s50001__x.t'`);
    const before = look();
    submit('tool.delete --tool tool --reason x');
    psql(`UPDATE tools SET delete_after = now() - interval '2 min', days_warned = 1,
              warned_at = now() - interval '25 hours' WHERE name = 'tool'`);
    await eventually('the deletion', () => {
      const state = psql(`SELECT state FROM tools WHERE name = 'tool'`);
      if (state !== 'deleted') throw new Error(run('chamberlain status tool || :'));
      return true;
    });
    expect(run(`[ -e ${home} ] || echo gone`)).toBe('gone\n');
    submit('tool.restore --tool tool');
    await eventually('the home and the database', () => look() === before);
  });

  test('homes sees what is mounted later, and writes there', () => {
    run('mount -t tmpfs later /data/project');
    try {
      run(`nsenter -t ${show('homes', 'MainPID')} -m touch /data/project/later`);
      run('[ -e /data/project/later ]');
    } finally {
      run('umount /data/project');
    }
  });
});

const connect = (address: string): string =>
  `perl -MSocket -MErrno -e 'socket(S,${address.startsWith('pack_sockaddr_un') ? 'AF_UNIX' : 'AF_INET'},SOCK_STREAM,0) and (connect(S,${address}) or $!{ECONNREFUSED}) or exit 1'`;

/** What a process of a unit tries: each command succeeds if it may. */
const TRIES = (role: string): Record<string, string> => ({
  'own-secret': `cat /etc/chamberlain/secrets/postgres-${role}`,
  'others-secret': 'cat /etc/chamberlain/secrets/postgres-owner',
  'connect-tcp': connect('pack_sockaddr_in(6379,inet_aton("127.0.0.1"))'),
  'connect-unix': connect('pack_sockaddr_un("/run/postgresql/.s.PGSQL.5470")'),
  listen: `perl -MSocket -e 'socket(S,AF_INET,SOCK_STREAM,0) and bind(S,pack_sockaddr_in(9999,INADDR_ANY)) or exit 1'`,
  'raw-socket': `perl -MSocket -e 'socket(S,AF_INET,SOCK_RAW,1) or exit 1'`,
  'write-cache': write(`/var/cache/chamberlain-${role}`),
  'write-tools': write('/data/project'),
  'write-people': write('/home'),
  'write-home-archives': write('/srv/chamberlain/homes'),
  'write-database-archives': write('/srv/chamberlain/databases'),
  'write-etc': write('/etc'),
  'write-usr': write('/usr'),
  'write-var': write('/var/lib'),
  'write-run': write('/run'),
  'see-init': 'ls -d /proc/1',
  chown: 'touch /tmp/x && chown 1234 /tmp/x',
  'setuid-file': 'touch /tmp/y && chmod 4755 /tmp/y',
  'new-namespace': 'unshare --user true',
  mount: 'mount -t tmpfs x /mnt',
  kernel: 'cat /proc/kallsyms',
});
function write(place: string): string {
  return `touch ${place}/x && rm ${place}/x`;
}
const ALL_MAY = ['own-secret', 'connect-tcp', 'connect-unix', 'write-cache'];
const MORE: Readonly<Record<string, readonly string[]>> = {
  homes: [
    ...['others-secret', 'write-tools', 'write-people', 'write-home-archives', 'see-init'],
    ...['chown', 'setuid-file'],
  ],
  databases: ['write-database-archives'],
  api: ['listen'],
};

describe('a process of the unit reaches what the role needs, and nothing else:', () => {
  test.each(WORK_ROLES)('%s', async (role) => {
    const lines = Object.entries(TRIES(role)).map(
      ([name, command]) => `(${command}) >/dev/null 2>&1 && echo ${name}\n`,
    );
    machine.write('/usr/local/bin/try', `${lines.join('')}true\n`);
    const settings = `Type=oneshot\nRestart=no\nExecStart=\nExecStart=/bin/bash /usr/local/bin/try
StandardOutput=truncate:/var/log/tried`;
    const may = await withDropIn(role, settings, () =>
      run(`systemctl start chamberlain@${role}; cat /var/log/tried`),
    );
    const expected = [...ALL_MAY, ...(MORE[role] ?? [])];
    expect(may.trim().split('\n').toSorted()).toEqual(expected.toSorted());
  });
});

test('servers that hang are no reason to restart a worker', async () => {
  await eventually('all of them', () =>
    WORK_ROLES.filter((role) => role !== 'api') // which the realm does not have
      .every((role) => show(role, 'SubState') === 'running'),
  );
  const before = restarts();
  const servers = [
    'chamberlain-redis',
    'postgresql@*',
    'chamberlain-slapd',
    'chamberlain-mariadb@*',
  ];
  const signal = (name: string): string =>
    run(servers.map((unit) => `systemctl kill --signal ${name} '${unit}'`).join('\n'));
  signal('STOP');
  await sleep(2 * HANGS_MS + 20_000); // whoever hangs is ended by then
  signal('CONT');
  expect(restarts()).toEqual(before);
  await eventually('work', () => run('chamberlain status') !== '');
});

test('a worker that hangs is restarted', () =>
  withDropIn('relay', 'WatchdogSec=4', async () => {
    run('systemctl start chamberlain@relay; systemctl kill --signal STOP chamberlain@relay');
    await eventually('a restart', () => Number(show('relay', 'NRestarts')) > 0);
    await eventually('work', () => show('relay', 'SubState') === 'running');
  }));

test('one that ends again and again is given up, and pages once', async () => {
  const page = '/etc/chamberlain/page';
  machine.write(page, '#!/bin/sh\necho "$@" >>/var/log/paged\n');
  run(`chmod 755 ${page}`);
  await withDropIn('sweep', 'Environment=CHAMBERLAIN_CONFIG=/nowhere', async () => {
    run('systemctl start chamberlain@sweep || :');
    await eventually('the end', () => show('sweep', 'ActiveState') === 'failed');
    await eventually('a page', () => run('cat /var/log/paged || :') !== '');
  });
  expect(run(`rm ${page}; cat /var/log/paged`)).toBe('chamberlain@sweep.service\n');
});
