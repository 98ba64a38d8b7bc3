/** Each step that archives or restores a home is cut at every call that it makes. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';

test('a step that was cut anywhere is completed by the next run, and nothing is lost', () => {
  const program = join(import.meta.dirname, 'archive-cuts.ts');
  const { stdout, stderr } = spawnSync(process.execPath, [program], { encoding: 'utf8' });
  expect(stderr).toBe('');
  const lines = stdout
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as { verb: string; cuts: number; states: string[] });
  const whole = 'tools..1: home.tar.zst manifest.json';
  const state = (...parts: unknown[]) => JSON.stringify(parts);
  expect(lines.map(({ verb, states }) => [verb, states.toSorted()])).toEqual([
    ['home.withdraw', [state('no home', ['.1.left'], [whole], 1)]],
    ['home.archive', [state('no home', ['.1.left'], [whole], 1)]],
    ['home.return', [state('contents', [], [whole], 1)]],
    ['home.destroy', [state('no home', [], [whole], 1)]],
    ['home.destroy', [state('contents', [], [whole], 1)]],
    ['home.restore', [state('contents', [], [whole], 1)]],
    ['home.removeArchive', [state('no home', [], [], 1)]],
  ]);
  for (const { cuts } of lines) expect(cuts).toBeGreaterThanOrEqual(5);
}, 300_000);
