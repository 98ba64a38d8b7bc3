/**
 * A directory full of people and tools, maintained as the directory role does it, and a login host that uses
 * it.
 */
import { mkdirSync, mkdtempSync, readFileSync, chmodSync, chownSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { REALM } from '../../dev/servers/config.ts';
import { startServer, stopServer } from '../../dev/servers/daemon.ts';
import { type LoginHost, openLoginHost } from '../../dev/servers/login-host.ts';
import { makePlace, purgePlace } from '../../dev/servers/place.ts';
import { ensureSigningKey } from '../../dev/servers/secret.ts';
import { type SlapdServer, slapdServer } from '../../dev/servers/slapd.ts';
import { makeDataRoot } from '../../dev/servers/stack.ts';
import { readSealKey } from '../../src/shared/config.ts';
import { openDirectoryWriter } from '../../src/backends/ldap/directory.ts';
import { PLACES } from '../../src/login-host/places.ts';
import { type Marker, signMarker } from '../../src/seals/heartbeat.ts';
import { formatSeal, type PersonSeal, signPayload, type ToolSeal } from '../../src/seals/seal.ts';
import type { EntryRef } from '../../src/reconcile/action.ts';
import { entryRef } from '../../src/targets/directory-reader.ts';
import { ATTRIBUTE as SEAL } from '../../src/targets/seal.ts';
import { fillDirectory } from '../population/population-directory.ts';
import {
  PEOPLE_FIRST,
  personName,
  sealsUntil,
  shapedPerson,
  shapedTool,
  TOOLS_FIRST,
} from '../population/population-names.ts';
import { type Closers, closeSoon } from '../realm.ts';
import { personSeal, type Sealing, toolSeal } from '../tools/shapes.ts';

/** Only for the people and tools that are filled in: no account of this machine has such a number. */
const IDS = {
  people: [{ first: PEOPLE_FIRST, last: PEOPLE_FIRST + 39_999 }],
  tools: [{ first: TOOLS_FIRST, last: TOOLS_FIRST + 29_999 }],
  realmGid: 500,
} as const;
const BASE = 'dc=example,dc=org';
/** As often as the directory role: src/seals/publish-heartbeat.ts. */
const HEARTBEAT_EVERY_MS = 3000;

export interface LoginRealm {
  host: LoginHost;
  slapd: SlapdServer;
  base: string;
  realm: string;
  /** of the accounts in the directory: files `ldap-<account>` */
  secrets: string;
  /** on this machine: for files that belong to no server */
  folder: string;
  /** paths of the host as this machine sees them, on the disk that is measured */
  places: Record<'keys' | 'login' | 'extrausers' | 'sudoers', string>;
  /** the key that signs seals, and until when those count that were filled in */
  sealing: Sealing;
  /** Replaces all keys of the nth person by these, as the directory role does. */
  changeKeys(n: number, keys: readonly string[]): Promise<void>;
  /** Makes the nth person also a member of the nth tool, as the directory role does. */
  addMember(tool: number, person: number): Promise<void>;
  /** Creates the home of the nth person, or of the nth tool. */
  makeHome(kind: 'person' | 'tool', n: number): void;
  /** rejects when the heartbeat cannot be published */
  beating: Promise<never>;
}

/** Fills the directory, publishes its heartbeat, and installs the host; none of its daemons runs yet. */
export async function openLoginRealm(
  { parent, people, tools }: { parent: string; people: number; tools: number },
  closers: Closers,
): Promise<LoginRealm> {
  const dir = mkdtempSync(join(parent, 'chamberlain-bench-'));
  chmodSync(dir, 0o755);
  const place = makePlace(dir);
  const { secrets, dataRoot } = place;
  closers.push(() => Promise.resolve(purgePlace(place)));
  makeDataRoot(dataRoot);
  const { realm } = REALM;
  const slapd = slapdServer(join(place.servers, 'slapd'), { base: BASE, realm, ids: IDS, secrets });
  const publicKey = ensureSigningKey(join(secrets, 'seal-key'));
  const sealing = { key: readSealKey({ secrets }), until: sealsUntil() };
  const { toolHomes, personHomes } = REALM.files;
  const { realmGid } = IDS;
  const files = { toolHomes, personHomes };
  const config = { realm, ldap: { base: BASE }, ids: { realmGid }, files, secrets };
  const filling = (async () => {
    await startServer(slapd);
    const population = { people, tools, sealsUntil: sealing.until };
    await fillDirectory({ stack: { slapd }, config }, population);
  })();
  closers.push(async () => {
    await filling.catch(() => {}); // a server that is just starting cannot be stopped
    await stopServer(slapd);
  });
  await filling;

  const password = readFileSync(join(secrets, 'ldap-directory'), 'utf8');
  const sealKey = sealing.key;
  const writer = openDirectoryWriter({
    ...{ uri: slapd.uri, base: BASE, realm, password },
    sealKey: () => sealKey,
  });
  closers.push(() => closeSoon(writer.close()));
  const { beating } = await beat(async ({ at, clock }) => {
    const marker: Marker = { kind: 'heartbeat', realm, at, clock, people, tools, floors: [] };
    await writer.tell(signMarker(marker, sealKey), await writer.heartbeats());
  }, closers);

  const folder = join(dir, 'login-host');
  const opening = openLoginHost({
    ...{ folder, ldapUri: slapd.tcpUri(), base: BASE, realm },
    ...{ ids: IDS, secrets, sealKeys: [publicKey], dataRoot },
  });
  closers.push(async () => {
    const host = await opening.catch(() => undefined);
    await host?.close();
  });
  const host = await opening;

  const modify = (entry: EntryRef, attribute: string, remove: string[], add: string[]) =>
    writer.do({ verb: 'ldap.modify', entry, expect: {}, changes: [{ attribute, remove, add }] });
  /** the current seals, of those that were changed */
  const personSeals = new Map<number, PersonSeal>();
  const toolSeals = new Map<number, ToolSeal>();
  const reseal = async <S extends PersonSeal | ToolSeal>(entry: EntryRef, was: S, is: S) =>
    modify(entry, SEAL, [signPayload(formatSeal(was), sealKey)], [formatSeal(is)]);
  return {
    ...{ host, slapd, base: BASE, realm, secrets, folder, sealing, beating },
    places: await keepOnDisk(host, join(dataRoot, personHomes)),
    async changeKeys(n, keys) {
      const was = personSeals.get(n) ?? personSeal(shapedPerson(n), { config }, sealing);
      const is = { ...was, keys: keys.toSorted(), number: was.number + 1 };
      const entry = entryRef('people', 'uid', personName(n));
      await modify(entry, 'sshPublicKey', was.keys, is.keys);
      await reseal(entry, was, is);
      personSeals.set(n, is);
    },
    async addMember(tool, person) {
      const was =
        toolSeals.get(tool) ?? toolSeal(shapedTool(tool, { people }), { config }, sealing);
      const name = personName(person);
      const is = { ...was, members: [...was.members, name].toSorted(), number: was.number + 1 };
      const member = entryRef('people', 'uid', name);
      await modify(entryRef('toolGroups', 'cn', was.name), 'member', [], [member]);
      await reseal(entryRef('toolAccounts', 'uid', was.name), was, is);
      toolSeals.set(tool, is);
    },
    makeHome(kind, n) {
      const { home, uid } =
        kind === 'person'
          ? personSeal(shapedPerson(n), { config }, sealing)
          : toolSeal(shapedTool(n, { people }), { config }, sealing);
      mkdirSync(join(dataRoot, home), { mode: 0o700 });
      chownSync(join(dataRoot, home), uid, kind === 'person' ? realmGid : uid);
    },
  };
}

/** Publishes the heartbeat, and repeats it every few seconds until it is closed. */
async function beat(
  publish: (now: Pick<Marker, 'at' | 'clock'>) => Promise<void>,
  closers: Closers,
): Promise<{ beating: Promise<never> }> {
  const write = async () => {
    const now = new Date().toISOString();
    await publish({ at: now, clock: now });
  };
  await write();
  const closing = new AbortController();
  const { signal } = closing;
  const writing = (async () => {
    for (;;) {
      await sleep(HEARTBEAT_EVERY_MS, undefined, { signal }).catch(() => {});
      if (signal.aborted) return;
      await write();
    }
  })();
  closers.push(async () => {
    closing.abort();
    await writing.catch(() => {});
  });
  const beating = writing.then(() => new Promise<never>(() => {}));
  beating.catch(() => {});
  return { beating };
}

/**
 * A private machine writes to memory, but its homes are on this machine's disk. So the folders that the root
 * helper writes to are placed among them.
 */
async function keepOnDisk({ machine }: LoginHost, homes: string): Promise<LoginRealm['places']> {
  const folders = {
    chamberlain: '/var/lib/chamberlain',
    extrausers: '/var/lib/extrausers',
    sudoers: '/etc/sudoers.d',
  };
  for (const [name, inside] of Object.entries(folders)) {
    await machine.must(['/bin/cp', '-a', inside, `/home/.${name}`]);
    await machine.must(['/bin/mount', '--bind', `/home/.${name}`, inside]);
  }
  const seen = (path: string): string => {
    const found = Object.entries(folders).find(([, inside]) => `${path}/`.startsWith(`${inside}/`));
    if (found === undefined) throw new Error(`${path} is not on the disk`);
    return join(homes, `.${found[0]}`, path.slice(found[1].length));
  };
  const { keys, login, extrausers, sudoers } = PLACES;
  return {
    keys: seen(keys),
    login: seen(login),
    extrausers: seen(extrausers),
    sudoers: seen(sudoers),
  };
}
