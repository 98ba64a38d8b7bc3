/** The floor of a command: a process that reads the configuration, connects and selects 1. */
import { loadConfig } from '../../src/shared/config.ts';
import { openPool } from '../../src/database/connection.ts';

const pool = openPool(loadConfig(process.argv[2] ?? ''), 'admin', { max: 1, durable: true });
await pool.query('SELECT 1');
await pool.end();
