/**
 * Many tools requested at once: the time until the last is ready, what each process used for it, and how long
 * an access.revoke takes meanwhile, as a login host would see it in the directory.
 */
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Attribute, Change, Client } from 'ldapts';
import { adminDn } from '../deploy/ldap/render.ts';
import { parseSeal, payloadOf } from '../src/seals/seal.ts';
import { ATTRIBUTE as SEAL } from '../src/targets/seal.ts';
import { admit, MAKER, STEWARD, toolRequest } from './idle.ts';
import type { Portal, Signed } from './portal.ts';
import { cpuSeconds, peakMemoryMib, serverPid } from './tools/processes.ts';
import type { MeasuredRealm, Work } from './realm.ts';

/** A load that creates no tool for this long has failed. */
const STALL_MS = 30_000;
const LOOK_EVERY_MS = 2;

export interface Load {
  seconds: number;
  /** from `Queue.add` of each access.revoke until the member value is gone and the seal says so, ms */
  revokeMs: number[];
  /** a plain write to the directory next to each of them, ms */
  plainWriteMs: number[];
  /** CPU seconds over the load */
  cpu: Record<string, number>;
  peakMemoryMib: number;
  /** how many statements, commits and jobs a tool cost */
  perTool: Record<string, number>;
}

/** Queues `count` tools at once, and revokes the access of `revokes` people meanwhile. */
export async function runLoad(
  realm: MeasuredRealm,
  portal: Portal,
  work: Work,
  { count, revokes, say }: { count: number; revokes: number; say: (line: string) => void },
): Promise<Load> {
  const people = Array.from({ length: revokes }, (_, n) => `leaver-${n}`);
  for (const person of people) await admit(portal, person);
  const revocations = await Promise.all(
    people.map((person) => portal.sign(STEWARD, { kind: 'access.revoke', person })),
  );
  const requests: Signed[] = [];
  for (let n = 0; n < count; n++) requests.push(await portal.sign(MAKER, toolRequest(`load-${n}`)));

  const awaited = new Set(requests.map(({ jti }) => jti));
  let lastAt = performance.now();
  portal.onHeard(({ event, jti = '' }) => {
    if (event === 'tool.ready' && awaited.delete(jti)) lastAt = performance.now();
  });
  const directory = await openOwnReader(realm);
  const counters = await readCounters(realm);
  const before = readCpu(realm);
  const workBefore = cpuSeconds(work.pid);
  const begin = performance.now();
  const load: Omit<Load, 'seconds' | 'cpu' | 'peakMemoryMib' | 'perTool'> = {
    revokeMs: [],
    plainWriteMs: [],
  };
  try {
    lastAt = begin;
    await portal.send(requests);
    let said = begin;
    const until = async (ready: number) => {
      while (count - awaited.size < ready) {
        await sleep(LOOK_EVERY_MS * 5);
        if (performance.now() - lastAt > STALL_MS) {
          throw new Error(
            `${awaited.size} of ${count} tools are not ready, without any progress for 30 s`,
          );
        }
        if (performance.now() - said > 2000) {
          said = performance.now();
          say(`${count - awaited.size} of ${count} tools are ready`);
        }
      }
    };
    for (const [n, request] of revocations.entries()) {
      // spread over the first nine tenths
      await until(Math.floor((count * 0.9 * n) / revokes));
      const asked = performance.now();
      await portal.send([request], { urgent: true });
      await directory.untilGone(people[n] as string, asked + STALL_MS);
      load.revokeMs.push(performance.now() - asked);
      load.plainWriteMs.push(await directory.write(String(n)));
    }
    await until(count);
  } finally {
    await directory.close();
  }
  const cpu = {
    'chamberlain work': cpuSeconds(work.pid) - workBefore,
    ...readCpu(realm, before),
  };
  const counted = await readCounters(realm);
  return {
    ...load,
    seconds: (lastAt - begin) / 1000,
    cpu,
    peakMemoryMib: peakMemoryMib(work.pid),
    perTool: Object.fromEntries(
      Object.entries(counted).map(([name, total]) => [
        name,
        (total - (counters[name] ?? 0)) / count,
      ]),
    ),
  };
}

/**
 * CPU seconds of the servers and of this process, since `before`. Children of this process are not included:
 * the time of a server that it stopped earlier would count all at once, when it is waited for.
 */
export function readCpu(
  { stack }: MeasuredRealm,
  before: Record<string, number> = {},
): Record<string, number> {
  const { user, system } = process.cpuUsage();
  const now = {
    'this benchmark': (user + system) / 1e6,
    PostgreSQL: cpuSeconds(serverPid(stack.postgres)),
    Redis: cpuSeconds(serverPid(stack.redis)),
    slapd: cpuSeconds(serverPid(stack.slapd)),
    'MariaDB replica': cpuSeconds(serverPid(stack.replica)),
    'MariaDB toolsdb': cpuSeconds(serverPid(stack.tools)),
  };
  return Object.fromEntries(
    Object.entries(now).map(([name, seconds]) => [name, seconds - (before[name] ?? 0)]),
  );
}

/** PostgreSQL's counters are up to a second late, so this waits for a second. */
async function readCounters(realm: MeasuredRealm): Promise<Record<string, number>> {
  await sleep(1200);
  const client = await realm.connect();
  try {
    const { rows } = await client.query<Record<string, string>>(
      `SELECT xact_commit AS "transactions (PostgreSQL)",
         (SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables) AS "rows written (PostgreSQL)",
         (SELECT wal_sync FROM pg_stat_wal) AS "fsyncs of the log (PostgreSQL)",
         (SELECT wal_bytes / 1024 FROM pg_stat_wal) AS "KiB of log (PostgreSQL)"
       FROM pg_stat_database WHERE datname = current_database()`,
    );
    return Object.fromEntries(
      Object.entries(rows[0] ?? {}).map(([name, value]) => [name, Number(value)]),
    );
  } finally {
    await client.end();
  }
}

interface OwnReader {
  /** Looks repeatedly until the person is not a member of the realm group, and is not sealed as one. */
  untilGone(person: string, deadline: number): Promise<void>;
  /** Writes to an entry of its own; returns how long that took. */
  write(text: string): Promise<number>;
  close(): Promise<void>;
}

/** A separate connection to the directory, as its administrator. */
async function openOwnReader({ stack, config }: MeasuredRealm): Promise<OwnReader> {
  const path = decodeURIComponent(stack.slapd.uri.slice('ldapi://'.length));
  const client = new Client({
    url: 'ldap://localhost',
    timeout: STALL_MS,
    createConnection: () => connect({ path }),
  });
  const { base } = config.ldap;
  await client.bind(adminDn(base), readFileSync(join(config.secrets, 'ldap-admin'), 'utf8'));
  const own = `cn=bench,${base}`;
  await client.add(own, { objectClass: ['top', 'applicationProcess'], cn: 'bench' });
  return {
    async untilGone(person, deadline) {
      const group = `cn=project-${config.realm},ou=groups,${base}`;
      const dn = `uid=${person},ou=people,${base}`;
      const finds = async (entry: string, filter: string) => {
        const attributes = ['1.1'];
        const { searchEntries } = await client.search(entry, { scope: 'base', filter, attributes });
        return searchEntries.length > 0;
      };
      for (;;) {
        const isMember = await finds(group, `(member=${dn})`);
        if (!isMember && !(await isSealedMember(client, dn))) return;
        if (performance.now() > deadline) throw new Error(`${person} still has access`);
        await sleep(LOOK_EVERY_MS);
      }
    },
    async write(text) {
      const begin = performance.now();
      await client.modify(own, [
        new Change({
          operation: 'replace',
          modification: new Attribute({ type: 'description', values: [text] }),
        }),
      ]);
      return performance.now() - begin;
    },
    async close() {
      await client.del(own).catch(() => {});
      await client.unbind();
    },
  };
}

async function isSealedMember(client: Client, dn: string): Promise<boolean> {
  const attributes = [SEAL];
  const { searchEntries } = await client.search(dn, { scope: 'base', attributes });
  const seal = parseSeal(payloadOf(String(searchEntries[0]?.[SEAL])) ?? '');
  if (seal?.kind !== 'person') throw new Error(`${dn} is not sealed`);
  return seal.member;
}

/** The use of processor time, as a table. */
export function renderCpu(
  what: string,
  cpu: Record<string, number>,
  count: number,
  seconds: number,
): string {
  const all = Object.values(cpu).reduce((sum, each) => sum + each, 0);
  const row = (name: string, used: number) =>
    `${used.toFixed(1).padStart(8)}${((used / count) * 1000).toFixed(2).padStart(10)}` +
    `${((100 * used) / all).toFixed(0).padStart(6)} %  ${name}`;
  return [
    `Processor time over ${what}, ${seconds.toFixed(1)} s:`,
    ' seconds   ms each',
    ...Object.entries(cpu)
      .sort(([, a], [, b]) => b - a)
      .map(([name, used]) => row(name, used)),
    row(`total: ${(all / seconds).toFixed(2)} processors busy`, all),
  ].join('\n');
}

export function renderCosts(perTool: Record<string, number>): string {
  return [
    'A tool cost:',
    ...Object.entries(perTool).map(([name, value]) => `${value.toFixed(1).padStart(8)}  ${name}`),
  ].join('\n');
}
