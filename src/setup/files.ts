/** The folders, secrets and keys in /etc/chamberlain, and the configuration. */
import { createPublicKey, randomBytes } from 'node:crypto';
import { chmodSync, chownSync, existsSync, readFileSync, renameSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { file, folder, localAccounts, localGroups } from '../../deploy/login-host/pieces.ts';
import { CONFIG_FILE } from '../cli/command.ts';
import { makePassword } from '../credentials/credentials.ts';
import { isOfPortals, secretsOf } from '../doctor/files.ts';
import { makeSigningKey } from '../secrets/rotating.ts';
import { loadConfig } from '../shared/config.ts';
import { replaceFile } from '../shared/durable-file.ts';
import type { Answers } from './answers.ts';
import { differsFromAnswers, renderConfig } from './config-text.ts';
import { PORTALS_GROUP } from './packages.ts';
import { ETC, readConfig, SECRETS } from './places.ts';
import { together } from './programs.ts';
import type { Differs, Piece } from './setup.ts';

/** The public halves of the keys of Chamberlain's own. */
const PUBLIC_KEYS = ['seal-key', 'events-key'];

export function filePieces(
  answers: Answers,
  needs: readonly Piece[],
): { files: readonly Piece[]; secrets: Piece } {
  const folders = together(
    `the folders in ${ETC}`,
    'makes them; nobody but root may list the secrets',
    [
      folder(ETC, { mode: 0o711 }),
      folder(SECRETS, { mode: 0o711 }),
      folder(`${ETC}/keys`, { mode: 0o700 }),
      // an operator's own settings of the servers
      folder(`${ETC}/redis`, { mode: 0o755 }),
      folder(`${ETC}/mariadb`, { mode: 0o755 }),
    ],
    needs,
  );
  const config: Piece = {
    name: `the configuration ${CONFIG_FILE}`,
    does: 'writes it if there is none, or takes back that of before --uninstall; it is never changed',
    needs: [folders],
    check: () =>
      existsSync(CONFIG_FILE) ? differsFromAnswers(readConfig(), answers) : 'is missing',
    make() {
      if (existsSync(CONFIG_FILE)) {
        const differs = differsFromAnswers(readConfig(), answers);
        throw new Error(`it ${differs}. It is never changed: correct that file, or the answers`);
      }
      if (existsSync(OLD_CONFIG)) bringBack(answers);
      else replaceFile(CONFIG_FILE, renderConfig(answers), CONFIG_MODE, true);
    },
    remove: () => removeConfig(),
  };
  const secrets: Piece = {
    name: `the secrets in ${SECRETS}`,
    does: 'makes each password and key that is missing; only the user who needs it may read it',
    needs: [config],
    check: checkSecrets,
    make() {
      for (const name of secretsOf(readConfig())) makeSecret(name);
    },
  };
  const keys = together(
    `the public keys ${PUBLIC_KEYS.map((name) => `${ETC}/${name}.pem`).join(' and ')}`,
    'writes them, for login hosts and portals',
    PUBLIC_KEYS.map((name) =>
      file(`${ETC}/${name}.pem`, { mode: 0o644, contents: () => publicHalf(name) }),
    ),
    [secrets],
  );
  return { files: [folders, config, secrets, keys], secrets };
}

export const CONFIG_MODE = { mode: 0o644 };
export const OLD_CONFIG = `${CONFIG_FILE}.old`;

export function removeConfig(
  again = '`chamberlain setup` takes it from there again',
): Promise<string | undefined> {
  if (!existsSync(CONFIG_FILE)) return Promise.resolve(undefined);
  renameSync(CONFIG_FILE, OLD_CONFIG);
  return Promise.resolve(`moved ${CONFIG_FILE} to ${OLD_CONFIG}: ${again}`);
}

/** After --uninstall: the data that it left belong to the realm of that configuration, with all its portals. */
function bringBack(answers: Answers): void {
  const differs = differsFromAnswers(loadConfig(OLD_CONFIG), answers);
  if (differs !== undefined) {
    throw new Error(
      `${OLD_CONFIG} is that of the realm whose data are here, and it ${differs}: correct the answers`,
    );
  }
  renameSync(OLD_CONFIG, CONFIG_FILE);
}

function checkSecrets(): Differs {
  const names = secretsOf(readConfig());
  const seen = names.map((name) => statSync(join(SECRETS, name), { throwIfNoEntry: false }));
  const missing = names.filter((_, at) => (seen[at]?.size ?? 0) === 0);
  if (missing.length > 0) return `are missing: ${missing.join(' ')}`;
  const wrong = names.filter((name, at) => {
    const { uid, gid, mode } = rightsOf(name);
    const has = seen[at];
    return has?.uid !== uid || has.gid !== gid || (has.mode & 0o7777) !== mode;
  });
  if (wrong.length > 0) return `have another owner or mode than they need: ${wrong.join(' ')}`;
  return undefined;
}

function makeSecret(name: string): void {
  const path = join(SECRETS, name);
  const rights = rightsOf(name);
  const present = statSync(path, { throwIfNoEntry: false });
  if ((present?.size ?? 0) === 0) {
    const text = name.endsWith('-key') ? makeSigningKey() : makePassword(randomBytes);
    replaceFile(path, text, rights, true);
    return;
  }
  chownSync(path, rights.uid, rights.gid);
  chmodSync(path, rights.mode);
}

/** The role that reads a secret; otherwise root does alone. */
export function readerOf(name: string): string | undefined {
  if (name === 'seal-key') return 'directory';
  if (name === 'events-key') return 'relay';
  const [, server, account = ''] = /^(\w+)-(.*)$/u.exec(name) ?? [];
  if (server === 'mariadb') return 'databases';
  if (server === 'ldap') return /^directory(-reader)?$/u.test(account) ? 'directory' : undefined;
  return /^(intake|relay|directory|databases|sweep|api)(_reader)?$/u.exec(account)?.[1];
}

function rightsOf(name: string): { uid: number; gid: number; mode: number } {
  if (isOfPortals(name)) {
    const gid = localGroups().find((group) => group.name === PORTALS_GROUP)?.gid;
    return { uid: 0, gid: gid ?? 0, mode: 0o640 };
  }
  const reader = readerOf(name);
  const account = localAccounts().find((each) => each.name === `chamberlain-${reader}`);
  return { uid: account?.uid ?? 0, gid: 0, mode: 0o600 };
}

function publicHalf(name: string): string {
  const key = createPublicKey(readFileSync(join(SECRETS, name)));
  return key.export({ type: 'spki', format: 'pem' }).toString();
}
