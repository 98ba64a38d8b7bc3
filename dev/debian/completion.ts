/** Completions of bash and zsh for `chamberlain`, made from its commands. They ask no server. */
import type { Argument, Command, Option } from 'commander';

/** What may follow the words of a command. */
interface Place {
  /** the words after `chamberlain`, such as `audit verify` */
  readonly path: string;
  readonly commands: readonly Described[];
  readonly options: readonly Flag[];
  /** what its arguments may be */
  readonly values: Values;
}

interface Described {
  readonly name: string;
  readonly text: string;
}

interface Flag extends Described {
  /** undefined: it takes no value */
  readonly values?: Values;
}

/** Words to choose from; FILES: names of files; nothing, if only a server knows. */
type Values = readonly string[] | typeof FILES;
const FILES = 'files';

/** A value that is a path, by its name in the help. */
const PATH = /^(file|folder|set|dir)(\.\.\.)?$/iu;

const HELP: Flag = { name: '--help', text: 'print the help' };

function readPlaces(command: Command, ancestors: readonly Command[] = []): Place[] {
  const chain = [...ancestors, command];
  const names = chain.slice(1).map((each) => each.name());
  // an option of a command may also follow the words of its subcommands; --version may not
  const options = [...chain.toReversed().flatMap((each) => each.options.map(flagOf)), HELP];
  const place: Place = {
    path: names.join(' '),
    commands: command.commands.map((each) => ({ name: each.name(), text: each.summary() })),
    options: options.filter(({ name }) => ancestors.length === 0 || name !== '--version'),
    values: command.registeredArguments.map(argumentValues).find(({ length }) => length > 0) ?? [],
  };
  return [place, ...command.commands.flatMap((each) => readPlaces(each, chain))];
}

function argumentValues(argument: Argument): Values {
  return valuesOf(argument.argChoices, argument.name());
}

function flagOf(option: Option): Flag {
  const name = option.long ?? option.flags;
  const [, value] = /[<[](.*)[>\]]/u.exec(option.flags) ?? [];
  const text = option.description;
  return value === undefined
    ? { name, text }
    : { name, text, values: valuesOf(option.argChoices, value) };
}

function valuesOf(choices: readonly string[] | undefined, name: string): Values {
  return choices ?? (PATH.test(name) ? FILES : []);
}

/** Lines of `case` that follow the words before the cursor through the commands, in bash and zsh alike. */
function pathCases(places: readonly Place[]): string[] {
  return places
    .filter(({ commands }) => commands.length > 0)
    .map(({ path, commands }) => {
      const names = commands.map(({ name }) => name).join('|');
      return `    '${path}')\n      case $each in ${names}) at="\${at:+$at }$each" ;; esac ;;`;
    });
}

const HEAD = 'Completion of chamberlain, made from its commands. It asks no server.';

/** The file for /usr/share/bash-completion/completions. */
export function bashCompletion(program: Command): string {
  const places = readPlaces(program);
  const files = `compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$word")`;
  const values = places.flatMap(({ path, options }) =>
    options.flatMap((option) => {
      if (option.values === undefined) return [];
      const what = option.values === FILES ? files : `words='${option.values.join(' ')}'`;
      return [`    '${path} ${option.name}') ${what} ;;`];
    }),
  );
  const words = places.map((place) => {
    const own = place.values === FILES ? [] : place.values;
    const all = [...place.commands, ...place.options].map(({ name }) => name);
    const also = place.values === FILES ? `; [[ $word == -* ]] || { ${files}; }` : '';
    return `        '${place.path}') words='${[...own, ...all].join(' ')}'${also} ;;`;
  });
  return `# ${HEAD}
_chamberlain() {
  local word=\${COMP_WORDS[COMP_CWORD]} at= each words=
  COMPREPLY=()
  for each in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case $at in
${pathCases(places).join('\n')}
    esac
  done
  case "$at \${COMP_WORDS[COMP_CWORD-1]}" in
${values.join('\n')}
    *)
      case $at in
${words.join('\n')}
      esac ;;
  esac
  [[ -z $words ]] || mapfile -t -O \${#COMPREPLY[@]} COMPREPLY < <(compgen -W "$words" -- "$word")
}
complete -F _chamberlain chamberlain
`;
}

/** The file for /usr/share/zsh/vendor-completions. */
export function zshCompletion(program: Command): string {
  const places = readPlaces(program);
  const values = places.flatMap(({ path, options }) =>
    options.flatMap((option) => {
      if (option.values === undefined) return [];
      const what =
        option.values === FILES
          ? '_files'
          : option.values.length === 0
            ? `_message ${zshWord(option.text)}`
            : `compadd -- ${option.values.join(' ')}`;
      return [`  '${path} ${option.name}') ${what} ;;`];
    }),
  );
  const words = places.map(({ path, commands, options, values: own }) => {
    const describe = (what: string, list: readonly Described[]): string =>
      `list=(${list.map(({ name, text }) => zshWord(`${name.replaceAll(':', '\\:')}:${text}`)).join(' ')}); _describe ${what} list`;
    return [
      `      '${path}')`,
      ...(commands.length === 0 ? [] : [`        ${describe('command', commands)}`]),
      ...(own === FILES ? ['        _files'] : []),
      ...(own === FILES || own.length === 0 ? [] : [`        compadd -- ${own.join(' ')}`]),
      `        ${describe('option', options)} ;;`,
    ].join('\n');
  });
  return `#compdef chamberlain
# ${HEAD}
local at= each
for each in \${words[2,CURRENT-1]}; do
  case $at in
${pathCases(places).join('\n')}
  esac
done
case "$at \${words[CURRENT-1]}" in
${values.join('\n')}
  *)
    local -a list
    case $at in
${words.join('\n')}
    esac ;;
esac
`;
}

function zshWord(text: string): string {
  return `'${text.replaceAll('\n', ' ').replaceAll("'", `'\\''`)}'`;
}
