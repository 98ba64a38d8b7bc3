/**
 * One table of codes, and the one error class that carries them.
 *
 * An error's message is the act that failed; `cause` is the cause; `context` holds names and
 * numbers, never a secret. Whether to try again stands in the table and nowhere else, and only the
 * convergence row reads it.
 */

interface CodeEntry {
  /** true: it may go away by itself, so try again; false: parked until someone acts */
  retry: boolean;
  meaning: string;
  action: string;
}

/** Every stable code: what it means, what to do. docs/errors.md is made from this table. */
export const CODES = {
  // requests
  REQUEST_TOO_LARGE: refusal('The job holds more than 64 KiB.', 'Send a smaller request.'),
  TOO_MUCH_AT_ONCE: refusal(
    'What follows from the request takes PostgreSQL longer than a statement may.',
    'Ask for less at once, such as fewer people.',
  ),
  REQUEST_MALFORMED: refusal(
    'The job is not a JSON object with a signed token.',
    'Send `{"token": "<compact JWS>"}`.',
  ),
  REQUEST_SIGNATURE: refusal(
    'The token is not signed by a key of the portal that it names.',
    'Sign with a key that the configuration lists for this portal.',
  ),
  REQUEST_PORTAL_UNKNOWN: refusal(
    'The token names no portal of this realm, or another than the one in whose queue it lies.',
    'Use a portal that the configuration lists as `iss`, and the queues of that portal.',
  ),
  REQUEST_AUDIENCE: refusal('The token is for another realm.', 'Set `aud` to this realm.'),
  REQUEST_EXPIRED: refusal(
    'The token has expired, is not valid yet, or lives longer than 7 days.',
    'Send a new request, with `iat` now and `exp` at most 7 days on.',
  ),
  REQUEST_INVALID: refusal(
    'The request does not fit the schema of its kind.',
    'Compare it with `chamberlain schema KIND`.',
  ),
  REQUEST_KIND_UNKNOWN: refusal('There is no such kind of request.', 'See `chamberlain schema`.'),
  REQUEST_KIND_FORBIDDEN: refusal(
    'This portal may not send this kind.',
    'List the kind for this portal in the configuration, or send it through another.',
  ),
  REQUEST_NOT_URGENT: refusal(
    'The urgent queue takes only what takes access away.',
    'Send it to the queue `requests.<portal>`.',
  ),
  REQUEST_REPLAYED: refusal(
    'Another request with this id had other contents.',
    'Use a new `jti` for a new request.',
  ),
  // people and rights
  PERSON_UNKNOWN: refusal(
    'There is no such person.',
    'Check the name, or create the person first.',
  ),
  PERSON_SUSPENDED: refusal('The person is suspended.', 'An admin can reinstate the person.'),
  PERSON_ALREADY_SUSPENDED: refusal(
    'The person is suspended already, for as long or longer.',
    'Nothing needs to be done.',
  ),
  PERSON_NOT_SUSPENDED: refusal(
    'The person is not suspended.',
    'Nothing needs to be done; who is to be erased is suspended first.',
  ),
  PERSON_LEAVING: refusal(
    'The person is to be deleted or erased, is being put away, or is being brought back.',
    'See `chamberlain status PERSON`; person.reinstate keeps a person who is to be deleted.',
  ),
  PERSON_DELETED: refusal(
    'The person was deleted.',
    'An admin can bring the person back (person.restore) while the archives are kept.',
  ),
  PERSON_NOT_DELETED: refusal('The person is not deleted.', 'Nothing needs to be done.'),
  PERSON_NOT_KEPT: refusal(
    'The archives of the person are kept no longer.',
    'The person cannot be brought back; make a person of another shell name.',
  ),
  PERSON_NOT_REALM_MEMBER: refusal(
    'The person has no access to this realm.',
    'Ask for access first; an admin grants it.',
  ),
  PERSON_ALREADY_REALM_MEMBER: refusal(
    'The person has access already.',
    'Nothing needs to be done.',
  ),
  TOOL_UNKNOWN: refusal('There is no such tool.', 'Check the name.'),
  TOOL_ALREADY_DISABLED: refusal('The tool is disabled already.', 'Nothing needs to be done.'),
  TOOL_NOT_DISABLED: refusal('The tool is not disabled.', 'Nothing needs to be done.'),
  TOOL_LEAVING: refusal(
    'The tool is to be deleted, is being put away, or is being brought back.',
    'See `chamberlain status TOOL`; tool.enable keeps a tool that is to be deleted.',
  ),
  TOOL_DELETED: refusal(
    'The tool was deleted.',
    'An admin can bring it back with `chamberlain restore TOOL` while its archive is kept.',
  ),
  TOOL_NOT_DELETED: refusal('The tool is not deleted.', 'Nothing needs to be done.'),
  TOOL_NOT_KEPT: refusal(
    'The archive of the tool is kept no longer.',
    'It cannot be brought back; make a tool of another name.',
  ),
  SUBJECT_HELD: refusal(
    'An admin holds the person or the tool: it is not deleted until the hold ends.',
    'See `chamberlain status SUBJECT`; an admin can lift the hold (subject.release).',
  ),
  NOT_HELD: refusal('Nobody holds the person or the tool.', 'Nothing needs to be done.'),
  MAINTAINER_UNKNOWN: refusal('That is no maintainer of the tool.', 'Check the name.'),
  MAINTAINER_ALREADY: refusal('That is a maintainer already.', 'Nothing needs to be done.'),
  ADMIN_TOOL: refusal(
    'The admin tool is for people, changed by admins, and keeps at least one.',
    'Have an admin ask for it, naming people only.',
  ),
  NOT_ALLOWED: refusal(
    'The person who asks may not ask for this.',
    'Have someone with the right ask for it: the person, a direct maintainer, or an admin.',
  ),
  ACCESS_NOT_REQUESTED: refusal(
    'No request for access of this person is open.',
    'See `chamberlain requests` for those that are.',
  ),
  ACCESS_ALREADY_REQUESTED: refusal(
    'A request for access of this person is open already.',
    'Wait for an admin.',
  ),
  CREDENTIALS_NONE: refusal('The account has no credentials yet.', 'Grant access first.'),
  SERVER_UNKNOWN: refusal('There is no such database server.', 'Use a name of the configuration.'),
  // what waits for an admin
  WAITS_ALREADY: refusal(
    'The same is asked already, and waits for an admin.',
    'See `chamberlain requests`; another admin approves or rejects it.',
  ),
  NOT_WAITING: refusal(
    'No such request waits for an admin.',
    'See `chamberlain requests` for those that do.',
  ),
  WAITS_TWICE: refusal(
    'Requests of several portals wait for an admin by the same id.',
    'Name the portal too (`sentBy`): `chamberlain requests` says which.',
  ),
  OWN_REQUEST: refusal(
    'Nobody decides on what he asked for himself.',
    'Have another admin approve or reject it.',
  ),
  // names
  NAME_INVALID: refusal('The name does not fit the grammar.', 'Choose a name that does.'),
  NAME_RESERVED: refusal('The name is reserved for the system.', 'Choose another name.'),
  NAME_TAKEN: refusal('The name is taken, or was once.', 'Choose another name.'),
  NAME_FOREIGN: refusal(
    'The name belongs to something in the directory that is not ours.',
    'Choose another name, or have an admin look at the entry.',
  ),
  ID_FOREIGN: refusal(
    'The number belongs to something in the directory that is not ours.',
    'Have an admin look at the entry.',
  ),
  IDS_EXHAUSTED: refusal('No number is left in the ranges.', 'Add a range to the configuration.'),
  // keys
  KEY_PRIVATE: refusal(
    'That is a private key.',
    'Throw this key away now, make a new pair, and send the public half.',
  ),
  KEY_MALFORMED: refusal(
    'That is not one line with one public key.',
    'Paste the one line of a .pub file.',
  ),
  KEY_TYPE: refusal(
    'Keys of this type are not taken.',
    'Make an ed25519 key: ssh-keygen -t ed25519.',
  ),
  KEY_WEAK: refusal(
    'The key is too weak or broken.',
    'Make an ed25519 key: ssh-keygen -t ed25519.',
  ),
  KEY_OPTION: refusal('An option before the key is not allowed.', 'Remove the option.'),
  KEY_COMMENT: refusal('The comment is too long or not printable.', 'Shorten the comment.'),
  KEY_TAKEN: refusal('The key is held by another, or was.', 'Make a new key.'),
  KEY_KNOWN_BAD: refusal('The key is publicly known.', 'Make a new key, and use this one nowhere.'),
  KEY_ALREADY: refusal('The person has this key already.', 'Nothing needs to be done.'),
  KEY_UNKNOWN: refusal('The person has no such key.', 'Check the fingerprint.'),
  KEY_TOO_MANY: refusal('The person has as many keys as are allowed.', 'Remove one first.'),
  // findings
  UNMANAGED: refusal(
    'Something in our places, or with a number of our ranges, is not ours.',
    'See `chamberlain list unmanaged`, then adopt it or ignore it.',
  ),
  PATH_FOREIGN: refusal(
    'A path that should be a home is something else, or belongs to another.',
    'Look at it, and move it away; then `chamberlain repair SUBJECT`.',
  ),
  TOOL_ORPHANED: refusal(
    'Nobody who may log in maintains the tool, directly or through other tools.',
    'Name a maintainer: maintainer.add, as an admin.',
  ),
  DATABASE_FOREIGN: refusal(
    'A database account stands in the way.',
    'Look at it, and remove it; then `chamberlain repair SUBJECT`.',
  ),
  ARCHIVE_DIFFERS: refusal(
    'What is there is not in the archive of it: it came later, or belongs to another.',
    'Look at it, and move it away or drop it; then `chamberlain repair SUBJECT`.',
  ),
  // what admins do
  FROZEN: refusal('The realm is frozen.', 'See `chamberlain status`; `chamberlain thaw` ends it.'),
  DATABASE_OLDER: refusal(
    'Our database came back from a backup, and does not know what was done since.',
    'Run `chamberlain recover`, which thaws when it is safe.',
  ),
  PLAN_MOVED: refusal(
    'What would be done now is not what was read.',
    'Read `chamberlain plan` again, and give the digest that it shows.',
  ),
  STILL_AT_WORK: refusal(
    'What a repair has asked for takes longer than was waited for, and goes on.',
    'See `chamberlain status SUBJECT` for how far it is; run the repair again when that is over.',
  ),
  DESTROY_WITHHELD: refusal(
    'Steps that destroy are not done without being asked for.',
    'Read them, then give --destroy.',
  ),
  AUDIT_BROKEN: refusal(
    'The audit is not as it was sealed.',
    'Keep a copy of the database now, and compare it with a backup.',
  ),
  AUDIT_NOT_CLOSABLE: refusal(
    'The year of the audit cannot be closed as things are.',
    'Settle what is named, and run `chamberlain audit close YEAR` again: nothing was removed.',
  ),
  BACKUP_DAMAGED: refusal(
    'A set of backups is not whole, or cannot be restored.',
    'Use another set, and find out what became of this one.',
  ),
  // what an import cannot take
  ENTRY_INCOMPLETE: refusal(
    'The entry lacks something that it must have.',
    'Mend the entry in the directory, and import again.',
  ),
  DELETION_UNDATED: refusal(
    'The tool is marked to be deleted without a time that a countdown can begin at.',
    'It was taken as disabled. Use tool.delete if it is to be deleted, or tool.enable.',
  ),
  ID_OUT_OF_RANGE: refusal(
    'The number is in no range of its kind.',
    'Add a range to the configuration, or give the account another number.',
  ),
  ID_TAKEN: refusal(
    'The number belongs to another account already.',
    'Give one of the two another number, and import again.',
  ),
  MEMBER_UNKNOWN: refusal(
    'A member of the group is no person or tool that was taken.',
    'Remove the member, or mend its entry and import again.',
  ),
  // faults
  BACKEND_UNREADABLE: fault(
    'A server could not be read, or answered short.',
    'Look at the server; the work goes on by itself when it is back.',
  ),
  BACKEND_UNAVAILABLE: fault(
    'A server could not be reached or did not answer in time.',
    'Look at the server; the work goes on by itself when it is back.',
  ),
  STEP_STALE: fault(
    'What a step was planned on has changed meanwhile.',
    'Nothing: it is planned anew.',
  ),
  STILL_CHANGING: fault(
    'What is being put away still changes while it is read.',
    'End the programs that write to it, on every machine; it is tried again.',
  ),
  ARCHIVE_DAMAGED: refusal(
    'An archive is not there, or not as it was recorded; nothing is destroyed.',
    'Look at what is in the folder of archives; put it there from a backup.',
  ),
  STEP_FAILED: fault('A server refused a step.', 'Read the cause in `chamberlain status SUBJECT`.'),
  NOT_ACCEPTED: fault(
    'The root helper has not accepted the directory.',
    'See `keys-agent status`.',
  ),
  CONFIG_INVALID: refusal('The configuration cannot be used.', 'Correct the line that is named.'),
  USAGE: refusal('The command line is not understood.', 'See --help.'),
  INTERNAL: fault('A fault of the program itself.', 'Report it, with the log.'),
} as const satisfies Record<string, CodeEntry>;

export type Code = keyof typeof CODES;

function refusal(meaning: string, action: string): CodeEntry {
  return { retry: false, meaning, action };
}

function fault(meaning: string, action: string): CodeEntry {
  return { retry: true, meaning, action };
}

/** The one error class. `message` is the act, e.g. `adding cn=tools.x`. */
export class ChamberlainError extends Error {
  readonly code: Code;
  readonly context: Record<string, string | number | undefined>;
  /** what to do about this one, where the table of codes cannot know it: a sentence */
  readonly action: string | undefined;
  constructor(
    code: Code,
    message: string,
    options: {
      cause?: unknown;
      context?: Record<string, string | number | undefined>;
      action?: string;
    } = {},
  ) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined);
    this.name = 'ChamberlainError';
    this.code = code;
    this.context = options.context ?? {};
    this.action = options.action;
  }
}

/** The code of anything thrown: its own, or INTERNAL. Never `instanceof`: it fails across realms. */
export function codeOf(error: unknown): Code {
  const value = (error as { code?: unknown } | null)?.code;
  return typeof value === 'string' && Object.hasOwn(CODES, value) ? (value as Code) : 'INTERNAL';
}

/** SQLSTATEs of a table, a schema, a function or a column that PostgreSQL does not have. */
const NOT_THERE = ['42P01', '3F000', '42883', '42703'];

/** Whether something is thrown because our database is not, or no longer, at this version's schema. */
export function isNotMigrated(error: unknown): boolean {
  for (let at = error, depth = 0; at !== undefined && at !== null && depth < 6; depth += 1) {
    const { code, cause } = at as { code?: unknown; cause?: unknown };
    if (NOT_THERE.includes(String(code))) return true;
    at = cause;
  }
  return false;
}

/** One line for people: the act, then each cause after a colon. */
export function describeError(error: unknown): string {
  const parts: string[] = [];
  for (const each of causesOf(error)) parts.push(describeOne(each, parts));
  return parts.join(': ');
}

/** Why it failed at last: the innermost cause, for where the act is told otherwise. */
export function describeRootCause(error: unknown): string {
  return describeOne(causesOf(error).at(-1), []);
}

/** The error, and what caused it. */
function causesOf(error: unknown): unknown[] {
  const causes: unknown[] = [];
  for (let at = error; at !== undefined && at !== null && causes.length < 6;) {
    causes.push(at);
    at = (at as { cause?: unknown }).cause;
  }
  return causes;
}

/** One of them, after what was told before it. */
function describeOne(error: unknown, before: readonly string[]): string {
  const { message, code } = (error ?? {}) as { message?: unknown; code?: unknown };
  const words = describeNetworkFault(error) ?? describeFileFault(error, before);
  const text = [words, message, code, error].find(
    (each) => typeof each === 'string' && each !== '',
  );
  return (typeof text === 'string' ? text : 'unknown').replace(/\s+/gu, ' ');
}

/** What the system says of a connection. The act names the server: these do not name it again. */
const NETWORK_FAULTS: Record<string, string> = {
  ECONNREFUSED: 'nothing listens there',
  ENOENT: 'there is no such socket',
  ENOTFOUND: 'its name is not known',
  EAI_AGAIN: 'its name could not be looked up',
  EHOSTUNREACH: 'no way leads there',
  ENETUNREACH: 'no way leads there',
  ETIMEDOUT: 'it does not answer',
  ECONNRESET: 'the connection was lost',
  EPIPE: 'the connection was lost',
};

/** For an error of Node.js itself: with an address, or of several addresses of one name. */
function describeNetworkFault(error: unknown): string | undefined {
  const { code, syscall, errors } = error as {
    code?: unknown;
    syscall?: unknown;
    errors?: unknown;
  };
  const ofNetwork =
    Array.isArray(errors) || /^(connect|read|write|getaddrinfo)$/u.test(String(syscall));
  const words = ofNetwork ? NETWORK_FAULTS[String(code)] : undefined;
  return words === undefined ? undefined : `${words} (${String(code)})`;
}

/** What the system says of a file. */
const FILE_FAULTS: Record<string, string> = {
  ENOENT: 'there is no such file',
  EACCES: 'permission denied',
  EISDIR: 'it is a folder',
};

/** For an error of Node.js about a file, which it mostly names; the act before may have named it already. */
function describeFileFault(error: unknown, before: readonly string[]): string | undefined {
  const { code, syscall, path } = (error ?? {}) as Record<string, unknown>;
  const words = FILE_FAULTS[String(code)];
  const ofFile = /^(open|read|l?stat|access|scandir)$/u.test(String(syscall));
  if (words === undefined || !ofFile) return undefined;
  const isNamed = typeof path !== 'string' || before.some((part) => part.includes(path));
  return `${isNamed ? '' : `${path}: `}${words} (${String(code)})`;
}

/**
 * The error of a file that cannot be read, and that somebody has named: what it is, where it lies, what to do.
 *
 * @param code CONFIG_INVALID: of the configuration; USAGE: of the command line
 */
export function cannotRead(
  what: string,
  path: string,
  cause: unknown,
  code: Code = 'CONFIG_INVALID',
): ChamberlainError {
  const action = READ_ACTIONS[String((cause as { code?: unknown } | null)?.code)];
  return new ChamberlainError(code, `reading the ${what} ${path}`, {
    cause,
    action: action ?? 'Look at that file.',
  });
}

const READ_ACTIONS: Record<string, string> = {
  ENOENT: 'Name the right file, or make it.',
  EACCES: 'Run it as a user who may read that file.',
  EISDIR: 'Name the right file.',
};
