/** The content of a login host's files. */
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { shellWord } from '../../src/shared/run-programs.ts';

const TEMPLATES = join(import.meta.dirname, 'templates');

export function fillTemplate(name: string, values: Readonly<Record<string, string>> = {}): string {
  return readFileSync(join(TEMPLATES, name), 'utf8').replaceAll(
    /\{\{(\w+)\}\}/g,
    (_, key: string) => {
      const value = values[key];
      if (value === undefined) throw new Error(`${name} uses an unknown value: ${key}`);
      return value;
    },
  );
}

/** The compile cache of the programs that root runs: only root may write to it. */
export const COMPILED = '/var/lib/chamberlain/login/compiled';

/**
 * Starts a program of a clone, with the Node options of its first line: the clone's own file with the Node that runs
 * this, or what a Debian package has instead of both. For programs that others start by hand, no compile cache is
 * kept, because a tool's home is writable by its group.
 */
export function programWrapper(
  clone: string,
  program: string,
  packaged?: { node: string; path: string },
): string {
  const source = join(clone, 'src/login-host/programs', program);
  const options = /^#!\S+ -S node (.*)\n/.exec(readFileSync(source, 'utf8'))?.[1];
  if (options === undefined) throw new Error(`the first line of ${source} has no Node options`);
  const { node, path } = packaged ?? { node: process.execPath, path: source };
  return [
    '#!/bin/sh',
    `if [ -O ${dirname(COMPILED)} ]; then export NODE_COMPILE_CACHE=${COMPILED}; fi`,
    `exec ${[shellWord(node), options, shellWord(path)].join(' ')} "$@"\n`,
  ].join('\n');
}

/** Which sources must be asked first, by the map of nsswitch.conf(5). */
const SOURCES: Readonly<Record<string, readonly string[]>> = {
  passwd: ['files', 'extrausers'],
  group: ['files', 'extrausers'],
  shadow: ['files', 'extrausers'],
  sudoers: ['files'],
};

/**
 * nsswitch.conf with our sources in front; every other source, and every other line, stays. An action after
 * `files` (`[SUCCESS=merge]`) is repeated after `extrausers`.
 *
 * @param former a source of passwd that an earlier installation has added
 */
export function withSources(present = '', former?: string): string {
  const lines = present.replace(/\n*$/, '').split('\n');
  for (const [map, wanted] of Object.entries(SOURCES)) {
    const at = lines.findIndex((line) => new RegExp(`^\\s*${map}\\s*:`).test(line));
    const line = at === -1 ? '' : (lines[at] ?? '');
    const has = line.replace(/^[^:]*:|#.*$/g, '').match(/[^\s[]+(\s*\[[^\]]*\])*/g) ?? [];
    const nameOf = (source: string): string => source.replace(/[\s[].*/s, '');
    const find = (name: string): string | undefined => has.find((each) => nameOf(each) === name);
    const should = [
      ...wanted.map((name) => find(name) ?? name + (find('files')?.slice('files'.length) ?? '')),
      ...has.filter((each) => !wanted.includes(nameOf(each))),
    ].filter((each) => map !== 'passwd' || nameOf(each) !== former);
    if (has.join(' ') === should.join(' ')) continue;
    const written = `${`${map}:`.padEnd(16)}${should.join(' ')}`;
    if (at === -1) lines.push(written);
    else lines[at] = written;
  }
  return `${lines.join('\n')}\n`;
}

/** Whether a source is asked for a map. */
export function hasSource(present: string, map: string, source: string): boolean {
  const [, sources = ''] = new RegExp(`^\\s*${map}\\s*:([^#\\n]*)`, 'm').exec(present) ?? [];
  return sources.split(/\s+/).includes(source);
}

const CLOSED_REMARK =
  '# Chamberlain: nothing is started for accounts that are suspended, disabled or gone.';

/** Local accounts are not looked up. If the list does not exist, these lines change nothing. */
const closedLines = (type: 'account' | 'session', list: string): string[] => [
  `${type} [success=1 default=ignore] pam_localuser.so`,
  `${type} requisite pam_listfile.so onerr=succeed item=user sense=deny file=${list}`,
];

/** A service's file of pam.d(5) that starts nothing for accounts on the list; every other line stays. */
export function withClosedList(list: string, present = ''): string {
  return [CLOSED_REMARK, ...closedLines('account', list), ...otherLines(present)].join('\n');
}

/**
 * The same for sshd, which must check again: a module may keep a login waiting while the person loses access,
 * and an account without a process is not found by the program that ends its processes. It is checked before
 * the other session modules, because pam_systemd starts the person's own units; and again after them, because
 * pam_loginuid has then made the login one that can be found.
 */
export function withClosedSessions(list: string, present = ''): string {
  const session = closedLines('session', list);
  const begin = [CLOSED_REMARK, ...closedLines('account', list), ...session];
  const others = otherLines(present).join('\n').replace(/\n*$/, '');
  return [...begin, others, CLOSED_REMARK, ...session, ''].join('\n');
}

/** The lines without ours, whatever list an earlier installation has named. */
function otherLines(present: string): string[] {
  const lines = present.split('\n');
  const isList = (line = ''): boolean =>
    /pam_listfile\.so .*file=\/var\/lib\/chamberlain\//.test(line);
  return lines.filter((line, at) => {
    if (line === CLOSED_REMARK || isList(line)) return false;
    const isOfList = isList(lines[at + 1]) || lines[at - 1] === CLOSED_REMARK;
    return !(isOfList && line.includes('pam_localuser.so'));
  });
}

const GROUP_SOURCE = /^\s*Set\s+group_source\b.*$/m;

/** sudo.conf with `Set group_source dynamic`; every other line stays. */
export function withGroupSource(present = ''): string {
  const should = 'Set group_source dynamic';
  if (GROUP_SOURCE.test(present)) return present.replaceAll(new RegExp(GROUP_SOURCE, 'gm'), should);
  const why = '# Chamberlain: the groups that the account has now, not those of the session.';
  return `${present}${present === '' || present.endsWith('\n') ? '' : '\n'}\n${why}\n${should}\n`;
}
