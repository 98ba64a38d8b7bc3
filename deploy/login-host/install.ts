/** Sets up this machine as a login host, or lists what differs. HELP below is the manual. */
import { parseArgs } from 'node:util';
import { formatJoinRequest } from '../../src/joining/join-request.ts';
import { isConfirmed, joinRequest, obstacles, readAnswer, valuesOf } from './joining.ts';
import { MISSING, NOT_NEEDED, type Piece } from './pieces.ts';
import { systemdRuns } from './services.ts';
import { joinedValues, readValues, type Values } from './values.ts';
import { wantedPieces } from './wanted.ts';

const HELP = `Usage: install [--check [--json]] [OPTION…]
       install setup --request [--name NAME]
       install setup --join FILE [--fingerprint CODE]

Makes this machine (Debian 13; run it as root) a login host: people can log in with the keys in the directory,
and use the commands \`become\` and \`take\`. It may be run again at any time: what is right is left alone, and
a setting whose option you do not give stays as it was. The Debian package installs this program as
chamberlain-login-host; the package itself brings the programs, the units and the accounts.

To join a realm (with \`setup\`, only these options are allowed):

  setup --request               make a key in /etc/chamberlain/join for this machine, and print a join request with its
                                public half; run again, it prints the same. An operator of the realm answers it with
                                \`chamberlain join\`
  --name NAME                   the name of this machine, if it is not its hostname
  setup --join FILE             decrypt the answer, and make this machine a login host with what it says
  --fingerprint CODE            that of the answer, as \`chamberlain join\` has shown it; required without a terminal

To set a host up by hand, or to check one (without \`setup\`):

  --check                       change nothing; print what differs, one line each
  --json                        with --check: {"differences": [{"what": "…", "differs": "…"}]}
  --ldap-uri URI                a server of the directory, ldaps://HOST (ldap:// and ldapi:// on this machine);
                                may be repeated; servers are tried in this order
  --base DN                     such as dc=example,dc=org
  --ca FILE                     the certificates (PEM) of the CA that signs the servers' certificates, if it is your own;
                                kept as /etc/chamberlain/ldap-ca.pem
  --agent-password-file FILE    the password (one line) of cn=keys-agent,ou=chamberlain,BASE, an account for all hosts
                                that are set up by hand; kept as /etc/chamberlain/secrets/ldap-keys-agent
  --seal-key FILE               the public key (PEM) that verifies the directory role's seals; kept in
                                login-host.yaml; may be given twice during a change of the key
  --config FILE                 the login-host.yaml to start from; by default the installed one,
                                /etc/chamberlain/login-host.yaml. These settings have no option here: realm, realmGid,
                                ids, homes, offlineLimitSeconds, knownBadKeys. Without a file: the realm \`tools\`, gid
                                500, people 1000-49999 and 100000-499999, tools 50000-59999, 24 hours.

The first time, to join: send request.json to an operator of the realm, who sends HOST.join back:

  # chamberlain-login-host setup --request >request.json
  # chamberlain-login-host setup --join HOST.join

The first time, by hand:

  # /opt/chamberlain/deploy/login-host/install --ldap-uri ldaps://ldap.example.org --base dc=example,dc=org \\
      --ca /root/ca.pem --agent-password-file /root/ldap-keys-agent --seal-key /root/seal-key.pem

Later, after a change of /etc/chamberlain/login-host.yaml, of the clone, or of the local accounts:

  # /opt/chamberlain/deploy/login-host/install --check
  # /opt/chamberlain/deploy/login-host/install

It takes care of: Debian packages; the accounts chamberlain-keys and chamberlain-lookup; /etc/chamberlain;
/var/lib/chamberlain; programs in /usr/lib/chamberlain, become, take, chamberlain-whoami, keys-agent; lines of
nsswitch.conf and sudo.conf, of pam.d/sshd, and of pam.d/cron and pam.d/atd if they exist; sudoers.d/chamberlain;
sshd_config.d/00-chamberlain.conf, and whether it is in effect; two services. After that, sshd accepts keys but no
passwords. It ignores keys in homes, including root's: the keys of local accounts are in
/etc/ssh/authorized_keys.d/NAME. If that would lock somebody out, install changes nothing, and says what to do.

A host that was set up with sssd also asks sssd, after its own files, until you run \`keys-agent require-seals\`.
After that, install removes what is left of sssd.

Exit codes:
  0  this machine is a login host (with --check: nothing differs)
  1  something differs that only you can correct, or an error, one line each (with --check: something differs)
  2  the command line, the configuration or a file that they name is wrong
`;

interface Difference {
  readonly what: string;
  readonly differs: string;
}

function main(): number {
  const options = readOptions();
  if (options === undefined) return 2;
  if (options.help) {
    process.stdout.write(HELP);
    return 0;
  }
  if (process.getuid?.() !== 0) return complain('only root may run this', 2);
  let values: Values;
  try {
    if (options.request) return printRequest(options.name);
    if (options.join === undefined) values = readValues(options.given);
    else {
      const answer = readAnswer(options.join);
      if (!isConfirmed(answer, options.fingerprint)) return complain('nothing was changed', 1);
      values = joinedValues(valuesOf(answer));
    }
  } catch (error) {
    return complain((error as Error).message, 2);
  }
  const pieces = wantedPieces(values);
  return options.check ? check(pieces, options.json) : install(pieces);
}

/** The join request goes to standard output, for a file; the rest to standard error, for the operator. */
function printRequest(name: string | undefined): number {
  const request = joinRequest(name);
  process.stdout.write(formatJoinRequest(request));
  process.stderr.write(
    `${request.name} has the fingerprint ${request.fingerprint}\n` +
      'Send the join request to an operator of the realm, and tell them this fingerprint in another way. The operator\n' +
      'compares it, and runs `chamberlain join FILE`.\n' +
      `Then run here \`chamberlain-login-host setup --join ${request.name}.join\`, which is the answer.\n` +
      obstacles()
        .map((obstacle) => `before that: ${obstacle}\n`)
        .join(''),
  );
  return 0;
}

function check(pieces: readonly Piece[], json: boolean): number {
  const differences = pieces.flatMap(look);
  if (json) print(JSON.stringify({ differences }));
  else differences.forEach((difference) => print(line(difference)));
  return differences.length === 0 ? 0 : 1;
}

function install(pieces: readonly Piece[]): number {
  const refusals = pieces.filter(({ isCondition }) => isCondition).flatMap(look);
  if (refusals.length > 0) {
    refusals.forEach((refusal) => complain(line(refusal), 1));
    return complain('nothing was changed', 1);
  }
  let changed = 0;
  for (const piece of pieces) {
    if (piece.mend === undefined) continue;
    const [before] = look(piece);
    if (before === undefined) continue;
    const watch = process.stderr.isTTY; // packages and compiled programs take minutes
    if (watch) process.stderr.write(`correcting: ${piece.what} …`);
    try {
      piece.mend();
    } catch (error) {
      if (watch) process.stderr.write('\n');
      return complain(`${piece.what}: ${(error as Error).message}`, 1);
    }
    if (watch) process.stderr.write('\r\u001B[K');
    changed += 1;
    print(doneLine(before));
  }
  const left = pieces.flatMap(look);
  left.forEach((difference) => complain(line(difference), 1));
  if (changed === 0 && left.length === 0) print('nothing to do: this machine is a login host');
  else if (changed > 0 && !systemdRuns()) {
    print(
      'systemd is not running here: start or restart sshd, login-helper and keys-agent yourself',
    );
  }
  return left.length === 0 ? 0 : 1;
}

function look(piece: Piece): Difference[] {
  const differs = piece.differs();
  return differs === undefined ? [] : [{ what: piece.what, differs }];
}

function line({ what, differs }: Difference): string {
  return `${what}: ${differs}`;
}

/** The line about a corrected difference. */
function doneLine({ what, differs }: Difference): string {
  if (differs === MISSING) return `created: ${what}`;
  if (differs === NOT_NEEDED) return `removed: ${what}`;
  return `changed: ${what}; before: ${differs}`;
}

function readOptions() {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        request: { type: 'boolean', default: false },
        name: { type: 'string' },
        join: { type: 'string' },
        fingerprint: { type: 'string' },
        check: { type: 'boolean', default: false },
        json: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
        'ldap-uri': { type: 'string', multiple: true },
        base: { type: 'string' },
        ca: { type: 'string' },
        'agent-password-file': { type: 'string' },
        'seal-key': { type: 'string', multiple: true },
        config: { type: 'string' },
      },
    });
    if (values.json && !values.check) throw new Error('--json requires --check');
    const { request, name, join, fingerprint } = values;
    requireJoining(positionals, values);
    const given = {
      ldapUris: values['ldap-uri'],
      base: values.base,
      caFile: values.ca,
      agentPasswordFile: values['agent-password-file'],
      sealKeyFiles: values['seal-key'],
      configFile: values.config,
    };
    const { check: isCheck, json, help } = values;
    return { check: isCheck, json, help, request, name, join, fingerprint, given };
  } catch (error) {
    complain(`${(error as Error).message.split('\n')[0]} (see --help)`, 2);
    return undefined;
  }
}

/** Options of `setup` need that word, and no others: an answer says everything. */
function requireJoining(
  positionals: readonly string[],
  { help, request, name, join, fingerprint, ...others }: Readonly<Record<string, unknown>>,
): void {
  const [word, ...more] = positionals;
  const unexpected = word === 'setup' ? more[0] : word;
  if (unexpected !== undefined) throw new Error(`unexpected '${unexpected}'`);
  const isJoining = request === true || join !== undefined;
  if (word === undefined) {
    if (isJoining) throw new Error('--request and --join need the word `setup` before them');
  } else if (request === true ? join !== undefined : join === undefined && help !== true) {
    throw new Error('setup needs either --request or --join FILE');
  }
  if (name !== undefined && request !== true) throw new Error('--name requires --request');
  if (fingerprint !== undefined && join === undefined) {
    throw new Error('--fingerprint requires --join');
  }
  const other = Object.entries(others).find(([, value]) => value !== undefined && value !== false);
  if (isJoining && other !== undefined) {
    throw new Error(`--${other[0]} is for a host that is set up by hand: leave it out`);
  }
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

function complain(text: string, exit: number): number {
  process.stderr.write(`install: ${text}\n`);
  return exit;
}

try {
  process.exitCode = main();
} catch (error) {
  process.exitCode = complain((error as Error).message, 1);
}
