/**
 * Prints a table of the folders of src and workers at a commit, for docs/architecture.md: files, lines, imports from
 * other folders (in) and of other folders (out).
 *
 *   node dev/folders.ts [COMMIT]
 */
import { execFileSync } from 'node:child_process';
import { dirname, join } from 'node:path';

const commit = process.argv[2] ?? 'HEAD';

/** For each file or line that matches: its path, and what git grep prints after it. */
function grep(...pattern: string[]): [path: string, text: string][] {
  const args = ['grep', ...pattern, commit, '--', 'src/**.ts', 'workers/*.ts'];
  const out = execFileSync('git', args, { encoding: 'utf8', maxBuffer: 1 << 26 });
  return [...out.matchAll(/^[^:\n]+:([^:\n]+):(.*)$/gmu)].map(([, path = '', text = '']) => [
    path,
    text,
  ]);
}

const folders: Record<string, { files: number; lines: number; in: number; out: number }> = {};
const folderOf = (path: string) =>
  (folders[dirname(path)] ??= { files: 0, lines: 0, in: 0, out: 0 });
for (const [path, lines] of grep('-c', '')) {
  folderOf(path).files += 1;
  folderOf(path).lines += Number(lines);
}
for (const [path, text] of grep('-E', "( from |import\\(|^import )'\\.[^']*\\.ts'")) {
  const target = join(dirname(path), /'(\.[^']*)'/u.exec(text)?.[1] ?? '');
  if (dirname(target) === dirname(path)) continue;
  folderOf(path).out += 1;
  folderOf(target).in += 1;
}
console.log('| folder | files | lines | in | out |\n| --- | --: | --: | --: | --: |');
for (const [folder, of] of Object.entries(folders))
  console.log(`| \`${folder}\` | ${of.files} | ${of.lines} | ${of.in} | ${of.out} |`);
