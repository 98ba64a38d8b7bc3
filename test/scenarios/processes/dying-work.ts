/**
 * `chamberlain work` that dies of SIGKILL at a chosen action of a role: node dying-work.ts CONFIG LOG. By IPC
 * it receives which roles to start, and where to die. Each action is written to LOG before it is done: `homes
 * home.archive`.
 */
import { fixedConfig } from '../../../src/configuration/config-in-use.ts';
import { writeFileSync } from 'node:fs';
import { loadConfig } from '../../../src/shared/config.ts';
import { openLog } from '../../../src/shared/log.ts';
import type { Role } from '../../../src/reconcile/wanted.ts';
import { DATABASES } from '../../../src/roles/databases/worker.ts';
import { DIRECTORY } from '../../../src/roles/directory/worker.ts';
import { HOMES } from '../../../src/roles/homes/worker.ts';
import { startWork } from '../../../workers/main.ts';
import type { RoleParts } from '../../../src/reconcile/role.ts';

/** Dies at the n-th action of a role from now on, counted from 0. */
export interface Cut {
  role: Role;
  n: number;
  when: 'before' | 'after';
}

export type Order = { start: readonly string[] } | { cut: Cut };

const [configFile = '', logFile = ''] = process.argv.slice(2);
let cut: Cut | undefined;
let counted = 0;

function die(): never {
  process.kill(process.pid, 'SIGKILL');
  throw new Error('dead');
}

for (const parts of [DIRECTORY, HOMES, DATABASES] as unknown as RoleParts<unknown>[]) {
  const { role } = parts;
  const openWriter = parts.openWriter.bind(parts);
  parts.openWriter = (config, store) => {
    const writer = openWriter(config, store);
    return {
      ...writer,
      async do(action) {
        const isIt = cut !== undefined && cut.role === role && counted++ === cut.n;
        if (isIt && cut?.when === 'before') die();
        writeFileSync(logFile, `${role} ${action.verb}\n`, { flag: 'a' });
        await writer.do(action);
        if (isIt) die();
      },
    };
  };
}

const config = loadConfig(configFile);
const log = openLog('warn', {
  write: (line) => writeFileSync(`${logFile}.log`, line, { flag: 'a' }),
});

process.on('message', (order: Order) => {
  void (async () => {
    if ('start' in order) await startWork(fixedConfig(config), { roles: order.start, log });
    else [cut, counted] = [order.cut, 0];
    process.send?.('done');
  })();
});
process.on('disconnect', () => process.exit());
process.send?.('ready');
