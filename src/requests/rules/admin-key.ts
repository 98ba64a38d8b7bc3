/**
 * admin-key.add, admin-key.revoke
 *
 *   admin-key.add waits ──request.approve, by another admin──▶ live ──admin-key.revoke, by one admin──▶ revoked
 *                                                                ╰──its expiry──▶ expired
 *
 * A key that was revoked stays so, and no other key can have its fingerprint. Whether the owner of a live key is an admin
 * is decided anew for each request (`requireOwnKey` in verdict.ts), so a key is dead while its owner is suspended, has
 * left, or is no admin, and counts again if they are one again.
 *
 * The configuration lists the first keys. They can be revoked in the same way.
 */
import { createPublicKey, type KeyObject } from 'node:crypto';
import { listedAdminKeys } from '../../shared/config.ts';
import { fingerprintOf, keyOfLine, lineOf } from '../../ssh-keys/ed25519-key.ts';
import { parseSshKey } from '../../ssh-keys/ssh-key.ts';
import {
  insertAdminKey,
  isRevoked,
  noteAdditions,
  readKeyState,
  revokeAdminKey,
  revokeListedKey,
  whyDead,
} from '../admin-keys-table.ts';
import { findPortalOfKeys } from '../portals-table.ts';
import {
  decided,
  type Handler,
  refuse,
  type RequestContext,
  requireAdmin,
  requireFuture,
  requirePerson,
} from '../context.ts';
import type { RequestOf } from '../schema.ts';
import { letWait } from './person-leaving.ts';
import { findPerson } from '../../identity/people-table.ts';

export const addAdminKey: Handler<RequestOf<'admin-key.add'>> = async (context) => {
  const { client, config, request, requestedBy, now, approvedFor } = context;
  requireAdmin(context);
  const owner = await requirePerson(context, request.person ?? approvedFor ?? requestedBy);
  const { uid, account } = owner;
  const { label, expiresAt } = request;
  if (!owner.admin) {
    const [fault, todo] =
      owner.state !== 'active'
        ? [`is ${owner.state}`, `Reinstate ${account} first.`]
        : owner.realmMember
          ? ['is not an admin', `Add ${account} to the tool ${config.admin} first.`]
          : ['has no access', `Grant ${account} access first.`];
    refuse('NOT_ALLOWED', `${account} ${fault}, so the key would not count. ${todo}`);
  }
  requireFuture('expiresAt', expiresAt, now, { isOptional: false });
  const key = parsePublicKey(context);
  const fingerprint = fingerprintOf(key);
  const isTaken =
    isListed(context, fingerprint) ||
    (await readKeyState(client, fingerprint)) !== undefined ||
    (await findPortalOfKeys(client, [fingerprint])) !== undefined;
  if (isTaken) {
    refuse('ADMIN_KEY_TAKEN', `The key ${fingerprint} is or was in use. Make a new one.`);
  }
  if (approvedFor === undefined) {
    return letWait(
      context,
      owner,
      `Another admin must approve the key ${fingerprint} (${label}) of ${account}, valid until ${expiresAt}.`,
    );
  }
  const parties = { addedBy: approvedFor, approvedBy: requestedBy, now };
  await insertAdminKey(client, {
    ...{ fingerprint, person: uid, line: lineOf(key), label, expiresAt },
    ...parties,
  });
  // whoever has asked for a key of their own is nobody's puppet by that
  if (approvedFor !== account) {
    await noteAdditions(client, [uid], { by: [approvedFor, requestedBy], now });
  }
  return decided(owner, 'admin-key.added', {
    fields: ['adminKeys'],
    touches: [],
    data: { account, fingerprint, label, expiresAt },
  });
};

export const revokeKey: Handler<RequestOf<'admin-key.revoke'>> = async (context) => {
  const { client, request, requestedBy: by, now } = context;
  requireAdmin(context);
  const { fingerprint, reason: why } = request;
  const state = await readKeyState(client, fingerprint);
  if (isRevoked(state)) {
    refuse('ADMIN_KEY_DEAD', whyDead(fingerprint, state, now) ?? '');
  }
  const owner =
    (await revokeAdminKey(client, fingerprint, { by, why, now })) ??
    (await revokeListed(context, { by, why, now }));
  return decided(owner, 'admin-key.revoked', {
    fields: ['adminKeys'],
    touches: [],
    data: { account: owner.account, fingerprint, reason: why },
  });
};

/** Revokes a key of the configuration. Returns its owner. */
async function revokeListed(
  { client, config, request: { fingerprint } }: RequestContext<RequestOf<'admin-key.revoke'>>,
  revocation: { by: string; why: string; now: Date },
): Promise<{ uid: number; account: string }> {
  const listed = listedAdminKeys(config).get(fingerprint);
  const owner = listed && (await findPerson(client, listed.admin, config.admin));
  if (listed === undefined || owner === undefined) {
    refuse(
      'ADMIN_KEY_UNKNOWN',
      `No admin has a key with the fingerprint ${fingerprint}. See \`chamberlain list admin-keys\`.`,
    );
  }
  const key = { fingerprint, person: owner.uid, line: lineOf(listed.key) };
  await revokeListedKey(client, key, revocation);
  return owner;
}

/** Whether a portal of the configuration has the key. */
function isListed({ config }: RequestContext<unknown>, fingerprint: string): boolean {
  return config.portals.some(({ keys }) =>
    keys.some(({ publicKey }) => fingerprintOf(createPublicKey(publicKey)) === fingerprint),
  );
}

/** The key, in PEM or as a line. Refuses any other than an Ed25519 key that is sound. */
function parsePublicKey({
  config,
  request,
}: RequestContext<RequestOf<'admin-key.add'>>): KeyObject {
  const text = request.publicKey.trim();
  const isPem = text.startsWith('-----BEGIN PUBLIC KEY-----');
  const result = parseSshKey(isPem ? lineOfPem(text) : text, new Set(config.keys.knownBad));
  if (!result.ok) refuse(result.code, result.sentence);
  const { type, line, options } = result.key;
  if (type !== 'ssh-ed25519') refuseType();
  if (options.length > 0) {
    refuse(
      'KEY_OPTION',
      "An admin's own key has no options. Leave out what is before ssh-ed25519.",
    );
  }
  return keyOfLine(line);
}

function lineOfPem(text: string): string {
  let key: KeyObject;
  try {
    key = createPublicKey(text);
  } catch {
    refuse('KEY_MALFORMED', 'This is not a public key in PEM. Copy the whole block again.');
  }
  if (key.asymmetricKeyType !== 'ed25519') refuseType();
  return lineOf(key);
}

function refuseType(): never {
  refuse(
    'KEY_TYPE',
    "An admin's own key must be an Ed25519 key. `chamberlain admin-key new` makes one.",
  );
}
