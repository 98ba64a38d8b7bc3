/** Which file may import which. Each rule is a sentence; docs/architecture.md explains the tree. */
import { describe, expect, test } from '@jest/globals';
import { globSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

const ROOT = join(import.meta.dirname, '..');
const FILES = globSync('{src,workers}/**/*.ts', { cwd: ROOT }).sort();

/** Decides from what it is given: no server, no clock, no randomness, no file. */
const PURE = [
  'src/targets/',
  'src/reconcile/{engine,plan,action,digest,policy,report,render-plan,wanted}.ts',
  'src/roles/*.ts',
  'src/roles/*/{role,verbs,columns}.ts',
  'src/identity/{names,reserved-names,posix-id,id-pattern,reach,mail}.ts',
  'src/credentials/credentials.ts',
  'src/ssh-keys/{ed25519-key,ed25519-value,ssh-key,ssh-key-blob,ssh-key-options,known-bad-keys,ed25519-point,private-key,ssh-wire}.ts',
  'src/seals/{seal,heartbeat}.ts',
  'src/requests/{kinds,schema,turns}.ts',
  'src/lifecycle/{leaving,leaving-page,render-leaving,erased-person}.ts',
  'src/unmanaged/{unmanaged,unmanaged-things,sightings,render-unmanaged}.ts',
  'src/drift/{survey-groups,render-survey,sweep-decisions,sweep-fault}.ts',
  'src/explain/{word,explanation,render-explain}.ts',
  'src/archives/{manifest,homes-manifest,databases-manifest,deletion}.ts',
  'src/recovery/{evidence,lesser,render,taking}.ts',
  'src/import/{account,judge,person,tool,refusal,import-batch}.ts',
  'src/shared/{errors,time,printable,canonical-json,portal-fields,schema-words}.ts',
];
/** Speaks to PostgreSQL. */
const SQL = ['src/database/', 'src/**/*-{table,queries}.ts'];
/** Speaks to another server, or to the file system. */
const OUTSIDE = [
  ...['src/backends/', 'src/archives/container.ts'],
  ...['src/archives/homes/', 'src/archives/databases/'],
];
const COMMANDS = ['src/cli/'];
const PROCESSES = ['workers/'];

interface Rule {
  /** what holds, and why */
  rule: string;
  of: readonly string[];
  never: readonly string[];
}

const RULES: readonly Rule[] = [
  {
    rule: 'what is pure imports neither SQL, a backend, a command nor a process',
    of: PURE,
    never: [...SQL, ...OUTSIDE, ...COMMANDS, ...PROCESSES],
  },
  {
    rule: 'SQL knows no other server: PostgreSQL says what must be, whatever is there',
    of: SQL,
    never: [...OUTSIDE, ...COMMANDS, ...PROCESSES],
  },
  {
    rule: 'a backend does what a target says, and decides nothing',
    of: OUTSIDE,
    never: ['src/requests/rules/', ...COMMANDS, ...PROCESSES],
  },
  {
    rule: 'a verdict is given from PostgreSQL alone',
    of: ['src/requests/'],
    never: [...OUTSIDE, ...COMMANDS, ...PROCESSES],
  },
  {
    rule: 'the API asks and decides nothing: it has no rule, no seal, and no server but PostgreSQL and Redis',
    of: ['src/api/'],
    never: [
      ...['src/requests/rules/', 'src/seals/', 'src/targets/', 'src/archives/'],
      ...['src/backends/ldap/', 'src/backends/mariadb/', 'src/backends/files/'],
      ...[...COMMANDS, ...PROCESSES],
    ],
  },
  {
    rule: 'a process is started by a command: nothing else imports one',
    of: ['src/'],
    never: PROCESSES,
  },
  {
    rule: 'what a role does is loaded by way of its descriptor, when it is started or looked at',
    of: ['src/', ...PROCESSES],
    never: ['src/roles/*/{worker,checks}.ts'],
  },
];
/** Starts them; or asks what roles would find, before there are any. */
const STARTS = ['src/cli/commands/work.ts', 'src/cli/commands/unmanaged/import.ts'];

/** A package that these files alone import: what it needs to be used rightly stands there. */
const DRIVERS: Record<string, string[]> = {
  ldapts: ['src/backends/ldap/ldap.ts'],
  mariadb: ['src/backends/mariadb/mariadb-connections.ts'],
  bullmq: ['src/backends/redis/{queue,request-queues,request-inbox,event-inbox,event-outbox}.ts'],
  ioredis: [
    'src/backends/redis/{queue,request-queues,event-inbox,event-outbox,queued-jobs,queue-keys,redis-connection}.ts',
  ],
  fastify: ['src/api/{server,document,listening,route}.ts'],
  'fastify-type-provider-zod': ['src/api/{server,document}.ts'],
  '@fastify/swagger': ['src/api/document.ts'],
  pino: ['src/shared/log.ts'],
  sshpk: ['src/ssh-keys/ssh-key.ts'],
  'node-pg-migrate': ['src/cli/commands/migrate.ts'],
  'node:child_process': [
    'src/shared/run-programs.ts',
    // a server that is stopped, not run to its end; and a program that runs nothing else
    'src/backup/private-servers.ts',
    'src/login-host/programs/whoami.ts',
  ],
};
/** What a pure file may import besides pure files. */
const HARMLESS = /^(zod(\/mini)?|sshpk|node:(crypto|path|module|buffer|util|net))$/;
const IMPURE =
  /\b(?:Date\.now|new Date|Math\.random|performance\.now)\(\)|\brandom(?:Bytes|UUID|Int)\b[^;]* from 'node:crypto'/;

function among(patterns: readonly string[]): Set<string> {
  return new Set(
    patterns.flatMap((pattern) =>
      globSync(pattern.endsWith('/') ? `${pattern}**/*.ts` : pattern, { cwd: ROOT }),
    ),
  );
}

const texts = new Map(FILES.map((file) => [file, readFileSync(join(ROOT, file), 'utf8')]));

/** Names what a role does, for whoever starts it; loads none of it. */
const isDescriptor = (file: string): boolean => /^src\/roles\/\w+\/role\.ts$/.test(file);

/** What is loaded with it, now or later; a type is not. */
function importsOf(file: string): string[] {
  const text = (texts.get(file) ?? '').replaceAll(/^(?:im|ex)port type [^;]*;/gm, '');
  const found = text.matchAll(
    isDescriptor(file) ? /\bfrom\s*'([^']+)'/g : /(?:\bfrom|\bimport\()\s*'([^']+)'/g,
  );
  return [...found].map(([, name = '']) =>
    name.startsWith('.') ? join(dirname(file), name) : name,
  );
}

describe.each(RULES)('$rule', ({ of, never }) => {
  const forbidden = among(never);
  const files = [...among(of)].filter((file) => !STARTS.includes(file)).sort();
  test('there are such files', () => expect(files).not.toEqual([]));
  test.each(files)('%s', (file) => {
    const own = forbidden.has(file);
    const wrong = importsOf(file).filter((name) => forbidden.has(name));
    expect(own ? [] : wrong).toEqual([]);
  });
});

describe('what is pure reads no clock and no randomness, and imports pure files alone:', () => {
  const pure = among(PURE);
  test.each([...pure].sort())('%s', (file) => {
    const others = importsOf(file).filter((name) => !pure.has(name) && !HARMLESS.test(name));
    expect(others).toEqual([]);
    expect(IMPURE.exec(texts.get(file) ?? '')?.[0]).toBeUndefined();
  });
});

test.each(Object.entries(DRIVERS))(
  '%s is imported where it is used rightly, alone',
  (name, where) => {
    const may = among(where);
    expect(FILES.filter((file) => importsOf(file).includes(name) && !may.has(file))).toEqual([]);
  },
);

/** The files and packages that are loaded with a file: not by `import type`, nor where it is asked for later. */
function loadedWith(file: string, loaded = new Set<string>()): Set<string> {
  if (loaded.has(file)) return loaded;
  loaded.add(file);
  const text = texts.get(file) ?? '';
  for (const [, name = ''] of text.matchAll(/^(?:im|ex)port (?!type )[^;]*?from '([^']+)'/gm)) {
    if (name.startsWith('.')) loadedWith(join(dirname(file), name), loaded);
    else loaded.add(name);
  }
  return loaded;
}

test.each([
  ...['explain', 'audit/audit', 'list', 'requests'],
  ...['drift/sweep', 'freeze', 'thaw', 'unmanaged/ignore'],
])('%s loads nothing that speaks to Redis, which takes a tenth of a second', (command) => {
  const loaded = loadedWith(`src/cli/commands/${command}.ts`);
  expect(loaded).toContain('pg');
  expect([...loaded].filter((name) => name === 'bullmq' || name === 'ioredis')).toEqual([]);
});

test.each(['keys-agent', 'login-helper', 'take', 'whoami'])(
  'a login host knows the directory alone: %s loads no PostgreSQL, MariaDB or queue',
  (program) => {
    const loaded = loadedWith(`src/login-host/programs/${program}.ts`);
    expect(loaded.size).toBeGreaterThan(3);
    const servers = ['pg', 'bullmq', 'ioredis', 'mariadb'];
    expect([...loaded].filter((name) => servers.includes(name))).toEqual([]);
  },
);
