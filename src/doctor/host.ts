/** Checks this host's own accounts, which must not collide with those of the realm. */
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
 * | a local name                            | result                                                  |
 * | --------------------------------------- | ------------------------------------------------------- |
 * | is also that of a person or tool        | fix, first: each can act as the other                   |
 * | could still be given to a person        | fix: reserve it                                         |
 * | is reserved, taken, or not a shell name | ok                                                      |
 *
 * | a local number                                      | result                                      |
 * | --------------------------------------------------- | ------------------------------------------- |
 * | is also that of an account of ours                  | fix, first: each owns the other's files     |
 * | is in a range (of a group: in a range of tools)     | fix: it will be given sooner or later       |
 * | of a group, is that of the realm group              | fix: its members see what people share      |
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
        `${name} is an account of the realm, and also a local account or group: urgent`,
        'Rename the local one: whoever logs in as one of them acts as the other.',
      ),
    );
  }
  for (const { name, id, is } of inRange) {
    const whose = given.get(id);
    lines.push(
      whose === undefined
        ? fix(
            `the local ${is} ${name} has the number ${id}, which is in a range of the configuration`,
            'Give it another number: a range that the realm has used cannot be made smaller.',
          )
        : fix(
            `the local ${is} ${name} has the number ${id}, which is also that of ${whose}: urgent`,
            'Give the local one another number: each owns the files of the other.',
          ),
    );
  }
  for (const { name } of local.filter(({ id, is }) => is === 'group' && id === realmGid)) {
    lines.push(
      fix(
        `the local group ${name} has the number ${realmGid}, which is that of the realm group`,
        'Give it another number.',
      ),
    );
  }
  const free = names.filter(isFree).filter((name) => !ofOurs.has(name));
  if (free.length > 0) {
    lines.push(
      fix(
        `a new person could get a name that is local here: ${free.join(', ')}`,
        `Add to \`reservedNames\` in the configuration: ${free.join(', ')}; or remove the local account or group.`,
      ),
    );
  }
  return lines.length > 0
    ? lines
    : [ok('no local account or group collides with one of the realm')];
}
