import { connect, createServer, type Socket } from 'node:net';
import type { AddressInfo } from 'node:net';

export interface CuttingProxy extends AsyncDisposable {
  url: string;
  /** how many connections there were */
  connections(): number;
}

/**
 * A proxy that ends a connection after so many bytes of the answers.
 *
 * @param cutAfter is asked for each connection, by its number from 0; Infinity: it is not cut
 */
export function openCuttingProxy(
  port: number,
  cutAfter: (connection: number) => number,
): Promise<CuttingProxy> {
  let connections = 0;
  const open = new Set<Socket>();
  const server = createServer((near) => {
    let left = cutAfter(connections++);
    const far = connect(port, '127.0.0.1');
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      open.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => open.delete(socket) && other.destroy());
    }
    near.pipe(far);
    far.on('data', (data: Buffer) => {
      near.write(data.subarray(0, left));
      left -= data.length;
      if (left <= 0) near.end(() => near.destroy());
    });
  });
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => {
      resolve({
        url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
        connections: () => connections,
        [Symbol.asyncDispose]: () =>
          new Promise((closed) => {
            for (const socket of open) socket.destroy();
            server.close(() => closed());
          }),
      });
    });
  });
}
