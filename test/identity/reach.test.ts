/** Who can become which account, through which chain, and what stops it. */
import { expect, test } from '@jest/globals';
import { type ReachGraph, type Way, waysFrom, waysInto } from '../../src/identity/reach.ts';

/** `a: b c` is the tool a with the maintainers b and c. Capital letters are tools. */
function graphOf(tools: Record<string, string>, stops: Record<string, string> = {}): ReachGraph {
  const accounts = [
    ...new Set(Object.entries(tools).flatMap(([tool, by]) => [tool, ...by.split(' ')])),
  ].filter((each) => each !== '');
  const uidOf = (account: string) => accounts.indexOf(account) + 1;
  return {
    nodes: new Map(
      accounts.map((account) => [
        uidOf(account),
        {
          uid: uidOf(account),
          account,
          kind: account === account.toUpperCase() ? ('tool' as const) : ('person' as const),
          stops: stops[account] === undefined ? [] : [stops[account]],
        },
      ]),
    ),
    maintainers: new Map(
      Object.entries(tools).map(([tool, by]) => [
        uidOf(tool),
        by
          .split(' ')
          .filter((each) => each !== '')
          .map(uidOf),
      ]),
    ),
  };
}

const shown = (graph: ReachGraph, ways: Way[]) =>
  ways.map(({ path, stops }) => {
    const accounts = path.map((uid) => graph.nodes.get(uid)?.account).join('→');
    return stops.length === 0 ? accounts : `${accounts} (${stops.join(', ')})`;
  });
const uidOf = (graph: ReachGraph, account: string) =>
  [...graph.nodes.values()].find((node) => node.account === account)?.uid ?? 0;
const into = (graph: ReachGraph, account: string) =>
  shown(graph, waysInto(graph, uidOf(graph, account)));
const from = (graph: ReachGraph, account: string) =>
  shown(graph, waysFrom(graph, uidOf(graph, account)));

test('people reach a tool directly, through a tool, and through a tool of a tool', () => {
  const graph = graphOf({ A: 'alice B', B: 'bob C', C: 'carol' });
  expect(into(graph, 'A')).toEqual(['bob→B→A', 'carol→C→B→A', 'alice→A'].toSorted(byEnd));
  expect(into(graph, 'C')).toEqual(['carol→C']);
  expect(from(graph, 'carol')).toEqual(['carol→C→B→A', 'carol→C→B', 'carol→C']);
  expect(from(graph, 'B')).toEqual(['B→A']);
});

test('a cycle is not a way, and the search ends', () => {
  const graph = graphOf({ A: 'B alice', B: 'C', C: 'A bob' });
  expect(into(graph, 'A')).toEqual(['bob→C→B→A', 'alice→A']);
  expect(into(graph, 'B')).toEqual(['bob→C→B', 'alice→A→C→B']);
  expect(from(graph, 'alice')).toEqual(['alice→A', 'alice→A→C→B', 'alice→A→C']);
});

test('each direct maintainer counts separately: removing one leaves the other way', () => {
  expect(into(graphOf({ A: 'alice B', B: 'alice' }), 'A')).toEqual(['alice→B→A', 'alice→A']);
});

test('an open way comes before a shorter closed one, and a closed way says what stops it', () => {
  const tools = { A: 'B', B: 'C D alice', C: 'alice', D: 'carol' };
  const closed = graphOf(
    { A: 'B', B: 'C E', C: 'alice', E: 'F', F: 'alice' },
    { C: 'C is disabled' },
  );
  expect(into(closed, 'A')).toEqual(['alice→F→E→B→A']);
  expect(into(graphOf(tools, { D: 'D is disabled' }), 'A')).toEqual([
    'alice→B→A',
    'carol→D→B→A (D is disabled)',
  ]);
  expect(into(graphOf(tools, { alice: 'alice is suspended' }), 'C')).toEqual([
    'alice→C (alice is suspended)',
  ]);
  expect(into(graphOf(tools, { A: 'A is disabled' }), 'A')).toEqual([
    'alice→B→A (A is disabled)',
    'carol→D→B→A (A is disabled)',
  ]);
});

test('a dense realm of cycles is searched quickly', () => {
  const names = Array.from({ length: 200 }, (_, n) => `T${n}`);
  const graph = graphOf(
    Object.fromEntries(
      names.map((name) => [name, [...names.filter((e) => e !== name), 'alice'].join(' ')]),
    ),
  );
  const begin = process.cpuUsage();
  expect(waysInto(graph, 1)).toHaveLength(200);
  expect(process.cpuUsage(begin).user / 1000).toBeLessThan(5000);
});

/** Direct maintainers are sorted by name: capital letters first. */
function byEnd(a: string, b: string): number {
  const direct = (way: string) => way.split('→').at(-2) ?? '';
  return direct(a) < direct(b) ? -1 : direct(a) > direct(b) ? 1 : 0;
}
