/** Answers that are not of the API, to `submit --api`: a proxy gives them while the API restarts, or has another address. */
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, test } from '@jest/globals';
import { sendOverHttp } from '../../../src/cli/own-key/api-client.ts';
import { ownSigner } from '../../../src/cli/own-key/submitter.ts';

test.each([
  [200, '{"status":"ok"}'],
  [202, '"sent"'],
  [200, 'null'],
  [200, ''],
  [404, '{"code":"NOT_FOUND"}'],
  [404, '<h1>no</h1>'],
])('%i %s is no answer: nobody knows whether the request was sent', async (status, body) => {
  const server = createServer((_, response) => {
    response.writeHead(status, { 'content-type': 'application/json' }).end(body);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    const api = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    const file = { realm: 'tools', person: 'alice', key: '/nowhere', api };
    const signer = ownSigner('alice', 'a key', generateKeyPairSync('ed25519').privateKey);
    const request = { kind: 'person.suspend' as const, requestedBy: 'alice', approvedBy: 'alice' };
    const sent = sendOverHttp(
      file,
      signer,
      { ...request, id: randomUUID(), fields: {} },
      undefined,
    );
    await expect(sent).rejects.toMatchObject({ code: 'BACKEND_UNAVAILABLE' });
  } finally {
    server.closeAllConnections();
    server.close();
  }
});
