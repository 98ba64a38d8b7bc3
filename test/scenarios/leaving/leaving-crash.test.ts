/** The workers are killed while a subject leaves, at one place of each kind; leaving.long.test.ts has all of them. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { type Cuts, openCuts, OPTIONS, placesOf } from './leaving-cuts.ts';
import { type LeavingWorld, openLeavingWorld } from './leaving-world.ts';

let leaving: LeavingWorld;
let cuts: Cuts;

beforeAll(async () => {
  leaving = await openLeavingWorld('leaving-crash', OPTIONS);
  cuts = await openCuts(leaving);
});

afterAll(async () => {
  await cuts?.close();
  await leaving?.close();
});

/** The move, and at which of its actions: the first of that verb. */
test.each<[string, [verb: string, when: 'before' | 'after'][]]>([
  ['delete a tool', [['databases.drop', 'after']]],
  ['restore', [['databases.restore', 'after']]],
])(
  'killed in “%s”: other workers go on to the same end, and nothing is lost',
  async (name, places) => {
    const whole = await cuts.run(name);
    for (const [verb, when] of places) {
      const place = placesOf(whole).find((each) => each.verb === verb && each.when === when);
      expect([name, verb, place?.verb]).toEqual([name, verb, verb]);
      if (place !== undefined) await cuts.runCut(name, place, whole);
    }
  },
  120_000,
);
