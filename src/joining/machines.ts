/** The list of machines that run roles: the setting `machines` of the configuration, and nothing else in it. */
import { readFileSync, statSync, utimesSync } from 'node:fs';
import { isMap, isScalar, parse, parseDocument, type ParsedNode, stringify } from 'yaml';
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
    const present = readFileSync(path, 'utf8');
    const { machines } = checkConfig(parse(present), `reading the configuration ${path}`);
    const others = machines.filter((each) => each.name !== name);
    const text = withMachines(present, machine === undefined ? others : [...others, machine]);
    checkConfig(parse(text), `changing the configuration ${path}`);
    const { mode, uid, gid, atime, mtime } = statSync(path);
    replaceFile(path, text, { mode: mode & 0o7777, uid, gid }, true);
    // no worker reads this setting: `setup` must not restart them for it
    utimesSync(path, atime, mtime);
    return Promise.resolve();
  });
}

/** Every other line stays as it is, unless the whole text is one list in braces. */
function withMachines(text: string, machines: readonly RoleMachine[]): string {
  const document = parseDocument(text);
  const { contents } = document;
  if (!isMap(contents) || contents.flow === true) {
    document.set('machines', machines);
    return document.toString();
  }
  const lines = machines.length === 0 ? '' : stringify({ machines }, { lineWidth: 0 });
  const pair = contents.items.find(({ key }) => isScalar(key) && key.value === 'machines');
  if (pair === undefined) return `${text.replace(/\n?$/u, '\n')}${lines}`;
  const { key, value } = pair as { key: ParsedNode; value: ParsedNode };
  const [, end] = value.range;
  const next = text[end - 1] === '\n' ? end : text.indexOf('\n', end) + 1 || text.length;
  return text.slice(0, key.range[0]) + lines + text.slice(next);
}
