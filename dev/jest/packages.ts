/**
 * The packages of the program, each in a file or two, for suites. A suite that loads the program otherwise reads 800
 * files of packages, which is most of the time of its start. They are built once for each state of package-lock.json.
 */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync } from 'node:fs';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const PROJECT = join(import.meta.dirname, '../..');
const CACHE = join(PROJECT, 'node_modules/.cache/chamberlain-packages');
const NAMES = [
  ...['bullmq', 'commander', 'fast-check', 'ioredis', 'jose', 'ldapts', 'mariadb', 'pg', 'pino'],
  ...['prom-client', 'yaml', 'zod', 'zod/mini', 'zod/v4/locales/en.js'],
];

/** The environment variable that names their folder; dev/test.ts sets it. */
export const PACKAGES = 'CHAMBERLAIN_TEST_PACKAGES';

const fileOf = (name: string): string => `${name.replaceAll('/', '+')}.js`;

/** The URL of the file of a package, if there is one. */
export function urlOfPackage(name: string): string | undefined {
  const folder = process.env[PACKAGES];
  if (folder === undefined || !NAMES.includes(name)) return undefined;
  return pathToFileURL(join(folder, fileOf(name))).href;
}

/** Builds the packages unless they are built; returns their folder. */
export async function buildPackages(): Promise<string> {
  const hash = createHash('sha256');
  for (const file of [join(PROJECT, 'package-lock.json'), import.meta.filename]) {
    hash.update(readFileSync(file));
  }
  const folder = join(CACHE, hash.digest('hex'));
  if (existsSync(folder)) return folder;
  mkdirSync(CACHE, { recursive: true });
  const unfinished = mkdtempSync(join(CACHE, 'new-'));
  const entries = join(unfinished, 'entries');
  mkdirSync(entries);
  for (const name of NAMES) writeFileSync(join(entries, fileOf(name)), await entryOf(name));
  const { build } = await import('esbuild');
  await build({
    entryPoints: NAMES.map((name) => join(entries, fileOf(name))),
    outdir: unfinished,
    bundle: true,
    splitting: true,
    format: 'esm',
    platform: 'node',
    keepNames: true, // ioredis names errors after their classes
    external: ['pg-native'], // pg loads it only on request
    // CommonJS packages load the modules of Node.js with it
    banner: {
      js: "import { createRequire as makeRequire } from 'node:module';\nconst require = makeRequire(import.meta.url);",
    },
    logLevel: 'warning',
  });
  rmSync(entries, { recursive: true });
  try {
    renameSync(unfinished, folder);
  } catch (error) {
    if (!existsSync(folder)) throw error;
    rmSync(unfinished, { recursive: true }); // another run was faster
  }
  return folder;
}

/** A module that exports what Node shows of a package; esbuild shows only the default export of CommonJS. */
async function entryOf(name: string): Promise<string> {
  const module = (await import(name)) as object;
  if (!('module.exports' in module)) {
    const others = `export * from '${name}';\n`;
    return 'default' in module ? `${others}export { default } from '${name}';\n` : others;
  }
  const names = Object.keys(module).filter((each) => !['default', 'module.exports'].includes(each));
  return [
    `import whole from '${name}';`,
    'export default whole;',
    `const { ${names.map((each) => `${each}: $${each}`).join(', ')} } = whole;`,
    `export { ${names.map((each) => `$${each} as ${each}`).join(', ')} };`,
  ].join('\n');
}
