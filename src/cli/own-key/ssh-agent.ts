/**
 * A client of ssh-agent (draft-ietf-sshm-ssh-agent): lists the Ed25519 keys that an agent holds, and has it sign. The agent
 * signs any bytes with such a key, so that its signature is also one by RFC 8032, as a token needs it.
 */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { ChamberlainError } from '../../shared/errors.ts';
import { fieldOf, fingerprintOfBlob, type Reader, readerOf } from '../../ssh-keys/ssh-wire.ts';

const REQUEST = { identities: 11, sign: 13 };
const ANSWER = { identities: 12, signature: 14 };
const TYPE = 'ssh-ed25519';
/** OpenSSH's agent sends no longer messages. */
const MOST_BYTES = 256 * 1024;
/** Somebody may have to confirm each signature. */
const ANSWERED_WITHIN_MS = 60_000;

/** An Ed25519 key that the agent holds. */
export interface AgentKey {
  blob: Buffer;
  fingerprint: string;
  comment: string;
}

/** The Ed25519 keys of the agent, in its order. Throws AGENT_UNAVAILABLE. */
export async function listAgentKeys(): Promise<AgentKey[]> {
  const fields = await ask(Buffer.from([REQUEST.identities]), ANSWER.identities);
  const count = fields.readNumber();
  return Array.from({ length: count }, () => ({
    blob: fields.readField(),
    comment: fields.readField().toString(),
  }))
    .filter(({ blob }) => readerOf(blob, cutOff).readField().toString('latin1') === TYPE)
    .map((key) => ({ ...key, fingerprint: fingerprintOfBlob(key.blob) }));
}

/** The signature of the bytes with a key of the agent: 64 bytes. Throws AGENT_UNAVAILABLE. */
export async function signWithAgent(blob: Buffer, bytes: Buffer): Promise<Buffer> {
  const flags = Buffer.alloc(4);
  const request = [Buffer.from([REQUEST.sign]), fieldOf(blob), fieldOf(bytes), flags];
  const answer = await ask(Buffer.concat(request), ANSWER.signature);
  const signature = readerOf(answer.readField(), cutOff);
  const type = signature.readField().toString('latin1');
  const raw = signature.readField();
  if (type !== TYPE || raw.length !== 64) throw wrong('it signed in another way than asked');
  return raw;
}

async function ask(message: Buffer, expected: number): Promise<Reader> {
  const path = process.env['SSH_AUTH_SOCK'];
  if (path === undefined || path === '') throw wrong('SSH_AUTH_SOCK names no agent');
  const socket = connect(path);
  const timeout = AbortSignal.timeout(ANSWERED_WITHIN_MS);
  try {
    await once(socket, 'connect', { signal: timeout });
    socket.write(fieldOf(message));
    const answer = await readMessage(socket, timeout);
    if (answer[0] !== expected) throw wrong('it refused, or does not have the key any more');
    return readerOf(answer.subarray(1), cutOff);
  } catch (cause) {
    if (cause instanceof ChamberlainError) throw cause;
    throw wrong('it did not answer', cause);
  } finally {
    socket.destroy();
  }
}

async function readMessage(socket: Socket, signal: AbortSignal): Promise<Buffer> {
  let bytes = Buffer.alloc(0);
  signal.addEventListener('abort', () => socket.destroy(new Error('it took too long')));
  for await (const chunk of socket as AsyncIterable<Buffer>) {
    bytes = Buffer.concat([bytes, chunk]);
    if (bytes.length < 5) continue;
    const length = bytes.readUInt32BE();
    if (length > MOST_BYTES) throw wrong('its answer is too long');
    if (bytes.length >= 4 + length) return bytes.subarray(4, 4 + length);
  }
  throw wrong('it closed the connection');
}

const cutOff = () => wrong('its answer is cut off');

function wrong(sentence: string, cause?: unknown): ChamberlainError {
  return new ChamberlainError('AGENT_UNAVAILABLE', `using the ssh-agent: ${sentence}`, { cause });
}
