/** Every move of a subject that leaves, with the workers killed before and after each action of each role. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { type Cuts, MOVES, openCuts, OPTIONS, placesOf } from './leaving-cuts.ts';
import { type LeavingWorld, openLeavingWorld } from './leaving-world.ts';
import { inOrder } from '../in-order.ts';
import { settled } from '../outside.ts';

let leaving: LeavingWorld;
let cuts: Cuts;
const unlessFailed = inOrder();

beforeAll(async () => {
  leaving = await openLeavingWorld('leaving long', OPTIONS);
  cuts = await openCuts(leaving);
}, 60_000);

afterAll(async () => {
  await cuts?.close();
  await leaving?.close();
}, 60_000);

test.each(Object.keys(MOVES))(
  'killed at every action of “%s”: other workers go on to the same end',
  (name) => unlessFailed(name, () => killAtEach(name)),
  1_200_000, // for up to 34 trials of ten seconds, on a machine with other work; each wait has a limit of its own
);

async function killAtEach(name: string): Promise<void> {
  const whole = await cuts.run(name);
  const places = placesOf(whole);
  expect(places).not.toEqual([]);
  for (const place of places) {
    await cuts.runCut(name, place, whole).catch((error: unknown) => {
      throw new Error(`killed ${place.when} ${place.role} ${place.n}, ${place.verb}`, {
        cause: error,
      });
    });
  }
  process.stdout.write(`${name}: killed at ${places.length} places\n`);
  await settled(leaving.world);
  await expect(leaving.world.chamberlain('plan', '--all')).resolves.toContain('nothing to do');
  await leaving.world.chamberlain('audit', 'verify');
  expect(leaving.portal.disorder).toEqual([]);
}
