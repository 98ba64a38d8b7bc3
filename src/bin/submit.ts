/** `chamberlain submit`: signs requests, puts them into their queue, and follows them. */
import { randomUUID } from 'node:crypto';
import { Option, type Command } from 'commander';
import type { Config } from '../config.ts';
import { openQueues } from '../edges/queue.ts';
import { ChamberlainError } from '../errors.ts';
import { REQUEST_KINDS, type RequestKind } from '../model/request.ts';
import { openPool } from '../store/postgres.ts';
import { configOf, wantsJson } from './configuration.ts';
import { describeExamples, describeExits, EXIT, failureLine } from './exit.ts';
import { follow, type Ending } from './follow.ts';
import { fieldsOf, KIND_SUMMARIES, suggest } from './kinds.ts';
import { parseSeconds } from './plan.ts';
import {
  findSubmitter,
  makeSubmission,
  readRequestLines,
  sign,
  type Signer,
  type Speaker,
  type Submission,
} from './submission.ts';
import { paint, print, printJson } from './table.ts';

interface SubmitOptions extends Speaker {
  file?: string;
  portal?: string;
  portalKey?: string;
  wait?: true;
  timeout: number;
  id?: string;
}

const EXITS = describeExits({
  0: 'sent; with --wait: all that it raised is applied',
  1: 'with --wait: refused, or given up on; standard error says `CODE: sentence`',
  5: 'with --wait: not all is applied after --timeout seconds',
});

export function defineSubmit(command: Command): void {
  command
    .description(
      'Signs a request, puts it into its queue, and prints its id. Without --portal it is signed with\n' +
        "the admin's own key, and the admin is the one who asks; with --portal it speaks for\n" +
        '--requestedBy. Whether it is allowed is for intake to say: use --wait to hear.',
    )
    .usage('KIND [--FIELD VALUE...] [options]\n       chamberlain submit --file F [options]')
    .option('--file <file>', 'JSON lines, one request each, `-` for standard input')
    .option('--portal <name>', 'speak as this portal')
    .option('--portal-key <file>', 'the key that signs: PKCS #8 in PEM, Ed25519')
    .option('--requestedBy <person>', "who asks (default: the admin's own name)")
    .option('--approvedBy <person>', 'who approved (default: who asks)')
    .option('--id <uuid>', 'the id of the request (default: a new one)')
    .option('--wait', 'follow it until it is refused, or all that it raised is applied')
    .addOption(
      new Option('--timeout <seconds>', 'how long --wait follows each').argParser(parseSeconds).default(60),
    )
    .allowExcessArguments()
    .allowUnknownOption()
    .addHelpText(
      'after',
      `
A line of --file holds {"kind": …, fields…}, and may hold "requestedBy", "approvedBy" and "id".
They are sent in their order; with --wait each is followed to its end before the next is sent.
` +
        describeExamples(
          'submit tool.create --help',
          'submit person.create --shellName alice --displayName Alice --email a@example.org --wait',
          'submit tool.create --portal portal --portal-key portal.pem --requestedBy alice \\\n' +
            '      --name bridgebot --title "A bridge" --wait',
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
      await submit(command, readRequestLines(file));
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
      const request = { kind, ...command.opts<Record<string, unknown>>() };
      await submit(command, [{ request, where: '' }]);
    });
  for (const { name, description, required, isList } of fields) {
    const option = new Option(
      `--${name} <${isList ? 'a,b' : 'value'}>`,
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

async function submit(
  command: Command,
  lines: readonly { request: Record<string, unknown>; where: string }[],
): Promise<void> {
  const options = command.optsWithGlobals<SubmitOptions>();
  const config = configOf(command);
  const signer = findSubmitter(config, options.portal, options.portalKey);
  if (options.id !== undefined && lines.length !== 1) throw usage('--id is for one request alone');
  // all are looked at before the first is sent
  const submissions = lines.map(({ request, where }) =>
    makeSubmission(
      options.id === undefined ? request : { ...request, id: options.id },
      signer,
      options,
      randomUUID,
      where,
    ),
  );
  const json = wantsJson(command);
  if (options.wait) await sendAndFollow(config, signer, submissions, options.timeout, json);
  else await send(config, signer, submissions, json);
}

async function send(
  config: Config,
  signer: Signer,
  submissions: readonly Submission[],
  json: boolean,
): Promise<void> {
  const queues = openQueues(config.redis.url, randomUUID());
  try {
    for (const submission of submissions) {
      const { token, urgent } = await sign(submission, signer, config.realm, new Date());
      await queues.addRequest(token, urgent);
      const { id, kind } = submission;
      if (json) printJson({ id, kind, portal: signer.portal });
      else print(id);
    }
  } finally {
    await queues.close();
  }
}

async function sendAndFollow(
  config: Config,
  signer: Signer,
  submissions: readonly Submission[],
  timeoutSeconds: number,
  json: boolean,
): Promise<void> {
  const pool = openPool(config, 'admin', { max: 1, durable: true });
  const queues = openQueues(config.redis.url, randomUUID());
  // what is told on the way goes to standard error: on standard output are the ids alone
  const tell = (text: string) => {
    if (!json) process.stderr.write(`${text}\n`);
  };
  const tick = paint('green', '✓', process.stderr);
  try {
    for (const submission of submissions) {
      const { id, kind } = submission;
      const { token, urgent } = await sign(submission, signer, config.realm, new Date());
      const start = performance.now();
      const elapsedMs = () => Math.round(performance.now() - start);
      await queues.addRequest(token, urgent);
      if (!json) print(id);
      const ending = await follow(pool, signer.portal, id, timeoutSeconds * 1000, {
        onAccepted: () => tell(`  ${tick} accepted ${elapsedMs()} ms`),
        onApplied: (role) => tell(`  ${tick} ${role} ${elapsedMs()} ms`),
      });
      if (json) printJson({ id, kind, portal: signer.portal, ...describeEnding(ending), elapsedMs: elapsedMs() });
      if (ending.ending === 'applied') tell(`  ${tick} applied ${elapsedMs()} ms`);
      else report(ending);
    }
  } finally {
    await queues.close();
    await pool.end();
  }
}

/** How it ended, for programs: the verdict, and whether all that the request raised is applied. */
function describeEnding(ending: Ending): Record<string, unknown> {
  if (ending.ending === 'applied') return { verdict: 'accepted', done: true };
  if (ending.ending === 'timeout') {
    return { verdict: ending.accepted ? 'accepted' : null, done: false, sentence: ending.sentence };
  }
  const { code, sentence } = ending;
  return { verdict: ending.ending === 'refused' ? 'refused' : 'accepted', done: false, code, sentence };
}

/** Says why, and remembers the worst of all endings: what was refused outweighs what is slow. */
function report(ending: Exclude<Ending, { ending: 'applied' }>): void {
  if (ending.ending === 'timeout') {
    process.stderr.write(`TIMEOUT: ${ending.sentence}\n`);
    process.exitCode ??= EXIT.timeout;
    return;
  }
  const { code, sentence } = ending;
  process.stderr.write(
    `${ending.ending === 'refused' ? `${code}: ${sentence}` : failureLine(code, sentence)}\n`,
  );
  process.exitCode = EXIT.failed;
}

function twoSources(kind: string): ChamberlainError {
  return usage(`--file and '${kind}' at once: which of the two is meant?`);
}

function usage(sentence: string): ChamberlainError {
  return new ChamberlainError('USAGE', sentence);
}
