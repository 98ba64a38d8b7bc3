/** What a login host must be: the ordered list of everything that `install` takes care of. */
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { LOGIN_HOST_CONFIG } from '../../src/login-host/config.ts';
import { PLACES } from '../../src/login-host/places.ts';
import { CLOSED_FILE } from '../../src/login-host/status.ts';
import {
  COMPILED,
  fillTemplate,
  programWrapper,
  withClosedList,
  withClosedSessions,
  withGroupSource,
  withSources,
} from './contents.ts';
import {
  unmanagedNumbers,
  formerFiles,
  formerSssd,
  hadSssd,
  keyFilesOfRoot,
  keysThatWouldNotCount,
  pamWithoutSssd,
  safePath,
  sudoReadsFolder,
} from './machine.ts';
import {
  absent,
  account,
  command,
  file,
  folder,
  localAccounts,
  MISSING,
  packages,
  presentFile,
  type Piece,
} from './pieces.ts';
import { serviceRuns } from './services.ts';
import { passwordsThatWouldNotCount, sshdAnswers, tryForSshd } from './sshd.ts';
import { CA_FILE, type Values } from './values.ts';

const HERE = import.meta.dirname;
const CLONE = resolve(HERE, '../..');
/** Built, it belongs to the Debian package, which contains the programs, their units, and their accounts. */
const IS_PACKAGED = !import.meta.filename.endsWith('.ts');
const unlessPackaged = (pieces: () => Piece[]): Piece[] => (IS_PACKAGED ? [] : pieces());

const PACKAGES = ['openssh-server', 'sudo', 'libnss-extrausers'];

const AGENT = { owner: 'chamberlain-keys', group: 'chamberlain-keys' };
const LIST_OF_CLOSED = join(PLACES.login, CLOSED_FILE);
const SSHD_DROP_IN = '/etc/ssh/sshd_config.d/00-chamberlain.conf';
/** The keys of local accounts, one file each. */
export const LOCAL_KEYS = '/etc/ssh/authorized_keys.d';
const UNITS = ['chamberlain-login-helper', 'chamberlain-keys-agent'];

/** Programs that are run from the clone, or from the Debian package, and their installed paths. */
export const WRAPPED = {
  '/usr/sbin/keys-agent': 'keys-agent.ts',
  '/usr/lib/chamberlain/login-helper': 'login-helper.ts',
  '/usr/lib/chamberlain/take': 'take.ts',
  '/usr/bin/chamberlain-whoami': 'whoami.ts',
};

/** Programs in sh, which are in this folder. */
export const COPIED = {
  '/usr/lib/chamberlain/authorized-keys': { from: 'authorized-keys', mode: 0o755 },
  '/usr/lib/chamberlain/own-keys': { from: 'own-keys', mode: 0o755 },
  '/usr/bin/become': { from: 'become', mode: 0o755 },
  '/usr/share/bash-completion/completions/become': { from: 'become-completion', mode: 0o644 },
  '/usr/bin/take': { from: 'take', mode: 0o755 },
  '/usr/bin/disabledtoolshell': { from: 'disabledtoolshell', mode: 0o755 },
};

/**
 * In the order in which they can be created. Account names are read again at each check, because some are
 * created here.
 */
export function wantedPieces(values: Values): Piece[] {
  const { config } = values;
  const local = (): string[] => localAccounts().map(({ name }) => name);
  return [
    ...[HERE, join(CLONE, 'src/login-host/programs'), process.execPath].map(safePath),
    keysThatWouldNotCount(LOCAL_KEYS),
    passwordsThatWouldNotCount(LOCAL_KEYS),
    ...unlessPackaged(() => [
      packages(PACKAGES),
      account('chamberlain-keys'),
      account('chamberlain-lookup'),
    ]),
    unmanagedNumbers(config),

    folder('/etc/chamberlain', { mode: 0o711 }),
    folder('/etc/chamberlain/secrets', { mode: 0o711 }),
    secret(config.ldap.passwordFile, values.agentPassword, AGENT),
    ...(values.ca === undefined ? [] : [file(CA_FILE, { contents: values.ca, mode: 0o644 })]),
    file(LOGIN_HOST_CONFIG, { contents: values.configText, mode: 0o644 }),
    file('/etc/chamberlain/realm', { contents: `${config.realm}\n`, mode: 0o644 }), // for become

    folder('/var/lib/chamberlain', { mode: 0o755 }),
    folder(PLACES.keys, { group: 'chamberlain-lookup', mode: 0o2750 }),
    keyFilesOfRoot(PLACES.keys),
    folder(PLACES.login, { mode: 0o755 }),
    folder(PLACES.extrausers, { mode: 0o755 }),
    folder('/var/lib/chamberlain/agent', { ...AGENT, mode: 0o700 }),

    ...unlessPackaged(programs),

    file('/etc/nsswitch.conf', {
      contents: (present) => withSources(present, hadSssd() ? 'db' : undefined),
      mode: 0o644,
    }),
    ...(['sshd', 'cron', 'atd'] as const).map((service) => {
      const withList = service === 'sshd' ? withClosedSessions : withClosedList;
      return presentFile(`/etc/pam.d/${service}`, {
        contents: (present) => withList(LIST_OF_CLOSED, present),
        mode: 0o644,
      });
    }),
    file('/etc/sudo.conf', { contents: withGroupSource, mode: 0o644 }),
    file('/etc/sudoers.d/chamberlain', {
      contents: fillTemplate('sudoers'),
      mode: 0o440,
      test: (candidate) => void command('/usr/sbin/visudo', ['-c', '-f', candidate]),
    }),

    sudoReadsFolder(),

    folder(LOCAL_KEYS, { mode: 0o755 }),
    file(SSHD_DROP_IN, {
      contents: () => fillTemplate('sshd.conf', { localAccounts: local().join(',') }),
      mode: 0o644,
      test: tryForSshd,
    }),
    ...sshdAnswers(local),

    ...UNITS.map((unit) => {
      const path = `/etc/systemd/system/${unit}.service`;
      // that of a clone would replace that of the package
      if (IS_PACKAGED) return absent(path);
      return file(path, { contents: fillTemplate(`${unit}.service`), mode: 0o644 });
    }),
    compiled(COMPILED, '/usr/lib/chamberlain/login-helper'),
    compiled(
      '/var/lib/chamberlain/agent/compiled',
      ...['/usr/bin/setpriv', '--reuid=chamberlain-keys', '--regid=chamberlain-keys'],
      ...['--clear-groups', '/usr/sbin/keys-agent'],
    ),
    ...UNITS.map((unit) => serviceRuns(unit, [LOGIN_HOST_CONFIG, config.ldap.passwordFile])),
    serviceRuns('ssh', [SSHD_DROP_IN]),
    formerSssd(),
    ...formerFiles(),
    pamWithoutSssd(),
  ];
}

function programs(): Piece[] {
  return [
    folder('/usr/lib/chamberlain', { mode: 0o755 }),
    safePath('/usr/lib/chamberlain'),
    ...Object.entries(WRAPPED).map(([path, program]) =>
      file(path, { contents: programWrapper(CLONE, program), mode: 0o755 }),
    ),
    folder('/usr/share/bash-completion', { mode: 0o755 }),
    folder('/usr/share/bash-completion/completions', { mode: 0o755 }),
    ...Object.entries(COPIED).map(([path, { from, mode }]) =>
      file(path, { contents: readFileSync(join(HERE, from)), mode }),
    ),
  ];
}

/**
 * The compile cache of a program, so that its first start does not strip the types of the source (25 MiB more).
 */
function compiled(into: string, ...program: string[]): Piece {
  return {
    what: into,
    differs: () => (existsSync(into) ? undefined : MISSING),
    mend() {
      const [path = '', ...args] = program;
      command(path, [...args, '--help'], { NODE_COMPILE_CACHE: into });
    },
  };
}

function secret(
  path: string,
  password: string,
  owner: { owner?: string; group?: string } = {},
): Piece {
  return file(path, { contents: password, mode: 0o400, isSecret: true, ...owner });
}
