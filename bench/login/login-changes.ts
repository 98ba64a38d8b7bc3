/** Changes in the directory, and how soon they are in the files of a login host. */
import { readFileSync, watch } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { LoginRealm } from './login-realm.ts';
import { keyLine, maintainersOf, personName, toolName } from '../population/population-names.ts';

const TIMEOUT_MS = 30_000;
/** The longest pause between two changes; the agent looks four times a second. */
const PAUSE_MS = 500;

export interface ChangeTimes {
  /** from sending the change until the renamed file has it */
  wholeMs: number;
  /** of that, until the directory has answered */
  answerMs: number;
}

/** Gives a person these keys and no others, and waits until their file has the last. */
export function changeKeys(
  realm: LoginRealm,
  person: number,
  keys: readonly string[],
): Promise<ChangeTimes> {
  const name = personName(person);
  const last = keys.at(-1) ?? '';
  return timeChange(
    () => realm.changeKeys(person, keys),
    { folder: realm.places.keys, name, shows: (text) => text.includes(last) },
    `the key of ${name}`,
  );
}

/** Makes a person a member of a tool, and waits until the list of groups says so. */
function addMember(realm: LoginRealm, tool: number, person: number): Promise<ChangeTimes> {
  const member = personName(person);
  const start = `\n${realm.realm}.${toolName(tool)}:`;
  const shows = (text: string) => {
    const at = text.indexOf(start);
    const line = text.slice(at + 1, text.indexOf('\n', at + 1));
    return at !== -1 && line.split(/[:,]/).includes(member);
  };
  return timeChange(
    () => realm.addMember(tool, person),
    { folder: realm.places.extrausers, name: 'group', shows },
    `${member} as a member of ${toolName(tool)}`,
  );
}

async function timeChange(
  change: () => Promise<void>,
  file: { folder: string; name: string; shows: (text: string) => boolean },
  what: string,
): Promise<ChangeTimes> {
  const path = join(file.folder, file.name);
  const watcher = watch(file.folder);
  let timer: NodeJS.Timeout | undefined;
  const arrival = new Promise<number>((resolve, reject) => {
    watcher.on('change', (_, name) => {
      const seenAt = performance.now();
      if (name === file.name && file.shows(readFileSync(path, 'utf8'))) resolve(seenAt);
    });
    timer = setTimeout(() => reject(new Error(`${what} does not appear in ${path}`)), TIMEOUT_MS);
  });
  arrival.catch(() => {});
  try {
    const begin = performance.now();
    await change();
    const answerMs = performance.now() - begin;
    return { answerMs, wholeMs: (await arrival) - begin };
  } finally {
    clearTimeout(timer);
    watcher.close();
  }
}

/**
 * Changes keys and members of tools alternately, of another person or tool each time, at random times. The host
 * must be running.
 */
export async function changeMany(
  realm: LoginRealm,
  { people, tools, changes }: { people: number; tools: number; changes: number },
): Promise<Record<'keys' | 'groups', ChangeTimes[]>> {
  const taken: Record<'keys' | 'groups', ChangeTimes[]> = { keys: [], groups: [] };
  for (let n = 0; n < changes; n++) {
    // from the end: the first people and tools are needed for other measurements
    const [person, tool] = [people - 1 - n, tools - 1 - n];
    await sleep(Math.random() * PAUSE_MS);
    taken.keys.push(await changeKeys(realm, person, [keyLine(people + person)]));
    await sleep(Math.random() * PAUSE_MS);
    const members = maintainersOf(tool, { people });
    const others = members.map((_, k) => person - changes * (k + 1));
    const member = [person, ...others].find((each) => !members.includes(each)) ?? person;
    taken.groups.push(await addMember(realm, tool, member));
  }
  return taken;
}
