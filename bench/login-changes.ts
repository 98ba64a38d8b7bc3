/** Changes of keys in the directory, and how soon they are in the key files. */
import { readFileSync, watch } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { LoginRealm } from './login-realm.ts';
import { keyLine, personName } from './population-names.ts';

const TIMEOUT_MS = 30_000;
/** Between two changes, at most; the agent looks four times a second. */
const PAUSE_MS = 500;

export interface ChangeTimes {
  /** from the sending of the change until the file has it */
  wholeMs: number;
  /** of that, until the directory has answered */
  answerMs: number;
}

/** Changes a person's keys in the directory, and waits until the file has the last that was added. */
export async function changeKeys(
  realm: LoginRealm,
  person: string,
  change: { remove: string[]; add: string[] },
): Promise<ChangeTimes> {
  const file = join(realm.keysFolder, person);
  const key = change.add.at(-1) ?? '';
  const watcher = watch(realm.keysFolder);
  let timer: NodeJS.Timeout | undefined;
  const arrival = new Promise<number>((resolve, reject) => {
    watcher.on('change', (_, name) => {
      if (name === person && readFileSync(file, 'utf8').includes(key)) resolve(performance.now());
    });
    const late = () => reject(new Error(`the key of ${person} does not get into its file`));
    timer = setTimeout(late, TIMEOUT_MS);
  });
  arrival.catch(() => {});
  try {
    const begin = performance.now();
    await realm.changeKeys(person, change);
    const answerMs = performance.now() - begin;
    return { answerMs, wholeMs: (await arrival) - begin };
  } finally {
    clearTimeout(timer);
    watcher.close();
  }
}

/** Changes one person's key after another, at random times. The agent must run. */
export async function changeMany(
  realm: LoginRealm,
  { people, changes }: { people: number; changes: number },
): Promise<ChangeTimes[]> {
  const taken: ChangeTimes[] = [];
  for (let n = 0; n < changes; n++) {
    await sleep(Math.random() * PAUSE_MS);
    // from the end: the first people are needed for other things
    const person = people - 1 - n;
    const change = { remove: [keyLine(person)], add: [keyLine(people + person)] };
    taken.push(await changeKeys(realm, personName(person), change));
  }
  return taken;
}
