/**
 * One table of codes, and the one error class that carries them.
 *
 * An error's message is the act that failed; `cause` is the cause; `context` holds names and
 * numbers, never a secret. Only the table says whether to try again, and only the code that writes
 * the convergence row uses it.
 */
import { types } from 'node:util';

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
    'The request changes too much: PostgreSQL did not finish within the time that one statement may take.',
    'Split the request, for example into several with fewer people each.',
  ),
  REQUEST_MALFORMED: refusal(
    'The job is not a JSON object with a signed token.',
    'Send `{"token": "<JWT>"}` as the data of the job; over HTTP, the token alone, or a JSON list of tokens.',
  ),
  REQUEST_SIGNATURE: refusal(
    'The token is not signed by a key of the portal that it names.',
    'Sign with a key of this portal: `chamberlain list portals` shows them.',
  ),
  REQUEST_PORTAL_UNKNOWN: refusal(
    'The token names a portal that this realm does not have, or another portal has sent it: a portal sends only tokens that name it.',
    'Set `iss` to the name of your portal, as `chamberlain list portals` shows it, and use its queues.',
  ),
  REQUEST_AUDIENCE: refusal('The token is for another realm.', 'Set `aud` to this realm.'),
  REQUEST_EXPIRED: refusal(
    'The token has expired, is not valid yet, or is valid for longer than 7 days.',
    'Send a new request, with `iat` now and `exp` at most 7 days later.',
  ),
  REQUEST_INVALID: refusal(
    'The request does not fit the schema of its kind, or has a value that is not possible now, such as a time in the past.',
    'Correct what the sentence names. `chamberlain schema KIND` shows the schema.',
  ),
  REQUEST_KIND_UNKNOWN: refusal('There is no such kind of request.', 'See `chamberlain schema`.'),
  REQUEST_KIND_FORBIDDEN: refusal(
    'This portal may not send this kind.',
    'Send it through another portal, or have the kind added: `kinds` in the configuration, or portal.update for a portal that was added by request.',
  ),
  REQUEST_NOT_URGENT: refusal(
    'The urgent queue accepts only kinds of request that can take access away.',
    'Send the request to the queue `requests.<portal>`. `chamberlain schema` shows the queue of each kind.',
  ),
  REQUEST_REPLAYED: refusal(
    'An earlier request with this id had other contents.',
    'Use a new `jti` for a new request.',
  ),
  // calls of the API
  CALL_UNSIGNED: refusal(
    'The call of the API needs a token, and has none that is valid.',
    'Sign a token for this call, and send it in the header `Authorization: Chamberlain TOKEN`: see docs/api.md.',
  ),
  CALL_INVALID: refusal(
    'A parameter, a header or the body of the call is not what the route expects.',
    'Correct what `detail` names. `/openapi.json` describes each route.',
  ),
  CALL_TOO_LARGE: refusal(
    'The body of the call, or its header, is larger than the API reads.',
    'Send less at once.',
  ),
  CALL_TOO_OFTEN: fault(
    'The portal, or the address, has made more calls than it may.',
    'Wait for as many seconds as the header `Retry-After` says.',
  ),
  EVENTS_BY_QUEUE: refusal(
    'The portal takes its events from its queue. It cannot take them over HTTP as well.',
    'Read the queue `events.<portal>`. If the configuration lists the portal, an operator can set its `events` to `http`, and run `chamberlain reload`. A portal that was added by request cannot change this: for HTTP, add another portal, under another name (portal.add).',
  ),
  EVENT_UNKNOWN: refusal(
    'The portal asks for what comes after an event that does not exist.',
    'Ask with the number of the last event that the portal has stored, or with 0 for all that are kept.',
  ),
  ROUTE_UNKNOWN: refusal(
    'The API has no route with this path. This says nothing about the person, tool or request that the path may name.',
    'Check the address of the API, and the path: `/openapi.json` describes each route.',
  ),
  NOT_FOUND: refusal(
    'The API has nothing of that name, or nothing that this caller may see.',
    'Check the name. To see more, the portal needs more rights: `reads` in the configuration, or portal.update for a portal that was added by request.',
  ),
  // people and rights
  PERSON_UNKNOWN: refusal(
    'There is no such person.',
    'Check the name, or create the person first.',
  ),
  PERSON_SUSPENDED: refusal('The person is suspended.', 'An admin can reinstate the person.'),
  PERSON_ALREADY_SUSPENDED: refusal(
    'The person is already suspended, for as long or longer.',
    'Nothing needs to be done.',
  ),
  PERSON_NOT_SUSPENDED: refusal(
    'The person is not suspended.',
    'To reinstate the person, nothing needs to be done. To erase the person, suspend them first.',
  ),
  PERSON_LEAVING: refusal(
    'The person is to be deleted or erased, is being archived, or is being restored.',
    'See `chamberlain status PERSON`. person.reinstate cancels a planned deletion.',
  ),
  PERSON_DELETED: refusal(
    'The person was deleted.',
    'An admin can restore the person (person.restore) while the archives are kept.',
  ),
  PERSON_NOT_DELETED: refusal(
    'The person is not deleted.',
    'If the person is suspended, an admin can reinstate them (person.reinstate).',
  ),
  PERSON_NOT_KEPT: refusal(
    'The archives of the person have been removed.',
    'The person cannot be restored. Create a person with another shell name.',
  ),
  PERSON_NOT_REALM_MEMBER: refusal(
    'The person has no access to this realm.',
    'Request access first. An admin grants it.',
  ),
  PERSON_ALREADY_REALM_MEMBER: refusal(
    'The person already has access.',
    'Nothing needs to be done.',
  ),
  TOOL_UNKNOWN: refusal('There is no such tool.', 'Check the name.'),
  TOOL_ALREADY_DISABLED: refusal('The tool is already disabled.', 'Nothing needs to be done.'),
  TOOL_NOT_DISABLED: refusal('The tool is not disabled.', 'Nothing needs to be done.'),
  TOOL_LEAVING: refusal(
    'The tool is to be deleted, is being archived, or is being restored.',
    'See `chamberlain status TOOL`. tool.enable cancels a planned deletion.',
  ),
  TOOL_DELETED: refusal(
    'The tool was deleted.',
    'An admin can restore it with `chamberlain restore TOOL` while its archives are kept.',
  ),
  TOOL_NOT_DELETED: refusal(
    'The tool is not deleted.',
    'If it is disabled, an admin can enable it (tool.enable).',
  ),
  TOOL_NOT_KEPT: refusal(
    'The archives of the tool have been removed.',
    'The tool cannot be restored. Create a tool with another name.',
  ),
  SUBJECT_HELD: refusal(
    'An admin has put a hold on the person or tool, which may not be deleted until the hold ends.',
    'See `chamberlain status SUBJECT`. An admin can lift the hold (subject.release).',
  ),
  NOT_HELD: refusal('There is no hold on the person or tool.', 'Nothing needs to be done.'),
  MAINTAINER_UNKNOWN: refusal(
    'The person or tool named is not a maintainer of this tool.',
    'Check the name.',
  ),
  MAINTAINER_ALREADY: refusal(
    'The person or tool named is already a maintainer of this tool.',
    'Nothing needs to be done.',
  ),
  ADMIN_TOOL: refusal(
    'The realm must keep an admin. Only people may maintain the admin tool, only admins may change it, and it cannot be disabled or deleted.',
    'If the realm would lose its last admin, make another admin first. Otherwise have an admin send the request, naming only people.',
  ),
  NOT_ALLOWED: refusal(
    'The person who asks may not request this.',
    "Have the person concerned, a direct maintainer or an admin send it. If an admin sends it, they must sign it with their own key (`chamberlain submit`), unless the portal speaks for admins (`speaksForAdmins`). Some kinds always need the admin's own key: docs/portals.md names them.",
  ),
  MAIL_NOT_VERIFIABLE: refusal(
    'This portal may not say that a mail address is verified.',
    'Leave mailVerifiedAt out, have an admin sign the request with their own key, or have `verifiesMail` set for the portal: in the configuration, or by portal.update.',
  ),
  MAIL_CHANGED: refusal(
    "The person's mail address is no longer the one that was verified.",
    'Have the current address verified.',
  ),
  ACCESS_NOT_REQUESTED: refusal(
    'This person has no open request for access.',
    'See `chamberlain requests` for the open ones.',
  ),
  ACCESS_ALREADY_REQUESTED: refusal(
    'This person already has an open request for access.',
    'Wait until an admin decides on it.',
  ),
  CREDENTIALS_NONE: refusal(
    'The account has no credentials yet.',
    'If it is a person without access to the realm, grant the access. If the account was imported without its home, run `chamberlain import --from-directory --homes`.',
  ),
  SERVER_UNKNOWN: refusal(
    'There is no such database server.',
    'Use the name of a server that the configuration lists.',
  ),
  // what waits for an admin
  WAITS_ALREADY: refusal(
    'The same request is already waiting for an admin.',
    'See `chamberlain requests`. Another admin must approve or reject it.',
  ),
  SURVEYS_WAIT: refusal(
    'Too many surveys and repairs that the admin has requested have not ended.',
    'Wait until one of them has ended.',
  ),
  NOT_WAITING: refusal(
    'No such request is waiting for an admin.',
    'See `chamberlain requests` for those that are.',
  ),
  WAITS_TWICE: refusal(
    'Requests from several portals with the same id are waiting for an admin.',
    'Name the portal too (`sentBy`). `chamberlain requests` shows it.',
  ),
  OWN_REQUEST: refusal(
    'Nobody may approve their own request, and only the portal or the key that sent it can withdraw it.',
    'Have another admin approve or reject it. To withdraw it, send request.reject in the way in which it was sent.',
  ),
  NOT_ANOTHER_ADMIN: refusal(
    'Within the last 7 days, one of the two admins has made the other an admin or given them a key, directly or through an admin whom they had added, or somebody has done so for both.',
    'Have another admin decide, who is independent of the person who asks. Or wait until the 7 days are over.',
  ),
  // admins' own keys
  ADMIN_KEY_DEAD: refusal(
    "The admin's own key was revoked, or has expired.",
    'Sign with another key that is valid. `chamberlain admin-key new` makes one; it counts once another admin has approved it.',
  ),
  ADMIN_KEY_TAKEN: refusal(
    'The key is, or was, the key of an admin or of a portal.',
    'Make a new key: `chamberlain admin-key new`.',
  ),
  ADMIN_KEY_UNKNOWN: refusal(
    'No admin has a key with this fingerprint.',
    'See `chamberlain list admin-keys`.',
  ),
  // portals that are added by request
  PORTAL_DEAD: refusal(
    'The portal was removed, or no longer has the key that signed.',
    'Sign with a key that the portal has. `chamberlain list portals` shows its keys.',
  ),
  PORTAL_LISTED: refusal(
    'The configuration file lists the portal, so no request changes it.',
    'An operator changes the file, and runs `chamberlain reload`.',
  ),
  PORTAL_TAKEN: refusal(
    'The name belongs to a portal or to a database server. Or the portal whose events are to be handed over still takes them itself.',
    'Choose another name, or change the portal of that name with portal.update. Before you hand events over, remove their portal.',
  ),
  PORTAL_UNKNOWN: refusal(
    'No request has added a portal of that name, or it was removed.',
    'See `chamberlain list portals`. If a request about it waits, reject that.',
  ),
  PORTAL_KEY_TAKEN: refusal(
    'The key or the password is, or was, that of another portal or of an admin, or was removed from this portal.',
    'Have the portal make a new one.',
  ),
  PORTAL_CHANGED: refusal(
    'The portal has changed since the request was sent.',
    'Reject the request. Whoever sent it can send a new one that fits the portal as it is now.',
  ),
  // names
  NAME_INVALID: refusal('The name has a form that is not allowed.', 'Choose another name.'),
  NAME_RESERVED: refusal('The name is reserved for the system.', 'Choose another name.'),
  NAME_TAKEN: refusal('The name is in use, or was used before.', 'Choose another name.'),
  NAME_FOREIGN: refusal(
    'An entry of the directory is wrong: one that Chamberlain does not manage has the name of an account, or lets others act as that account; or the entry of an account has a wrong number or none, an additional name, the wrong class, or too many values.',
    "For a new account, choose another name. Otherwise have the directory's administrator correct the entry.",
  ),
  ID_FOREIGN: refusal(
    'A number in the directory is wrong: an entry that Chamberlain does not manage has the number of an account, or the gidNumber of an account is not the one that it must have.',
    "Have the directory's administrator correct the entry.",
  ),
  IDS_EXHAUSTED: refusal(
    'The ranges have no number left.',
    'First add a range to `login-host.yaml` on each login host, and run `chamberlain-login-host` there (from a clone: `deploy/login-host/install`). Then add it to `ids` in the configuration. If the directory is Chamberlain\'s alone, load its rules again ("To load the rules again" in docs/install.md, step 7). If others use it too, add the range to `ids` in the answers as well, run `chamberlain setup --answers FILE`, and do what it says. Then restart the workers.',
  ),
  // keys
  KEY_PRIVATE: refusal(
    'That is a private key.',
    'Delete this key now, make a new pair, and send its public half.',
  ),
  KEY_MALFORMED: refusal(
    'That is not one line with one public key.',
    'Paste the one line of a .pub file.',
  ),
  KEY_TYPE: refusal(
    'Keys of this type are not accepted.',
    'Make an Ed25519 key: ssh-keygen -t ed25519.',
  ),
  KEY_WEAK: refusal(
    'The key is too weak or broken.',
    'Make an Ed25519 key: ssh-keygen -t ed25519.',
  ),
  KEY_OPTION: refusal('One of the options before the key is not allowed.', 'Remove that option.'),
  KEY_COMMENT: refusal(
    'The comment is too long or not printable.',
    'Shorten the comment, and remove characters that are not printable.',
  ),
  KEY_TAKEN: refusal('Another person has this key, or had it before.', 'Make a new key.'),
  KEY_KNOWN_BAD: refusal(
    'The private half of this key is publicly known, so anybody can log in with it.',
    'Make a new key, and never use this one.',
  ),
  KEY_ALREADY: refusal('The person already has this key.', 'Nothing needs to be done.'),
  KEY_UNKNOWN: refusal('The person has no such key.', 'Check the fingerprint.'),
  KEY_TOO_MANY: refusal(
    'The person has as many keys as the configuration allows.',
    'Remove one first.',
  ),
  // findings
  FINDING_UNKNOWN: refusal(
    'No sweep and no survey has found this, or it is not ignored any more.',
    'Request a survey of the subject (survey.run), and name the finding as the survey shows it.',
  ),
  FINDING_CLOSED: refusal(
    'The finding may concern access that was revoked, so it cannot be ignored.',
    'Remove the cause that the finding names.',
  ),
  UNMANAGED: refusal(
    'Chamberlain did not make this, although it is in a place that Chamberlain manages or has a number from its ranges.',
    'See `chamberlain list unmanaged`, then remove it yourself, adopt it or ignore it.',
  ),
  PATH_FOREIGN: refusal(
    'Where a home or a credentials file should be, there is something else, or it belongs to another account.',
    'Look at it. If it is the home of this account, give it the right owner. Otherwise move it away. Then run `chamberlain repair SUBJECT`.',
  ),
  TOOL_ORPHANED: refusal(
    'Nobody who may log in maintains the tool, directly or through other tools.',
    'Have an admin add a maintainer (maintainer.add).',
  ),
  DATABASE_FOREIGN: refusal(
    'A MariaDB server has an account, role, right or restriction that Chamberlain did not set, and that can affect an account.',
    'Look at it, and do what the finding says. Then run `chamberlain repair SUBJECT`.',
  ),
  ARCHIVE_DIFFERS: refusal(
    'Where data is to be removed or restored, there is something that the archive does not hold: it was made later, or belongs to another account.',
    'Look at it, and move it away or drop it. Then run `chamberlain repair SUBJECT`, with `--destroy` if the subject is deleted.',
  ),
  // what admins do
  FROZEN: refusal(
    'The realm is frozen.',
    'See `chamberlain status`. `chamberlain thaw` ends the freeze. After a restore from a backup, run `chamberlain recover` instead.',
  ),
  DATABASE_OLDER: refusal(
    'PostgreSQL was restored from a backup, and does not know what was done since.',
    'Run `chamberlain recover`, which thaws the realm when that is safe.',
  ),
  SWEEP_NOT_HELD: refusal(
    'No sweep is held, or somebody has released it already.',
    'See `chamberlain sweep`.',
  ),
  PLAN_MOVED: refusal(
    'The plan has changed since it was shown.',
    'Run `chamberlain plan` again, read it, and give its digest with `--expect`.',
  ),
  STILL_AT_WORK: refusal(
    'The repair takes longer than the command waited, and continues.',
    'See `chamberlain status SUBJECT` for its progress. Run the command again when the work has ended.',
  ),
  DESTROY_WITHHELD: refusal(
    'Steps that destroy data are done only with --destroy.',
    'Read these steps, then give --destroy.',
  ),
  AUDIT_BROKEN: refusal(
    'Rows of the audit were changed, removed or inserted after their hashes were recorded.',
    'Keep a copy of the database now, and compare it with a backup.',
  ),
  AUDIT_NOT_CLOSABLE: refusal(
    'The year of the audit cannot be closed yet.',
    'Nothing was removed. Resolve what the message names, and run `chamberlain audit close YEAR` again.',
  ),
  BACKUP_DAMAGED: refusal(
    'The set of backups is incomplete or damaged, and cannot be restored.',
    'Use another set, and find out what happened to this one.',
  ),
  // hosts
  JOIN_INVALID: refusal(
    'The file is not a join request, or not a join answer for this machine.',
    'Send the file again as the other machine has written it: see docs/login-hosts.md.',
  ),
  HOST_TAKEN: refusal(
    'Another machine has joined under the same name, or for the same role.',
    'If that machine is no longer used, or has a new key, first run `chamberlain host remove NAME`. Otherwise give the new machine another name, or request other roles for it.',
  ),
  HOST_UNKNOWN: refusal(
    'No host has joined under this name.',
    'See `chamberlain host list` for the names.',
  ),
  // what an import cannot take
  ENTRY_INCOMPLETE: refusal(
    'The entry lacks a value that it must have, or has a wrong or a conflicting one.',
    'Correct the entry in the directory, and import again. If the account was imported without that value, send person.update instead.',
  ),
  DELETION_UNDATED: refusal(
    'The tool is marked for deletion, but without a time from which to count.',
    'It was imported as disabled. Send tool.delete to delete it, or tool.enable to keep it.',
  ),
  ID_OUT_OF_RANGE: refusal(
    'The number is in none of the ranges for its kind of account.',
    'Add a range as for IDS_EXHAUSTED, or give the account another number.',
  ),
  ID_TAKEN: refusal(
    'The number already belongs to another account.',
    'Give one of the two accounts another number. If Chamberlain manages one of them, change the other. Make the new number the owner of its files. Then import again.',
  ),
  MEMBER_UNKNOWN: refusal(
    'A member of the group is not a person or tool that was imported.',
    'Before the import, correct the entry of the member, or remove the member. After it, correct the entry, import again, and send maintainer.add or access.grant.',
  ),
  // faults
  BACKEND_UNREADABLE: fault(
    'A server could not be read, or gave an incomplete answer.',
    'Check that the server runs and can be reached. Workers continue by themselves when it answers again.',
  ),
  BACKEND_UNAVAILABLE: fault(
    'A server could not be reached, did not answer in time, or cannot be written to for now.',
    'Check that the server runs and can be reached. Workers continue by themselves when it answers again.',
  ),
  AGENT_UNAVAILABLE: refusal(
    'No ssh-agent could sign with the key.',
    'Start one (`eval "$(ssh-agent)"`), and add the key with ssh-add.',
  ),
  STEP_STALE: fault(
    'The state that a step was planned for has changed meanwhile.',
    'The step is planned again. If the subject is parked, run `chamberlain repair SUBJECT`.',
  ),
  STILL_CHANGING: fault(
    'What is being archived changes while it is read.',
    'End the programs that write to it, on every machine. Chamberlain tries again. If the subject is parked, run `chamberlain repair SUBJECT`.',
  ),
  ARCHIVE_DAMAGED: refusal(
    'An archive is missing, or differs from its record. What it should hold is not destroyed.',
    'Look in the folder of archives, and put the archive back from a backup of that folder. Then run `chamberlain repair SUBJECT`, with `--destroy` if the subject is deleted.',
  ),
  STEP_FAILED: fault(
    'A step failed.',
    '`chamberlain status SUBJECT` shows what failed and why. Remove the cause, then run `chamberlain repair SUBJECT`.',
  ),
  NOT_ACCEPTED: fault(
    'The login helper has not accepted the directory.',
    'Run `keys-agent status` to see why.',
  ),
  CONFIG_INVALID: refusal('The configuration cannot be used.', 'Correct what the message names.'),
  USAGE: refusal('The command line is wrong.', 'See --help.'),
  INTERNAL: fault('This is a fault in Chamberlain itself.', 'Report it, with the log.'),
} as const satisfies Record<string, CodeEntry>;

export type Code = keyof typeof CODES;

function refusal(meaning: string, action: string): CodeEntry {
  return { retry: false, meaning, action };
}

function fault(meaning: string, action: string): CodeEntry {
  return { retry: true, meaning, action };
}

/** The one error class. `message` is what was being done, e.g. `adding cn=tools.x`. */
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

/** What to do about a command that failed for a reason that its message says. */
export const CORRECT_AND_RUN_AGAIN = 'Correct the fault, and run the command again.';

/**
 * Does `work`, which may be asynchronous. What it throws becomes the cause of an error that says what was being done.
 *
 * @param action what to do about it, where the table of codes cannot know it
 */
export function doing<T>(code: Code, act: string, work: () => T, action?: string): T {
  const fail = (cause: unknown): never => {
    throw new ChamberlainError(code, act, { cause, ...(action === undefined ? {} : { action }) });
  };
  try {
    const done = work();
    return types.isPromise(done) ? (done.catch(fail) as T) : done;
  } catch (cause) {
    return fail(cause);
  }
}

/**
 * The code of anything thrown: its own, or INTERNAL. Does not use `instanceof`, which fails across JavaScript realms.
 */
export function codeOf(error: unknown): Code {
  const value = (error as { code?: unknown } | null)?.code;
  return typeof value === 'string' && Object.hasOwn(CODES, value) ? (value as Code) : 'INTERNAL';
}

/** The SQLSTATEs for a table, schema, function or column that does not exist. */
const NOT_THERE = ['42P01', '3F000', '42883', '42703'];

/** Whether an error was thrown because our database does not have the schema of this version. */
export function isNotMigrated(error: unknown): boolean {
  for (let at = error, depth = 0; at !== undefined && at !== null && depth < 6; depth += 1) {
    const { code, cause } = at as { code?: unknown; cause?: unknown };
    if (NOT_THERE.includes(String(code))) return true;
    at = cause;
  }
  return false;
}

/** One line for people: what was being done, then each cause after a colon. */
export function describeError(error: unknown): string {
  const parts: string[] = [];
  for (const each of causesOf(error)) parts.push(describeOne(each, parts));
  return parts.join(': ');
}

/** The innermost cause, for callers that say by other means what was being done. */
export function describeRootCause(error: unknown): string {
  return describeOne(causesOf(error).at(-1), []);
}

/** Whether the innermost cause is that a server cannot be reached. */
export function isUnreachable(error: unknown): boolean {
  return describeNetworkFault(causesOf(error).at(-1)) !== undefined;
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

/** One of them; `before` is what the line already says. */
function describeOne(error: unknown, before: readonly string[]): string {
  const { message, code } = (error ?? {}) as { message?: unknown; code?: unknown };
  const words = describeNetworkFault(error) ?? describeFileFault(error, before);
  const text = [words, message, code, error].find(
    (each) => typeof each === 'string' && each !== '',
  );
  return (typeof text === 'string' ? text : 'unknown').replace(/\s+/gu, ' ');
}

/** The faults of a connection. The act names the server, so these do not name it again. */
const NETWORK_FAULTS: Record<string, string> = {
  ECONNREFUSED: 'nothing listens there',
  ENOENT: 'there is no such socket',
  ENOTFOUND: 'no host has this name',
  EAI_AGAIN: 'its name could not be looked up',
  EHOSTUNREACH: 'the host cannot be reached',
  ENETUNREACH: 'the network cannot be reached',
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

/** The faults of a file. */
const FILE_FAULTS: Record<string, string> = {
  ENOENT: 'there is no such file',
  EACCES: 'permission denied',
  EISDIR: 'it is a folder',
};

/** For an error of Node.js about a file. Node mostly names the file; the act may have named it already. */
function describeFileFault(error: unknown, before: readonly string[]): string | undefined {
  const { code, syscall, path } = (error ?? {}) as Record<string, unknown>;
  const words = FILE_FAULTS[String(code)];
  const ofFile = /^(open|read|l?stat|access|scandir)$/u.test(String(syscall));
  if (words === undefined || !ofFile) return undefined;
  const isNamed = typeof path !== 'string' || before.some((part) => part.includes(path));
  return `${isNamed ? '' : `${path}: `}${words} (${String(code)})`;
}

/**
 * The error for a file that somebody has named and that cannot be read: what it is, its path, what to do.
 *
 * @param code CONFIG_INVALID: of the configuration; USAGE: of the command line
 */
export function cannotRead(
  what: string,
  path: string,
  cause: unknown,
  code: Code = 'CONFIG_INVALID',
): ChamberlainError {
  const errno = String((cause as { code?: unknown } | null)?.code);
  // a secret has one place and is made once, for the server too
  const action = errno === 'ENOENT' && what === 'secret' ? SECRET_ELSEWHERE : READ_ACTIONS[errno];
  return new ChamberlainError(code, `reading the ${what} ${path}`, {
    cause,
    action: action ?? 'Check that file.',
  });
}

const SECRET_ELSEWHERE =
  'If it is new, make it: docs/install.md, step 2. Otherwise run the command on a machine that has it.';
const READ_ACTIONS: Record<string, string> = {
  ENOENT: 'Name the right file, or create it.',
  EACCES: 'Run the command as a user who may read that file.',
  EISDIR: 'Name the right file.',
};
