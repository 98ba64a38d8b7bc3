/**
 * Which accounts a person can become, and through which chain of tools: a person maintains a tool, that tool maintains
 * another, and so on. Pure.
 *
 * The ways through each direct maintainer of a tool are listed separately, because removing one maintainer closes only
 * its own ways. Of all ways from one person through one maintainer only the best is listed: an open one before a closed
 * one, then the shortest. A cycle does not count as a way.
 */

/** A person or a tool, and the reasons why a way that starts at it or passes through it is closed. */
interface ReachNode {
  uid: number;
  account: string;
  kind: 'person' | 'tool';
  stops: readonly string[];
}

export interface ReachGraph {
  nodes: ReadonlyMap<number, ReachNode>;
  /** the direct maintainers of each tool */
  maintainers: ReadonlyMap<number, readonly number[]>;
}

/** A way from a person, or from the tool in question, to a tool. */
export interface Way {
  /** uids, in the order in which one becomes the next */
  path: number[];
  /** empty: the way is open */
  stops: string[];
}

/** The ways of every person who can reach a tool, through each of its direct maintainers. */
export function waysInto(graph: ReachGraph, target: number): Way[] {
  const next = new Map(
    [...graph.maintainers].map(([tool, maintainers]) => [tool, sorted(graph, maintainers)]),
  );
  return (next.get(target) ?? []).flatMap((maintainer) => {
    const ends = explore(graph, maintainer, new Set([target]), next);
    return [...ends.values()]
      .map((found) => [...found.toReversed(), target])
      .filter(([first]) => graph.nodes.get(first as number)?.kind === 'person')
      .map((path) => wayOf(graph, path));
  });
}

/** The best way to every tool that a person or a tool can become. */
export function waysFrom(graph: ReachGraph, start: number): Way[] {
  const maintained = new Map<number, number[]>();
  for (const [tool, maintainers] of graph.maintainers) {
    for (const maintainer of maintainers) {
      maintained.set(maintainer, [...(maintained.get(maintainer) ?? []), tool]);
    }
  }
  const next = new Map(
    [...maintained].map(([maintainer, tools]) => [maintainer, sorted(graph, tools)]),
  );
  const ends = explore(graph, start, new Set(), next);
  return [...ends.values()]
    .filter((path) => path.length > 1)
    .map((path) => wayOf(graph, path))
    .toSorted((a, b) => compare(graph, a.path.at(-1), b.path.at(-1)));
}

/**
 * The best path from `start` to everything that can be reached, including itself. The search is breadth first, at first
 * only through open nodes, then through all. The lists in `next` are sorted.
 */
function explore(
  graph: ReachGraph,
  start: number,
  without: ReadonlySet<number>,
  next: ReadonlyMap<number, readonly number[]>,
): Map<number, number[]> {
  const isClosed = (uid: number) => (graph.nodes.get(uid)?.stops ?? []).length > 0;
  const found = new Map<number, number[]>();
  for (const mayPassClosed of [false, true]) {
    let hasClosed = false;
    const seen = new Set([...without, start]);
    let edge = [[start]];
    while (edge.length > 0) {
      const later: number[][] = [];
      for (const path of edge) {
        const at = path.at(-1) as number;
        if (!found.has(at)) found.set(at, path);
        if (isClosed(at)) hasClosed = true;
        if (isClosed(at) && !mayPassClosed) continue;
        for (const uid of next.get(at) ?? []) {
          if (seen.has(uid)) continue;
          seen.add(uid);
          later.push([...path, uid]);
        }
      }
      edge = later;
    }
    if (!hasClosed) break;
  }
  return found;
}

function wayOf({ nodes }: ReachGraph, path: number[]): Way {
  return { path, stops: path.flatMap((uid) => nodes.get(uid)?.stops ?? []) };
}

function sorted(graph: ReachGraph, uids: readonly number[]): number[] {
  return uids.toSorted((a, b) => compare(graph, a, b));
}

function compare({ nodes }: ReachGraph, a: number | undefined, b: number | undefined): number {
  const [left, right] = [nodes.get(a ?? 0)?.account ?? '', nodes.get(b ?? 0)?.account ?? ''];
  return left < right ? -1 : left > right ? 1 : 0;
}
