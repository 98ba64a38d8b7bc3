/**
 * The files that say who has an account here: passwd, group and shadow of libnss-extrausers, the rules of sudo,
 * and, for PAM, the names of accounts that may run nothing. Each is made of what the registry knows, and
 * replaced by rename if its content changes.
 *
 * | file    | a line                                      | for                                                       |
 * | ------- | ------------------------------------------- | --------------------------------------------------------- |
 * | passwd  | `name:*:uid:gid:gecos:home:shell`           | people (the realm's gid) and tools (their own)            |
 * | shadow  | `name:*:::::::`                             | the same                                                  |
 * | group   | `project-<realm>:*:gid:`                    | the realm                                                 |
 * |         | `tool:*:gid:alice,tools.other`              | tools; without members if their seal does not count       |
 * | sudoers | `%tool ALL=(tool) NOPASSWD: ALL`            | active tools                                              |
 * | closed  | `name`                                      | accounts whose processes end                              |
 *
 * With `x` in the second field of passwd, pam_unix(8) would ask shadow whether an account has expired; with `*`
 * it does not. Only accounts that exist here by a seal are members: no local user gets into a tool's group.
 */
import { createHash } from 'node:crypto';
import { lstatSync } from 'node:fs';
import { join } from 'node:path';
import { runProgram } from '../../shared/run-programs.ts';
import { toolOf } from '../account-names.ts';
import type { LoginHostConfig } from '../config.ts';
import type { LocalAccounts } from './local-accounts.ts';
import type { Places } from '../places.ts';
import type { ListName, Registry } from './registry/registry.ts';
import { moveInto, removeFile, writeNew, type FileRights } from '../../shared/durable-file.ts';
import { CLOSED_FILE } from '../status.ts';
import type { Subject } from './registry/subject.ts';
import type { Troubles } from './troubles.ts';

const VISUDO = '/usr/sbin/visudo';
const VISUDO_TIMEOUT_MS = 10_000;
const PIECE_LENGTH = 65_536;

/** Lists that take something away come first. */
const ORDER: ListName[] = ['closed', 'sudoers', 'group', 'passwd', 'shadow'];

export interface ListFiles {
  /** Writes these lists anew. A list that cannot be written is named, and its old file stays. */
  write(lists: ReadonlySet<ListName>): Promise<void>;
  /** Which lists could not be written, or differ from what was written. */
  check(): Set<ListName>;
}

interface ListFile extends FileRights {
  path: string;
  lines(): Iterable<string>;
  /** as it was written */
  digest?: string;
  identity?: string;
}

/** What lists are made of. */
interface ListSource extends Pick<LoginHostConfig, 'realm' | 'realmGid' | 'homes'> {
  readonly registry: Registry;
  readonly local: () => LocalAccounts;
  /** all subjects in the order of their numbers */
  ordered: Subject[];
}

export function openListFiles(
  { realm, realmGid, homes }: Pick<LoginHostConfig, 'realm' | 'realmGid' | 'homes'>,
  places: Places,
  registry: Registry,
  local: () => LocalAccounts,
  troubles: Troubles,
): ListFiles {
  const of: ListSource = { realm, realmGid, homes, registry, local, ordered: [] };
  const extra = (name: string) => join(places.extrausers, name);
  const files: Record<ListName, ListFile> = {
    closed: {
      ...{ path: join(places.login, CLOSED_FILE), mode: 0o644 },
      lines: () => closedLines(of),
    },
    sudoers: { path: places.sudoers, lines: () => sudoersLines(of), mode: 0o440 },
    group: { path: extra('group'), lines: () => groupLines(of), mode: 0o644 },
    passwd: { path: extra('passwd'), lines: () => passwdLines(of), mode: 0o644 },
    shadow: {
      ...{ path: extra('shadow'), lines: () => shadowLines(of), mode: 0o640 },
      get gid() {
        return local().groups.get('shadow') ?? 0;
      },
    },
  };
  return {
    async write(lists) {
      for (const list of ORDER) {
        if (!lists.has(list)) continue;
        const file = files[list];
        try {
          await write(list, file);
          troubles.remove(file.path);
        } catch (error) {
          troubles.add(file.path, error);
          delete file.identity;
        }
      }
    },
    check() {
      return new Set(ORDER.filter((list) => identify(files[list].path) !== files[list].identity));
    },
  };
}

function* passwdLines(of: ListSource): Generator<string> {
  const { realm, realmGid, homes } = of;
  for (const { isPerson, name, uid, gecos, shell } of shownSubjects(of)) {
    const gid = isPerson ? realmGid : uid;
    const home = isPerson ? `${homes.people}/${name}` : `${homes.tools}/${toolOf(name, realm)}`;
    yield `${name}:*:${uid}:${gid}:${gecos}:${home}:${shell}\n`;
  }
}

function* shadowLines(of: ListSource): Generator<string> {
  for (const { name } of shownSubjects(of)) yield `${name}:*:::::::\n`;
}

function* groupLines(of: ListSource): Generator<string> {
  const { realm, realmGid, local } = of;
  const { groups, gids } = local();
  const realmGroup = `project-${realm}`;
  if (!groups.has(realmGroup) && !gids.has(realmGid)) yield `${realmGroup}:*:${realmGid}:\n`;
  for (const { isPerson, isInForce, name, uid, list } of shownSubjects(of)) {
    if (isPerson) continue;
    const members =
      isInForce && list !== '' ? list.split(',').filter((member) => isShown(of, member)) : [];
    yield `${name}:*:${uid}:${members.join(',')}\n`;
  }
}

function* sudoersLines({ registry }: ListSource): Generator<string> {
  const names: string[] = [];
  for (const { isPerson, isInForce, isActive, name } of registry.byUid.values()) {
    if (!isPerson && isInForce && isActive) names.push(name);
  }
  for (const name of names.sort()) yield `%${name} ALL=(${name}) NOPASSWD: ALL\n`;
}

function* closedLines({ registry }: ListSource): Generator<string> {
  const names: string[] = [];
  for (const { isClosed, name } of registry.byUid.values()) {
    // another account may have the name of one that is gone
    if (isClosed && registry.byName.get(name)?.isClosed !== false) names.push(name);
  }
  for (const name of names.sort()) yield `${name}\n`;
}

/** In the order of their numbers, so that the same subjects give the same text. */
function* shownSubjects(of: ListSource): Generator<Subject> {
  const { registry } = of;
  const { size } = registry.byUid;
  if (of.ordered.length !== size) {
    of.ordered = [...registry.byUid.values()].sort((a, b) => a.uid - b.uid);
  }
  for (const subject of of.ordered) if (subject.isShown) yield subject;
}

function isShown({ registry }: ListSource, name: string): boolean {
  return registry.byName.get(name)?.isShown === true;
}

async function write(list: ListName, file: ListFile): Promise<void> {
  const hash = createHash('sha256');
  const temporary = `${file.path}.new`; // sudo reads no file with a dot in its name
  writeNew(temporary, inPieces(file.lines(), hash), file);
  const digest = hash.digest('hex');
  if (digest === file.digest && identify(file.path) === file.identity) {
    removeFile(temporary);
    return;
  }
  try {
    if (list === 'sudoers') await checkSudoers(temporary);
  } catch (error) {
    removeFile(temporary);
    throw error;
  }
  moveInto(temporary, file.path);
  file.digest = digest;
  file.identity = identify(file.path);
}

function* inPieces(
  lines: Iterable<string>,
  hash: ReturnType<typeof createHash>,
): Generator<string> {
  let piece = '';
  for (const line of lines) {
    piece += line;
    if (piece.length < PIECE_LENGTH) continue;
    hash.update(piece);
    yield piece;
    piece = '';
  }
  hash.update(piece);
  yield piece;
}

/** A file that replaces another at the same path, or that was changed, has another identity. */
function identify(path: string): string {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  return stat === undefined ? 'none' : `${stat.ino} ${stat.ctimeMs} ${stat.size}`;
}

/** Throws with the message of visudo(8) if sudo would not accept the file. */
async function checkSudoers(path: string): Promise<void> {
  const { code, err } = await runProgram(VISUDO, ['--check', '--file', path], {
    env: {},
    timeoutMs: VISUDO_TIMEOUT_MS,
  });
  if (code === 0) return;
  const [first = ''] = err.split('\n');
  throw new Error(`visudo does not accept it: ${first || 'it did not end in time'}`);
}
