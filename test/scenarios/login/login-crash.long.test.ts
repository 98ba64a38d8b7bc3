/** kill -9 of a login host's agent, of its login helper, and of both, a hundred times in a thousand changes. */
import { afterAll, beforeAll, test } from '@jest/globals';
import { openCrashing, surviveKills, surviveLossOfFiles } from './login-crash.ts';
import type { Login } from './login.ts';

const CHANGES = Number(process.env['CHAMBERLAIN_CHANGES'] ?? 1000);

let login: Login;

beforeAll(async () => {
  login = await openCrashing('many login crashes');
});

afterAll(async () => {
  await login?.close();
}, 60_000);

test(
  `killed every 10 of ${CHANGES} changes, all files match the seals in the end`,
  async () => {
    const seed = Number(process.env['CHAMBERLAIN_SEED'] ?? Date.now() % 1_000_000);
    process.stdout.write(`login crashes: CHAMBERLAIN_SEED=${seed}\n`);
    await surviveKills(login, CHANGES, seed);
    await surviveLossOfFiles(login);
  },
  CHANGES * 1000 + 120_000,
);
