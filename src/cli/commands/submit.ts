/** `chamberlain submit`: its options, derived from the kinds of request. The work is done in sending.ts. */
import { Option, type Command } from 'commander';
import { ChamberlainError } from '../../shared/errors.ts';
import { KIND_SUMMARIES, REQUEST_KINDS, type RequestKind } from '../../requests/kinds.ts';
import { suggest } from '../../shared/nearest.ts';
import { describeExamples, describeExits } from '../exit.ts';
import { type Field, fieldsOf } from '../kind-fields.ts';
import { parseSeconds } from '../options/seconds.ts';
import type { SubmitOptions } from '../sending.ts';

const EXITS = describeExits({
  0: 'sent; with --wait: applied everywhere',
  1: 'with --wait: refused, or a role has given up: see standard error, `CODE: sentence`',
  2: 'the command line, the configuration or a request is wrong: nothing was sent',
  3: 'with --wait: the request waits for an admin',
  5: 'with --wait: not applied everywhere after --timeout seconds',
});

export function defineSubmit(command: Command): void {
  command
    .description(
      'Signs a request, puts it into its queue, and prints its id. Without --portal, the request is signed\n' +
        "with the admin's own key and is that admin's request. With --portal, it is the request of the\n" +
        'person that --requestedBy names. If a request does not fit the schema of its kind, every problem is\n' +
        'listed and nothing is sent. Intake decides whether the request is allowed: give --wait to see its\n' +
        'verdict.',
    )
    .usage('KIND [--FIELD VALUE...] [options]\n       chamberlain submit --file F [options]')
    .option('--file <file>', 'JSON lines, one request each, `-` for standard input')
    .option('--portal <name>', 'send as this portal')
    .option('--portal-key <file>', 'the key to sign with: Ed25519, PKCS #8 in PEM')
    .option(
      '--requestedBy <person>',
      "the person whose request it is (default: the admin's own name)",
    )
    .option('--approvedBy <person>', 'the person who approved it (default: --requestedBy)')
    .option('--id <uuid>', 'the id of the request (default: a new one)')
    .option('--wait', 'follow the request until it is refused, or applied everywhere')
    .addOption(
      new Option('--timeout <seconds>', 'how long --wait follows each')
        .argParser(parseSeconds)
        .default(60),
    )
    .allowExcessArguments()
    .allowUnknownOption()
    .addHelpText(
      'after',
      `
A line of --file holds {"kind": …, fields…}, and may hold "requestedBy", "approvedBy" and "id".
If one line does not fit its schema, nothing is sent. Otherwise the requests are sent in order. With
--wait, each is followed to its end before the next is sent.
` +
        describeExamples(
          'submit tool.create --help',
          'submit person.create --shellName alice --displayName Alice --email a@example.org --wait',
          'submit tool.create --portal portal --portal-key portal.pem --requestedBy alice \\\n' +
            '      --name bridgebot --title "A bridge" --wait',
          'submit person.suspend --people alice,bob --reason "Spam" --until 2027-01-01T00:00:00Z --wait',
          'submit --file requests.jsonl --wait --json',
        ) +
        `\n${EXITS}`,
    )
    .action(async () => {
      // a known kind is a command of its own, so here the kind is missing or unknown
      const [word] = command.args;
      const { file } = command.opts<SubmitOptions>();
      if (word?.startsWith('-') === true) {
        const flags = command.options.map(({ long }) => long ?? '');
        throw usage(`unknown option '${word}'${suggest(word, flags)}`);
      }
      if (word !== undefined && file !== undefined) throw twoSources(word);
      if (word !== undefined) throw usage(`unknown kind '${word}'${suggest(word, REQUEST_KINDS)}`);
      if (file === undefined) throw usage('give a KIND, or --file');
      const sending = await import('../sending.ts');
      await sending.submit(command, sending.readRequestLines(file));
    });
  for (const kind of REQUEST_KINDS) defineKind(command, kind);
}

/** Each kind is a subcommand of `submit`, and its fields are options of the same name. */
function defineKind(parent: Command, kind: RequestKind): void {
  const fields = fieldsOf(kind);
  const command = parent
    .command(kind)
    .summary(KIND_SUMMARIES[kind])
    .description(`${KIND_SUMMARIES[kind]}.`.replace(/^./u, (first) => first.toUpperCase()))
    .addHelpText('after', EXITS)
    .action(async () => {
      if (parent.opts<SubmitOptions>().file !== undefined) {
        throw twoSources(kind);
      }
      const given = command.opts<Record<string, unknown>>();
      if (command.args.length > 0) throw excess(command.args, fields, given);
      const request = { kind, ...given };
      const { submit } = await import('../sending.ts');
      await submit(command, [{ request, where: '' }]);
    });
  for (const { name, description, required, isList, isSwitch } of fields) {
    const option = new Option(
      isSwitch ? `--${name}` : `--${name} <${isList ? 'a,b' : 'value'}>`,
      `${description}${required ? ' (required)' : ''}`,
    );
    command.addOption(isList ? option.argParser(splitList) : option);
  }
}

function splitList(text: string): string[] {
  return text
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '');
}

/**
 * The error for words that belong to no option: a value without its option, a text without quotes, or `--atOnce
 * false`.
 */
function excess(
  words: readonly string[],
  fields: readonly Field[],
  given: Record<string, unknown>,
): ChamberlainError {
  const missing = fields.find(({ name, required }) => required && given[name] === undefined);
  const advice =
    missing === undefined
      ? 'A value with spaces must be quoted.'
      : `A value must follow its option, such as --${missing.name}.`;
  const are = fields
    .filter(({ isSwitch }) => isSwitch)
    .map(({ name }) => ` --${name} takes no value: leave it out if it does not apply.`);
  return usage(`unexpected '${words.join(' ')}'. ${advice}${are.join('')}`);
}

function twoSources(kind: string): ChamberlainError {
  return usage(`--file and '${kind}' exclude each other: give one of them`);
}

function usage(sentence: string): ChamberlainError {
  return new ChamberlainError('USAGE', sentence);
}
