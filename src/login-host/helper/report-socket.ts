/**
 * The socket on which the agent reports.
 *
 * Node cannot ask the kernel who is at the other end (SO_PEERCRED), so the rights of the files are the access
 * check. The socket's folder is root:chamberlain-keys 0750 and the socket 0660, and never more open, not even
 * for an instant: it is bound under a umask. Connecting requires the right to write to it, see unix(7).
 *
 * One report is read and handled at a time, in the order of the connections, so a client that sends many large
 * ones cannot fill the memory.
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
  unlinkSync,
} from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { ChamberlainError, doing } from '../../shared/errors.ts';
import type { Log } from '../../shared/log.ts';
import { MAX_REPORT_BYTES, type ReportAnswer } from '../report-lines.ts';

const READ_TIMEOUT_MS = 30_000;
const MAX_CONNECTIONS = 32;
const LINE_END = 10;

type Handler = (lines: Iterable<Buffer>) => Promise<ReportAnswer>;

export interface ReportSocket {
  /**
   * Starts to serve the clients that have connected.
   *
   * @param handle receives the lines of a report: each was ended by a line end, and none is decoded yet
   */
  serve(handle: Handler): void;
  close(): void;
}

/**
 * Takes the socket's place, and replaces the socket of a helper that has ended. Throws CONFIG_INVALID if anyone
 * but root can write to its folder, or if another helper is running.
 *
 * @param gid the agent's
 */
export async function openReportSocket(path: string, gid: number, log: Log): Promise<ReportSocket> {
  prepareFolder(dirname(path), gid);
  await removeStale(path);
  const { promise: handler, resolve } = Promise.withResolvers<Handler>();
  let before: Promise<unknown> = handler;
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => socket.destroy()); // the client has gone
    before = before
      .then(async () => serve(socket, await handler))
      .catch((error: unknown) => {
        log.warn({ error }, 'a connection failed');
        socket.destroy();
      });
  });
  server.maxConnections = MAX_CONNECTIONS;
  server.on('drop', () =>
    log.warn({ most: MAX_CONNECTIONS }, 'too many connections at once: one was closed'),
  );
  await bind(server, path, gid);
  return { serve: resolve, close: () => void server.close() };
}

async function serve(socket: Socket, handle: Handler): Promise<void> {
  const chunks = await readReport(socket);
  if (chunks === undefined) socket.destroy();
  else socket.end(`${JSON.stringify(await handle(linesOf(chunks)))}\n`);
}

/** The bytes of a report; undefined if there are too many, or if the last line was cut. */
async function readReport(socket: Socket): Promise<Buffer[] | undefined> {
  const timer = setTimeout(() => socket.destroy(), READ_TIMEOUT_MS);
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
      size += (chunk as Buffer).length;
      if (size > MAX_REPORT_BYTES) return undefined;
      chunks.push(chunk as Buffer);
    }
  } finally {
    clearTimeout(timer);
  }
  return size === 0 || chunks.at(-1)?.at(-1) === LINE_END ? chunks : undefined;
}

/** One at a time, so that a report is not in memory twice. */
function* linesOf(chunks: Buffer[]): Generator<Buffer> {
  let parts: Buffer[] = [];
  for (let chunk = chunks.shift(); chunk !== undefined; chunk = chunks.shift()) {
    let from = 0;
    for (let end = chunk.indexOf(LINE_END); end !== -1; end = chunk.indexOf(LINE_END, from)) {
      parts.push(chunk.subarray(from, end));
      yield parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts);
      parts = [];
      from = end + 1;
    }
    if (from < chunk.length) parts.push(chunk.subarray(from));
  }
}

/** What to do if a folder or socket of the helper cannot be made. */
export const START_AGAIN = 'Correct that, and start the login helper again.';

function prepareFolder(folder: string, gid: number): void {
  const self = process.getuid?.() ?? 0;
  try {
    mkdirSync(folder, { mode: 0o700 });
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') {
      throw new ChamberlainError('CONFIG_INVALID', `making ${folder}`, {
        cause,
        action: START_AGAIN,
      });
    }
  }
  const open = () =>
    openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  const fd = doing('CONFIG_INVALID', `opening ${folder} as a folder`, open, START_AGAIN);
  try {
    const { uid, mode } = fstatSync(fd);
    if (uid !== self || (mode & 0o022) !== 0) {
      const act = `${folder} must be a folder of uid ${self} that no other account can write to`;
      throw new ChamberlainError('CONFIG_INVALID', act, { action: START_AGAIN });
    }
    fchownSync(fd, self, gid);
    fchmodSync(fd, 0o750);
  } finally {
    closeSync(fd);
  }
}

/** Removes the socket that a killed helper has left. */
async function removeStale(path: string): Promise<void> {
  const there = lstatSync(path, { throwIfNoEntry: false });
  if (there === undefined) return;
  if (!there.isSocket()) {
    throw new ChamberlainError('CONFIG_INVALID', `${path} is not a socket`, {
      action: START_AGAIN,
    });
  }
  const socket = connect(path);
  try {
    await once(socket, 'connect');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'ECONNREFUSED') {
      throw new ChamberlainError('CONFIG_INVALID', `looking at ${path}`, {
        cause,
        action: START_AGAIN,
      });
    }
    unlinkSync(path);
    return;
  } finally {
    socket.destroy();
  }
  throw new ChamberlainError('CONFIG_INVALID', `another login helper already serves ${path}`, {
    action: 'Stop that one first: only one may run.',
  });
}

async function bind(server: Server, path: string, gid: number): Promise<void> {
  const umask = process.umask(0o177);
  try {
    server.listen(path); // it is bound when this returns
  } finally {
    process.umask(umask);
  }
  await once(server, 'listening');
  chownSync(path, -1, gid);
  chmodSync(path, 0o660);
}
