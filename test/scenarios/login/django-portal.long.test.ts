/**
 * The example of a portal in Django, from a sign-up in its pages to a real ssh into the tool. One scenario, in order. The
 * admin answers with the program on "their own machine", by the command that the portal shows.
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { fixedConfig } from '../../../src/configuration/config-in-use.ts';
import { openLog } from '../../../src/shared/log.ts';
import { startApi } from '../../../workers/api.ts';
import { djangoPortal } from '../../clients/client-world.ts';
import { eventually } from '../eventually.ts';
import { openLogin, type Login } from './login.ts';

const PYTHON = '/usr/bin/python3';
const PORTAL = 'web';

let login: Login;
let api: Awaited<ReturnType<typeof startApi>>;
let env: NodeJS.ProcessEnv;
let folder: string;
let browser: Browser;
const processes: ChildProcess[] = [];

beforeAll(async () => {
  login = await openLogin('django', {
    adjust: (config) => ({ ...config, api: { listen: '127.0.0.1:0' } }),
    portals: (makeKey) => [
      {
        ...{ name: PORTAL, keys: [{ kid: 'web-1', publicKey: makeKey(PORTAL).publicKey }] },
        ...{ kinds: 'all', subjectEvents: true, speaksForAdmins: false },
        ...{ events: 'http', reads: ['public', 'own'] },
      },
    ],
  });
  const { world } = login;
  api = await startApi(fixedConfig(world.config), openLog('info', { write: () => {} }));
  const eventsKey = join(world.dir, 'events.pem');
  writeFileSync(eventsKey, world.eventsKey);
  ({ folder, env } = djangoPortal(
    {
      ...{ PATH: '/usr/bin:/bin', API_URL: `http://127.0.0.1:${api.port}` },
      ...{ REALM: world.config.realm, PORTAL, PORTAL_KID: 'web-1', EVENTS_KEY: eventsKey },
      PORTAL_KEY: world.makeKey(PORTAL).file,
    },
    world.dir,
  ));
  await promisify(execFile)(PYTHON, ['manage.py', 'migrate'], { cwd: folder, env });
  start('listen');
  const server = start('runserver', '--noreload', '127.0.0.1:0');
  const port = await new Promise<string>((resolve) => {
    let said = '';
    server.stdout!.on('data', (text) => {
      said += String(text);
      const found = /http:\/\/127\.0\.0\.1:(\d+)\//u.exec(said)?.[1];
      if (found !== undefined) resolve(found);
    });
  });
  browser = new Browser(`http://127.0.0.1:${port}`);
});

afterAll(async () => {
  for (const each of processes) {
    if (each.exitCode === null && each.kill('SIGTERM')) await once(each, 'exit');
  }
  await api?.close();
  await login?.close();
});

function start(...words: string[]): ChildProcess {
  const child = spawn(PYTHON, ['-u', 'manage.py', ...words], {
    ...{ cwd: folder, env, stdio: ['ignore', 'pipe', 'ignore'] },
  });
  processes.push(child);
  return child;
}

/** Keeps cookies, and sends the forms of pages with what is in them. */
class Browser {
  readonly #url: string;
  readonly #cookies = new Map<string, string>();

  constructor(url: string) {
    this.#url = url;
  }

  /** The text of a page, after redirects. */
  async get(path: string, body?: URLSearchParams): Promise<string> {
    const cookie = [...this.#cookies].map((each) => each.join('=')).join('; ');
    const method = body === undefined ? 'GET' : 'POST';
    const init = { method, headers: { cookie }, redirect: 'manual', body: body ?? null } as const;
    const answer = await fetch(this.#url + path, init);
    for (const line of answer.headers.getSetCookie()) {
      const [, name = '', value = ''] = /^([^=]+)=([^;]*)/u.exec(line) ?? [];
      this.#cookies.set(name, value);
    }
    const next = answer.headers.get('location');
    return next === null ? await answer.text() : await this.get(next);
  }

  async post(path: string, fields: Record<string, string>): Promise<string> {
    const token = /name="csrfmiddlewaretoken" value="([^"]+)"/u.exec(await this.get(path))?.[1];
    return this.get(path, new URLSearchParams({ csrfmiddlewaretoken: token ?? '', ...fields }));
  }
}

/** Runs the command that a page of the portal shows, as steward, who has read it and says yes. */
async function answerWith(command: string): Promise<string> {
  const settings = {
    CHAMBERLAIN_URL: env['API_URL'],
    CHAMBERLAIN_REALM: env['REALM'],
    ...{ CHAMBERLAIN_ADMIN: 'steward', CHAMBERLAIN_KID: 'steward-1' },
    CHAMBERLAIN_KEY: login.world.adminKey,
  };
  const run = promisify(execFile)('/bin/sh', ['-c', command], {
    env: { PATH: '/usr/bin:/bin', PYTHONPATH: env['PYTHONPATH'], ...settings },
  });
  run.child.stdin?.end('y\n');
  return (await run).stdout;
}

test('somebody signs up, and pastes a key', async () => {
  const password = 'correct horse 7 battery';
  const page = await browser.post('/sign-up', {
    ...{ username: 'alice', first_name: 'Alice Example', email: 'alice@example.org' },
    ...{ password1: password, password2: password },
  });
  expect(page).toContain('Accepted.');
  const { file, line } = await login.host.newKey('alice');
  login.keys.set('alice', file);
  expect(await browser.post('/keys', { key: line.replace(' ', '  ').slice(0, 40) })).toContain(
    'errorlist',
  );
  await browser.post('/keys', { key: line });
  await eventually('the key', async () => (await browser.get('/keys')).includes('SHA256:'));
  expect((await login.ssh('alice', 'true')).code).toBe(255);
});

test('asks for access, and an admin grants it with a key that the portal never has', async () => {
  expect(await browser.post('/access', { reason: "To run a bot; it's small" })).toContain(
    'Accepted.',
  );
  const makeStaff =
    'from django.contrib.auth.models import User; User.objects.update(is_staff=True)';
  await promisify(execFile)(PYTHON, ['manage.py', 'shell', '-c', makeStaff], { cwd: folder, env });
  const page = await eventually('the request', async () => {
    const found = await browser.get('/answers');
    return found.includes('access.grant') && found;
  });
  expect(page).toContain('To run a bot; it&#x27;s small');
  const command = /<pre>([^<]*access\.grant[^<]*)<\/pre>/u.exec(page)?.[1] ?? '';
  const said = await answerWith(command);
  expect(said).toContain('GIVE alice access to the realm tools\n');
  expect(said).toContain('displayName: "Alice Example"');
  expect(said).toMatch(/Accepted\.$/mu);
  await eventually('the answer', async () => (await browser.get('/')).includes('You have access.'));
  const keyOfAdmin = readFileSync(login.world.adminKey, 'utf8').split('\n')[1] ?? '';
  expect(keyOfAdmin).not.toBe('');
  expect(readFileSync(env['DATABASE'] ?? '').includes(keyOfAdmin)).toBe(false);
});

test('creates a tool, logs in to the tool, and has another maintainer', async () => {
  const free = await browser.get('/tools/name?name=newbot');
  expect(free).toContain('free');
  await browser.post('/tools/new', { name: 'newbot', title: 'A new bot' });
  expect(await browser.get('/tools/name?name=newbot')).toContain('taken');
  await eventually('the tool', async () => (await browser.get('/tools')).includes('newbot'));
  await eventually('become', async () => {
    const { code, stdout } = await login.ssh('alice', 'become newbot id -un');
    return code === 0 && stdout === 'tools.newbot\n';
  });
  expect(await browser.post('/tool/newbot', { person: 'nobody', add: '' })).toContain(
    'class="error"',
  );
  await browser.post('/tool/newbot', { person: 'steward', add: '' });
  await eventually('the maintainer', async () =>
    (await browser.get('/tool/newbot')).includes('<li>steward</li>'),
  );
});
