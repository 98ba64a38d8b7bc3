/**
 * Sends prepared calls over connections that stay open, and takes as little processor time as possible: what is measured
 * is the server. It understands answers with a `content-length`, which all that are measured have.
 */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

const HEAD_END = Buffer.from('\r\n\r\n');

export interface Answer {
  status: number;
  body: Buffer;
}

export interface Connection {
  /** One call; the next may begin when it is answered. */
  call(bytes: Buffer): Promise<Answer>;
  close(): void;
}

/** The bytes of a call. */
export function bytesOf(
  method: string,
  target: string,
  headers: Record<string, string> = {},
  body = '',
): Buffer {
  const all = {
    host: '127.0.0.1',
    ...headers,
    ...(body === '' ? {} : { 'content-length': String(Buffer.byteLength(body)) }),
  };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  return Buffer.from(`${method} ${target} HTTP/1.1\r\n${lines.join('')}\r\n${body}`);
}

export async function openConnection(port: number): Promise<Connection> {
  const socket = connect({ host: '127.0.0.1', port, noDelay: true });
  await once(socket, 'connect');
  let waiting: { resolve: (answer: Answer) => void; reject: (error: Error) => void } | undefined;
  let read: Buffer = Buffer.alloc(0);
  socket.on('data', (chunk: Buffer) => {
    read = read.length === 0 ? chunk : Buffer.concat([read, chunk]);
    const answer = readAnswer(read);
    if (answer === undefined) return;
    read = Buffer.alloc(0);
    waiting?.resolve(answer);
  });
  const fail = (error?: Error) => waiting?.reject(error ?? new Error('the server has hung up'));
  socket.on('error', fail);
  socket.on('close', () => fail());
  return {
    call: (bytes) =>
      new Promise((resolve, reject) => {
        waiting = { resolve, reject };
        socket.write(bytes);
      }),
    close: () => void socket.destroy(),
  };
}

function readAnswer(read: Buffer): Answer | undefined {
  const end = read.indexOf(HEAD_END);
  if (end < 0) return undefined;
  const head = read.toString('latin1', 0, end);
  const length = Number(/^content-length: *(\d+)/imu.exec(head)?.[1] ?? 0);
  const begin = end + HEAD_END.length;
  if (read.length < begin + length) return undefined;
  return { status: Number(head.slice(9, 12)), body: read.subarray(begin, begin + length) };
}

/** Throws unless the answer has that status; returns its body. */
export function mustBe(status: number, answer: Answer): Buffer {
  if (answer.status === status) return answer.body;
  throw new Error(`the API answers ${answer.status}: ${answer.body.toString().slice(0, 500)}`);
}

/** Calls one after another over one connection, in milliseconds each. */
export async function timeCalls(port: number, calls: readonly Buffer[]): Promise<number[]> {
  const connection = await openConnection(port);
  try {
    const times: number[] = [];
    for (const bytes of calls) {
      const begin = performance.now();
      mustBe(200, await connection.call(bytes));
      times.push(performance.now() - begin);
    }
    return times;
  } finally {
    connection.close();
  }
}

/**
 * Calls at a steady rate, whether the calls before are answered or not: a server that hangs is not asked less.
 */
export async function callSteadily(
  port: number,
  calls: readonly Buffer[],
  perSecond: number,
): Promise<number[]> {
  const free: Connection[] = [];
  const times: number[] = [];
  const open: Promise<void>[] = [];
  const one = async (bytes: Buffer) => {
    const at = performance.now();
    const connection = free.pop() ?? (await openConnection(port));
    mustBe(200, await connection.call(bytes));
    times.push(performance.now() - at);
    free.push(connection);
  };
  for (let n = 0; n < 8; n++) free.push(await openConnection(port));
  const begin = performance.now();
  for (const [n, bytes] of calls.entries()) {
    const at = begin + (n * 1000) / perSecond;
    // a timer may be a millisecond late; that is not the server's
    for (let left = at - performance.now(); left > 0; left = at - performance.now()) {
      await sleep(left);
    }
    open.push(one(bytes));
  }
  await Promise.all(open);
  for (const connection of free) connection.close();
  return times;
}

/** Calls as fast as that many connections can, until the time is over. Returns calls a second. */
export async function callAtOnce(
  port: number,
  calls: readonly Buffer[],
  { connections, ms }: { connections: number; ms: number },
): Promise<number> {
  const begin = performance.now();
  let done = 0;
  await Promise.all(
    Array.from({ length: connections }, async () => {
      const connection = await openConnection(port);
      while (performance.now() - begin < ms) {
        mustBe(200, await connection.call(calls[done++ % calls.length] as Buffer));
      }
      connection.close();
    }),
  );
  return done / ((performance.now() - begin) / 1000);
}

/** A stream of Server-Sent Events. */
export interface Listener {
  socket: Socket;
  /** rejects if the stream ends */
  ended: Promise<never>;
}

/**
 * Listens to a stream; returns when it has begun.
 *
 * @param onEvent is called with the id of each event
 */
export async function listen(
  port: number,
  bytes: Buffer,
  onEvent: (id: number) => void,
): Promise<Listener> {
  const socket = connect({ host: '127.0.0.1', port, noDelay: true });
  const begun = Promise.withResolvers<void>();
  const ended = Promise.withResolvers<never>();
  ended.promise.catch(() => {});
  let [text, hasBegun] = ['', false];
  socket.setEncoding('latin1').on('data', (chunk: string) => {
    text += chunk;
    if (!hasBegun) {
      if (!text.includes('\n\n')) return;
      if (!text.startsWith('HTTP/1.1 200')) begun.reject(new Error(text.slice(0, 500)));
      hasBegun = true;
      begun.resolve();
    }
    for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
      const id = /^id: (\d+)$/mu.exec(text.slice(0, end))?.[1];
      text = text.slice(end + 2);
      if (id !== undefined) onEvent(Number(id));
    }
  });
  const fail = (error?: Error) => {
    const why = error ?? new Error('a stream of events has ended');
    begun.reject(why);
    ended.reject(why);
  };
  socket.on('error', fail);
  socket.on('close', () => fail());
  socket.write(bytes);
  await begun.promise;
  return { socket, ended: ended.promise };
}
