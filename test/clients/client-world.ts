/** A realm for a client: a person `alice` who may create tools, and what a program of the portal `other` is given. */
import { join } from 'node:path';
import { writeFileSync } from 'node:fs';
import { expect } from '@jest/globals';
import { type ApiWorld, openApiWorld } from '../api/api-world.ts';

export interface ClientWorld {
  api: ApiWorld;
  env: Record<
    'API_URL' | 'REALM' | 'PORTAL' | 'PORTAL_KID' | 'PORTAL_KEY' | 'EVENTS_KEY' | 'PATH',
    string
  >;
}

export async function openClientWorld(name: string): Promise<ClientWorld> {
  const roles = ['intake', 'relay', 'directory', 'homes', 'databases'];
  const api = await openApiWorld(name, { roles });
  const person = { kind: 'person.create', requestedBy: 'alice', shellName: 'alice' };
  await api.done('other', { ...person, displayName: 'Alice', email: 'alice@example.org' });
  const grant = { kind: 'access.grant', requestedBy: 'steward', person: 'alice' };
  expect((await api.done('admin.steward', grant)).body).toMatchObject({ done: true });
  const { world, port } = api;
  const eventsKey = join(world.dir, 'events.pem');
  writeFileSync(eventsKey, world.eventsKey);
  const env = {
    ...{ PATH: '/usr/bin:/bin', API_URL: `http://127.0.0.1:${port}`, REALM: world.config.realm },
    ...{ PORTAL: 'other', PORTAL_KID: 'other-1', PORTAL_KEY: world.makeKey('other').file },
    EVENTS_KEY: eventsKey,
  };
  return { api, env };
}
