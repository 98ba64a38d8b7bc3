/** Checks the directory: each account whose password this machine has, and the rules of the server. */
import { type Config, readSecret } from '../shared/config.ts';
import {
  countSeenByNobody,
  type DirectoryPlace,
  readAccountHealth,
  readSlapdConfig,
} from '../backends/ldap/directory-health.ts';
import { idPattern } from '../identity/id-pattern.ts';
import { openAddresses } from './listeners.ts';
import { elsewhere, expectThat, fix, type Line, notHere, ok } from './line.ts';

/** Only `directory` writes. */
export const DIRECTORY_ACCOUNTS = [
  'directory',
  'directory-reader',
  'keys-agent',
  'sssd',
  'reader',
  'mail-reader',
] as const;
type Account = (typeof DIRECTORY_ACCOUNTS)[number];

const RULES = 'Load the access rules of deploy/ldap again: see docs/install.md, step 7.';
const INVALID_CREDENTIALS = 49;
const LDAP_PORT = 389;

function placeOf({ ldap, realm }: Config): DirectoryPlace {
  return { uri: ldap.uri, base: ldap.base, realm, caFile: ldap.caFile };
}

/** Binds as one account, and checks that it sees what it must, and can write only what it may. */
export async function lookAtAccount(config: Config, account: Account): Promise<Line[]> {
  let password: string;
  try {
    password = readSecret(config, 'ldap', account);
  } catch {
    return [notHere(`the directory, as ${account}`, `ldap-${account}`)];
  }
  if (password === '')
    return [fix(`${account} has an empty password`, 'See the line on its secret.')];
  let health;
  try {
    health = await readAccountHealth(placeOf(config), account, password);
  } catch (error) {
    if (isRefusedBind(error)) {
      return [
        fix(
          `${account} cannot log in`,
          `Set the password of cn=${account},ou=chamberlain,${config.ldap.base} to that of the secret ldap-${account}.`,
        ),
      ];
    }
    throw error;
  }
  const { unseen, mayWrite } = health;
  const wrong = mayWrite.filter(({ allowed }) => allowed !== (account === 'directory'));
  const lines = [
    ...unseen.map((place) =>
      fix(`${account} cannot see ${place}: to this account, nothing exists there`, RULES),
    ),
    ...wrong.map(({ what, allowed }) =>
      fix(`${account} can${allowed ? '' : 'not'} write ${what}`, RULES),
    ),
  ];
  if (lines.length > 0) return lines;
  const right =
    mayWrite.length === 0
      ? 'but has no person yet on whom to test writing'
      : account === 'directory'
        ? 'and can write'
        : 'and cannot write';
  return [ok(`${account} can log in, sees each place, ${right}`)];
}

export async function lookAtAnonymous(config: Config): Promise<Line[]> {
  const count = await countSeenByNobody(placeOf(config));
  return [
    expectThat(count === 0, 'anonymous users see nothing', 'anonymous users see entries', RULES),
  ];
}

/** The server's own rules, which only root on its machine may read. */
export async function lookAtSlapd(config: Config): Promise<Line[]> {
  const found = await readSlapdConfig(placeOf(config));
  if (found === undefined) {
    return [
      elsewhere(
        "the directory's own rules",
        'Run this as root on its machine, with an ldapi:// URI.',
      ),
    ];
  }
  const missing = ['syncprov', 'ppolicy', 'unique', 'constraint'].filter(
    (name) => !found.overlays.includes(name),
  );
  const patterns = [
    ['people', idPattern(config.ids.people)],
    ['tools', idPattern(config.ids.tools)],
  ] as const;
  const lines = [
    ...missing.map((name) =>
      fix(`the overlay ${name} is missing`, 'Add it as in deploy/ldap/config.ldif.'),
    ),
    ...patterns
      .filter(([, pattern]) => !found.constraints.some((text) => text.includes(pattern)))
      .map(([kind]) =>
        fix(
          `the constraint overlay lacks the range of ids of ${kind} in this configuration`,
          'Render deploy/ldap again, and load its olcConstraintAttribute.',
        ),
      ),
    ...patterns
      .filter(([, pattern]) => !found.access.some((text) => text.includes(pattern)))
      .map(([kind]) =>
        fix(`the access rules lack the range of ids of ${kind} in this configuration`, RULES),
      ),
    ...(found.judgesNewEntries
      ? []
      : [
          fix(
            'the access rules do not apply to values of new entries',
            'Set `olcAddContentAcl: TRUE`.',
          ),
        ]),
    ...lookAtPlainPort(found.refusesPlain),
  ];
  return lines.length > 0
    ? lines
    : [ok("the directory's overlays and rules match this configuration")];
}

/** Whether other machines can talk to slapd without TLS: an eavesdropper learns passwords and can change answers. */
function lookAtPlainPort(isRefused: boolean): Line[] {
  const addresses = isRefused ? [] : openAddresses(LDAP_PORT);
  return addresses.length === 0
    ? []
    : [
        fix(
          `plain ldap:// is open to other machines: port ${LDAP_PORT} of ${addresses.join(' and ')}`,
          'Set SLAPD_SERVICES="ldapi:/// ldaps:///" in /etc/default/slapd, and restart slapd.',
        ),
      ];
}

function isRefusedBind(error: unknown): boolean {
  for (
    let at = error as { cause?: unknown; code?: unknown } | undefined;
    at;
    at = at.cause as typeof at
  ) {
    if (at.code === INVALID_CREDENTIALS) return true;
  }
  return false;
}
