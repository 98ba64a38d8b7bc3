/** The blocks of the pages, which test/docs.test.ts lists. A comment before a block names it: `<!-- page:name -->`. */
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

const ROOT = join(import.meta.dirname, '..');

/** Every page, as a path in the project. */
export const PAGES = globSync(['*.md', 'docs/**/*.md'], { cwd: ROOT }).sort();

export const readPage = (page: string): string => readFileSync(join(ROOT, page), 'utf8');

export interface Block {
  readonly page: string;
  /** undefined where no comment names it */
  readonly name: string | undefined;
  readonly language: string;
  /** without the indentation of a list that it is part of */
  readonly text: string;
}

const BLOCK = /^(?: *<!-- (\S+) -->\n\n)?( *)```(\w+)\n([^]*?)^ *```$/gmu;

function readBlocks(): Block[] {
  return PAGES.flatMap((page) =>
    [...readPage(page).matchAll(BLOCK)].map(([, name, indent = '', language = '', text = '']) => ({
      ...{ page, name, language },
      text: text.replaceAll(new RegExp(`^${indent}`, 'gmu'), ''),
    })),
  );
}

/** Those that a reader is to run. */
export const commandBlocks = (): Block[] =>
  readBlocks().filter(({ language }) => ['sh', 'console', 'sql', 'js'].includes(language));

/** The text of the block of that name. */
export function blockOf(name: string): string {
  const found = readBlocks().find((block) => block.name === name);
  if (found === undefined) throw new Error(`no page has a block ${name}`);
  return found.text;
}
