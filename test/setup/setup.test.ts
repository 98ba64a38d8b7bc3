/** The engine of `chamberlain setup`: order, interruptions, and that a survey changes nothing. No servers. */
import { describe, expect, test } from '@jest/globals';
import { renderDifferences, renderPlan } from '../../src/setup/render-setup.ts';
import { carryOut, carryOutEach, type Piece, survey, takeAway } from '../../src/setup/setup.ts';

const quiet = (): void => {};

/** Pieces that stand in a list once they are made; each needs the one before. */
function chain(names: readonly string[], there = new Set<string>()) {
  const acts: string[] = [];
  const pieces: Piece[] = [];
  for (const name of names) {
    const before = pieces.at(-1);
    pieces.push({
      ...{ name, does: `adds ${name}` },
      ...(before === undefined ? {} : { needs: [before] }),
      check() {
        acts.push(`check ${name}`);
        if (before !== undefined && !there.has(before.name)) throw new Error(`no ${before.name}`);
        return there.has(name) ? undefined : 'is missing';
      },
      make() {
        acts.push(`make ${name}`);
        there.add(name);
      },
      remove: () => Promise.resolve(there.delete(name) ? name : undefined),
    });
  }
  return { pieces, there, acts };
}

describe('a survey', () => {
  test('names what differs, and what waits for that, and changes nothing', async () => {
    const { pieces, there, acts } = chain(['a', 'b', 'c'], new Set(['a']));
    const found = await survey(pieces, quiet);
    expect(found.map(({ piece, differs }) => `${piece.name} ${differs}`)).toEqual([
      'b is missing',
      'c must wait for b',
    ]);
    expect([...there]).toEqual(['a']);
    expect(acts).toEqual(['check a', 'check b']);
  });

  test('is shown with every piece, or with what differs by itself', async () => {
    const { pieces } = chain(['a', 'b', 'c'], new Set(['a']));
    const found = await survey(pieces, quiet);
    const how = new Map(found.map((each) => [each.piece, each]));
    expect(renderPlan(pieces, how)).toBe(
      'ok    a\nmake  b is missing\n      adds b\nmake  c must wait for b\n      adds c\n2 of 3 pieces would be made',
    );
    expect(renderDifferences(found)).toBe('b is missing\npieces that must wait for that: 1');
    expect(renderDifferences([])).toBe('everything is as it must be');
  });

  test('finds nothing after everything was made', async () => {
    const { pieces } = chain(['a', 'b']);
    await carryOut(pieces, quiet, quiet);
    expect(await survey(pieces, quiet)).toEqual([]);
  });

  test('says which check has failed', async () => {
    const check = (): never => {
      throw new Error('no answer');
    };
    const piece: Piece = { name: 'a', does: 'nothing', check, make: quiet };
    await expect(survey([piece], quiet)).rejects.toMatchObject({
      ...{ code: 'STEP_FAILED', message: 'checking a', cause: new Error('no answer') },
    });
  });
});

describe('a run', () => {
  test('makes what differs, in order, each once, and says how it differed', async () => {
    const { pieces, acts } = chain(['a', 'b', 'c'], new Set(['b']));
    const made: string[] = [];
    await carryOut(
      pieces,
      quiet,
      ({ piece, differs }) => void made.push(`${piece.name} ${differs}`),
    );
    expect(made).toEqual(['a is missing', 'c is missing']);
    expect(acts.filter((act) => act.startsWith('make'))).toEqual(['make a', 'make c']);
  });

  test.each(['a', 'b', 'c'])('that is interrupted in %s is finished by the next', async (name) => {
    const { pieces, there, acts } = chain(['a', 'b', 'c']);
    const interrupted = pieces.map((piece) =>
      piece.name === name
        ? { ...piece, make: () => Promise.reject(new Error('interrupted')) }
        : piece,
    );
    await expect(carryOut(interrupted, quiet, quiet)).rejects.toMatchObject({
      ...{ code: 'STEP_FAILED', message: `making ${name}` },
    });
    await carryOut(pieces, quiet, quiet);
    expect([...there]).toEqual(['a', 'b', 'c']);
    expect(acts.filter((act) => act.startsWith('make'))).toEqual(['make a', 'make b', 'make c']);
  });

  test('ends at a piece that still differs after it was made', async () => {
    const { pieces, there } = chain(['a', 'b']);
    const [first, second] = pieces as [Piece, Piece];
    const run = carryOut([{ ...first, make: quiet }, second], quiet, quiet);
    await expect(run).rejects.toMatchObject({
      ...{ code: 'STEP_FAILED', message: 'setup has tried, but a is missing' },
    });
    expect([...there]).toEqual([]);
  });
});

test('a run that tries each piece leaves out only what needs one that failed, and names all failures', async () => {
  const { pieces, there } = chain(['a', 'b', 'c']);
  const away = (name: string): Piece => ({
    ...{ name, does: 'nothing', check: () => 'is old' },
    make: () => Promise.reject(new Error(`${name} is away`)),
  });
  const [first, second, third] = pieces as [Piece, Piece, Piece];
  const x = away('x');
  const all = [first, x, { ...third, name: 'd', needs: [x] }, second, third];
  await expect(carryOutEach([...all, away('y')], quiet, quiet)).rejects.toMatchObject({
    ...{ code: 'STEP_FAILED', message: 'making x: x is away; making y: y is away' },
  });
  expect([...there]).toEqual(['a', 'b', 'c']);
  await expect(carryOutEach(all, quiet, quiet)).rejects.toMatchObject({
    ...{ message: 'making x', cause: new Error('x is away') },
  });
  await carryOutEach(pieces, quiet, quiet);
});

test('what is taken away goes in the opposite order, and is named', async () => {
  const { pieces, there } = chain(['a', 'b', 'c'], new Set(['a', 'c']));
  const removed: string[] = [];
  await takeAway(pieces, quiet, (what) => void removed.push(what));
  expect(removed).toEqual(['c', 'a']);
  expect([...there]).toEqual([]);
});
