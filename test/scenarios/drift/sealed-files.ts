/**
 * What the files of a login host must say, by the seals that stand in the directory: worked out by a stranger, who
 * has read the description of a seal and the manuals of the programs that read the files, and runs none of our code.
 */
import { createPublicKey, verify } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Login } from '../login/login.ts';
import { readDirectory } from '../outside.ts';

/** By path, or `keys of <name>`: its lines. */
export type Files = Record<string, string[]>;

interface Sealed {
  kind: 'person' | 'tool';
  name: string;
  uid: number;
  home: string;
  shell: string;
  state: string;
  member?: boolean;
  keys?: string[];
  gecos?: string;
  members?: string[];
}

const LISTS = {
  passwd: '/var/lib/extrausers/passwd',
  group: '/var/lib/extrausers/group',
  shadow: '/var/lib/extrausers/shadow',
  sudoers: '/etc/sudoers.d/chamberlain-tools',
  closed: '/var/lib/chamberlain/login/closed',
};
const KEYS = '/var/lib/chamberlain/keys';

/** By the seals; fails where one is not signed. */
export async function filesBySeals({ world }: Login): Promise<Files> {
  const key = createPublicKey(world.sealKey);
  const entries = await readDirectory(world, { filter: '(chamberlainSeal=*)' });
  const sealed = [...entries.values()].map((entry) => {
    const [text = ''] = entry['chamberlainSeal'] ?? [];
    const [, signature = '', payload = ''] = /^\S+ (\S+) (.*)$/s.exec(text) ?? [];
    const signed = Buffer.from(`chamberlain-seal-1\n${payload}`);
    if (!verify(null, signed, key, Buffer.from(signature, 'base64'))) {
      throw new Error(`not signed: ${text}`);
    }
    return JSON.parse(payload) as Sealed;
  });
  sealed.sort((a, b) => a.uid - b.uid);
  const people = sealed.filter(({ kind }) => kind === 'person');
  const tools = sealed.filter(({ kind }) => kind === 'tool');
  const { realmGid } = world.config.ids;
  const isOpen = ({ kind, state, member }: Sealed) =>
    state === 'active' && (kind === 'tool' || member === true);
  const names = (of: Sealed[]) => of.map(({ name }) => name).sort();
  return {
    [LISTS.passwd]: sealed.map(({ kind, name, uid, gecos, home, shell }) =>
      [name, '*', uid, kind === 'person' ? realmGid : uid, gecos ?? '', home, shell].join(':'),
    ),
    [LISTS.shadow]: sealed.map(({ name }) => `${name}:*:::::::`),
    [LISTS.group]: [
      `project-${world.config.realm}:*:${realmGid}:`,
      ...tools.map(({ name, uid, members }) => [name, '*', uid, members?.join(',')].join(':')),
    ],
    [LISTS.sudoers]: names(tools.filter(isOpen)).map(
      (name) => `%${name} ALL=(${name}) NOPASSWD: ALL`,
    ),
    [LISTS.closed]: names(sealed.filter((each) => !isOpen(each))),
    ...Object.fromEntries(
      people
        .filter((person) => isOpen(person) && person.keys?.length !== 0)
        .map(({ name, keys }) => [`keys of ${name}`, keys ?? []]),
    ),
  };
}

/** As they are; of keys without their end. */
export function filesOf({ host }: Pick<Login, 'host'>): Files {
  const { root } = host.machine;
  const read = (path: string) => readFileSync(join(root, path), 'utf8').split('\n').slice(0, -1);
  return {
    ...Object.fromEntries(Object.values(LISTS).map((path) => [path, read(path)])),
    ...Object.fromEntries(
      readdirSync(join(root, KEYS))
        .filter((name) => name !== '.new') // nobody is looked up by it
        .map((name) => [
          `keys of ${name}`,
          read(join(KEYS, name)).map((line) => line.replace(/^expiry-time="\d{14}Z" /, '')),
        ]),
    ),
  };
}

/** What is wrong with the form of a file, as whoever reads it at this moment would see it. */
export function malformed({ host }: Pick<Login, 'host'>): string[] {
  const { root } = host.machine;
  const forms: [string, RegExp][] = [
    [LISTS.passwd, /^([a-z0-9_.-]+:\*:\d+:\d+:[^:]*:\/[^:]+:\/[^:]+\n)*$/],
    [LISTS.group, /^([a-z0-9_.-]+:\*:\d+:[a-z0-9_.,-]*\n)*$/],
    [LISTS.shadow, /^([a-z0-9_.-]+:\*:::::::\n)*$/],
    [LISTS.sudoers, /^(%(tools\.[a-z0-9-]+) ALL=\(\2\) NOPASSWD: ALL\n)*$/],
    [LISTS.closed, /^([a-z0-9_.-]+\n)*$/],
    ...readdirSync(join(root, KEYS))
      .filter((name) => name !== '.new')
      .map((name): [string, RegExp] => [
        join(KEYS, name),
        /^(expiry-time="\d{14}Z" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5[A-Za-z0-9+/]{48}\n)+$/,
      ]),
  ];
  return forms.flatMap(([path, form]) => {
    try {
      const text = readFileSync(join(root, path), 'utf8');
      return form.test(text) ? [] : [`${path}: ${text.slice(0, 300)}`];
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return []; // taken away meanwhile
      throw cause;
    }
  });
}

/** Whether they agree; where not, says what differs first. */
export function difference(are: Files, mustBe: Files): string | undefined {
  for (const path of new Set([...Object.keys(mustBe), ...Object.keys(are)])) {
    const [is, must] = [are[path], mustBe[path]].map((lines) => lines?.join('\n') ?? 'no file');
    if (is !== must) return `${path} is\n${is}\nand must be\n${must}`;
  }
  return undefined;
}
