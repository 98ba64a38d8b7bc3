/**
 * A world with the API in this process, and a portal for each right. Calls are made and signed as a program in any other
 * language would: with node:http and node:crypto alone.
 */
import { fixedConfig, openConfigInUse } from '../../src/configuration/config-in-use.ts';
import { startReloading } from '../../src/configuration/reloading.ts';
import { createPrivateKey, type KeyObject, randomUUID, sign } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import type { StackConfig } from '../../dev/servers/config.ts';
import { openLog } from '../../src/shared/log.ts';
import { startApi } from '../../workers/api.ts';
import { startWork } from '../../workers/main.ts';
import { openWorld, type World, type WorldOptions } from '../stack.ts';

/** Each portal has the rights of its name, or none; `portal` has none, and `other` sends requests, too. */
export const PORTALS = {
  portal: [],
  other: ['own'],
  'may-public': ['public'],
  'may-own': ['own'],
  'may-mail': ['mail'],
  'may-public-mail': ['public', 'mail'],
  'may-all': ['all'],
} as const;
export type PortalName = keyof typeof PORTALS | 'admin.steward' | 'admin.leaver';

interface Reply {
  status: number;
  headers: Record<string, string>;
  text: string;
  /** of JSON */
  body: any;
}

export interface CallOptions {
  /** nobody by default */
  as?: PortalName;
  body?: string | Buffer;
  type?: string;
  headers?: Record<string, string | string[]>;
  /** other claims of the token than the right ones; undefined: without the claim */
  claims?: Record<string, unknown>;
  header?: Record<string, unknown>;
  key?: KeyObject;
}

export interface ApiWorld {
  world: World;
  port: number;
  /** the lines of the log */
  log: string[];
  call(method: string, target: string, options?: CallOptions): Promise<Reply>;
  get(target: string, options?: CallOptions): Promise<Reply>;
  /** The header by which somebody makes that call. */
  tokenFor(of: PortalName, method: string, target: string, options?: CallOptions): string;
  /** The token of a request, as the portal signs it. */
  requestToken(
    of: PortalName,
    request: Record<string, unknown>,
    claims?: Record<string, unknown>,
  ): string;
  /** Sends a request, and waits until it is done. */
  done(of: PortalName, request: Record<string, unknown>): Promise<Reply>;
  close(): Promise<void>;
}

/**
 * @param options.roles what else works in this process, such as intake; the realm is then bootstrapped
 * @param options.reloads follows changes of the configuration, as `chamberlain work` does
 */
export async function openApiWorld(
  name: string,
  {
    roles = [],
    api,
    reloads = false,
    ...options
  }: WorldOptions & {
    roles?: readonly string[];
    api?: StackConfig['api'];
    reloads?: boolean;
  } = {},
): Promise<ApiWorld> {
  const keys = new Map<string, KeyObject>();
  let made: World['makeKey'] | undefined;
  const world = await openWorld(name, {
    ...options,
    adjust: (config) => {
      // no test is refused because of the calls of another
      const mostCallsPerMinute = { portal: 1_000_000, address: 1_000_000 };
      const written = { ...config, api: { listen: '127.0.0.1:0', mostCallsPerMinute, ...api } };
      return options.adjust?.(written) ?? written;
    },
    portals: (makeKey: World['makeKey']) => {
      made = makeKey;
      const names = [...Object.keys(PORTALS).filter((each) => each !== 'portal'), 'admin.leaver'];
      return names.map((each) => ({
        name: each,
        keys: [{ kid: `${each.replace(/^admin\./u, '')}-1`, publicKey: makeKey(each).publicKey }],
        kinds: 'all' as const,
        subjectEvents: false,
        speaksForAdmins: false,
        events: 'http' as const,
        reads: PORTALS[each as keyof typeof PORTALS] ?? [],
      }));
    },
  });
  const keyOf = (of: string): KeyObject => {
    const file =
      of === 'portal' ? world.portalKey : of === 'admin.steward' ? world.adminKey : made!(of).file;
    const key = keys.get(of) ?? createPrivateKey(readFileSync(file));
    keys.set(of, key);
    return key;
  };
  const log: string[] = [];
  const logger = openLog('info', { write: (line) => void log.push(line) });
  if (roles.length > 0 || options.needs?.includes('postgres') !== false) {
    await world.chamberlain('bootstrap', 'steward');
    if (roles.includes('homes')) await world.chamberlain('prepare');
  }
  if (roles.includes('homes')) await world.chamberlain('prepare');
  const works = ['api', ...roles];
  const inUse = reloads ? openConfigInUse(world.configFile, works) : fixedConfig(world.config);
  const reloading = reloads ? startReloading(inUse, { works, log: logger }) : undefined;
  const server = await startApi(inUse, logger);
  const work = roles.length === 0 ? undefined : await startWork(inUse, { roles, log: logger });
  const port = server.port as number;
  const it: ApiWorld = {
    ...{ world, port, log },
    get: (target, call) => it.call('GET', target, call),
    tokenFor: (of, method, target, { claims = {}, header = {}, key } = {}) =>
      `Chamberlain ${signed(
        key ?? keyOf(of),
        { kid: kidOf(of), ...header },
        {
          ...{ iss: of, aud: `${world.config.realm}/api`, jti: randomUUID() },
          ...{ iat: seconds(), exp: seconds() + 60, htm: method, htu: target },
          ...claims,
        },
      )}`,
    requestToken: (of, request, claims = {}) =>
      signed(
        keyOf(of),
        { kid: kidOf(of) },
        {
          ...{ iss: of, aud: world.config.realm, jti: randomUUID() },
          ...{ iat: seconds(), exp: seconds() + 600, sub: request.requestedBy, request },
          ...claims,
        },
      ),
    done: (of, request) =>
      it.call('POST', '/v1/requests?wait=done', {
        as: of,
        type: 'application/jwt',
        body: it.requestToken(of, request),
      }),
    call: (method, target, call = {}) => {
      const { as, body, type, headers = {} } = call;
      return send(port, method, target, body, {
        ...(as === undefined ? {} : { authorization: it.tokenFor(as, method, target, call) }),
        ...(type === undefined ? {} : { 'content-type': type }),
        ...headers,
      });
    },
    async close() {
      await reloading?.close();
      await server.close();
      await work?.close();
      await world.close();
    },
  };
  return it;
}

const seconds = (): number => Math.floor(Date.now() / 1000);
const kidOf = (of: string): string => `${of.replace(/^admin\./u, '')}-1`;

function signed(key: KeyObject, header: object, claims: object): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const text = `${part({ alg: 'EdDSA', ...header })}.${part(claims)}`;
  return `${text}.${sign(null, Buffer.from(text), key).toString('base64url')}`;
}

function send(
  port: number,
  method: string,
  path: string,
  body: string | Buffer | undefined,
  headers: Record<string, string | string[]>,
): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const request = httpRequest({ host: '127.0.0.1', port, method, path, headers }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString();
        const type = response.headers['content-type'] ?? '';
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers as Record<string, string>,
          text,
          body: type.includes('json') && method !== 'HEAD' ? JSON.parse(text) : undefined,
        });
      });
    });
    request.on('error', reject);
    request.end(body);
  });
}
