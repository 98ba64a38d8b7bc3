/** Looks at this host's own accounts: they and those of the realm must not get into each other's way. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Config } from '../shared/config.ts';
import { parseNewShellName } from '../identity/names.ts';
import { isReservedName } from '../identity/reserved-names.ts';
import { readLocalOverlap } from './health-queries.ts';
import type { Client } from '../database/connection.ts';
import { fix, type Line, ok } from './line.ts';

interface LocalName {
  name: string;
  id: number;
  is: 'account' | 'group';
}

/** The accounts and groups of passwd(5) and group(5) in a folder, by default `/etc`. */
export function readLocalNames(etc: string): LocalName[] {
  const read = (file: string, is: LocalName['is']) =>
    readFileSync(join(etc, file), 'utf8')
      .split('\n')
      // `+` and `-` are lines of NIS, not accounts
      .filter((line) => /^[^#+-][^:]*:/u.test(line))
      .map((line) => {
        const [name = '', , id] = line.split(':');
        return { name, id: Number(id), is };
      });
  return [...read('passwd', 'account'), ...read('group', 'group')];
}

/**
 * | a local name                        | so                                                      |
 * | ----------------------------------- | ------------------------------------------------------- |
 * | that a person or a tool of ours has | fix, first: one of the two acts as the other            |
 * | that a person could still be given  | fix: reserve it                                         |
 * | reserved, taken, or no shell name   | good                                                    |
 *
 * | a local number                      | so                                                      |
 * | ----------------------------------- | ------------------------------------------------------- |
 * | that an account of ours has         | fix, first: each owns the other's files                 |
 * | in a range (a group's: of tools)    | fix: sooner or later it is given                        |
 * | a group's, the realm group's        | fix: its members see what people share                  |
 */
export async function lookAtLocalAccounts(
  client: Client,
  config: Config,
  etc: string,
): Promise<Line[]> {
  const local = readLocalNames(etc);
  const { people, tools, realmGid } = config.ids;
  const { reservedNames } = config;
  const within = (id: number, ranges: readonly { first: number; last: number }[]) =>
    ranges.some(({ first, last }) => first <= id && id <= last);
  const inRange = local.filter(({ id, is }) =>
    is === 'group' ? within(id, tools) : within(id, [...people, ...tools]),
  );
  const names = [...new Set(local.map(({ name }) => name))];
  const overlap = await readLocalOverlap(
    client,
    names,
    inRange.map(({ id }) => id),
  );
  const given = new Map(overlap.numbers.map(({ id, account }) => [id, account]));
  const ofOurs = new Set(overlap.ours);
  const taken = new Set(overlap.taken);
  const isFree = (name: string) =>
    parseNewShellName(name) !== undefined &&
    !isReservedName(name, reservedNames) &&
    !taken.has(name);

  const lines: Line[] = [];
  for (const name of names.filter((each) => ofOurs.has(each))) {
    lines.push(
      fix(
        `${name} is an account of ours, and a local account or group here too: urgent`,
        'Rename the local one: who logs in as one of them acts as the other.',
      ),
    );
  }
  for (const { name, id, is } of inRange) {
    const whose = given.get(id);
    lines.push(
      whose === undefined
        ? fix(
            `the local ${is} ${name} has ${id}, which is in a range of the configuration`,
            'Give it another number, or begin the range after it.',
          )
        : fix(
            `the local ${is} ${name} has ${id}, which is ${whose}'s: urgent`,
            'Give the local one another number: each owns the files of the other.',
          ),
    );
  }
  for (const { name } of local.filter(({ id, is }) => is === 'group' && id === realmGid)) {
    lines.push(
      fix(
        `the local group ${name} has ${realmGid}, as the realm group`,
        'Give it another number, or set `ids.realmGid`.',
      ),
    );
  }
  const free = names.filter(isFree).filter((name) => !ofOurs.has(name));
  if (free.length > 0) {
    lines.push(
      fix(
        `a person could be given the local name ${free.join(', ')}`,
        `Add to \`reservedNames\` of the configuration: ${free.join(', ')}; or remove the local account or group.`,
      ),
    );
  }
  return lines.length > 0
    ? lines
    : [ok('no local account or group can be taken for one of the realm')];
}
