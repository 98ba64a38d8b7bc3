/** The version, the changelog and the copyright file of the Debian packages, from what the project says elsewhere. */

/** The top section of CHANGELOG.md. */
interface Section {
  readonly title: string;
  readonly lines: readonly string[];
}

function topSection(changelog: string): Section {
  const [, title = '', text = ''] = /^## (.*)\n([^]*?)(?=^## |$(?![^]))/mu.exec(changelog) ?? [];
  return { title, lines: text.trim().split('\n') };
}

/**
 * The version of the packages. What is not released yet gets the time of the last commit, in UTC, so that it sorts
 * after the last release and before the next one.
 */
export function packageVersion(released: string, changelog: string, at: Date): string {
  if (topSection(changelog).title !== 'Unreleased') return released;
  const time = at.toISOString().replaceAll(/\D/gu, '').slice(0, 14);
  return `${released}+git${time}`;
}

/** debian/changelog: one entry, with the top section of CHANGELOG.md. */
export function debianChangelog(
  { version, maintainer, at }: { version: string; maintainer: string; at: Date },
  changelog: string,
): string {
  const items: string[] = [];
  for (const line of topSection(changelog).lines) {
    if (line.startsWith('- ')) items.push(`  * ${line.slice(2)}`);
    else if (line.startsWith('  ')) items.push(`${items.pop() ?? ' '} ${line.trim()}`);
    else if (line.endsWith(':')) items.push('', `  [ ${line.slice(0, -1)} ]`);
    else if (line !== '') items.push(`  * ${line}`);
  }
  return [
    `chamberlain (${version}) unstable; urgency=medium`,
    '',
    ...items.flatMap((item) => fold(item)),
    '',
    ` -- ${maintainer}  ${at.toUTCString().replace('GMT', '+0000')}`,
    '',
  ]
    .join('\n')
    .replaceAll(/\n{3,}/gu, '\n\n');
}

/** Lines of at most 80 characters; those after the first are indented. */
function fold(text: string): string[] {
  const [, indent = '', rest = ''] = /^( *(?:\* )?)(.*)$/u.exec(text) ?? [];
  const lines: string[] = [];
  let line = indent;
  for (const word of rest.split(' ')) {
    if (line.length + word.length > 79 && line.trim() !== '') {
      lines.push(line.trimEnd());
      line = ' '.repeat(indent.length);
    }
    line += `${word} `;
  }
  return [...lines, line.trimEnd()];
}

/** Somebody else's work in the packages. */
export interface Work {
  readonly name: string;
  readonly license: string;
  readonly text: string;
}

/** The copyright file: Chamberlain's own notice, then that of each other work, where equal texts stand once. */
export function copyrightOf(works: readonly Work[]): string {
  const byText = Map.groupBy(works, ({ text }) => text.trim());
  const parts = [...byText].map(([text, of]) => {
    const names = of.map(({ name, license }) => `${name} (${license})`).sort();
    return `${names.join('\n')}\n\n${text.replaceAll(/^/gmu, '    ')}`;
  });
  return `${OWN}\n\n${parts.sort().join(`\n\n${'-'.repeat(72)}\n\n`)}\n`;
}

const OWN = `Chamberlain: account provisioning and identity for shared unix hosting platforms

This program is free software: you can redistribute it and/or modify it under the terms of the GNU General Public
License as published by the Free Software Foundation, either version 3 of the License, or (at your option) any later
version. This program is distributed in the hope that it will be useful, but WITHOUT ANY WARRANTY; without even the
implied warranty of MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE. See the GNU General Public License for more
details. On Debian systems, its text is in /usr/share/common-licenses/GPL-3.

Copyright: the authors of Chamberlain

The programs in this package contain Node.js and the npm packages below, which have these notices.`;
