/**
 * portal.add, portal.update, portal.remove, portal.hand-over
 *
 *   portal.add waits ──request.approve, by another admin──▶ counts ──portal.remove, by one admin──▶ removed
 *                                                           │  ▲ portal.update: one admin to take rights or keys away,
 *                                                           ╰──╯ another admin must approve what gives more
 *
 * Where the configuration file lists a portal of the same name, the file counts, and no request changes it.
 *
 * A portal with `events: queue` has a user of Redis, of whose password the request has the SHA-256. `chamberlain
 * redis-users` makes the user. How a portal gets its events never changes. A name that had a user, also because the file has
 * listed it, does not come again without one: our programs work with their own rights in the queues of a portal over
 * HTTP, so nobody else may ever have written there.
 *
 * Whatever such a portal has sent is decided by its row as it is then (`requireLivePortal` in verdict.ts): a key or a
 * right that was taken away counts no more for what waits in the queue. A key that a portal had never counts again.
 */
import { createPublicKey } from 'node:crypto';
import { adminOfPortal, type Portal } from '../../shared/config.ts';
import { fingerprintOf, lineOf } from '../../ssh-keys/ed25519-key.ts';
import { parseSshKey } from '../../ssh-keys/ssh-key.ts';
import { readKeyState } from '../admin-keys-table.ts';
import { countUnconfirmed, handOverEvents, MOST_HANDED_OVER } from '../../events/events-table.ts';
import {
  type AddedPortal,
  changePortal,
  credentialsOf,
  findAddedPortal,
  findChangeSince,
  findPortalOfKeys,
  fingerprintsOf,
  insertPortal,
  markPortalRemoved,
  type PortalSettings,
  shownDigits,
  wasListed,
} from '../portals-table.ts';
import {
  type Decision,
  type Handler,
  refuse,
  type RequestContext,
  requireOwnKeyOfAdmin,
  requirePerson,
} from '../context.ts';
import type { RequestOf } from '../schema.ts';
import { letWait } from './person-leaving.ts';

/** What may be on or off. */
const SWITCHES = ['subjectEvents', 'speaksForAdmins', 'verifiesMail'] as const;

export const addPortal: Handler<RequestOf<'portal.add'>> = async (context) => {
  const { client, config, request, requestedBy, approvedFor } = context;
  requireOwnKeyOfAdmin(context);
  const { kind: _, requestedBy: __, reason: ___, name, ...settings } = request;
  if (adminOfPortal(name) !== undefined) {
    refuse(
      'REQUEST_INVALID',
      `${name} would be an admin's own key. Use admin-key.add for it, or choose another name.`,
    );
  }
  requireUnlisted(context, name);
  const had = await findAddedPortal(client, name);
  if (had?.removedAt === null || config.databases.servers.some((server) => server.name === name)) {
    refuse('PORTAL_TAKEN', `There is a portal or a database server named ${name} already.`);
  }
  requireWay(name, settings, hasUser(had?.settings) || (await wasListed(client, name)));
  await requireNewKeys(context, settings);
  const fields = [
    ...['keys', 'kinds', 'reads', ...SWITCHES.filter((each) => settings[each])],
    ...credentialsOf(settings).map((each) => `+${shorten(each)}`),
  ];
  if (approvedFor === undefined) {
    const why = `Another admin must approve the new portal ${name}: ${saying(settings)}.`;
    return await waitFor(context, why, fields);
  }
  const by = { addedBy: approvedFor, approvedBy: requestedBy };
  await insertPortal(client, name, settings, by);
  return await decidedOn(context, name, fields);
};

export const updatePortal: Handler<RequestOf<'portal.update'>> = async (context) => {
  const { client, request, requestedBy, approvedFor } = context;
  requireOwnKeyOfAdmin(context);
  const { kind: _, requestedBy: __, reason: ___, name, ...given } = request;
  requireUnlisted(context, name);
  const { settings: before } = await requireAdded(context, name);
  const changes = Object.entries(given).filter(([, value]) => value !== undefined);
  const after: PortalSettings = Object.assign({ ...before }, Object.fromEntries(changes));
  requireWay(name, after, hasUser(before));
  const had = credentialsOf(before);
  const has = credentialsOf(after);
  const newKeys = has.filter((each) => !had.includes(each));
  const fields = [
    ...changes
      .map(([field]) => field as keyof PortalSettings)
      .filter((field) => JSON.stringify(before[field]) !== JSON.stringify(after[field])),
    ...newKeys.map((each) => `+${shorten(each)}`),
    ...had.filter((each) => !has.includes(each)).map((each) => `-${shorten(each)}`),
  ];
  if (fields.length === 0) {
    refuse('REQUEST_INVALID', `The portal ${name} is like that already. Name what is to change.`);
  }
  if (new Set(has).size < has.length) refuseTwice();
  await requireNewKeys(context, {
    keys: after.keys.filter((_key, n) => newKeys.includes(has[n] ?? '')),
    redisPasswordSha256:
      after.redisPasswordSha256 === before.redisPasswordSha256
        ? undefined
        : after.redisPasswordSha256,
  });
  const more = wideningOf(context, before, after, newKeys);
  if (more.length > 0 && approvedFor === undefined) {
    const why = `Another admin must approve what the portal ${name} gets in addition: ${more.join('; ')}.`;
    return await waitFor(context, why, fields);
  }
  await requireUnchanged(context, name);
  await changePortal(client, name, after, { by: approvedFor ?? requestedBy, newKeys });
  return await decidedOn(context, name, fields);
};

export const removePortal: Handler<RequestOf<'portal.remove'>> = async (context) => {
  const { client, config, request, requestedBy: by } = context;
  requireOwnKeyOfAdmin(context);
  const { name, reason: why } = request;
  const had = await findAddedPortal(client, name);
  // also where the file lists another of that name: it must not come back with its old keys
  if (had?.removedAt !== null && isListed(config.portals, name)) requireUnlisted(context, name);
  const { settings } = await requireAdded(context, name);
  await markPortalRemoved(client, name, { by, why });
  return await decidedOn(context, name, [
    'removed',
    ...credentialsOf(settings).map((each) => `-${shorten(each)}`),
  ]);
};

/** Gives the events that a removed portal has not confirmed to another portal. */
export const handOver: Handler<RequestOf<'portal.hand-over'>> = async (context) => {
  const { client, config, request, approvedFor } = context;
  requireOwnKeyOfAdmin(context);
  const { name, to } = request;
  // the configuration in use may be older than the row
  const isThere = async (portal: string) =>
    isListed(config.portals, portal) || (await findAddedPortal(client, portal))?.removedAt === null;
  if (await isThere(name)) {
    refuse(
      'PORTAL_TAKEN',
      `The portal ${name} takes its events itself. Remove it first, if another portal is to get them.`,
    );
  }
  const wasThere = async (portal: string) =>
    (await findAddedPortal(client, portal)) !== undefined || (await wasListed(client, portal));
  if (adminOfPortal(to) !== undefined || !(await isThere(to))) {
    const why = (await wasThere(to))
      ? `The portal ${to} was removed, so it cannot get events. Name another one.`
      : `There is no portal ${to}.`;
    refuse('PORTAL_UNKNOWN', `${why} See \`chamberlain list portals\`.`);
  }
  const count = await countUnconfirmed(client, name);
  if (count === 0 && !(await wasThere(name))) {
    refuse('PORTAL_UNKNOWN', `There was no portal ${name}. See \`chamberlain list portals\`.`);
  }
  if (count === 0) {
    refuse('REQUEST_INVALID', `There is no event that the portal ${name} has not taken.`);
  }
  if (approvedFor === undefined) {
    const many =
      count > MOST_HANDED_OVER
        ? `more than ${MOST_HANDED_OVER} at present, of which it gets the oldest ${MOST_HANDED_OVER}. The next request is for the others`
        : `${count} at present`;
    const why = `Another admin must approve that the portal ${to} gets the events that the removed portal ${name} has not taken, whatever its own rights are: ${many}.`;
    return await waitFor(context, why, [`to ${to}`]);
  }
  for (const portal of [name, to]) await requireUnchanged(context, portal);
  const number = await handOverEvents(client, name, to);
  return await decidedOn(context, name, [`${number} events`, `to ${to}`]);
};

/** The decision. Its subject is the admin who asked for it, who has a number. Portals do not hear of it. */
async function decidedOn(
  context: RequestContext<unknown>,
  name: string,
  fields: readonly string[],
): Promise<Decision> {
  const { uid, account } = await requirePerson(context, context.approvedFor ?? context.requestedBy);
  return {
    ...{ subject: uid, account, about: name, fields: [`portal ${name}`, ...fields] },
    ...{ touches: [], onDone: undefined },
  };
}

async function waitFor(
  context: RequestContext<RequestOf<'portal.add' | 'portal.update' | 'portal.hand-over'>>,
  why: string,
  fields: readonly string[],
): Promise<Decision> {
  const { requestedBy, request } = context;
  const { name } = request;
  const person = await requirePerson(context, requestedBy);
  return await letWait(context, person, why, {
    about: name,
    fields: [`portal ${name}`, ...fields],
  });
}

function isListed(portals: readonly Portal[], name: string): boolean {
  return portals.some((portal) => portal.name === name && portal.byRequest !== true);
}

function requireUnlisted({ config }: RequestContext<unknown>, name: string): void {
  if (!isListed(config.portals, name)) return;
  refuse(
    'PORTAL_LISTED',
    `The configuration file lists the portal ${name}. An operator changes it there, and runs \`chamberlain reload\`.`,
  );
}

/** Who approves has seen what the request does to the portal as it was. */
async function requireUnchanged(
  { client, approvedFor, id }: RequestContext<unknown>,
  name: string,
): Promise<void> {
  if (approvedFor === undefined || id === undefined) return;
  const change = await findChangeSince(client, name, id);
  if (change === undefined) return;
  const { by, at } = change;
  refuse(
    'PORTAL_CHANGED',
    `${by} has changed the portal ${name} since the request was sent, at ${at.toISOString()}: the audit says what. Reject the request; ${approvedFor} can send it again.`,
  );
}

async function requireAdded(
  { client }: RequestContext<unknown>,
  name: string,
): Promise<AddedPortal> {
  const found = await findAddedPortal(client, name);
  if (found?.removedAt !== null) {
    const why = found === undefined ? 'was never added by request' : 'was removed';
    refuse('PORTAL_UNKNOWN', `The portal ${name} ${why}. See \`chamberlain list portals\`.`);
  }
  return found;
}

const hasUser = (settings: PortalSettings | undefined): boolean =>
  settings?.redisPasswordSha256 !== undefined;

/**
 * Refuses a password without its queue and the other way round; and a portal without a user of Redis under a name that had
 * one.
 */
function requireWay(name: string, settings: PortalSettings, hadUser: boolean): void {
  const { events, redisPasswordSha256: hash } = settings;
  if (events === 'queue' && hash === undefined) {
    refuse(
      'REQUEST_INVALID',
      'A portal with `events: queue` needs `redisPasswordSha256`: have the portal make a password (docs/portals.md).',
    );
  }
  if (hadUser && hash === undefined) {
    refuse(
      'REQUEST_INVALID',
      `The portal ${name} has or had a user of Redis, which may have written into its queues. Add it with events: queue, or choose another name.`,
    );
  }
  if (events === 'http' && hash !== undefined) {
    refuse(
      'REQUEST_INVALID',
      `The portal ${name} gets its events over HTTP, so it has no password of Redis. Add a portal with events: queue, or leave out redisPasswordSha256.`,
    );
  }
}

/** Refuses keys that are not sound; and keys and a password that are or were in use anywhere. */
async function requireNewKeys(
  { client, config }: RequestContext<unknown>,
  settings: Pick<PortalSettings, 'keys' | 'redisPasswordSha256'>,
): Promise<void> {
  const { keys } = settings;
  const knownBad = new Set(config.keys.knownBad);
  for (const { publicKey } of keys) {
    const parsed = parseSshKey(lineOf(createPublicKey(publicKey)), knownBad);
    if (!parsed.ok) refuse(parsed.code, parsed.sentence);
  }
  const fingerprints = fingerprintsOf({ keys });
  if (new Set(fingerprints).size < fingerprints.length) refuseTwice();
  const listed = config.portals
    .flatMap((portal) => portal.keys.map((key) => ({ name: portal.name, key })))
    .map(({ name, key }) => ({ name, fingerprint: fingerprintOf(createPublicKey(key.publicKey)) }))
    .find(({ fingerprint }) => fingerprints.includes(fingerprint));
  const found = listed ?? (await findPortalOfKeys(client, credentialsOf(settings)));
  if (found !== undefined) refuseTaken(found.fingerprint, `the portal ${found.name}`);
  for (const fingerprint of fingerprints) {
    if ((await readKeyState(client, fingerprint)) !== undefined)
      refuseTaken(fingerprint, 'an admin');
  }
}

/** Of a password, only the first digits of the hash are ever shown. */
const shorten = (credential: string): string =>
  credential.replace(/^redis:(.*)$/u, (_, hash: string) => `redis:${shownDigits(hash)}`);

function describe(credential: string): string {
  return credential.startsWith('redis:')
    ? `password of Redis with the SHA-256 ${shorten(credential).slice('redis:'.length)}…`
    : `key ${credential}`;
}

function refuseTaken(fingerprint: string, whose: string): never {
  refuse(
    'PORTAL_KEY_TAKEN',
    `The ${describe(fingerprint)} is or was that of ${whose}. Have the portal make a new one.`,
  );
}

function refuseTwice(): never {
  refuse('REQUEST_INVALID', 'keys: two of them are the same key. Leave one of them out.');
}

/** What the portal has, as an admin reads it before approving. */
function saying(settings: PortalSettings): string {
  const { kinds, reads, mostCallsPerMinute: calls } = settings;
  return [
    ...credentialsOf(settings).map(describe),
    `kinds ${kinds === 'all' ? 'all' : kinds.join(', ')}`,
    ...(reads.length === 0 ? [] : [`reads ${reads.join(', ')}`]),
    ...SWITCHES.filter((each) => settings[each]),
    ...(calls === undefined ? [] : [callsIn(calls)]),
  ].join('; ');
}

const callsIn = (calls: number): string => `${calls} calls a minute`;

/** What the portal may do by `after` and not by `before`; empty if it loses rights only. */
function wideningOf(
  { config }: RequestContext<unknown>,
  before: PortalSettings,
  after: PortalSettings,
  newKeys: readonly string[],
): string[] {
  const most = config.api?.mostCallsPerMinute.portal ?? 0;
  const { mostCallsPerMinute: calls = most } = after;
  const kinds =
    before.kinds === 'all'
      ? []
      : after.kinds === 'all'
        ? ['all']
        : after.kinds.filter((each) => !before.kinds.includes(each));
  const reads = before.reads.includes('all')
    ? []
    : after.reads.filter((each) => !before.reads.includes(each));
  return [
    ...newKeys.map(describe),
    ...(kinds.length === 0 ? [] : [`kinds ${kinds.join(', ')}`]),
    ...(reads.length === 0 ? [] : [`reads ${reads.join(', ')}`]),
    ...SWITCHES.filter((each) => after[each] && !before[each]),
    ...(calls > (before.mostCallsPerMinute ?? most) ? [callsIn(calls)] : []),
  ];
}
