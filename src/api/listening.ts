/** Where the API listens. */
import { chmodSync, rmSync, statSync } from 'node:fs';
import { connect } from 'node:net';
import type { FastifyInstance } from 'fastify';
import { parseListen } from '../shared/config-values.ts';
import { ChamberlainError } from '../shared/errors.ts';

/**
 * Listens at an address of the configuration. Returns the port; undefined for a unix socket. Throws CONFIG_INVALID if
 * it cannot.
 */
export async function listenAt(server: FastifyInstance, text: string): Promise<number | undefined> {
  const at = parseListen(text);
  if (at === undefined) throw new Error('the configuration was checked');
  try {
    if ('path' in at) {
      await removeLeftSocket(at.path);
      await server.listen({ path: at.path });
      chmodSync(at.path, 0o666); // as on 127.0.0.1: who may call is decided by the token
      return undefined;
    }
    await server.listen(at);
    const address = server.server.address();
    return typeof address === 'object' && address !== null ? address.port : undefined;
  } catch (cause) {
    throw new ChamberlainError('CONFIG_INVALID', `listening for the API at ${text}`, {
      cause,
      action: 'Set `api.listen` to an address of this machine that is free.',
    });
  }
}

/** Removes the socket of an API that was killed. One that answers stays, and listening then fails. */
async function removeLeftSocket(path: string): Promise<void> {
  if (statSync(path, { throwIfNoEntry: false })?.isSocket() !== true) return;
  const answers = await new Promise<boolean>((resolve) => {
    const socket = connect(path, () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
  if (!answers) rmSync(path, { force: true });
}
