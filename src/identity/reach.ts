/**
 * Who can become which account, and through which chain: a person maintains a tool, which maintains
 * another, and so on. Pure.
 *
 * From each direct maintainer of a tool its own ways are counted, since taking one maintainer away
 * closes those and no others. Of all ways from one person through one maintainer the best is told:
 * an open one before a closed one, then the shortest. A cycle is no way.
 */

/** A person or a tool, and what stops whoever would come from it or pass through it. */
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

/** From a person, or the tool that is asked about, to a tool. */
export interface Way {
  /** uids, in the order in which one becomes the next */
  path: number[];
  /** nothing: it is open */
  stops: string[];
}

/** Every person who comes to a tool, by each of its direct maintainers. */
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

/** Every tool that a person or a tool can become, by the best way. */
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
 * The best path from `start` to each that can be reached, itself included: breadth first, through the
 * open ones before through all. `next` is in order.
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
