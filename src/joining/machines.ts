/** The list of machines that run roles: the setting `machines` of the configuration, and nothing else in it. */
import { readFileSync, statSync, utimesSync } from 'node:fs';
import { parseDocument } from 'yaml';
import { checkConfig, type RoleMachine } from '../shared/config.ts';
import { replaceFile } from '../shared/durable-file.ts';
import { doing } from '../shared/errors.ts';

/**
 * Adds a machine to the configuration in that file, in place of one of the same name; comments stay. Without `machine`,
 * removes it.
 */
export async function writeMachine(
  path: string,
  name: string,
  machine?: RoleMachine,
): Promise<void> {
  await doing('STEP_FAILED', `writing ${path}`, () => {
    const document = parseDocument(readFileSync(path, 'utf8'));
    const { machines } = checkConfig(document.toJS(), `reading the configuration ${path}`);
    const others = machines.filter((each) => each.name !== name);
    const list = machine === undefined ? others : [...others, machine];
    if (list.length === 0) document.delete('machines');
    else document.set('machines', document.createNode(list));
    checkConfig(document.toJS(), `changing the configuration ${path}`);
    const { mode, uid, gid, atime, mtime } = statSync(path);
    const text = document.toString({ lineWidth: 0 });
    replaceFile(path, text, { mode: mode & 0o7777, uid, gid }, true);
    // no worker reads this setting: `setup` must not restart them for it
    utimesSync(path, atime, mtime);
    return Promise.resolve();
  });
}
