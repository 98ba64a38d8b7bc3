/** What everybody may do, according to the servers themselves, read by their own programs. */
import { join } from 'node:path';
import { run } from '../../dev/servers/daemon.ts';
import { administer } from '../../dev/servers/mariadb.ts';
import { payloadOf } from '../../src/seals/seal.ts';
import type { MeasuredRealm } from '../realm.ts';

/** A right, one line each, and the account that has it. */
export type Access = Map<string, string>;

const PAGE = 1000;

/**
 * Whom the directory lets in, with which keys and as which tools, and whom the MariaDB servers let in, with
 * which passwords.
 */
export async function readAccess(realm: MeasuredRealm): Promise<Access> {
  const access: Access = new Map();
  const accounts = new Map<string, string>();
  for (const [dn, entry] of await readDirectory(realm)) readEntry(access, accounts, dn, entry);
  for (const { kind, socket } of [realm.stack.replica, realm.stack.tools]) {
    const rows = await administer(socket, 'SELECT User, Priv FROM mysql.global_priv;');
    for (const row of rows.split('\n')) {
      const [user = '', priv = '{}'] = row.split('\t');
      if (!/^[su]\d+$/.test(user)) continue;
      const { account_locked: isLocked } = JSON.parse(priv) as { account_locked?: boolean };
      if (isLocked === true) continue;
      const account = accounts.get(user.slice(1)) ?? user;
      access.set(`account ${user} ${kind}`, account);
      for (const [verifier] of priv.matchAll(/\*[0-9A-F]{40}/g)) {
        access.set(`password ${user} ${kind} ${verifier}`, account);
      }
    }
  }
  return access;
}

/**
 * The accounts that have a right afterwards that they did not have before. A password that was not known before
 * is a new one, unless it is in the backup: that one was taken away.
 */
export function whoHasMore({
  before,
  after,
  atBackup,
}: Record<'before' | 'after' | 'atBackup', Access>): string[] {
  const more = [...after].filter(
    ([right]) => !before.has(right) && (!right.startsWith('password ') || atBackup.has(right)),
  );
  return [...new Set(more.map(([, account]) => account))].toSorted();
}

type Entry = Map<string, string[]>;

function readEntry(access: Access, accounts: Map<string, string>, dn: string, entry: Entry): void {
  const name = nameOf(dn);
  const number = entry.get('uidNumber')?.[0];
  if (number !== undefined) {
    accounts.set(number, name);
    if (!entry.has('pwdPolicySubentry')) access.set(`unlocked ${dn}`, name);
  }
  for (const key of entry.get('sshPublicKey') ?? []) access.set(`key ${dn} ${key}`, name);
  for (const member of entry.get('member') ?? []) {
    access.set(`member ${dn} ${member}`, nameOf(member));
  }
  if (dn.startsWith('cn=runas-')) access.set(`rule ${dn}`, name);
  for (const seal of entry.get('chamberlainSeal') ?? []) {
    const said = JSON.parse(payloadOf(seal) ?? '{}') as {
      state?: string;
      member?: boolean;
      keys?: string[];
      members?: string[];
    };
    if (said.state !== 'active') continue;
    for (const key of said.member === true ? (said.keys ?? []) : []) {
      access.set(`seal ${dn} ${key}`, name);
    }
    for (const member of said.members ?? []) access.set(`seal ${dn} ${member}`, member);
  }
}

/** The first name in a DN: a person's name, `tools.x`. */
function nameOf(dn: string): string {
  return /^[^=]+=(?:runas-)?([^,]*)/.exec(dn)?.[1] ?? dn;
}

async function readDirectory({ stack, config }: MeasuredRealm): Promise<Map<string, Entry>> {
  const { base } = config.ldap;
  const ldif = await run('/usr/bin/ldapsearch', [
    ...['-x', '-LLL', '-o', 'ldif-wrap=no', '-H', stack.slapd.uri],
    ...['-D', `cn=directory-reader,ou=chamberlain,${base}`],
    ...['-y', join(config.secrets, 'ldap-directory-reader')],
    ...['-b', base, '-E', `pr=${PAGE}/noprompt`, '(objectClass=*)'],
    ...['uidNumber', 'pwdPolicySubentry', 'sshPublicKey', 'member', 'chamberlainSeal'],
  ]);
  const entries = new Map<string, Entry>();
  let entry: Entry = new Map();
  for (const line of ldif.split('\n')) {
    const [, attribute, isBase64, text = ''] = /^([^:#]+):(:?) (.*)$/.exec(line) ?? [];
    if (attribute === undefined) continue;
    const value = isBase64 === ':' ? Buffer.from(text, 'base64').toString() : text;
    if (attribute === 'dn') entries.set(value, (entry = new Map()));
    else entry.set(attribute, [...(entry.get(attribute) ?? []), value]);
  }
  return entries;
}
