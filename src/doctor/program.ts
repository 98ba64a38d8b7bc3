/** Checks the program itself: the version of Node.js that runs it, and its npm packages. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expectThat, fix, type Line, ok } from './line.ts';

interface Locked {
  version?: string;
  dev?: boolean;
  optional?: boolean;
  devOptional?: boolean;
  peer?: boolean;
  link?: boolean;
}

/** @param nodeVersion such as `24.21.0` */
export function lookAtProgram(root: string, nodeVersion: string): Line[] {
  const { engines } = readJson(join(root, 'package.json')) as { engines: { node: string } };
  const oldest = Number(/\d+/u.exec(engines.node)?.[0]);
  return [
    expectThat(
      Number(nodeVersion.split('.')[0]) >= oldest,
      `Node ${nodeVersion}`,
      `Node ${nodeVersion} is too old`,
      `Run Chamberlain with node_modules/.bin/node, or with Node ${oldest} or newer.`,
    ),
    ...lookAtPackages(root),
  ];
}

/** Packages for development or for other platforms may be missing. Installed packages must have the locked version. */
function lookAtPackages(root: string): Line[] {
  // a Debian package contains them in the program
  if (!existsSync(join(root, 'package-lock.json'))) return [];
  const lock = readJson(join(root, 'package-lock.json')) as { packages: Record<string, Locked> };
  const wrong: string[] = [];
  let count = 0;
  for (const [path, locked] of Object.entries(lock.packages)) {
    if (path === '' || locked.link === true) continue;
    const name = path.replace(/^.*node_modules\//u, '');
    const file = join(root, path, 'package.json');
    if (existsSync(file)) {
      count += 1;
      const { version } = readJson(file) as { version?: string };
      if (version !== locked.version) wrong.push(`${name} is ${version}, not ${locked.version}`);
    } else if (!locked.dev && !locked.optional && !locked.devOptional) {
      wrong.push(`${name} is missing`);
    }
  }
  const shown = wrong.slice(0, 5).join('; ');
  const more = wrong.length > 5 ? `; and ${wrong.length - 5} more` : '';
  return wrong.length === 0
    ? [ok(`${count} npm packages are those of package-lock.json`)]
    : [
        fix(
          `npm packages: ${shown}${more}`,
          `Run \`npm ci --omit=dev --ignore-scripts && npm rebuild --ignore-scripts && npm run build\` in ${root}, as its owner, and restart the workers.`,
        ),
      ];
}

function readJson(file: string): unknown {
  return JSON.parse(readFileSync(file, 'utf8'));
}
