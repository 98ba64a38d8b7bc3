/**
 * The root helper of a login host: three things that take root, for the keys agent, which has none.
 *
 * What is asked and answered stands in helper-request.ts.
 *
 * Who may ask: Node cannot ask the kernel who is at the other end (SO_PEERCRED), so the rights of the
 * files are the check. The socket's folder is root:chamberlain-keys 0750 and the socket 0660, and never
 * more, not for an instant: it is bound under a umask. Connecting takes the right to write to it, unix(7).
 */
import { once } from 'node:events';
import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  unlinkSync,
} from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { ChamberlainError, describeError } from '../errors.ts';
import type { Log } from '../log.ts';
import type { LoginHostConfig } from './config.ts';
import { parseRequest } from './helper-request.ts';
import { openNameCache } from './name-cache.ts';
import {
  checkPasswdList,
  openPasswdDb,
  parseLocalAccounts,
  type LocalAccounts,
} from './passwd-list.ts';
import { endSessions } from './sessions.ts';

/** The agent's, on every login host. */
const AGENT_GROUP = 'chamberlain-keys';
const GROUP_FILE = '/etc/group';

const MAX_BYTES = 32 * 2 ** 20;
const READ_TIMEOUT_MS = 30_000;
const MAX_CONNECTIONS = 32;

export interface Helper {
  close(): void;
}

/**
 * Starts to serve. Throws CONFIG_INVALID where the socket's folder is not root's alone to write, where
 * the group is missing, and where another helper serves; replaces the socket of one that has ended.
 */
export async function startHelper(config: LoginHostConfig, log: Log): Promise<Helper> {
  const { helperSocket } = config;
  const gid = gidOf(AGENT_GROUP);
  prepareFolder(dirname(helperSocket), gid);
  await removeStale(helperSocket);
  const work = openWork(config, log);
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    serve(socket, config, work, log).catch((error: unknown) => {
      log.warn({ error }, 'a connection has failed');
      socket.destroy();
    });
  });
  server.maxConnections = MAX_CONNECTIONS;
  server.on('drop', () =>
    log.warn({ most: MAX_CONNECTIONS }, 'too many at once: one is sent away'),
  );
  await bind(server, helperSocket, gid);
  return { close: () => void server.close() };
}

function gidOf(group: string): number {
  // by hand: NSS may ask sssd, which may wait for the directory
  for (const line of readFileSync(GROUP_FILE, 'utf8').split('\n')) {
    const [name, , gid] = line.split(':');
    if (name === group) return Number(gid);
  }
  throw new ChamberlainError('CONFIG_INVALID', `${GROUP_FILE} has no group ${group}`);
}

function prepareFolder(folder: string, gid: number): void {
  const self = process.getuid?.() ?? 0;
  try {
    mkdirSync(folder, { mode: 0o700 });
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') {
      throw new ChamberlainError('CONFIG_INVALID', `making ${folder}`, { cause });
    }
  }
  let fd;
  try {
    fd = openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  } catch (cause) {
    throw new ChamberlainError('CONFIG_INVALID', `opening ${folder} as a folder`, { cause });
  }
  try {
    const { uid, mode } = fstatSync(fd);
    if (uid !== self || (mode & 0o022) !== 0) {
      const act = `${folder} must be a folder of uid ${self} that nobody else may write`;
      throw new ChamberlainError('CONFIG_INVALID', act);
    }
    fchownSync(fd, self, gid);
    fchmodSync(fd, 0o750);
  } finally {
    closeSync(fd);
  }
}

/** Removes the socket that a killed helper has left behind. */
async function removeStale(path: string): Promise<void> {
  const there = lstatSync(path, { throwIfNoEntry: false });
  if (there === undefined) return;
  if (!there.isSocket()) throw new ChamberlainError('CONFIG_INVALID', `${path} is no socket`);
  const socket = connect(path);
  try {
    await once(socket, 'connect');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ECONNREFUSED') {
      throw new ChamberlainError('CONFIG_INVALID', `looking at ${path}`, { cause });
    }
    unlinkSync(path);
    return;
  } finally {
    socket.destroy();
  }
  throw new ChamberlainError('CONFIG_INVALID', `another helper serves at ${path}`);
}

async function bind(server: Server, path: string, gid: number): Promise<void> {
  const umask = process.umask(0o177);
  try {
    server.listen(path); // binds before it returns
  } finally {
    process.umask(umask);
  }
  await once(server, 'listening');
  chownSync(path, -1, gid);
  chmodSync(path, 0o660);
}

async function serve(socket: Socket, config: LoginHostConfig, work: Work, log: Log): Promise<void> {
  socket.on('error', () => socket.destroy()); // who asked has gone
  const body = await readRequest(socket);
  const answer = await answerTo(body, config, work).catch((error: unknown) => {
    log.error({ error }, 'a request has failed');
    return refused(describeError(error));
  });
  if (answer.startsWith('refused')) log.warn({ answer }, 'refused');
  socket.end(`${answer}\n`);
}

function refused(sentence: string): string {
  return `refused: ${sentence}`;
}

/** The bytes of a request; undefined where they are too many: those are read to the end, and not kept. */
async function readRequest(socket: Socket): Promise<Buffer | undefined> {
  const timer = setTimeout(() => socket.destroy(), READ_TIMEOUT_MS);
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
      size += (chunk as Buffer).length;
      if (size > MAX_BYTES) chunks.length = 0;
      else chunks.push(chunk as Buffer);
    }
  } finally {
    clearTimeout(timer);
  }
  return size > MAX_BYTES ? undefined : Buffer.concat(chunks);
}

async function answerTo(
  body: Buffer | undefined,
  config: LoginHostConfig,
  work: Work,
): Promise<string> {
  if (body === undefined) return refused('the request is larger than 32 MiB');
  // The admin may add a local account at any time.
  const local = parseLocalAccounts(readFileSync(config.passwdFile, 'utf8'));
  const request = parseRequest(body, config, local);
  if (typeof request === 'string') return refused(request);
  if (request.verb === 'passwd') return await work.passwd(request.lines, local);
  await Promise.all([work.forget(request.forget), work.end(request.end)]);
  return 'ok';
}

type Work = ReturnType<typeof openWork>;

function openWork(config: LoginHostConfig, log: Log) {
  const db = openPasswdDb(config.passwdDb);
  const cache = openNameCache();
  let before: Promise<unknown> = Promise.resolve();
  return {
    async forget(names: readonly string[]): Promise<void> {
      if (names.length === 0) return;
      await cache.forget(names);
      log.info({ count: names.length, first: names.slice(0, 10) }, 'forgotten');
    },

    async end(uids: readonly number[]): Promise<void> {
      if (uids.length === 0) return;
      const processes = await endSessions(new Set(uids));
      // every minute it is asked about all who may run nothing any more
      if (processes === 0) return;
      log.info({ uids: uids.slice(0, 10), count: uids.length, processes }, 'sessions ended');
    },

    async passwd(lines: readonly string[], local: LocalAccounts): Promise<string> {
      const { taken, leftOut } = checkPasswdList(lines, config, local);
      const sentence = `left out ${leftOut.length}: ${leftOut[0]}`;
      if (taken.length === 0 && leftOut.length > 0) return refused(`no line fits; ${sentence}`);
      const writing = before.then(() => db.write(taken));
      before = writing.catch(() => {});
      if (await writing) log.info({ accounts: taken.length }, 'accounts kept');
      if (leftOut.length === 0) return 'ok';
      log.warn({ count: leftOut.length, first: leftOut.slice(0, 10) }, 'accounts left out');
      return `ok ${sentence}`;
    },
  };
}
