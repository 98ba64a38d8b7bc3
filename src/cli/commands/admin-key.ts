/** `chamberlain admin-key new`: makes an admin's own key on the admin's own machine, or takes one from an ssh-agent. */
import { createPublicKey, generateKeyPairSync } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { dirname, join } from 'node:path';
import { stringify } from 'yaml';
import { InvalidArgumentError, Option } from 'commander';
import { parseImportedShellName } from '../../identity/names.ts';
import { ChamberlainError } from '../../shared/errors.ts';
import { printable } from '../../shared/printable.ts';
import { DAY_MS } from '../../shared/time.ts';
import { fingerprintOf, keyOfLine, lineOf } from '../../ssh-keys/ed25519-key.ts';
import type { Command } from '../command.ts';
import { wantsJson } from '../configuration.ts';
import { adminFilePath, adminFolder, type AdminFile } from '../own-key/admin-file.ts';
import { encryptKey } from '../own-key/own-key.ts';
import { askPassphrases } from '../own-key/passphrase.ts';
import { type AgentKey, listAgentKeys } from '../own-key/ssh-agent.ts';
import { usage } from '../submission.ts';
import { print, printJson } from '../table.ts';

const LEAST_PASSPHRASE = 10;

interface NewOptions {
  person: string;
  label: string;
  days: number;
  out: string;
  agent?: true | string;
  realm?: string;
  api?: string;
  ca?: string;
}

export function define(command: Command): void {
  command.description("Makes admins' own keys.").helpCommand(false).exits();
  defineNew(command.command('new').summary('make a key, or take one from an ssh-agent'));
}

function defineNew(command: Command): void {
  command
    .description(
      'Makes an Ed25519 key in the format of OpenSSH, with a passphrase that it asks for on the terminal.\n' +
        'With --agent, takes an Ed25519 key that an ssh-agent holds. Prints the request that makes the key\n' +
        'known: an admin sends it, and another admin approves it. Needs no configuration and no\n' +
        'server. With --realm and --api, it also writes what `submit --api` needs on this machine.',
    )
    .requiredOption(
      '--person <name>',
      'the admin whose key it is: a shell name (required)',
      parsePerson,
    )
    .addOption(new Option('--label <text>', 'where the key is').default(hostname(), 'the host'))
    .option('--days <count>', 'for how many days it is valid', parseDays, 365)
    .addOption(
      new Option('--out <file>', 'the file of the key; its public half goes to FILE.pub').default(
        join(adminFolder(), 'admin-key'),
        '~/.config/chamberlain/admin-key',
      ),
    )
    .option(
      '--agent [fingerprint]',
      'a key of the ssh-agent: the only one, or the one with this fingerprint',
    )
    .option('--realm <name>', 'the realm, for ~/.config/chamberlain/admin.yaml')
    .option('--api <url>', 'where its API is')
    .option('--ca <file>', "the certificate of the CA that signed the API's certificate")
    .examples(
      'admin-key new --person alice --label "laptop of alice"',
      'admin-key new --person alice --agent --realm tools --api https://realm.example.org:8466',
    )
    .exits()
    .action(() => makeKey(command));
}

async function makeKey(command: Command): Promise<void> {
  const options = command.opts<NewOptions>();
  const { person, label, days, realm, api, ca } = options;
  if (realm === undefined && (api ?? ca) !== undefined)
    throw usage('--api and --ca need --realm as well');
  const file = options.agent === undefined ? options.out : `${options.out}.pub`;
  const line =
    options.agent === undefined
      ? await makeFile(options)
      : await takeFromAgent(options, options.agent);
  const fingerprint = fingerprintOf(keyOfLine(line));
  const expiresAt = new Date(Date.now() + days * DAY_MS).toISOString();
  const adminFile: AdminFile | undefined =
    realm === undefined
      ? undefined
      : {
          ...{ realm, person, key: file },
          ...(api === undefined ? {} : { api }),
          ...(ca === undefined ? {} : { caFile: ca }),
        };
  if (adminFile !== undefined) write(adminFilePath(), stringify(adminFile), 'w');
  const request = { kind: 'admin-key.add', person, publicKey: line, label, expiresAt };
  if (wantsJson(command)) {
    printJson({ file, fingerprint, request });
    return;
  }
  print(`${fingerprint}  ${printable(file)}`);
  print('');
  print(
    'To make the key known, an admin sends this request, and another admin approves it. If no other admin',
  );
  print('can, the owner of PostgreSQL does: `chamberlain bootstrap --approve NUMBER`.');
  print('');
  const words = Object.entries({ person, publicKey: line, label, expiresAt }).map(
    ([name, value]) => `--${name} ${quoteWord(value)}`,
  );
  print(`  chamberlain submit admin-key.add ${words.join(' ')}`);
  print('');
  print(
    `To sign with it: CHAMBERLAIN_ADMIN_KEY=${quoteWord(file)}, or \`adminKey\` in the configuration.`,
  );
  if (adminFile !== undefined) {
    print(`To send over HTTP: \`chamberlain submit … --api\`, which reads ${adminFilePath()}.`);
  }
}

/** Makes the key and its two files. Returns the line of the public half. */
async function makeFile({ out, label, person }: NewOptions): Promise<string> {
  const [passphrase = '', again] = await askPassphrases([
    `Passphrase for ${out} (at least ${LEAST_PASSPHRASE} characters): `,
    'The same again: ',
  ]);
  if (passphrase !== again)
    throw new ChamberlainError('USAGE', 'the two passphrases differ', { action: 'Try again.' });
  if (passphrase.length < LEAST_PASSPHRASE) {
    throw usage(`the passphrase has fewer than ${LEAST_PASSPHRASE} characters`);
  }
  const { privateKey } = generateKeyPairSync('ed25519');
  const line = lineOf(createPublicKey(privateKey));
  write(out, encryptKey(privateKey, passphrase, `${person} ${label}`), 'wx');
  write(`${out}.pub`, `${line} ${printable(label)}\n`, 'w');
  return line;
}

/** Writes the public half of a key of the agent. Returns its line. */
async function takeFromAgent({ out, label }: NewOptions, which: true | string): Promise<string> {
  const keys = await listAgentKeys();
  const fitting = keys.filter(({ fingerprint }) => which === true || fingerprint === which);
  const [key, another] = fitting;
  if (key === undefined || another !== undefined) throw ambiguous(keys, which);
  const line = `ssh-ed25519 ${key.blob.toString('base64')}`;
  write(`${out}.pub`, `${line} ${printable(label)}\n`, 'wx');
  return line;
}

function ambiguous(keys: readonly AgentKey[], which: true | string): ChamberlainError {
  const held = keys.map(({ fingerprint, comment }) => `${fingerprint} (${printable(comment)})`);
  return new ChamberlainError(
    'AGENT_UNAVAILABLE',
    which === true
      ? `the ssh-agent holds ${keys.length} Ed25519 keys, not one`
      : `the ssh-agent holds no Ed25519 key ${which}`,
    {
      action:
        held.length === 0
          ? 'Make one with ssh-keygen -t ed25519, and add it with ssh-add.'
          : `Name one of these with --agent: ${held.join(', ')}.`,
    },
  );
}

/** `wx`: the file must not exist. */
function write(path: string, text: string, flag: 'w' | 'wx'): void {
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    writeFileSync(path, text, { mode: 0o600, flag });
  } catch (cause) {
    const exists = (cause as NodeJS.ErrnoException).code === 'EEXIST';
    throw new ChamberlainError('USAGE', `writing ${path}`, {
      cause,
      action: exists ? 'It exists already: name another file with --out.' : 'Correct that.',
    });
  }
}

/** For a shell. */
function quoteWord(text: string): string {
  return /^[\w./:@=+-]+$/u.test(text) ? text : `'${text.replaceAll("'", String.raw`'\''`)}'`;
}

function parsePerson(text: string): string {
  if (parseImportedShellName(text) !== undefined) return text;
  throw new InvalidArgumentError('It must be a shell name.');
}

function parseDays(text: string): number {
  const days = Number(text);
  if (Number.isInteger(days) && days >= 1 && days <= 3650) return days;
  throw new InvalidArgumentError('It must be a number of days from 1 to 3650.');
}
