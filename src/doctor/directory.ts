/** Checks the directory: each account whose password this machine has, and the rules of the server. */
import { type DirectoryAccount, directoryRealm, directoryRules } from '../../deploy/ldap/render.ts';
import { type Config, readSecret } from '../shared/config.ts';
import {
  countSeenByNobody,
  directoryPlace,
  readAccountHealth,
  readSlapdConfig,
} from '../backends/ldap/directory-health.ts';
import { levelOf, parseAccess, plainRule } from './access-rules.ts';
import { openAddresses } from './listeners.ts';
import { elsewhere, expectThat, fix, type Line, notHere, ok } from './line.ts';

const RULES =
  'Load the rules of the directory again: see "To load the rules again" in docs/install.md, step 7.';
const ADD_RULES =
  'Run `chamberlain setup --answers FILE`, with the logins in `ldap`: it adds what is missing.';
/** What to do about rules. */
const rulesTodo = ({ ldap }: Config): string => (ldap.shared === true ? ADD_RULES : RULES);
const INVALID_CREDENTIALS = 49;
const LDAP_PORT = 389;

/** Binds as one account, and checks that it sees and can write what the access rules let it, and nothing else. */
export async function lookAtAccount(config: Config, account: DirectoryAccount): Promise<Line[]> {
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
    health = await readAccountHealth(directoryPlace(config), account, password);
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
  const { bindDn, places, entries } = health;
  const rules = parseAccess(directoryRules(directoryRealm(config)).access);
  const maySee = ({ dn }: { dn: string }) => levelOf(rules, bindDn, dn, 'entry') !== 'none';
  const shouldWrite = ({ dn }: { dn: string }) =>
    levelOf(rules, bindDn, dn, 'objectClass') === 'write';
  const hidden = places.filter((each) => !each.isSeen && maySee(each));
  const shown = places.filter((each) => each.isSeen && !maySee(each));
  const wrong = entries.filter((each) => each.mayWrite !== shouldWrite(each));
  const todo = rulesTodo(config);
  const lines = [
    ...hidden.map(({ place }) =>
      fix(`${account} cannot see ${place}: to this account, nothing exists there`, todo),
    ),
    ...(shown.length === 0
      ? []
      : [fix(`${account} also sees ${shown.map(({ place }) => place).join(', ')}`, todo)]),
    ...wrong.map(({ place, mayWrite }) =>
      fix(`${account} can${mayWrite ? '' : 'not'} write ${place}`, todo),
    ),
  ];
  if (lines.length > 0) return lines;
  const right =
    entries.length === 0
      ? 'but has no person yet on whom to test writing'
      : entries.some(({ mayWrite }) => mayWrite)
        ? 'and can write'
        : 'and cannot write';
  return [ok(`${account} can log in, sees each place, ${right}`)];
}

export async function lookAtAnonymous(config: Config): Promise<Line[]> {
  const count = await countSeenByNobody(directoryPlace(config));
  const [right, wrong] =
    config.ldap.shared === true
      ? [
          'anonymous users see no entry of Chamberlain',
          'anonymous users see entries of Chamberlain',
        ]
      : ['anonymous users see nothing', 'anonymous users see entries'];
  return [expectThat(count === 0, right, wrong, rulesTodo(config))];
}

/** The server's own rules, which only root on its machine may read. */
export async function lookAtSlapd(config: Config): Promise<Line[]> {
  const found = await readSlapdConfig(directoryPlace(config));
  if (found === undefined) {
    return [
      elsewhere(
        "the directory's own rules",
        'Run this as root on its machine, with an ldapi:// URI.',
      ),
    ];
  }
  const isShared = config.ldap.shared === true;
  const { overlays, constraints, access } = directoryRules(directoryRealm(config), isShared);
  const todo = rulesTodo(config);
  const missing = overlays.filter((name) => !found.overlays.includes(name));
  const lines = [
    ...missing.map((name) =>
      fix(
        `the overlay ${name} is missing`,
        isShared ? todo : 'Add it as in deploy/ldap/config.ldif.',
      ),
    ),
    ...expectRules('the constraint overlay lacks', found.constraints, constraints, todo),
    ...expectRules('the access rules lack', found.access, access, todo),
    ...(found.judgesNewEntries
      ? []
      : [
          fix(
            'the access rules do not apply to values of new entries',
            isShared ? todo : 'Set `olcAddContentAcl: TRUE`.',
          ),
        ]),
    // what others need is theirs to say
    ...(isShared ? [] : lookAtPlainPort(found.refusesPlain)),
  ];
  return lines.length > 0
    ? lines
    : [ok("the directory's overlays and rules match this configuration")];
}

/** Which rules are not among those of the server, or not in their order. Other rules may be between them. */
function expectRules(
  what: string,
  had: readonly string[],
  wanted: readonly string[],
  todo: string,
): Line[] {
  const left = had.map(plainRule);
  const [first, ...more] = wanted.filter((rule) => {
    const at = left.indexOf(plainRule(rule));
    left.splice(0, at + 1);
    return at < 0;
  });
  if (first === undefined) return [];
  const others = more.length === 0 ? '' : `, and ${more.length} more`;
  return [fix(`${what} what this configuration needs: ${first}${others}`, todo)];
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
