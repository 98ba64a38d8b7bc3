/** `chamberlain submit`: its options, derived from the kinds of request; sends requests, and follows them. */
import { randomUUID } from 'node:crypto';
import { Option } from 'commander';
import type { RedisAccount } from '../../backends/redis/redis-connection.ts';
import { openPool, type Pool } from '../../database/connection.ts';
import { look } from '../../database/overview.ts';
import { type Config, findSecret } from '../../shared/config.ts';
import { printable } from '../../shared/printable.ts';
import type { Command } from '../command.ts';
import { configOf, wantsJson } from '../configuration.ts';
import type { ChamberlainError } from '../../shared/errors.ts';
import { KIND_SUMMARIES, REQUEST_KINDS, type RequestKind } from '../../requests/kinds.ts';
import { findRequests, type Outcome } from '../../requests/request-progress.ts';
import { nearest, suggest } from '../../shared/nearest.ts';
import { EXIT } from '../exit.ts';
import { type Field, fieldsOf } from '../kind-fields.ts';
import { parseSeconds } from '../options/seconds.ts';
import { follow, reportUndone } from '../follow.ts';
import {
  type Line,
  makeSubmission,
  problemsOf,
  readRequestLines,
  type Signer,
  type Speaker,
  type Submission,
  usage,
} from '../submission.ts';
import { openSubmitter } from '../own-key/submitter.ts';
import { startProgress, whileWaiting } from '../progress.ts';
import { paint, print, printJson } from '../table.ts';

interface SubmitOptions extends Speaker {
  file?: string;
  portal?: string;
  portalKey?: string;
  wait?: true;
  timeout: number;
  id?: string;
  api?: true;
}

const EXITS = {
  0: 'sent; with --wait: applied everywhere',
  1: 'failed, or with --wait: refused, or a role has given up: see standard error, `CODE: sentence`',
  2: 'the command line, the configuration or a request is wrong: nothing was sent',
  3: 'with --wait: the request waits for an admin (an access.request ends with 0, once it is recorded)',
  5: 'with --wait: not applied everywhere after --timeout seconds',
};

export function define(command: Command): void {
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
    .option(
      '--portal-key <file>',
      "the key to sign with: with --portal, a key of that portal (required); without it, the admin's own (default: $CHAMBERLAIN_ADMIN_KEY, or `adminKey` in the configuration). Ed25519, PKCS #8 in PEM; an admin's may be in OpenSSH's format, or a .pub file whose key an ssh-agent holds",
    )
    .option(
      '--api',
      'send over HTTP with what ~/.config/chamberlain/admin.yaml says; needs no configuration',
    )
    .option(
      '--requestedBy <person>',
      "the person whose request it is (default: the admin's own name)",
    )
    .option(
      '--approvedBy <person>',
      'the person who approved it (default: the admin whose key signs; with --portal, --requestedBy)',
    )
    .option('--id <uuid>', 'the id of the request (default: a new one)')
    .option('--wait', 'follow the request until it is refused, or applied everywhere')
    .option('--timeout <seconds>', 'how long --wait follows each', parseSeconds, 60)
    .allowExcessArguments()
    .allowUnknownOption()
    .addHelpText(
      'after',
      `
A line of --file holds {"kind": …, fields…}, and may hold "requestedBy", "approvedBy" and "id".
If one line does not fit its schema, nothing is sent. Otherwise the requests are sent in order. With
--wait, each is followed to its end before the next is sent.`,
    )
    .examples(
      'submit tool.create --help',
      'submit person.create --shellName alice --displayName Alice --email a@example.org --wait',
      'submit tool.create --portal portal --portal-key portal.pem --requestedBy alice \\\n' +
        '      --name bridgebot --title "A bridge" --wait',
      'submit person.suspend --people alice,bob --reason "Spam" --until 2027-01-01T00:00:00Z --wait',
      'submit --file requests.jsonl --wait --json',
    )
    .exits(EXITS)
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
      await submit(command, readRequestLines(file));
    });
  for (const kind of REQUEST_KINDS) defineKind(command, kind);
}

/** Each kind is a subcommand of `submit`, and its fields are options of the same name. */
function defineKind(parent: Command, kind: RequestKind): void {
  const fields = fieldsOf(kind);
  const command = parent
    .command(kind)
    .allowUnknownOption() // so that all of them are reported, with the problems of the fields
    .summary(KIND_SUMMARIES[kind])
    .description(`${KIND_SUMMARIES[kind]}.`.replace(/^./u, (first) => first.toUpperCase()))
    .exits(EXITS)
    .action(async () => {
      if (parent.opts<SubmitOptions>().file !== undefined) {
        throw twoSources(kind);
      }
      const given = command.opts<Record<string, unknown>>();
      const request = { kind, ...given };
      const { unknown, words } = readExcess(command.args);
      if (unknown.length > 0) throw unknownOptions(command, unknown, request);
      if (words.length > 0) throw excess(words, fields, given);
      await submit(command, [{ request, where: '' }]);
    });
  for (const { name, description, required, value, read } of fields) {
    command.addOption(
      new Option(
        `--${name} ${value}`,
        `${description}${isWaiting(kind, name) ? BY_NUMBER : ''}${required ? ' (required)' : ''}`,
      ).argParser(read),
    );
  }
}

const BY_NUMBER = ', or (without --api) its number, as `requests` shows it';

/** Whether the field names a waiting request. */
function isWaiting(kind: RequestKind, field: string): boolean {
  return (kind === 'request.approve' || kind === 'request.reject') && field === 'request';
}

/** Splits what commander could not read: options, of which each may have a value, and other words. */
function readExcess(args: readonly string[]): { unknown: string[]; words: string[] } {
  const isOption = (word: string | undefined) => word !== undefined && /^-./u.test(word);
  return {
    unknown: args.filter(isOption),
    words: args.filter((word, at) => !isOption(word) && !isOption(args[at - 1])),
  };
}

/** The error for options that the kind does not have. It also tells what is wrong with the fields that were given. */
function unknownOptions(
  command: Command,
  words: readonly string[],
  request: Record<string, unknown>,
): ChamberlainError {
  const flags: string[] = [];
  for (let of: Command['parent'] = command; of !== null; of = of.parent) {
    flags.push(...of.options.flatMap(({ long }) => long ?? []));
  }
  const names = [...new Set(words.map((word) => word.replace(/=.*$/su, '')))];
  const meant = new Set(names.flatMap((name) => nearest(name, flags)));
  // somebody gives the name of the requester elsewhere
  const problems = problemsOf({ requestedBy: 'x', ...request }).filter(
    (problem) => !meant.has(`--${problem.replace(/ is missing$/u, '')}`),
  );
  return usage(
    [...names.map((name) => `unknown option '${name}'${suggest(name, flags)}`), ...problems].join(
      '; ',
    ),
  );
}

/** The error for words that belong to no option: a value without its option, or a text without quotes. */
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
  return usage(`unexpected '${words.join(' ')}'. ${advice}`);
}

function twoSources(kind: string): ChamberlainError {
  return usage(`--file and '${kind}' exclude each other: give one of them`);
}

/** Sends requests as the options of `submit` say. Each line says where it comes from, for messages. */
async function submit(command: Command, lines: readonly Line[]): Promise<void> {
  const options = command.optsWithGlobals<SubmitOptions>();
  if (options.api === true) return await submitOverHttp(command, lines, options);
  const config = configOf(command);
  const signer = await openSubmitter(config, options.portal, options.portalKey);
  const found = await findWaiting(config, lines);
  const submissions = makeSubmissions(found, signer, options);
  const json = wantsJson(command);
  if (options.wait) await sendAndFollow(config, signer, submissions, options.timeout, json);
  else await send(config, signer, submissions, json);
}

/** Sends requests from an admin's own machine. Shows no progress of single roles: each call waits for the end. */
async function submitOverHttp(
  command: Command,
  lines: readonly Line[],
  options: SubmitOptions,
): Promise<void> {
  if (options.portal !== undefined || options.portalKey !== undefined) {
    throw usage('--api excludes --portal and --portal-key: it signs with the key of admin.yaml');
  }
  const { loadAdminFile, openAdminSigner } = await import('../own-key/admin-file.ts');
  const { sendOverHttp } = await import('../own-key/api-client.ts');
  const file = loadAdminFile();
  const signer = await openAdminSigner(file);
  const json = wantsJson(command);
  for (const submission of makeSubmissions(lines, signer, options)) {
    const { id, kind } = submission;
    const seconds = options.wait === true ? options.timeout : undefined;
    const act = () => sendOverHttp(file, signer, submission, seconds);
    const outcome = await whileWaiting(`waiting for the API's answer to ${kind}`, act);
    if (json) printJson({ id, kind, portal: signer.portal, ...outcome });
    else print(id);
    if (outcome === undefined) continue;
    if (!outcome.done) report(id, outcome);
    else if (!json) process.stderr.write(`${describeApplied(kind)}\n`);
  }
}

/** An admin may name the request that they decide on by its number: puts its id and its portal there. */
async function findWaiting(config: Config, lines: readonly Line[]): Promise<Line[]> {
  const found: Line[] = [];
  for (const line of lines) {
    const { kind, request: number, ...others } = 'request' in line ? line.request : {};
    const isNumber = typeof number === 'string' && /^[0-9]{1,18}$/u.test(number);
    if ((kind !== 'request.approve' && kind !== 'request.reject') || !isNumber) {
      found.push(line);
      continue;
    }
    const { withAdmin } = await import('../admin.ts');
    const [named] = await withAdmin(config, (client) => findRequests(client, number));
    const { where } = line;
    if (named === undefined) {
      found.push({ where, problems: [`no request has the number ${number}`] });
    } else if (named.id === null) {
      const why = `the request ${number} was sent by no portal, so nobody decides about it`;
      found.push({ where, problems: [why] });
    } else {
      const request = { kind, request: named.id, sentBy: named.portal, ...others };
      found.push({ where, request });
    }
  }
  return found;
}

/** The requests to send. If a line is wrong, none is sent: throws USAGE after it has checked every line. */
function makeSubmissions(
  lines: readonly Line[],
  signer: Signer,
  options: SubmitOptions,
): Submission[] {
  const { id } = options;
  if (id !== undefined && lines.length !== 1) {
    throw usage('--id can be given only for a single request');
  }
  const submissions: Submission[] = [];
  const wrong: string[] = [];
  for (const line of lines) {
    const made =
      'problems' in line
        ? line
        : makeSubmission(
            id === undefined ? line.request : { ...line.request, id },
            signer,
            options,
            randomUUID,
          );
    if ('problems' in made) wrong.push(`${line.where}${made.problems.join('; ')}`);
    else submissions.push(made);
  }
  const [first, ...others] = wrong;
  if (first === undefined) return submissions;
  if (others.length === 0) throw usage(first);
  for (const text of wrong) process.stderr.write(`${printable(text)}\n`);
  throw usage(`${wrong.length} of ${lines.length} requests are wrong, so nothing was sent`);
}

async function send(
  config: Config,
  signer: Signer,
  submissions: readonly Submission[],
  json: boolean,
): Promise<void> {
  const { openQueues, put } = await import('../sending.ts');
  const queues = openQueues(config, senderAccount(config, signer));
  const progress = startProgress({ json: true }); // without a terminal, the ids are enough
  try {
    for (const [sent, submission] of submissions.entries()) {
      progress.say(`sending ${submission.kind}, ${sent + 1} of ${submissions.length}`);
      await put(queues, submission, signer, config.realm, { sent, of: submissions.length });
      const { id, kind } = submission;
      if (json) printJson({ id, kind, portal: signer.portal });
      else print(id);
    }
    progress.end();
    if (!json && process.stdout.isTTY) print(paint('dim', hintOn(submissions)));
  } finally {
    progress.end();
    await queues.close();
  }
}

/** A request that was sent is not accepted yet: this says how to see the outcome. */
function hintOn([first, ...others]: readonly Submission[]): string {
  const of = others.length === 0 ? ` ${first?.id ?? ''}` : '';
  return `sent; \`chamberlain requests${of}\` shows ${of === '' ? 'their verdicts' : 'the verdict'}`;
}

/** The Redis account of the admin, or the portal's own if the admin's secret is not on this machine. */
function senderAccount(config: Config, { portal, admin }: Signer): RedisAccount {
  if (admin !== undefined || isReadable(() => findSecret(config, 'redis', 'admin'))) return 'admin';
  return isReadable(() => findSecret(config, 'redis', `portal.${portal}`))
    ? `portal.${portal}`
    : 'admin';
}

function isReadable(find: () => string | undefined): boolean {
  try {
    return find() !== undefined;
  } catch {
    return false; // the file belongs to another user
  }
}

async function sendAndFollow(
  config: Config,
  signer: Signer,
  submissions: readonly Submission[],
  timeoutSeconds: number,
  json: boolean,
): Promise<void> {
  // a portal follows its requests with its own Redis account
  const { lostSight, openQueues, put } = await import('../sending.ts');
  const isPortal =
    signer.admin === undefined && !isReadable(() => findSecret(config, 'postgres', 'admin'));
  const pool = isPortal ? undefined : openPool(config, 'admin', { max: 1, durable: true });
  const queues = openQueues(config, senderAccount(config, signer));
  // progress goes to standard error, so that standard output has only the ids
  const progress = startProgress({ json: true });
  const say = (text: string) => {
    progress.erase();
    if (!json) process.stderr.write(`${text}\n`);
  };
  const tick = paint('green', '✓', process.stderr);
  try {
    for (const [count, submission] of submissions.entries()) {
      const { id, kind } = submission;
      const which = `${kind}, ${count + 1} of ${submissions.length}`;
      progress.say(`waiting for the verdict on ${which}`);
      const start = performance.now();
      const elapsedMs = () => Math.round(performance.now() - start);
      const far = { sent: count, of: submissions.length };
      const sent = await put(queues, submission, signer, config.realm, far);
      if (!json) print(id);
      const outcome = await follow(
        pool,
        { portal: signer.portal, id, sent },
        timeoutSeconds * 1000,
        {
          onFrozen: (sentence) => say(`  ${paint('yellow', '…', process.stderr)} ${sentence}`),
          onAccepted() {
            say(`  ${tick} accepted ${elapsedMs()} ms`);
            progress.say(`waiting for the roles to apply ${which}`);
          },
          onApplied: (role) => say(`  ${tick} ${role} ${elapsedMs()} ms`),
        },
      ).catch((cause: unknown) => {
        const notSent = submissions.length - count - 1;
        throw lostSight(id, cause, { notSent, isPortal });
      });
      if (json) printJson({ id, kind, portal: signer.portal, ...outcome, elapsedMs: elapsedMs() });
      if (outcome.done) {
        say(describeApplied(kind, ` ${elapsedMs()} ms`));
        const note = pool === undefined ? undefined : await noteAdmin(pool, config, submission);
        if (note !== undefined) say(`  ${paint('yellow', '!', process.stderr)} ${note}`);
      } else {
        progress.erase();
        report(id, outcome);
      }
    }
  } finally {
    progress.end();
    await queues.close();
    await pool?.end();
  }
}

/** A maintainer of the admin tool whose access was revoked is an admin again when it is granted: says so. */
async function noteAdmin(
  pool: Pool,
  config: Config,
  { kind, fields }: Submission,
): Promise<string | undefined> {
  const { person: name } = fields as { person?: string };
  if (kind !== 'access.grant' || name === undefined) return undefined;
  const { findPerson } = await import('../../identity/people-table.ts');
  const person = await look(pool, (client) => findPerson(client, name, config.admin));
  return person?.admin === true
    ? `${name} is an admin again: they have stayed a maintainer of the tool ${config.admin}`
    : undefined;
}

/** What standard error says of a request that is applied everywhere. An admin has yet to answer an access.request. */
function describeApplied(kind: RequestKind, after = ''): string {
  const applied = `  ${paint('green', '✓', process.stderr)} applied${after}`;
  const waits = `  ${paint('yellow', '…', process.stderr)} an admin must grant or refuse the access`;
  return kind === 'access.request' ? `${applied}\n${waits}` : applied;
}

/** Says why it is not done, and keeps the worst exit code of all requests. */
function report(id: string, outcome: Outcome): void {
  const { waiting, rejected, sentence = '' } = outcome;
  if (waiting === true) {
    process.stderr.write(
      `WAITING: ${sentence.replace(/\.$/u, '')}. To approve it, another admin runs \`chamberlain submit request.approve --request ${id}\`. If no other admin can, the owner of PostgreSQL runs \`chamberlain bootstrap --approve ${id}\`.\n`,
    );
    process.exitCode ??= EXIT.pending;
  } else if (rejected === true) {
    process.stderr.write(`REJECTED: ${sentence}\n`);
    process.exitCode = EXIT.failed;
  } else reportUndone(outcome);
}
