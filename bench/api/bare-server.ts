/**
 * The floor of a read: a Fastify route that reads one row of PostgreSQL by its key and sends it. It knows no callers,
 * checks nothing and counts nothing. It runs as a process of its own, as the API does.
 */
import { fastify } from 'fastify';
import { loadConfig } from '../../src/shared/config.ts';
import { openPool } from '../../src/database/connection.ts';

/** As many as the API has. */
const MOST_CONNECTIONS = 8;

const [configFile = ''] = process.argv.slice(2);
const pool = openPool(loadConfig(configFile), 'admin', { max: MOST_CONNECTIONS, durable: false });
const server = fastify();
server.get<{ Params: { name: string } }>('/tools/:name', async ({ params }, reply) => {
  const { rows } = await pool.query({
    name: 'bare',
    text: 'SELECT uid, name, account, title, state, created_at FROM tools WHERE name = $1',
    values: [params.name],
  });
  return reply.send(rows[0]);
});
await server.listen({ host: '127.0.0.1', port: 0 });
const address = server.server.address();
process.send?.(typeof address === 'object' ? address?.port : undefined);
process.on('disconnect', () => process.exit(0));
