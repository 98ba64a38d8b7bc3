/** A directory full of people and tools, kept as the directory role keeps it, and a login host of it. */
import { mkdirSync, mkdtempSync, readFileSync, chmodSync, chownSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { REALM } from '../dev/servers/config.ts';
import { startServer, stopServer } from '../dev/servers/daemon.ts';
import { type LoginHost, openLoginHost } from '../dev/servers/login-host.ts';
import { makePlace, purgePlace } from '../dev/servers/place.ts';
import { type SlapdServer, slapdServer } from '../dev/servers/slapd.ts';
import { makeDataRoot } from '../dev/servers/stack.ts';
import { openDirectoryHands } from '../src/edges/directory.ts';
import { formatMarker } from '../src/model/marker.ts';
import { entryRef } from '../src/targets/directory-eyes.ts';
import { fillDirectory } from './population-directory.ts';
import { PEOPLE_FIRST, TOOLS_FIRST } from './population-names.ts';
import type { Closers } from './realm.ts';

/** Only those who are filled in: no account of this machine has such a number. */
const IDS = {
  people: [{ first: PEOPLE_FIRST, last: PEOPLE_FIRST + 39_999 }],
  tools: [{ first: TOOLS_FIRST, last: TOOLS_FIRST + 29_999 }],
  realmGid: 500,
} as const;
const BASE = 'dc=example,dc=org';
/** As often as the directory role: workers/marker.ts. */
const MARKER_EVERY_MS = 3000;
/** The folder of the key files, as the host's programs see it. */
const KEYS_INSIDE = '/var/lib/chamberlain/keys';

export interface LoginRealm {
  host: LoginHost;
  slapd: SlapdServer;
  base: string;
  realm: string;
  /** of the accounts in the directory: files `ldap-<account>` */
  secrets: string;
  /** of this machine: for what belongs to no server */
  folder: string;
  /** the folder of the key files as this machine sees it, on the disk that is measured */
  keysFolder: string;
  /** what stands for the file server's `/` */
  dataRoot: string;
  /** Changes a person's keys as the directory role does. */
  changeKeys(person: string, change: { remove: string[]; add: string[] }): Promise<void>;
  /** Makes the home of the nth person. */
  makeHome(person: string, n: number): void;
  /** rejects when the marker cannot be kept */
  beating: Promise<never>;
}

/** Fills the directory, keeps its marker, and installs the host; none of its daemons runs yet. */
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
  const { toolHomes, personHomes } = REALM.files;
  const filling = (async () => {
    await startServer(slapd);
    const { realmGid } = IDS;
    const files = { toolHomes, personHomes };
    const config = { realm, ldap: { base: BASE }, ids: { realmGid }, files, secrets };
    await fillDirectory({ stack: { slapd }, config }, { people, tools });
  })();
  closers.push(async () => {
    await filling.catch(() => {}); // what is just starting could not be ended
    await stopServer(slapd);
  });
  await filling;

  const password = readFileSync(join(secrets, 'ldap-directory'), 'utf8');
  const hands = openDirectoryHands({ uri: slapd.uri, base: BASE, realm, password });
  closers.push(() => hands.close());
  const { beating } = await beat(
    async (marker) => void (await hands.tell(marker, await hands.told())),
    people,
    closers,
  );

  const folder = join(dir, 'login-host');
  const opening = openLoginHost({
    ...{ folder, ldapUri: slapd.tcpUri(), base: BASE, realm },
    ...{ ids: IDS, secrets, dataRoot },
  });
  closers.push(async () => {
    const host = await opening.catch(() => undefined);
    await host?.close();
  });
  const host = await opening;
  return {
    ...{ host, slapd, base: BASE, realm, secrets, dataRoot, folder, beating },
    keysFolder: await keepKeysOnDisk(host, join(dataRoot, personHomes)),
    changeKeys: (person, change) =>
      hands.do({
        verb: 'ldap.modify',
        entry: entryRef('people', 'uid', person),
        expect: {},
        changes: [{ attribute: 'sshPublicKey', ...change }],
      }),
    makeHome(person, n) {
      const home = join(dataRoot, personHomes, person);
      mkdirSync(home, { mode: 0o700 });
      chownSync(home, PEOPLE_FIRST + n, IDS.realmGid);
    },
  };
}

/** Writes the marker, and from then on every few seconds until it is closed. */
async function beat(
  tell: (marker: string) => Promise<void>,
  people: number,
  closers: Closers,
): Promise<{ beating: Promise<never> }> {
  const write = () =>
    tell(formatMarker({ at: new Date().toISOString(), people, keyed: people, overdue: [] }));
  await write();
  const closing = new AbortController();
  const { signal } = closing;
  const writing = (async () => {
    for (;;) {
      await sleep(MARKER_EVERY_MS, undefined, { signal }).catch(() => {});
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
 * A private machine writes to memory. Its homes lie on this machine's disk, so a folder among them
 * becomes that of the key files.
 */
async function keepKeysOnDisk({ machine }: LoginHost, homes: string): Promise<string> {
  const name = '.keys';
  mkdirSync(join(homes, name));
  const seen = `/home/${name}`;
  for (const tool of ['/bin/chown', '/bin/chmod']) {
    await machine.must([tool, `--reference=${KEYS_INSIDE}`, seen]);
  }
  await machine.must(['/bin/mount', '--bind', seen, KEYS_INSIDE]);
  return join(homes, name);
}
