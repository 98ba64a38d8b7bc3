/** A machine that has joined to run roles: what `chamberlain setup` makes there. The servers are elsewhere. */
import { existsSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { makeRequest, readRequest } from '../../deploy/login-host/join-files.ts';
import { file, folder, packages } from '../../deploy/login-host/pieces.ts';
import { CONFIG_FILE } from '../cli/command.ts';
import { secretsOfRole } from '../doctor/files.ts';
import type { RoleRequest } from '../joining/join-request.ts';
import { authorityFile, type RoleAnswer } from '../joining/role-answer.ts';
import { type MovableRole, MOVABLE_ROLES } from '../roles/index.ts';
import type { Config } from '../shared/config.ts';
import { readIfThere, replaceFile } from '../shared/durable-file.ts';
import { ChamberlainError } from '../shared/errors.ts';
import { quote } from '../shared/printable.ts';
import { CONFIG_MODE, OLD_CONFIG, readerOf, removeConfig } from './files.ts';
import { usersPiece } from './packages.ts';
import { ETC, readConfig, SECRETS, TLS, workerUnit } from './places.ts';
import { service, together } from './programs.ts';
import { folderPieces } from './realm.ts';
import type { Piece } from './setup.ts';

const LOGIN_HOST = `${ETC}/login-host.yaml`;

/** The join request that this machine has made to run roles. Throws an error for people if it cannot be read. */
export function ownRoleRequest(): RoleRequest | undefined {
  const request = readRequest();
  return request?.kind === 'role' ? request : undefined;
}

/** The roles of a list with commas. Throws USAGE. */
export function parseRoles(text: string): MovableRole[] {
  const names = text.split(',');
  const wrong = names.find((name) => !MOVABLE_ROLES.some((role) => role === name));
  if (wrong === undefined) return MOVABLE_ROLES.filter((role) => names.includes(role));
  const isFixed = wrong === 'intake' || wrong === 'relay';
  throw new ChamberlainError(
    'USAGE',
    isFixed
      ? `${wrong} stays on the machine of the realm: it knows the passwords of the portals, and all of them would have to change at once if its machine were removed`
      : `no role is called ${quote(wrong)}`,
    { action: `Give one of these, or several with commas: ${MOVABLE_ROLES.join(', ')}.` },
  );
}

/** The join request of this machine, which it makes if there is none. Throws an error for people. */
export function requestRoles(roles: readonly MovableRole[], name: string | undefined): RoleRequest {
  const others = [LOGIN_HOST, CONFIG_FILE].find((path) => existsSync(path));
  if (others !== undefined && ownRoleRequest() === undefined) {
    throw new ChamberlainError(
      'USAGE',
      `this machine already has another part in a realm, as ${others} shows`,
      { action: 'Run this on a machine of its own.' },
    );
  }
  return makeRequest({ kind: 'role', roles }, name) as RoleRequest;
}

/** @param answer what the realm has answered; without it, the machine keeps what an earlier answer has said */
export function joinedPieces(roles: readonly MovableRole[], answer?: RoleAnswer): Piece[] {
  const names = ['age', ...(roles.includes('databases') ? ['mariadb-client'] : [])];
  const installed = together(
    'the packages of the roles',
    `apt-get install ${names.join(' ')}`,
    [packages(names)],
    [],
  );
  const users = usersPiece();
  const folders = together(
    `the folders in ${ETC}`,
    'makes them; nobody but root may list the secrets',
    [
      folder(ETC, { mode: 0o711 }),
      folder(SECRETS, { mode: 0o711 }),
      folder(TLS.folder, { mode: 0o755 }),
    ],
    [installed, users],
  );
  const authorities = Object.entries(answer?.authorities ?? {});
  const trusted = together(
    'the certificate authorities of the servers',
    `writes ${TLS.folder}/ca-*.pem`,
    authorities.map(([name, contents]) => file(authorityFile(name), { mode: 0o644, contents })),
    [folders],
  );
  const config = configPiece(answer, [trusted]);
  const secrets = secretsPiece(roles, answer, [config]);
  const places = folderPieces(roles, [secrets], false);
  const workers = roles.map((role) =>
    service(
      workerUnit(role),
      [secrets, ...places],
      [CONFIG_FILE, ...authorities.map(([name]) => authorityFile(name))],
    ),
  );
  return [installed, users, folders, trusted, config, secrets, ...places, ...workers];
}

const HEAD = `# Written by \`chamberlain setup --join\`, as the machine of the realm has answered. A later answer replaces it.
`;
const AGAIN = 'let this machine join again: `chamberlain setup --join FILE`';

export const renderJoinedConfig = (config: Config): string => `${HEAD}${stringify(config)}`;

function configPiece(answer: RoleAnswer | undefined, needs: readonly Piece[]): Piece {
  const text = answer === undefined ? undefined : renderJoinedConfig(answer.config);
  return {
    name: `the configuration ${CONFIG_FILE}`,
    does: `writes what the answer says; what was there becomes ${OLD_CONFIG}`,
    needs,
    check() {
      const present = readIfThere(CONFIG_FILE);
      if (present === undefined) return 'is missing';
      if (text !== undefined && text !== present) return 'is not that of the answer';
      readConfig();
      return undefined;
    },
    make() {
      if (text === undefined) throw new Error(AGAIN);
      if (existsSync(CONFIG_FILE)) renameSync(CONFIG_FILE, OLD_CONFIG);
      replaceFile(CONFIG_FILE, text, CONFIG_MODE, true);
    },
    remove: () => removeConfig(AGAIN),
  };
}

function secretsPiece(
  roles: readonly MovableRole[],
  answer: RoleAnswer | undefined,
  needs: readonly Piece[],
): Piece {
  const names = roles.flatMap(secretsOfRole);
  const isMissing = () =>
    answer === undefined && names.some((name) => !readIfThere(join(SECRETS, name)));
  const files = names.map((name) => {
    const reader = readerOf(name);
    return file(join(SECRETS, name), {
      owner: reader === undefined ? 'root' : `chamberlain-${reader}`,
      ...{ mode: 0o600, isSecret: true },
      contents: answer?.secrets[name] ?? ((present = '') => present),
    });
  });
  const piece = together(
    `the secrets in ${SECRETS}`,
    `writes ${names.join(' ')}; only the user who needs it may read it`,
    files,
    needs,
  );
  return {
    ...piece,
    check: () => (isMissing() ? 'lack one' : piece.check()),
    make() {
      if (isMissing()) throw new Error(AGAIN);
      return piece.make();
    },
  };
}
