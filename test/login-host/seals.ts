/** A directory role for tests of a login host: seals and heartbeats, signed by a key of its own. */
import { generateKeyPairSync } from 'node:crypto';
import { signMarker, type Marker } from '../../src/seals/heartbeat.ts';
import {
  formatSeal,
  sealKeyId,
  signPayload,
  type PersonSeal,
  type SealKey,
  type ToolSeal,
} from '../../src/seals/seal.ts';

/** Far from all that runs on this machine: whose processes end is looked up in /proc. */
export const PEOPLE = 1_500_000_000;
export const TOOLS = 1_600_000_000;
export const IDS = {
  people: [{ first: PEOPLE, last: PEOPLE + 99_999 }],
  tools: [{ first: TOOLS, last: TOOLS + 99_999 }],
};

/** Whatever the time is that a test believes in. */
const FAR = '2099-01-01T00:00:00Z';

export interface Signer extends SealKey {
  pem: string;
}

export function newSigner(): Signer {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519');
  const pem = publicKey.export({ type: 'spki', format: 'pem' }) as string;
  return { id: sealKeyId(privateKey), privateKey, pem };
}

/** The line of a new SSH key of its own. */
export function newKey(): string {
  const { publicKey } = generateKeyPairSync('ed25519');
  const bytes = publicKey.export({ type: 'spki', format: 'der' }).subarray(-32);
  const part = (data: Buffer | string) => {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(data.length);
    return Buffer.concat([length, Buffer.from(data)]);
  };
  return `ssh-ed25519 ${Buffer.concat([part('ssh-ed25519'), part(bytes)]).toString('base64')}`;
}

/** Whole seconds, as a seal has them. */
export function until(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 19)}Z`;
}

/** A person; `uid` counts from the first. */
export function person(name: string, n: number, more: Partial<PersonSeal> = {}): PersonSeal {
  return {
    kind: 'person',
    realm: 'tools',
    name,
    uid: PEOPLE + n,
    home: `/home/${name}`,
    shell: '/bin/bash',
    state: 'active',
    member: true,
    keys: [],
    number: 5,
    until: FAR,
    ...more,
  };
}

/** A tool, by its name without the realm. */
export function tool(name: string, n: number, more: Partial<ToolSeal> = {}): ToolSeal {
  return {
    kind: 'tool',
    realm: 'tools',
    name: `tools.${name}`,
    uid: TOOLS + n,
    home: `/data/project/${name}`,
    shell: '/bin/bash',
    state: 'active',
    gecos: '',
    members: [],
    number: 5,
    until: FAR,
    ...more,
  };
}

export function sign(seal: PersonSeal | ToolSeal, key: SealKey): string {
  return signPayload(formatSeal(seal), key);
}

export function heartbeat(now: number, key: SealKey, more: Partial<Marker> = {}): string {
  const at = new Date(now).toISOString();
  return signMarker(
    { kind: 'heartbeat', realm: 'tools', at, clock: at, people: 0, tools: 0, floors: [], ...more },
    key,
  );
}
