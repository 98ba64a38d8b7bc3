/** A realm for a client: a person `alice` who may create tools, and what a program of the portal `other` is given. */
import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { writeFileSync } from 'node:fs';
import { expect } from '@jest/globals';
import { type ApiWorld, openApiWorld, type PortalName } from '../api/api-world.ts';

const ROOT = join(import.meta.dirname, '../..');

export interface ClientWorld {
  api: ApiWorld;
  env: Record<
    | 'API_URL'
    | 'REALM'
    | 'PORTAL'
    | 'PORTAL_KID'
    | 'PORTAL_KEY'
    | 'EVENTS_KEY'
    | 'ADMIN_KEY'
    | 'PATH',
    string
  >;
  /** The same for a program that speaks for another portal. */
  envOf(portal: PortalName): ClientWorld['env'];
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
  const envOf = (portal: PortalName) => ({
    ...{ PATH: '/usr/bin:/bin', API_URL: `http://127.0.0.1:${port}`, REALM: world.config.realm },
    ...{ PORTAL: portal, PORTAL_KID: `${portal}-1`, PORTAL_KEY: world.makeKey(portal).file },
    ...{ EVENTS_KEY: eventsKey, ADMIN_KEY: world.adminKey },
  });
  return { api, env: envOf('other'), envOf };
}

/** Where the example of a portal in Django is, and its environment for a realm. It keeps its data in `dir`. */
export function djangoPortal(
  env: Omit<ClientWorld['env'], 'ADMIN_KEY'>,
  dir: string,
): { folder: string; env: NodeJS.ProcessEnv } {
  const secret = join(dir, 'django-secret');
  writeFileSync(secret, randomUUID());
  const all = {
    ...{ ...env, DEBUG: 'yes', DATABASE: join(dir, 'portal.sqlite3'), SECRET_KEY_FILE: secret },
    ...{ PYTHONPATH: join(ROOT, 'clients/python'), PYTHONDONTWRITEBYTECODE: '1' },
  };
  return { folder: join(ROOT, 'examples/django-portal'), env: all };
}
