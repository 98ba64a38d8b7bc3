/** How this machine joins a realm as a login host: join-files.ts has its key, its join request and the answer. */
import { existsSync, readSync } from 'node:fs';
import { isatty } from 'node:tty';
import { type JoinAnswer, parseJoinAnswer } from '../../src/joining/join-answer.ts';
import type { JoinRequest } from '../../src/joining/join-request.ts';
import { printable } from '../../src/shared/printable.ts';
import { makeRequest, readAnswer as readAnyAnswer, type ReadAnswer as Read } from './join-files.ts';
import { keysThatWouldNotCount } from './machine.ts';
import { passwordsThatWouldNotCount } from './sshd.ts';
import { CA_FILE, type JoinedValues } from './values.ts';
import { LOCAL_KEYS } from './wanted.ts';

/** Of a machine that runs roles. */
const CONFIG_FILE = '/etc/chamberlain/config.yaml';

/** The join request of this machine, as `makeRequest` makes it. Throws an error for people. */
export function joinRequest(name: string | undefined): JoinRequest {
  if (existsSync(CONFIG_FILE)) {
    throw new Error(
      `this machine has the configuration of a realm, ${CONFIG_FILE}. A realm and a login host keep different secrets ` +
        'under the same names, so let another machine join',
    );
  }
  return makeRequest({ kind: 'login-host' }, name);
}

/** What would keep `setup --join` from changing anything here. */
export function obstacles(): string[] {
  return [keysThatWouldNotCount(LOCAL_KEYS), passwordsThatWouldNotCount(LOCAL_KEYS)].flatMap(
    (piece) => piece.differs() ?? [],
  );
}

type ReadAnswer = Read<JoinAnswer>;

/** Throws an error for people, which contains no part of the answer. */
export const readAnswer = (file: string): ReadAnswer => readAnyAnswer(file, parseJoinAnswer);

/**
 * Whether the operator trusts that the realm has written the answer: anybody who has seen the join request can encrypt
 * to its key.
 *
 * @param given the fingerprint of the command line; without it, the operator is asked
 */
export function isConfirmed(
  { answer, fingerprint }: ReadAnswer,
  given: string | undefined,
): boolean {
  if (given !== undefined) {
    if (given.toLowerCase() === fingerprint) return true;
    throw new Error(
      `the answer has the fingerprint ${fingerprint}, and not the one that you have given`,
    );
  }
  if (!isatty(0) || !isatty(1)) {
    throw new Error('there is no terminal to confirm on; give --fingerprint');
  }
  process.stdout.write(questionOf({ answer, fingerprint }));
  const line = Buffer.alloc(100);
  const length = readSync(0, line);
  return /^y(es)?$/iu.test(line.toString('utf8', 0, length).trim());
}

/** What nobody has confirmed yet comes first, and cannot look like the fingerprint, which is last. */
export function questionOf({ answer, fingerprint }: ReadAnswer): string {
  const { name, realm, ldap } = answer;
  return [
    `${printable(name)} is to be a login host of the realm ${printable(realm)}, whose directory is`,
    ...ldap.uris.map((uri) => `  ${printable(uri)}`),
    '',
    'The answer has the fingerprint',
    `  ${fingerprint}`,
    '',
    'Has `chamberlain join` shown this fingerprint? [y/N] ',
  ].join('\n');
}

/** The same values as the options of a host that is set up by hand. */
export function valuesOf({ answer }: ReadAnswer): JoinedValues {
  const { account, realm, realmGid, ids, homes, knownBadKeys, ldap, sealKeys, password } = answer;
  const { uris, base, ca } = ldap;
  const caFile = ca === undefined ? {} : { caFile: CA_FILE };
  return {
    config: {
      ...{ realm, realmGid, ids, homes, knownBadKeys, sealKeys },
      ldap: { uris, base, ...caFile, hostAccount: account },
    },
    ...{ password, ca },
  };
}
