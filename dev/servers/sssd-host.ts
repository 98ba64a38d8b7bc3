/**
 * A host of another kind in a private machine, for tests: its operator has set up Debian's sssd for the
 * directory, and nothing of ours is installed.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { LoginHostOptions } from './login-host.ts';
import { openBareHost } from './login-host.ts';
import type { Daemon, Machine } from './private-machine.ts';

export interface SssdHost {
  readonly machine: Machine;
  readonly sssd: Daemon;
  close(): Promise<void>;
}

const PIPES = ['nss', 'sudo'].map((name) => `/var/lib/sss/pipes/${name}`);

/** Opens the machine with homes, and starts sssd, which binds as cn=sssd. */
export async function openSssdHost(
  options: Pick<LoginHostOptions, 'ldapUri' | 'base' | 'realm' | 'ids' | 'secrets' | 'dataRoot'>,
): Promise<SssdHost> {
  const machine = await openBareHost([
    { from: join(options.dataRoot, 'home'), at: '/home' },
    { from: join(options.dataRoot, 'data/project'), at: '/data/project' },
  ]);
  try {
    const inside = (path: string): string => join(machine.root, path);
    mkdirSync(inside('/etc/sssd'), { recursive: true });
    writeFileSync(inside('/etc/sssd/sssd.conf'), renderSssd(options), { mode: 0o600 });
    await machine.must([
      ...['/bin/sed', '-i', '-E', '/^(passwd|group|sudoers):/d'],
      '/etc/nsswitch.conf',
    ]);
    const sources = ['passwd', 'group', 'sudoers'].map((map) => `${map}: files sss\n`).join('');
    writeFileSync(inside('/etc/nsswitch.conf'), sources, { flag: 'a' });
    const sssd = machine.daemon({
      name: 'sssd',
      command: () => ['/usr/sbin/sssd', '-i', '--logger=stderr'],
      answers: () => Promise.resolve(PIPES.every((pipe) => existsSync(inside(pipe)))),
    });
    await sssd.start();
    return { machine, sssd, close: () => machine.close() };
  } catch (error) {
    await machine.close();
    throw error;
  }
}

function renderSssd(options: Parameters<typeof openSssdHost>[0]): string {
  const { base, realm, ids } = options;
  const ranges = [{ first: ids.realmGid, last: ids.realmGid }, ...ids.people, ...ids.tools];
  const values: Record<string, string> = {
    ...{ base, realm, uri: options.ldapUri, realmGid: String(ids.realmGid) },
    password: readFileSync(join(options.secrets, 'ldap-sssd'), 'utf8').trim(),
    // sssd drops a person whose gid is outside, so the realm's gid must be inside
    minId: String(Math.min(...ranges.map(({ first }) => first))),
    maxId: String(Math.max(...ranges.map(({ last }) => last))),
  };
  const template = readFileSync(join(import.meta.dirname, 'sssd.conf'), 'utf8');
  return template.replaceAll(/\{\{(\w+)\}\}/g, (_, key: string) => values[key] ?? '');
}
