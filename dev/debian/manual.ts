/** Manual pages (man-pages(7)), made from what each program's `--help` prints, as docs/cli.md is. */

/** One `--help`: of the program that the page is about, or of one of its subcommands. */
export interface HelpText {
  /** the words of the command, such as `chamberlain audit verify` */
  readonly command: string;
  readonly text: string;
}

export interface Page {
  readonly name: string;
  readonly section: 1 | 5 | 8;
  /** in one line, for whatis(1) */
  readonly summary: string;
  /** that of the program first; those of subcommands become parts of the page */
  readonly helps: readonly HelpText[];
  /** such as `chamberlain(1)` */
  readonly seeAlso: readonly string[];
}

export interface Edition {
  readonly version: string;
  readonly date: Date;
}

/** Renders a page for groff's man macros. */
export function renderPage(page: Page, edition: Edition): string {
  const [own, ...subcommands] = page.helps.map(({ command, text }) => ({
    command,
    parts: splitHelp(text),
  }));
  const parts = own?.parts ?? [];
  const synopsis = parts.filter(isSynopsis);
  const others = parts.filter((part) => !isSynopsis(part));
  const lines = [
    titleLine(page, edition),
    '.SH NAME',
    escapeText(`${page.name} - ${page.summary}`),
    ...synopsis.flatMap((part) => [heading('SH', 'SYNOPSIS'), ...renderPart(part)]),
    ...others.flatMap((part, at) => [...topHeading(part, others[at - 1]), ...renderPart(part)]),
    ...(subcommands.length === 0 ? [] : [heading('SH', 'SUBCOMMANDS')]),
    ...subcommands.flatMap((each) => [
      heading('SS', each.command),
      ...each.parts
        .filter(({ title }) => title !== 'Global Options')
        .flatMap((part) => [
          ...(isSynopsis(part) || part.title === '' ? [] : ['.PP', bold(`${part.title}:`)]),
          ...renderPart(part),
        ]),
    ]),
    ...(page.seeAlso.length === 0
      ? []
      : [heading('SH', 'SEE ALSO'), escapeText(page.seeAlso.join(', '))]),
  ];
  return `${lines.join('\n')}\n`;
}

/** A page whose text is a piece of a file as it stands, such as an example of a configuration. */
export function renderExample(
  page: Omit<Page, 'helps'> & { about: string; example: string },
  edition: Edition,
): string {
  const lines = [
    titleLine(page, edition),
    ...['.SH NAME', escapeText(`${page.name} - ${page.summary}`)],
    ...[heading('SH', 'DESCRIPTION'), escapeText(page.about)],
    ...[heading('SH', 'EXAMPLE'), ...verbatim(page.example.trimEnd().split('\n'))],
    ...[heading('SH', 'SEE ALSO'), escapeText(page.seeAlso.join(', '))],
  ];
  return `${lines.join('\n')}\n`;
}

function titleLine({ name, section }: Pick<Page, 'name' | 'section'>, edition: Edition): string {
  const date = edition.date.toISOString().slice(0, 10);
  return `.TH ${escapeText(name.toUpperCase())} ${section} ${date} "chamberlain ${escapeText(edition.version)}" Chamberlain`;
}

interface Part {
  /** the word before the colon; empty for text without a heading */
  title: string;
  lines: string[];
}

/** The parts of a help: a line such as `Options:` begins one, as does a text that follows an empty line. */
function splitHelp(text: string): Part[] {
  const parts: Part[] = [];
  for (const block of text.trimEnd().split(/\n{2,}/u)) {
    const lines = block.split('\n');
    const [first = '', ...rest] = lines;
    const [, usage] = /^usage: (.*)$/iu.exec(first) ?? [];
    const [, title] = /^([A-Z][A-Za-z ]+):$/u.exec(first) ?? [];
    if (usage !== undefined) parts.push({ title: 'Usage', lines: [usage, ...rest] });
    else if (title !== undefined && rest.length > 0) parts.push({ title, lines: rest });
    else if (/^ +-/u.test(first) && parts.every((part) => part.title !== 'Options')) {
      parts.push({ title: 'Options', lines });
    } else parts.push({ title: '', lines });
  }
  return parts;
}

function isSynopsis({ title }: Part): boolean {
  return title === 'Usage';
}

/** Texts without a heading are the description, or notes if they follow a list; together they have one heading. */
function topHeading({ title }: Part, before: Part | undefined): string[] {
  if (title !== '') return [heading('SH', title.toUpperCase())];
  if (before === undefined) return [heading('SH', 'DESCRIPTION')];
  return before.title === '' ? [] : [heading('SH', 'NOTES')];
}

function renderPart({ title, lines }: Part): string[] {
  if (title === 'Usage') return verbatim(lines.map((line) => line.trim()));
  if (title === 'Examples' || lines.every((line) => /^ {2}[$#] |^ {6}/u.test(line))) {
    return verbatim(lines.map((line) => line.replace(/^ {2}/u, '')));
  }
  if (lines.every((line) => line.startsWith('  '))) return readItems(lines).flatMap(renderItem);
  const [first = '', ...items] = lines; // a paragraph, or a sentence before a list
  if (items.length > 0 && items.every((line) => line.startsWith('  '))) {
    return [escapeText(first), ...readItems(items).flatMap(renderItem)];
  }
  return [
    ...(title === '' ? ['.PP'] : []),
    escapeText(lines.map((line) => line.trim()).join('\n')),
  ];
}

interface Item {
  term: string;
  text: string;
}

/** Lines such as `  --json  print JSON`; what is indented further belongs to the line before. */
function readItems(lines: readonly string[]): Item[] {
  const items: Item[] = [];
  for (const line of lines) {
    const [, term, text = ''] = /^ {2}(\S+(?: \S+)*)(?: {2,}(.*))?$/u.exec(line) ?? [];
    const last = items.at(-1);
    if (term !== undefined) items.push({ term, text });
    else if (last !== undefined) last.text = `${last.text} ${line.trim()}`.trim();
  }
  return items;
}

function renderItem({ term, text }: Item): string[] {
  if (text === '') return ['.PP', escapeText(term)];
  return ['.TP', bold(term), escapeText(text)];
}

function verbatim(lines: readonly string[]): string[] {
  return ['.nf', ...lines.map(escapeText), '.fi'];
}

function heading(macro: 'SH' | 'SS', text: string): string {
  return `.${macro} "${escapeText(text)}"`;
}

function bold(text: string): string {
  return `\\fB${escapeText(text)}\\fR`;
}

/** Text that groff prints as it is: no escapes, no requests, and `-` as people type it. */
function escapeText(text: string): string {
  return text
    .replaceAll('\\', String.raw`\e`)
    .replaceAll('-', String.raw`\-`)
    .replaceAll('~', String.raw`\(ti`)
    .replaceAll('^', String.raw`\(ha`)
    .replaceAll('`', String.raw`\(ga`)
    .replaceAll("'", String.raw`\(aq`)
    .replaceAll(/^\./gmu, String.raw`\&.`);
}
