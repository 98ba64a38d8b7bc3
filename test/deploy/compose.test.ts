/** docker-compose.yml: each container runs what a unit runs, as its user, and nothing is open. test/deploy-long starts it. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from '@jest/globals';
import { parse } from 'yaml';
import { WORK_ROLES } from '../../workers/main.ts';
import { programOf, questionTo } from '../../src/setup/own-servers.ts';
import { mariadbUnit, POSTGRES, REDIS, SLAPD } from '../../src/setup/places.ts';

const PROJECT = join(import.meta.dirname, '../..');
const read = (path: string): string => readFileSync(join(PROJECT, path), 'utf8');

interface Service {
  image: string;
  user?: string;
  command: string | string[];
  environment?: Record<string, string>;
  network_mode?: string;
  ports?: string[];
  cap_drop?: string[];
  cap_add?: string[];
  restart: string;
  healthcheck?: { test: string[] };
}
const { services } = parse(read('docker-compose.yml'), { merge: true, maxAliasCount: -1 }) as {
  services: Record<string, Service>;
};
const serviceOf = (name: string): Service => services[name] as Service;
const wordsOf = ({ command }: Service): string[] =>
  typeof command === 'string' ? command.split(' ') : command;

const UNITS = {
  postgres: POSTGRES.unit,
  redis: REDIS.unit,
  slapd: SLAPD.unit,
  mariadb: mariadbUnit('toolsdb'),
};

describe.each(Object.entries(UNITS))('the server %s', (name, unit) => {
  const { user, folder, words } = programOf(unit, join(PROJECT, 'deploy/servers'));

  test('runs what its unit runs, as its user, alone on its data', () => {
    expect(words[0]).toMatch(/^\/usr\/.*\/(postgres|redis-server|slapd|mariadbd)$/u);
    expect(wordsOf(serviceOf(name))).toEqual(['flock', '--no-fork', folder, ...words]);
    expect(serviceOf(name).user).toBe(user);
  });

  test('is healthy if setup would find that it runs', () => {
    expect(serviceOf(name).healthcheck?.test).toEqual(['CMD', ...questionTo(unit)]);
  });
});

describe('the workers', () => {
  test.each(WORK_ROLES)('%s has a container, and its own user', (role) => {
    const { user = 'root', command } = serviceOf(role);
    expect(command).toEqual(['work', role]);
    expect(user).toBe(role === 'homes' ? 'root' : `chamberlain-${role}`);
  });

  test('homes has the capabilities of its unit, but one; no other container of the realm has any', () => {
    const unit = read('deploy/systemd/chamberlain@homes.service.d/root.conf');
    const lines = [...unit.matchAll(/^CapabilityBoundingSet=(.*)$/gmu)];
    const names = lines.flatMap(([, line = '']) => line.replaceAll('CAP_', '').split(' '));
    expect(names).toContain('SYS_ADMIN');
    expect(serviceOf('homes').cap_add).toEqual(names.filter((name) => name !== 'SYS_ADMIN'));
    for (const name of [...WORK_ROLES, ...Object.keys(UNITS)]) {
      expect([name, serviceOf(name).cap_drop]).toEqual([name, ['ALL']]);
      if (name !== 'homes') expect([name, serviceOf(name).cap_add]).toEqual([name, undefined]);
    }
  });
});

test('only the login host has a network, and what it publishes is on 127.0.0.1', () => {
  for (const [name, { network_mode: network, ports = [] }] of Object.entries(services)) {
    if (name !== 'login-host') expect([name, network, ports]).toEqual([name, 'none', []]);
    for (const port of ports) expect(port).toMatch(/^127\.0\.0\.1:/u);
  }
  expect(serviceOf('login-host').ports).toHaveLength(1);
});

test('no environment holds more than the path of a key', () => {
  const variables = Object.values(services).flatMap(({ environment = {} }) =>
    Object.entries(environment),
  );
  expect(variables).toEqual([['CHAMBERLAIN_ADMIN_KEY', '/etc/chamberlain/keys/alice-signing']]);
});

test('everything that stays is started again, and says how it is', () => {
  for (const [name, { restart, healthcheck }] of Object.entries(services)) {
    const stays = name !== 'setup';
    expect([name, restart, healthcheck !== undefined]).toEqual([
      ...[name, stays ? 'unless-stopped' : 'no', stays],
    ]);
  }
});
