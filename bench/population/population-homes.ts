/** Fills the areas with homes and credentials files, by a plain loop in a thread of its own. */
import {
  chmodSync,
  chownSync,
  closeSync,
  copyFileSync,
  fchmodSync,
  fchownSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  writeSync,
} from 'node:fs';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { renderCredentialsFile } from '../../src/credentials/credentials.ts';
import type { Population } from './population.ts';
import { PASSWORD, PEOPLE_FIRST, personName, toolName, TOOLS_FIRST } from './population-names.ts';
import type { MeasuredRealm } from '../realm.ts';

interface Task extends Population {
  realmGid: number;
  toolArea: string;
  personArea: string;
  skel: string;
}

export async function fillHomes({ config }: MeasuredRealm, population: Population): Promise<void> {
  const { root, toolHomes, personHomes, skel } = config.files;
  const { realmGid } = config.ids;
  const task: Task = {
    ...population,
    realmGid,
    toolArea: root + toolHomes,
    personArea: root + personHomes,
    skel,
  };
  const thread = new Worker(new URL(import.meta.url), { workerData: task });
  await new Promise((resolve, reject) => {
    thread.once('message', resolve);
    thread.once('error', reject);
  });
}

if (!isMainThread) {
  const task = workerData as Task;
  const skeleton = readdirSync(task.skel, { withFileTypes: true }).filter((entry) =>
    entry.isFile(),
  );
  for (let n = 0; n < task.tools; n++) {
    const uid = TOOLS_FIRST + n;
    const folders = ['/public_html', '/logs'];
    make(task.toolArea, { name: toolName(n), uid, gid: uid, user: 's', mode: 0o2775, folders });
  }
  for (let n = 0; n < task.people; n++) {
    const uid = PEOPLE_FIRST + n;
    const gid = task.realmGid;
    make(task.personArea, { name: personName(n), uid, gid, user: 'u', mode: 0o700, folders: [] });
    for (const { name } of skeleton) {
      const copy = `${task.personArea}/${personName(n)}/${name}`;
      copyFileSync(`${task.skel}/${name}`, copy);
      chownSync(copy, uid, gid);
    }
  }
  parentPort?.postMessage('done');
}

/** Created in the staging folder, whose default ACL it inherits, and renamed to its place. */
function make(
  area: string,
  home: {
    name: string;
    uid: number;
    gid: number;
    user: 's' | 'u';
    mode: number;
    folders: readonly string[];
  },
): void {
  const { name, uid, gid, user, mode, folders } = home;
  const staged = `${area}/.chamberlain/${name}.home`;
  for (const folder of ['', ...folders]) {
    mkdirSync(staged + folder, 0o700);
    chownSync(staged + folder, uid, gid);
    chmodSync(staged + folder, mode);
  }
  const file = openSync(`${staged}/replica.my.cnf`, 'wx', 0o600);
  writeSync(file, renderCredentialsFile(`${user}${uid}`, PASSWORD));
  fchownSync(file, uid, uid);
  fchmodSync(file, 0o440);
  closeSync(file);
  renameSync(staged, `${area}/${name}`);
}
