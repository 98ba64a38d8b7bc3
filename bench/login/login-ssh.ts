/** Whole logins, `ssh true`, by the login host's file and by a static one, in turn. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../../dev/servers/processes.ts';
import { keepOrChoosePort } from '../../dev/servers/redis.ts';
import { changeKeys } from './login-changes.ts';
import { LOGIN_PERSON } from './login-lookups.ts';
import type { LoginRealm } from './login-realm.ts';
import type { Closers } from '../realm.ts';
import { personName } from '../population/population-names.ts';
import { PROCESS_TIMER, shuffle, type TimedRun, timeProcesses } from '../tools/process-timer.ts';

const PROJECT = join(import.meta.dirname, '../..');
const WARM_LOGINS = 10;

/** Milliseconds of each. */
export type Logins = Record<'ours' | 'static', number[]>;

/** Two sshds with the same configuration except for the source of the keys. */
export async function timeLogins(
  realm: LoginRealm,
  count: number,
  closers: Closers,
): Promise<Logins> {
  const { folder } = realm;
  const { machine } = realm.host;
  const person = personName(LOGIN_PERSON);
  const { file, line } = await realm.host.newKey(person);
  const key = line.split(' ').slice(0, 2).join(' ');
  await changeKeys(realm, LOGIN_PERSON, [key]);
  realm.makeHome('person', LOGIN_PERSON);
  mkdirSync(join(machine.root, 'etc/ssh/static_keys'), { mode: 0o755 });
  writeFileSync(join(machine.root, 'etc/ssh/static_keys', person), `${key}\n`, { mode: 0o644 });
  const hostKey = readFileSync(join(machine.root, 'etc/ssh/ssh_host_ed25519_key.pub'), 'utf8');
  const known = join(folder, 'known_hosts');
  writeFileSync(known, `login-host ${hostKey}`);

  const ports = {
    ours: await startSshd(realm, { name: 'ours', folder, options: [] }, closers),
    static: await startSshd(
      realm,
      {
        ...{ name: 'static', folder },
        options: ['AuthorizedKeysCommand=none', 'AuthorizedKeysFile=/etc/ssh/static_keys/%u'],
      },
      closers,
    ),
  };
  const login = (name: keyof Logins): TimedRun => ({
    name,
    argv: [
      ...['/usr/bin/ssh', '-F', 'none', '-i', file, '-p', String(ports[name])],
      ...[
        ...['BatchMode=yes', 'IdentitiesOnly=yes', 'IdentityAgent=none', 'LogLevel=ERROR'],
        ...['StrictHostKeyChecking=yes', `UserKnownHostsFile=${known}`, 'HostKeyAlias=login-host'],
      ].flatMap((option) => ['-o', option]),
      ...[`${person}@127.0.0.1`, 'true'],
    ],
    bytes: 0,
  });
  const pairs = (many: number) =>
    Array.from({ length: many }, () => shuffle([login('ours'), login('static')])).flat();
  const time = (runs: readonly TimedRun[]) =>
    timeProcesses(runs, (input) => run('/usr/bin/perl', [join(PROJECT, PROCESS_TIMER)], { input }));
  await time(pairs(WARM_LOGINS));
  const times = await time(pairs(count));
  return { ours: times.get('ours') ?? [], static: times.get('static') ?? [] };
}

/** The host's own configuration; command-line options take precedence. Returns the port. */
async function startSshd(
  { host: { machine } }: LoginRealm,
  { name, folder, options }: { name: string; folder: string; options: readonly string[] },
  closers: Closers,
): Promise<number> {
  const port = await keepOrChoosePort(join(folder, `port-${name}`));
  mkdirSync(join(machine.root, 'run/sshd'), { recursive: true, mode: 0o755 });
  const all = [...['ListenAddress=127.0.0.1', 'PidFile=none', 'PerSourcePenalties=no'], ...options];
  const words = ['-D', '-e', '-p', String(port), ...all.flatMap((option) => ['-o', option])];
  const sshd = machine.daemon({
    name: `sshd-${name}`,
    command: () => ['/usr/sbin/sshd', ...words],
    answers: async () =>
      (await run('/usr/bin/ssh-keyscan', ['-T', '1', '-p', String(port), '127.0.0.1'])) !== '',
  });
  closers.push(() => sshd.stop());
  await sshd.start();
  return port;
}
