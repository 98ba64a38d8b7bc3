/** `chamberlain submit`: its flags, made from the kinds of request. What it does is in sending.ts. */
import { Option, type Command } from 'commander';
import { ChamberlainError } from '../../shared/errors.ts';
import { REQUEST_KINDS, type RequestKind } from '../../requests/schema.ts';
import { describeExamples, describeExits } from '../exit.ts';
import { type Field, fieldsOf, KIND_SUMMARIES, suggest } from '../kinds.ts';
import { parseSeconds } from '../seconds.ts';
import type { SubmitOptions } from '../sending.ts';

const EXITS = describeExits({
  0: 'sent; with --wait: all that it touched is applied',
  1: 'with --wait: refused, or given up on; standard error says `CODE: sentence`',
  2: 'the command line, the configuration or a request is wrong: nothing is sent',
  3: "with --wait: it waits for an admin's word",
  5: 'with --wait: not all is applied after --timeout seconds',
});

export function defineSubmit(command: Command): void {
  command
    .description(
      'Signs a request, puts it into its queue, and prints its id. Without --portal it is signed with\n' +
        "the admin's own key, and the admin is the one who asks; with --portal it speaks for\n" +
        '--requestedBy. Nothing is sent where a request does not fit the schema of its kind: every problem\n' +
        'is told. Whether it is allowed is for intake to say: use --wait to hear.',
    )
    .usage('KIND [--FIELD VALUE...] [options]\n       chamberlain submit --file F [options]')
    .option('--file <file>', 'JSON lines, one request each, `-` for standard input')
    .option('--portal <name>', 'speak as this portal')
    .option('--portal-key <file>', 'the key that signs: PKCS #8 in PEM, Ed25519')
    .option('--requestedBy <person>', "who asks (default: the admin's own name)")
    .option('--approvedBy <person>', 'who approved (default: who asks)')
    .option('--id <uuid>', 'the id of the request (default: a new one)')
    .option('--wait', 'follow it until it is refused, or all that it touched is applied')
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
They are sent in their order, none where one is wrong; with --wait each is followed to its end
before the next is sent.
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
      // a known kind is a command of its own: what comes here is none, or not known
      const [word] = command.args;
      const { file } = command.opts<SubmitOptions>();
      if (word?.startsWith('-') === true) {
        const flags = command.options.map(({ long }) => long ?? '');
        throw usage(`unknown option '${word}'${suggest(word, flags)}`);
      }
      if (word !== undefined && file !== undefined) throw twoSources(word);
      if (word !== undefined) throw usage(`unknown kind '${word}'${suggest(word, REQUEST_KINDS)}`);
      if (file === undefined) throw usage('it wants a KIND, or --file');
      const sending = await import('../sending.ts');
      await sending.submit(command, sending.readRequestLines(file));
    });
  for (const kind of REQUEST_KINDS) defineKind(command, kind);
}

/** Each kind is a command below `submit`, its fields are flags of the same name. */
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

/** Words that belong to no flag: a value without its flag, a text without quotes, or `--atOnce false`. */
function excess(
  words: readonly string[],
  fields: readonly Field[],
  given: Record<string, unknown>,
): ChamberlainError {
  const missing = fields.find(({ name, required }) => required && given[name] === undefined);
  const advice =
    missing === undefined
      ? 'A value with blanks wants quotes.'
      : `A value stands behind its option, such as --${missing.name}.`;
  const are = fields
    .filter(({ isSwitch }) => isSwitch)
    .map(({ name }) => ` --${name} is a switch: leave it out where it is not meant.`);
  return usage(`unexpected '${words.join(' ')}'. ${advice}${are.join('')}`);
}

function twoSources(kind: string): ChamberlainError {
  return usage(`--file and '${kind}' at once: which of the two is meant?`);
}

function usage(sentence: string): ChamberlainError {
  return new ChamberlainError('USAGE', sentence);
}
