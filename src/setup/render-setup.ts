/** What `chamberlain setup --print` and `--check` show. Pure. */
import type { Difference, Piece } from './setup.ts';

/** Every piece, and what would be done for it. */
export function renderPlan(pieces: readonly Piece[], how: ReadonlyMap<Piece, Difference>): string {
  const lines = pieces.map((piece) => {
    const differs = how.get(piece)?.differs;
    if (differs === undefined) return `ok    ${piece.name}`;
    return `make  ${piece.name} ${differs}\n      ${piece.does}`;
  });
  return [...lines, `${how.size} of ${pieces.length} pieces would be made`].join('\n');
}

/** What differs by itself. */
export function renderDifferences(found: readonly Difference[]): string {
  if (found.length === 0) return 'everything is as it must be';
  const lines = found
    .filter(({ waits }) => waits !== true)
    .map(({ piece, differs }) => `${piece.name} ${differs}`);
  const waiting = found.length - lines.length;
  return [...lines, ...(waiting === 0 ? [] : [`pieces that must wait for that: ${waiting}`])].join(
    '\n',
  );
}
