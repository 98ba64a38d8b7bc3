/**
 * A host of another kind in a private machine, for tests: its operator takes names from the directory with a daemon of
 * Debian's, and nothing of ours is installed.
 */
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { openBareHost } from './login-host.ts';
import type { Machine } from './private-machine.ts';

/** How the host takes names from the directory. */
interface Source {
  /** the word for it in nsswitch.conf */
  readonly word: string;
  readonly maps: readonly string[];
  readonly file: string;
  readonly command: readonly string[];
  /** what exists when it answers */
  readonly sockets: readonly string[];
}

const SOURCES = {
  sssd: {
    word: 'sss',
    maps: ['passwd', 'group', 'sudoers'],
    file: '/etc/sssd/sssd.conf',
    command: ['/usr/sbin/sssd', '-i', '--logger=stderr'],
    sockets: ['nss', 'sudo'].map((name) => `/var/lib/sss/pipes/${name}`),
  },
  nslcd: {
    word: 'ldap',
    maps: ['passwd', 'group'],
    file: '/etc/nslcd.conf',
    // its unit makes the folder
    command: ['/bin/sh', '-c', 'install -d -o nslcd -g nslcd /run/nslcd && exec nslcd --nofork'],
    sockets: ['/run/nslcd/socket'],
  },
} satisfies Record<string, Source>;

/** Opens the machine with the homes below `dataRoot`, and starts the daemon with this configuration. */
export async function openDirectoryHost(
  name: keyof typeof SOURCES,
  { configuration, dataRoot }: { configuration: string; dataRoot: string },
): Promise<Machine> {
  const { word, maps, file, command, sockets }: Source = SOURCES[name];
  const machine = await openBareHost([
    { from: join(dataRoot, 'home'), at: '/home' },
    { from: join(dataRoot, 'data/project'), at: '/data/project' },
  ]);
  try {
    const inside = (path: string): string => join(machine.root, path);
    mkdirSync(dirname(inside(file)), { recursive: true });
    writeFileSync(inside(file), configuration, { mode: 0o600 });
    const others = readFileSync(inside('/etc/nsswitch.conf'), 'utf8')
      .split('\n')
      .filter((line) => !/^(?:passwd|group|sudoers):/u.test(line));
    const lines = maps.map((map) => `${map}: files ${word}`);
    writeFileSync(inside('/etc/nsswitch.conf'), [...others, ...lines, ''].join('\n'));
    await machine
      .daemon({
        ...{ name, command: () => command },
        answers: () => Promise.resolve(sockets.every((path) => existsSync(inside(path)))),
      })
      .start();
    return machine;
  } catch (error) {
    await machine.close();
    throw error;
  }
}
