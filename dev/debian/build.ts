/**
 * Builds the Debian packages in dist/packages, or in another folder. Needs no network, and leaves the rest of the clone
 * as it is.
 *
 *     node dev/debian/build.ts [FOLDER]
 *
 * It makes a source tree in FOLDER/build, which contains deploy/debian as `debian` and all that the packages consist
 * of: the programs, each bundled into few files, Node, manual pages, completions. Then dpkg-buildpackage and debhelper
 * make the packages. The same commit gives the same bytes in any folder. DPKG_DEB_COMPRESSOR_TYPE=none, of dpkg-deb(1),
 * saves minutes in a trial.
 */
import { execFileSync } from 'node:child_process';
import { chmodSync, cpSync, existsSync, globSync, mkdirSync, readdirSync } from 'node:fs';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { programWrapper } from '../../deploy/login-host/contents.ts';
import { COPIED, WRAPPED } from '../../deploy/login-host/wanted.ts';
import { wholeProgram } from '../../src/cli/main.ts';
import { bundle, ENTRIES } from '../build.ts';
import { bashCompletion, zshCompletion } from './completion.ts';
import { type Edition, renderExample, renderPage } from './manual.ts';
import { commandPages, CONFIG_PAGE, loginHostPages } from './pages.ts';
import { copyrightOf, debianChangelog, packageVersion, type Work } from './texts.ts';

const PROJECT = join(import.meta.dirname, '../..');
const PROGRAMS = 'src/login-host/programs';
const INSTALL = 'deploy/login-host/install.ts';
/** Where the packages have Node and the programs of login hosts. */
const LOGIN_HOST = '/usr/lib/chamberlain-login-host';
/** They fill templates, and share most of their code with `chamberlain doctor`. */
const RENDERERS = ['deploy/ldap/render.ts', 'deploy/redis/render.ts'];
/** As an entry point of the bundle, with a name of its own. */
const entryOf = (source: string) => ({
  in: source,
  out: source.replace(/^deploy.(.*).ts$/u, '$1').replace('/', '-'),
});

const read = (path: string): string => readFileSync(join(PROJECT, path), 'utf8');

/** Programs without spaces and comments. Names stay, for stack traces. */
const SMALL = { minifyWhitespace: true, minifySyntax: true, legalComments: 'none' } as const;

async function main(out: string): Promise<void> {
  process.umask(0o022);
  const tree = join(out, 'build');
  rmSync(tree, { recursive: true, force: true });
  const put = (path: string, contents: string | Uint8Array, mode = 0o644): void => {
    mkdirSync(dirname(join(tree, path)), { recursive: true });
    writeFileSync(join(tree, path), contents);
    chmodSync(join(tree, path), mode);
  };
  for (const each of ['deploy', 'migrations', 'docs']) {
    cpSync(join(PROJECT, each), join(tree, each), { recursive: true });
  }
  for (const each of ['README.md', 'CHANGELOG.md', 'SECURITY.md']) put(`docs/${each}`, read(each));
  cpSync(join(PROJECT, 'deploy/debian'), join(tree, 'debian'), { recursive: true });

  const edition = readEdition();
  const works = [...(await putChamberlain(put, edition)), ...(await putLoginHost(put, edition))];
  const maintainer = /^Maintainer: (.*)$/mu.exec(read('deploy/debian/control'))?.[1] ?? '';
  const { version, date } = edition;
  put('debian/changelog', debianChangelog({ version, maintainer, at: date }, read('CHANGELOG.md')));
  put('debian/copyright', copyrightOf(works));

  // -d: dev/bootstrap has installed what is needed, and nothing is compiled
  execFileSync('dpkg-buildpackage', ['-b', '-us', '-uc', '-d', '-Jauto'], {
    cwd: tree,
    env: {
      PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
      HOME: '/nonexistent',
      LC_ALL: 'C.UTF-8',
      TZ: 'UTC',
      ...pick(/^DPKG_DEB_COMPRESSOR_/u),
      SOURCE_DATE_EPOCH: String(date.getTime() / 1000),
    },
    stdio: ['ignore', process.stderr, 'inherit'],
  });
  rmSync(tree, { recursive: true });
  for (const name of readdirSync(out).filter((each) => each.includes(`_${version}_`))) {
    if (name.endsWith('.deb')) process.stdout.write(`${join(out, name)}\n`);
    else rmSync(join(out, name)); // .changes and .buildinfo are for Debian's own archive
  }
}

/** Variables of the caller. */
function pick(names: RegExp): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => names.test(name)));
}

type Put = (path: string, contents: string | Uint8Array, mode?: number) => void;

/** The version, from package.json, CHANGELOG.md and the last commit; the time of the last commit. */
function readEdition(): Edition {
  const seconds =
    process.env['SOURCE_DATE_EPOCH'] ??
    execFileSync('git', ['log', '-1', '--format=%ct'], { cwd: PROJECT, encoding: 'utf8' });
  const date = new Date(Number(seconds) * 1000);
  const { version } = JSON.parse(read('package.json')) as { version: string };
  return { version: packageVersion(version, read('CHANGELOG.md'), date), date };
}

async function putChamberlain(put: Put, edition: Edition): Promise<Work[]> {
  const { name, type, engines } = JSON.parse(read('package.json')) as Record<string, unknown>;
  const described = { name, version: edition.version, type, engines };
  put('chamberlain/package.json', `${JSON.stringify(described, null, 2)}\n`);
  const inputs = [
    ...(await putNode(put, 'chamberlain')),
    ...(await putBundle(put, 'chamberlain/dist', [...ENTRIES, ...RENDERERS.map(entryOf)])),
  ];
  for (const source of RENDERERS) {
    const program = `import { run } from '../../dist/${entryOf(source).out}.js';\nrun();\n`;
    put(`chamberlain/${source.replace('.ts', '.js')}`, program);
  }
  const program = await wholeProgram();
  put('chamberlain/completion/chamberlain', bashCompletion(program));
  put('chamberlain/completion/_chamberlain', zshCompletion(program));
  for (const page of commandPages(program)) {
    put(`chamberlain/man/${page.name}.${page.section}`, renderPage(page, edition));
  }
  const [, example = ''] =
    /<!-- real:config -->\n\n```yaml\n([^]*?)```/u.exec(read('docs/install.md')) ?? [];
  put('chamberlain/man/chamberlain.yaml.5', renderExample({ ...CONFIG_PAGE, example }, edition));
  return inputs;
}

async function putLoginHost(put: Put, edition: Edition): Promise<Work[]> {
  put('login-host/package.json', `${JSON.stringify({ type: 'module' })}\n`);
  const programs = [...Object.values(WRAPPED).map((name) => `${PROGRAMS}/${name}`), INSTALL];
  const inputs = [
    ...(await putNode(put, 'login-host')),
    ...(await putBundle(put, 'login-host/programs', programs)),
  ];
  const node = `${LOGIN_HOST}/bin/node`;
  const built = (name: string): string => `${LOGIN_HOST}/programs/${name.replace(/ts$/u, 'js')}`;
  for (const [path, program] of Object.entries(WRAPPED)) {
    const wrapper = programWrapper(PROJECT, program, { node, path: built(program) });
    put(`login-host/root${path}`, wrapper, 0o755);
  }
  put(
    'login-host/root/usr/sbin/chamberlain-login-host',
    `#!/bin/sh\nexec ${node} --disable-sigusr1 ${built('install.ts')} "$@"\n`,
    0o755,
  );
  for (const [path, { from, mode }] of Object.entries(COPIED)) {
    put(`login-host/root${path}`, read(`deploy/login-host/${from}`), mode);
  }
  for (const page of loginHostPages(PROJECT)) {
    put(`login-host/man/${page.name}.${page.section}`, renderPage(page, edition));
  }
  return inputs;
}

/** Returns the npm packages that the programs contain. */
async function putBundle(
  put: Put,
  folder: string,
  entries: Parameters<typeof bundle>[0],
  more = {},
): Promise<Work[]> {
  const { files, metafile } = await bundle(entries, folder, { ...SMALL, ...more });
  // the wrappers say with which options Node runs them
  for (const [path, text] of files) {
    put(path.slice(PROJECT.length + 1), text.replace(/^#!.*\n/u, ''));
  }
  const names = Object.keys(metafile.inputs).flatMap((path) =>
    [...(/^node_modules\/((?:@[^/]+\/)?[^/]+)\//u.exec(path) ?? [])].slice(1),
  );
  return [...new Set(names)].map(readWork);
}

/** Node itself; and sshpk, which the program loads only when it is needed, and so by its name. */
async function putNode(put: Put, folder: string): Promise<Work[]> {
  const platform = `node-linux-${process.arch}`;
  put(
    `${folder}/bin/node`,
    readFileSync(join(PROJECT, 'node_modules', platform, 'bin/node')),
    0o755,
  );
  const sshpk = await putBundle(put, `${folder}/node_modules/sshpk`, ['sshpk'], {
    format: 'cjs',
    splitting: false,
    entryNames: 'index',
    banner: {},
  });
  return [readWork(platform), ...sshpk];
}

function readWork(name: string): Work {
  const folder = join(PROJECT, 'node_modules', name);
  const { version, license = 'see below' } = JSON.parse(
    readFileSync(join(folder, 'package.json'), 'utf8'),
  ) as { version: string; license?: string };
  const [file] = globSync('{LICEN[CS]E,licen[cs]e}*', { cwd: folder }).sort();
  const text =
    file === undefined ? `License: ${license}` : readFileSync(join(folder, file), 'utf8');
  return { name: `${name.replace(/^node-linux-\w+$/u, 'Node.js')} ${version}`, license, text };
}

if (!existsSync('/usr/bin/dh')) {
  process.stderr.write(
    'dev/debian/build: debhelper is not installed: run dev/bootstrap --packages\n',
  );
  process.exit(1);
}
await main(resolve(process.argv[2] ?? join(PROJECT, 'dist/packages')));
