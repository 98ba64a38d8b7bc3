/** What the files of a login host hold. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { shellWord } from '../../src/model/shell-word.ts';
import type { Values } from './values.ts';

const TEMPLATES = join(import.meta.dirname, 'templates');

export function fillTemplate(name: string, values: Readonly<Record<string, string>> = {}): string {
  return readFileSync(join(TEMPLATES, name), 'utf8').replaceAll(
    /\{\{(\w+)\}\}/g,
    (_, key: string) => {
      const value = values[key];
      if (value === undefined) throw new Error(`${name} asks for an unknown value: ${key}`);
      return value;
    },
  );
}

export function renderSssd({ config, sssdPassword }: Values): string {
  const { realm, realmGid, ids, ldap } = config;
  const ranges = [{ first: realmGid, last: realmGid }, ...ids.people, ...ids.tools];
  return fillTemplate('sssd.conf', {
    realm,
    realmGid: String(realmGid),
    base: ldap.base,
    uris: ldap.uris.join(', '),
    caLine: ldap.caFile === undefined ? '' : `ldap_tls_cacert = ${ldap.caFile}\n`,
    password: sssdPassword,
    // sssd drops a person whose gid lies outside, hence the realm's among them
    minId: String(Math.min(...ranges.map(({ first }) => first))),
    maxId: String(Math.max(...ranges.map(({ last }) => last))),
  });
}

/** Starts a program of the clone with the Node that runs this, and with what its first line wants of Node. */
export function programWrapper(clone: string, program: string): string {
  const path = join(clone, 'src/bin', program);
  const options = /^#!\S+ -S node (.*)\n/.exec(readFileSync(path, 'utf8'))?.[1];
  if (options === undefined) throw new Error(`${path} does not say what it wants of Node`);
  return `#!/bin/sh\nexec ${[shellWord(process.execPath), options, shellWord(path)].join(' ')} "$@"\n`;
}

/** In which order sources must be asked, by the map of nsswitch.conf(5). */
const SOURCES: Readonly<Record<string, readonly string[]>> = {
  // `db` knows the people whom this host has never seen while the directory is away
  passwd: ['files', 'db', 'sss'],
  group: ['files', 'sss'],
  sudoers: ['files', 'sss'],
};

/** nsswitch.conf with our sources; every other line, and every other source, stays. */
export function withSources(standing = ''): string {
  const lines = standing.replace(/\n*$/, '').split('\n');
  for (const [map, wanted] of Object.entries(SOURCES)) {
    const at = lines.findIndex((line) => new RegExp(`^\\s*${map}\\s*:`).test(line));
    const line = at === -1 ? '' : (lines[at] ?? '');
    const has = line.replace(/^[^:]*:|#.*$/g, '').match(/\[[^\]]*\]|\S+/g) ?? [];
    const ours = has.filter((source) => wanted.includes(source));
    if (ours.join(' ') === wanted.join(' ')) continue;
    const others = has.filter((source) => !wanted.includes(source));
    const should = `${`${map}:`.padEnd(16)}${[...wanted, ...others].join(' ')}`;
    if (at === -1) lines.push(should);
    else lines[at] = should;
  }
  return `${lines.join('\n')}\n`;
}

/**
 * A service's file of pam.d(5) that starts nothing for whom the keys agent has found closed; every other line
 * stays. Without the agent's list all is as without these lines; local accounts are not looked up in it.
 */
export function withClosedList(list: string, standing = ''): string {
  const lines = [
    '# Chamberlain: nothing is started for those who are suspended, disabled or gone.',
    'account [success=1 default=ignore] pam_localuser.so',
    `account required pam_listfile.so onerr=succeed item=user sense=deny file=${list}`,
  ];
  const isOurs = (line: string): boolean => lines.includes(line) || line.includes(`file=${list}`);
  const others = standing.split('\n').filter((line) => !isOurs(line));
  return [...lines, ...others].join('\n');
}

const GROUP_SOURCE = /^\s*Set\s+group_source\b.*$/m;

/** sudo.conf with `Set group_source dynamic`; every other line stays. */
export function withGroupSource(standing = ''): string {
  const should = 'Set group_source dynamic';
  if (GROUP_SOURCE.test(standing))
    return standing.replaceAll(new RegExp(GROUP_SOURCE, 'gm'), should);
  const why =
    '# Chamberlain: the groups that the account has now, not those of the session, also for rules of sudoers\n' +
    '# files (for those of the directory, sssd looks itself).';
  return `${standing}${standing === '' || standing.endsWith('\n') ? '' : '\n'}\n${why}\n${should}\n`;
}
