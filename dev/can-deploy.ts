/** Says whether `npm run test:deploy` can run Docker on this machine: the exit code is 0; or 1, and stderr says why not. */
import { once } from 'node:events';
import { join } from 'node:path';
import { startApart } from './jest/apart.ts';

const RUN = join(import.meta.dirname, '../test/deploy-long/run.ts');
const stdio = ['ignore', 'ignore', 'inherit'] as const;
const { process: first } = startApart([process.execPath, RUN, '--try'], {
  env: process.env,
  stdio: [...stdio],
});
const [code] = (await once(first, 'exit')) as [number | null];
process.exitCode = code ?? 1;
