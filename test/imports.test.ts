/** Which file may import which: one way, each with its reason. */
import { expect, test } from '@jest/globals';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';

const ROOT = join(import.meta.dirname, '..');

/** folder (or file) below src · what it may import besides itself, `errors` and node: */
const MAY_IMPORT: Record<string, { from: string[]; packages: string[]; because: string }> = {
  model: { from: [], packages: ['zod', 'sshpk'], because: 'rules and values know no outside' },
  plan: {
    from: ['model'],
    packages: [],
    because: 'a plan is pure, so that it can be read as text',
  },
  targets: {
    from: ['model', 'plan'],
    packages: [],
    because: 'a target is given its eyes, so that it cannot act',
  },
  'reconcile.ts': {
    from: ['model', 'plan', 'targets'],
    packages: [],
    because: 'it is the same for every backend',
  },
  recovery: {
    from: ['model', 'plan', 'targets'],
    packages: [],
    because: 'what evidence takes is decided without servers',
  },
  store: {
    from: ['model', 'config.ts', 'plan/report.ts', 'targets/foreign.ts'],
    packages: ['pg'],
    because: 'our PostgreSQL knows nothing of the outside world',
  },
  edges: {
    from: ['model', 'plan', 'targets', 'config.ts'],
    packages: ['ldapts', 'mariadb', 'bullmq', 'ioredis', 'jose'],
    because: 'an edge does what a target says, and decides nothing',
  },
  requests: {
    from: ['model', 'store', 'config.ts', 'edges/token.ts'],
    packages: [],
    because: 'a verdict is given from our PostgreSQL alone',
  },
  backup: {
    from: ['model', 'store', 'edges', 'targets', 'config.ts', '../deploy/ldap/render.ts'],
    packages: ['pg', 'zod'],
    because: 'it reads all servers, and restores into its own',
  },
  import: {
    from: ['model', 'plan', 'targets', 'reconcile.ts', 'config-values.ts'],
    packages: [],
    because: 'what can be taken over is judged without servers; it is given its eyes',
  },
  'login-host': {
    from: ['model', 'edges', 'config-values.ts', 'log.ts'],
    packages: ['zod'],
    because: 'a login host knows the directory alone: no PostgreSQL, no queue',
  },
  doctor: {
    from: ['model', 'plan', 'store', 'edges', 'config.ts', 'login-host'],
    packages: [],
    because: 'it looks at everything, and is looked at by the command line alone',
  },
  'config.ts': {
    from: ['model', 'config-values.ts'],
    packages: ['zod'],
    because: 'read once, by all',
  },
  'config-path.ts': {
    from: [],
    packages: [],
    because: 'the command line asks before it reads one',
  },
  'config-values.ts': { from: [], packages: ['yaml', 'zod'], because: 'what configurations share' },
  'log.ts': { from: [], packages: ['pino'], because: 'used by all' },
  'errors.ts': { from: [], packages: [], because: 'used by all' },
};

const QUEUES = ['edges/queue.ts', 'edges/request-inbox.ts', 'edges/event-outbox.ts'];

/** A package that one file alone may import: what it needs to be used rightly stands there. */
const ONLY_IN: Record<string, string[]> = {
  ldapts: ['edges/ldap.ts'],
  mariadb: ['edges/mariadb-connections.ts'],
  bullmq: QUEUES,
  ioredis: [...QUEUES, 'edges/queued-jobs.ts', 'edges/queue-keys.ts', 'edges/redis-connection.ts'],
  jose: ['edges/token.ts'],
  pino: ['log.ts'],
  'node-pg-migrate': ['bin/migrate.ts'],
};

const files = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' }).filter((name) =>
  name.endsWith('.ts'),
);

function importsOf(file: string): string[] {
  const text = readFileSync(join(ROOT, 'src', file), 'utf8');
  return [...text.matchAll(/(?:from|import\()\s*'([^']+)'/g)].map(([, name]) => name as string);
}

test.each(files)('%s imports only what its folder may', (file) => {
  const folder = file.split('/')[0] as string;
  const rule = MAY_IMPORT[folder];
  for (const name of importsOf(file)) {
    if (name.startsWith('.')) {
      const target = relative(join(ROOT, 'src'), join(ROOT, 'src', dirname(file), name));
      if (rule === undefined) continue; // bin: the outermost
      const allowed = ['errors.ts', folder, ...rule.from];
      const isAllowed = allowed.some((each) => target === each || target.startsWith(`${each}/`));
      expect([target, isAllowed, rule.because]).toEqual([target, true, rule.because]);
    } else if (!name.startsWith('node:')) {
      const only = ONLY_IN[name];
      if (only !== undefined) expect([name, only]).toEqual([name, expect.arrayContaining([file])]);
      if (rule !== undefined) {
        expect([name, rule.packages, rule.because]).toEqual([
          name,
          expect.arrayContaining([name]),
          rule.because,
        ]);
      }
    }
  }
});

/** The files and packages that are loaded with a file: not by `import type`, nor where it is asked for later. */
function loadedWith(file: string, loaded = new Set<string>()): Set<string> {
  if (loaded.has(file)) return loaded;
  loaded.add(file);
  const text = readFileSync(join(ROOT, 'src', file), 'utf8');
  for (const [, name = ''] of text.matchAll(/^(?:im|ex)port (?!type )[^;]*?from '([^']+)'/gm)) {
    if (name.startsWith('.')) loadedWith(join(dirname(file), name), loaded);
    else loaded.add(name);
  }
  return loaded;
}

test.each(['explain', 'audit', 'list', 'requests', 'sweep', 'freeze', 'thaw', 'ignore'])(
  '%s loads nothing that speaks to Redis, which takes a tenth of a second',
  (command) => {
    const loaded = loadedWith(`bin/${command}.ts`);
    expect(loaded).toContain('pg');
    expect([...loaded].filter((name) => name === 'bullmq' || name === 'ioredis')).toEqual([]);
  },
);

test('nothing below src but bin imports a worker', () => {
  for (const file of files.filter((name) => !name.startsWith('bin/'))) {
    expect([file, importsOf(file).filter((name) => name.includes('workers/'))]).toEqual([file, []]);
  }
});
