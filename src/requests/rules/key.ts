/** key.add, key.remove */
import type { RequestOf } from '../schema.ts';
import { parseSshKey } from '../../ssh-keys/ssh-key.ts';
import { countKeys, findKey, putKey, removeKeys } from '../../ssh-keys/keys-table.ts';
import {
  decided,
  type RequestContext,
  type Handler,
  refuse,
  requireSelfOrAdmin,
  requireFuture,
} from '../context.ts';
import { touchesOfChange } from '../../roles/touches.ts';

export const addKey: Handler<RequestOf<'key.add'>> = async (context) => {
  const { request } = context;
  const person = await requireSelfOrAdmin(context, request.person);
  const added = await addKeyTo(context, person, request);
  const until = request.expiresAt === undefined ? {} : { expiresAt: request.expiresAt };
  return decided(person, 'key.added', {
    fields: ['keys'],
    touches: touchesOfChange(person.uid, 'keys'),
    data: { account: person.account, ...added, ...until },
  });
};

export const removeKeyOf: Handler<RequestOf<'key.remove'>> = async (context) => {
  const { client, request } = context;
  const person = await requireSelfOrAdmin(context, request.person);
  const fingerprint = request.fingerprint ?? parseOrRefuse(request.key ?? '').fingerprint;
  const stored = await findKey(client, fingerprint);
  if (stored === undefined || stored.person !== person.uid || stored.removed) {
    refuse('KEY_UNKNOWN', `${person.account} has no key ${fingerprint}. Check the fingerprint.`);
  }
  await removeKeys(client, [fingerprint]);
  return decided(person, 'key.removed', {
    fields: ['keys'],
    touches: touchesOfChange(person.uid, 'keys'),
    data: { account: person.account, fingerprint, label: stored.label },
  });
};

/** Checks a pasted key and gives it to a person. */
export async function addKeyTo(
  { client, config, now }: RequestContext<unknown>,
  person: { uid: number; account: string },
  wish: { key: string; label?: string | undefined; expiresAt?: string | undefined },
): Promise<{ fingerprint: string; label: string }> {
  const key = parseOrRefuse(wish.key, new Set(config.keys.knownBad));
  if (wish.expiresAt !== undefined) {
    requireFuture('expiresAt', wish.expiresAt, now, { isOptional: true });
  }
  if (
    wish.expiresAt !== undefined &&
    key.options.some((option) => option.startsWith('expiry-time='))
  ) {
    refuse(
      'KEY_OPTION',
      'The key has the option expiry-time, and the request has expiresAt. Leave out one of them.',
    );
  }
  const stored = await findKey(client, key.fingerprint);
  if (stored !== undefined && stored.person !== person.uid) {
    refuse('KEY_TAKEN', 'Another person has or had this key. Make a new key.');
  }
  if (stored !== undefined && !stored.removed) {
    refuse('KEY_ALREADY', `${person.account} already has this key (${key.fingerprint}).`);
  }
  if ((await countKeys(client, person.uid)) >= config.keys.maxPerPerson) {
    refuse(
      'KEY_TOO_MANY',
      `${person.account} already has ${config.keys.maxPerPerson} keys, the most that are allowed. Remove a key first.`,
    );
  }
  const label = wish.label ?? key.label;
  await putKey(client, {
    person: person.uid,
    fingerprint: key.fingerprint,
    line: key.line,
    options: key.options,
    label,
    expiresAt: wish.expiresAt === undefined ? undefined : new Date(wish.expiresAt).toISOString(),
  });
  return { fingerprint: key.fingerprint, label };
}

function parseOrRefuse(text: string, knownBad?: ReadonlySet<string>) {
  const result = parseSshKey(text, knownBad);
  if (!result.ok) refuse(result.code, result.sentence);
  return result.key;
}
