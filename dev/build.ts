/**
 * Builds the program in dist/ from src and workers: few files of JavaScript, which start faster than the sources. A
 * command loads only the files that it needs.
 *
 * deploy/chamberlain runs this when the sources have changed. It gives the list of the sources and their times on
 * standard input, and finds it in `dist/built` afterwards.
 *
 * The program may run meanwhile: each file is written under another name and renamed, and a file that only earlier
 * builds have stays for a day, for programs that have not loaded it yet. dev/debian/build.ts makes the packages' files
 * with `bundle`, too.
 */
import { chownSync, mkdirSync, readdirSync, readFileSync, renameSync } from 'node:fs';
import { rmSync, statSync, writeFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { basename, join } from 'node:path';
import { build, type BuildOptions, type Metafile } from 'esbuild';

const PROJECT = join(import.meta.dirname, '..');
const DIST = join(PROJECT, 'dist');
const DAY_MS = 86_400_000;

/** The entry points of the program. */
export const ENTRIES = ['src/cli/chamberlain.ts', 'src/archives/homes/file-archive-shorten.ts'];

/**
 * Builds programs and all that they import into few files in a folder, without writing them. Returns the text of each
 * file by its path, the entry points first, and esbuild's list of what is in them.
 */
export async function bundle(
  entryPoints: Exclude<BuildOptions['entryPoints'], undefined>,
  outdir: string,
  more: BuildOptions = {},
): Promise<{ files: Map<string, string>; metafile: Metafile }> {
  const { outputFiles, metafile } = await build({
    absWorkingDir: PROJECT,
    entryPoints,
    outdir,
    entryNames: '[name]',
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    target: 'node22',
    keepNames: true, // ioredis names errors after their classes
    external: ['pg-native'], // pg loads it only on request
    // the same code as modules of JavaScript, of which only the parser is taken
    alias: { yaml: './node_modules/yaml/browser/dist/index.js' },
    // CommonJS packages load the modules of Node.js with it
    banner: {
      js: `const require = (name) => process.getBuiltinModule(name) ??
  process.getBuiltinModule('node:module').createRequire(import.meta.url)(name);`,
    },
    logLevel: 'warning',
    ...more,
    metafile: true,
    write: false,
  });
  const files = new Map(outputFiles.map(({ path, text }) => [path, asAscii(withoutImports(text))]));
  return { files, metafile };
}

/**
 * Takes the modules of Node.js with `getBuiltinModule`. An `import` of one reads all its exports, and some of those
 * load further modules: that took a seventh of the time of `--help`. `child_process`, which commander imports and does not
 * use, took a twelfth: it is loaded when something is started.
 */
function withoutImports(code: string): string {
  const taken: string[] = [];
  const rest = code.replaceAll(
    /^import (?:(\w+)(?:, )?)?(?:\* as (\w+)|(\{[^}]*\}))? from "([\w:/]+)";\n/gm,
    (line: string, whole = '', all = '', names = '', module: string) => {
      if (!isBuiltin(module)) return line;
      if (module === 'node:child_process' && all === '') {
        const late = (of: string) =>
          `(...args) => process.getBuiltinModule("${module}").${of}(...args)`;
        if (whole !== '') taken.push(`const ${whole} = { spawn: ${late('spawn')} };\n`);
        for (const [, of = '', name = of] of names.matchAll(/(\w+)(?: as (\w+))?/gu)) {
          taken.push(`const ${name} = ${late(of)};\n`);
        }
        return '';
      }
      for (const name of [whole, all, names.replaceAll(' as ', ': ')]) {
        if (name !== '') taken.push(`const ${name} = process.getBuiltinModule("${module}");\n`);
      }
      return '';
    },
  );
  const begin = rest.startsWith('#!') ? rest.indexOf('\n') + 1 : 0;
  return rest.slice(0, begin) + taken.join('') + rest.slice(begin);
}

/**
 * Escapes what is not ASCII: esbuild has escaped it in strings, but not in comments and regular expressions. With a single
 * such character, V8 keeps the whole file with two bytes for each character: that took 4 MiB of the API and 2 of each worker.
 */
function asAscii(code: string): string {
  return code.replaceAll(
    /[^\0-\x7f]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

async function main(): Promise<void> {
  process.umask(0o022); // other users run the program
  const sources = readFileSync(0); // before they are built
  const { files } = await bundle(ENTRIES, 'dist').catch(() => process.exit(1)); // esbuild has said why
  try {
    writeAll(new Map([...files].map(([path, text]) => [basename(path), text])), sources);
  } catch (error) {
    const { message } = error as Error;
    process.stderr.write(`chamberlain: the program was built, but cannot be written: ${message}\n`);
    process.exitCode = 1;
  }
}

function writeAll(files: ReadonlyMap<string, string>, sources: Uint8Array): void {
  mkdirSync(DIST, { recursive: true });
  const owner = statSync(PROJECT);
  if (process.getuid?.() === 0) chownSync(DIST, owner.uid, owner.gid); // who can then build again
  // esbuild lists the entry points first; what they load is written before them
  for (const [name, contents] of [...files].toReversed()) replace(name, contents);
  for (const name of readdirSync(DIST).filter((each) => each !== 'packages')) {
    const path = join(DIST, name);
    if (!files.has(name) && Date.now() - statSync(path).mtimeMs > DAY_MS) rmSync(path);
  }
  replace('built', sources);
}

function replace(name: string, contents: string | Uint8Array): void {
  const written = join(DIST, `${name}.new`);
  writeFileSync(written, contents);
  renameSync(written, join(DIST, name));
}

if (import.meta.main) await main();
