/**
 * The floor of a read: a Fastify route that reads one row of PostgreSQL by its key and sends it. It knows no callers,
 * checks nothing and counts nothing. Beside it the same with one check of an Ed25519 signature, which is the floor of a
 * signed read. It runs as a process of its own, as the API does.
 */
import { generateKeyPairSync, sign, verify } from 'node:crypto';
import { fastify } from 'fastify';
import { loadConfig } from '../../src/shared/config.ts';
import { openPool } from '../../src/database/connection.ts';

/** As many as the API has. */
const MOST_CONNECTIONS = 8;

const [configFile = ''] = process.argv.slice(2);
const pool = openPool(loadConfig(configFile), 'admin', { max: MOST_CONNECTIONS, durable: false });
const server = fastify();
const readTool = async (name: string): Promise<unknown> => {
  const { rows } = await pool.query({
    name: 'bare',
    text: 'SELECT uid, name, account, title, state, created_at FROM tools WHERE name = $1',
    values: [name],
  });
  return rows[0];
};
type Named = { Params: { name: string } };
server.get<Named>('/tools/:name', async ({ params }, reply) =>
  reply.send(await readTool(params.name)),
);
// as long as the token of a call
const signed = Buffer.alloc(350, 'a');
const { privateKey, publicKey } = generateKeyPairSync('ed25519');
const signature = sign(null, signed, privateKey);
server.get<Named>('/signed/:name', async ({ params }, reply) => {
  if (!verify(null, signed, publicKey, signature)) throw new Error('the signature is good');
  return reply.send(await readTool(params.name));
});
await server.listen({ host: '127.0.0.1', port: 0 });
const address = server.server.address();
process.send?.(typeof address === 'object' ? address?.port : undefined);
process.on('disconnect', () => process.exit(0));
