/**
 * A V8 CPU profile, shown in three ways: by the function that had the processor, by the package, and by our own
 * file on whose behalf it ran.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

interface Frame {
  functionName: string;
  url: string;
}
interface CpuProfile {
  nodes: { id: number; callFrame: Frame; children?: number[] }[];
  samples: number[];
  /** microseconds since the previous sample */
  timeDeltas: number[];
}

const PROJECT = `${join(import.meta.dirname, '../..')}/`;
const MOST_NAMES = 25;

/**
 * Reads the newest profile of a folder, and lists who had the processor, the busiest first.
 *
 * @param what.program the program of the profile
 * @param what.clone the path of the project as that program saw it
 */
export function renderProfile(
  folder: string,
  { program, clone = PROJECT }: { program: string; clone?: string },
): string {
  const file = readdirSync(folder)
    .filter((name) => name.endsWith('.cpuprofile'))
    .sort()
    .at(-1);
  if (file === undefined) return `there is no profile in ${folder}`;
  const profile = JSON.parse(readFileSync(join(folder, file), 'utf8')) as CpuProfile;
  const fileOf = ({ url }: Pick<Frame, 'url'>): string | undefined => {
    const path = url.replace(/^file:\/\//, '');
    return path.startsWith(clone) && !path.includes('/node_modules/')
      ? path.slice(clone.length)
      : undefined;
  };
  const packageOf = ({ url }: Frame): string | undefined =>
    /.*node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(url)?.[1] ?? fileOf({ url });
  const stacks = stacksOf(profile);
  const lists = {
    'by package, with what it called in Node': new Map<string, number>(),
    'by our file, with all that it called': new Map<string, number>(),
    'by function, own time': new Map<string, number>(),
  };
  let busy = 0;
  for (const [index, id] of profile.samples.entries()) {
    const stack = stacks(id);
    const [own] = stack;
    const ms = (profile.timeDeltas[index] ?? 0) / 1000;
    if (own === undefined || own.functionName === '(idle)') continue;
    busy += ms;
    const names = [
      first(stack, packageOf) ?? ownOr(own, '(Node alone)'),
      first(stack, fileOf) ?? ownOr(own, '(no file of ours: replies taken in, timers)'),
      `${own.functionName || '(anonymous)'}  ${packageOf(own) ?? fileOf(own) ?? ''}`,
    ];
    for (const [list, name] of Object.values(lists).map(
      (each, n) => [each, names[n] ?? ''] as const,
    )) {
      list.set(name, (list.get(name) ?? 0) + ms);
    }
  }
  return [
    `${program} had the processor for ${(busy / 1000).toFixed(1)} s (ms):`,
    ...Object.entries(lists).flatMap(([title, entries]) => [
      `  ${title}`,
      ...[...entries]
        .sort(([, a], [, b]) => b - a)
        .slice(0, MOST_NAMES)
        .map(([name, ms]) => {
          const share = ((100 * ms) / busy).toFixed(1);
          return `${ms.toFixed(0).padStart(8)}${share.padStart(6)} %  ${name}`;
        }),
    ]),
  ].join('\n');
}

/** The frames of a node, innermost first; cached, because there are few nodes and many samples. */
function stacksOf({ nodes }: CpuProfile): (id: number) => Frame[] {
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const parents = new Map(
    nodes.flatMap(({ id, children = [] }) => children.map((child) => [child, id] as const)),
  );
  const known = new Map<number, Frame[]>();
  return (id) => {
    let stack = known.get(id);
    if (stack === undefined) {
      stack = [];
      for (let at: number | undefined = id; at !== undefined; at = parents.get(at)) {
        const frame = byId.get(at)?.callFrame;
        if (frame !== undefined) stack.push(frame);
      }
      known.set(id, stack);
    }
    return stack;
  };
}

function first(
  stack: readonly Frame[],
  name: (frame: Frame) => string | undefined,
): string | undefined {
  for (const frame of stack) {
    const found = name(frame);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** V8's own work, such as `(garbage collector)`, is not attributed to anything else. */
function ownOr({ functionName }: Frame, otherwise: string): string {
  return functionName.startsWith('(') ? functionName : otherwise;
}
