/** A V8 CPU profile, told by package and file. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

interface CpuProfile {
  nodes: { id: number; callFrame: { functionName: string; url: string }; children?: number[] }[];
  samples: number[];
  /** microseconds since the sample before */
  timeDeltas: number[];
}

/** Reads the newest profile of a folder, and lists who had the processor, the busiest first. */
export function renderProfile(folder: string, most = 25): string {
  const file = readdirSync(folder)
    .filter((name) => name.endsWith('.cpuprofile'))
    .sort()
    .at(-1);
  if (file === undefined) return `no profile in ${folder}`;
  const profile = JSON.parse(readFileSync(join(folder, file), 'utf8')) as CpuProfile;
  const frames = new Map(profile.nodes.map(({ id, callFrame }) => [id, callFrame]));
  const byPlace = new Map<string, number>();
  const byFunction = new Map<string, number>();
  let busy = 0;
  for (const [index, id] of profile.samples.entries()) {
    const frame = frames.get(id);
    const ms = (profile.timeDeltas[index] ?? 0) / 1000;
    if (frame === undefined || frame.functionName === '(idle)') continue;
    busy += ms;
    const place = placeOf(frame);
    byPlace.set(place, (byPlace.get(place) ?? 0) + ms);
    const name = `${frame.functionName || '(anonymous)'}  ${fileOf(frame)}`;
    byFunction.set(name, (byFunction.get(name) ?? 0) + ms);
  }
  const list = (title: string, entries: Map<string, number>) => [
    title,
    ...[...entries]
      .sort(([, a], [, b]) => b - a)
      .slice(0, most)
      .map(([name, ms]) => `${ms.toFixed(0).padStart(8)}${((100 * ms) / busy).toFixed(1).padStart(6)} %  ${name}`),
  ];
  return [
    `chamberlain work had the processor for ${(busy / 1000).toFixed(1)} s (ms, own time):`,
    ...list('  by package or file', byPlace),
    ...list('  by function', byFunction),
  ].join('\n');
}

function placeOf({ url, functionName }: { url: string; functionName: string }): string {
  if (url === '') return functionName.startsWith('(') ? functionName : '(native code)';
  const inPackage = /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(url)?.[1];
  return inPackage ?? fileOf({ url });
}

function fileOf({ url }: { url: string }): string {
  return url.replace(/^file:\/\//, '').replace(`${join(import.meta.dirname, '..')}/`, '');
}
