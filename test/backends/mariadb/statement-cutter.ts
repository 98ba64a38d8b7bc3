/**
 * A proxy to a database server that is cut at a chosen statement: before the server has it, or after the server
 * has done it but before the client knows. The protocol: mariadb.com/kb, "0 - Packet" and "COM_QUERY".
 */
import { connect, createServer, type Server, type Socket } from 'node:net';

/** Statements of a writer that change or end something; not those that open a connection. */
const COUNTED = /^(BEGIN NOT ATOMIC|ALTER|CREATE|DROP|GRANT|REVOKE|SET DEFAULT ROLE|KILL|SELECT)\b/;
const COM_QUERY = 0x03;

export interface StatementCutter {
  /** where it listens: a unix socket */
  socket: string;
  /** the first words of the statements that have come since the last `cutAt` */
  readonly came: readonly string[];
  /** Cuts at the n-th statement from now, counted from 0; never, if there are fewer. */
  cutAt(n: number, when: 'before' | 'after'): void;
  close(): Promise<void>;
}

/** Opens a proxy to `target`, both unix sockets. */
export async function openStatementCutter(
  socket: string,
  target: string,
): Promise<StatementCutter> {
  let came: string[] = [];
  let cut: { n: number; when: 'before' | 'after' } = { n: Infinity, when: 'before' };
  const open = new Set<Socket>();

  const server: Server = createServer((client) => {
    const upstream = connect(target);
    const end = () => {
      client.destroy();
      upstream.destroy();
    };
    for (const side of [client, upstream]) {
      open.add(side);
      side.on('error', end).on('close', () => {
        open.delete(side);
        end();
      });
    }
    let isMute = false;
    upstream.on('data', (bytes) => {
      // the answer has come, so the server has done it
      if (isMute) end();
      else client.write(bytes);
    });
    let pending = Buffer.alloc(0);
    client.on('data', (bytes) => {
      pending = Buffer.concat([pending, bytes]);
      for (let packet = takePacket(); packet !== undefined; packet = takePacket()) {
        const statement = statementIn(packet);
        if (statement !== undefined && isMute) continue;
        if (statement !== undefined) {
          const isCut = came.length === cut.n;
          came.push(statement.split(' ').slice(0, 2).join(' '));
          if (isCut && cut.when === 'before') {
            end();
            return;
          }
          if (isCut) isMute = true;
        }
        upstream.write(packet);
      }
    });

    function takePacket(): Buffer | undefined {
      if (pending.length < 4) return undefined;
      const size = 4 + pending.readUIntLE(0, 3);
      if (pending.length < size) return undefined;
      const packet = pending.subarray(0, size);
      pending = pending.subarray(size);
      return packet;
    }
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject).listen(socket, resolve);
  });
  return {
    socket,
    get came() {
      return came;
    },
    cutAt(n, when) {
      came = [];
      cut = { n, when };
    },
    async close() {
      for (const side of open) side.destroy();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

/** The text of a query that is counted. The packets before the first query belong to the handshake. */
function statementIn(packet: Buffer): string | undefined {
  if (packet[3] !== 0 || packet[4] !== COM_QUERY) return undefined;
  const text = packet.toString('utf8', 5);
  return COUNTED.test(text) ? text : undefined;
}
