/** Reads events over HTTP as a portal in any language would: with node:http and node:crypto alone. */
import { createPublicKey, verify } from 'node:crypto';
import { get, type IncomingMessage } from 'node:http';
import type { HeardEvent } from '../scenarios/portal.ts';
import type { ApiWorld, PortalName } from './api-world.ts';

/** What the relay has signed. */
export interface Batch {
  after: number;
  removed?: number;
  events: HeardEvent[];
}

/** Throws for a token that the relay has not signed for that portal. */
export function readBatch({ world }: ApiWorld, portal: string, token: string): Batch {
  const [header = '', claims = '', signature = ''] = token.split('.');
  const key = createPublicKey(world.eventsKey);
  if (!verify(null, Buffer.from(`${header}.${claims}`), key, Buffer.from(signature, 'base64url'))) {
    throw new Error('not signed by the relay');
  }
  const found = JSON.parse(Buffer.from(claims, 'base64url').toString());
  if (found.aud !== portal) throw new Error(`for ${found.aud}`);
  return found;
}

/** A stream of events (WHATWG HTML, "Server-sent events"). */
export interface EventStream {
  status: number;
  response: IncomingMessage;
  /** Each message in its turn; ends with the stream. */
  messages(): AsyncGenerator<{ id: string; data: string }>;
  cut(): void;
}

export function openStream(
  api: ApiWorld,
  as: PortalName,
  after: number,
  target = '/v1/events/stream',
): Promise<EventStream> {
  return new Promise((resolve, reject) => {
    const request = get({
      ...{ host: '127.0.0.1', port: api.port, path: target, agent: false },
      headers: {
        authorization: api.tokenFor(as, 'GET', target),
        'last-event-id': String(after),
      },
    });
    request.on('error', reject);
    request.on('response', (response) => {
      response.setEncoding('utf8');
      resolve({
        status: response.statusCode ?? 0,
        response,
        cut: () => request.destroy(),
        async *messages() {
          let text = '';
          try {
            for await (const chunk of response) {
              const parts = (text + chunk).split('\n\n');
              text = parts.pop() ?? '';
              for (const part of parts) {
                const id = /^id: (.*)$/mu.exec(part)?.[1];
                const data = /^data: (.*)$/mu.exec(part)?.[1];
                if (id !== undefined && data !== undefined) yield { id, data };
              }
            }
          } catch (error) {
            if ((error as { code?: string }).code !== 'ECONNRESET') throw error;
          }
        },
      });
    });
  });
}
