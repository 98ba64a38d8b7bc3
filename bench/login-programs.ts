/** The keys agent among all people: how soon it has everybody's file, and what it takes at rest. */
import { spawn } from 'node:child_process';
import { mkdtempSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../dev/servers/daemon.ts';
import { type Figure, judge, quantile } from './figure.ts';
import { LOGIN_GOALS, type LoginOptions } from './goals.ts';
import type { LoginRealm } from './login-realm.ts';
import { requireKeys, startCold, startFilled } from './login-start.ts';
import { personName } from './population-names.ts';
import { cpuSeconds, type Rest, untilQuiet, watchRest } from './processes.ts';
import type { Closers } from './realm.ts';

/** The figures of starts, memory and rest. The agent runs afterwards, and has everybody's file. */
export async function measureAgent(
  realm: LoginRealm,
  { size, say, show, void: why }: LoginOptions,
  closers: Closers,
): Promise<Figure[]> {
  const { people } = size;
  const starts: number[] = [];
  const writes: number[] = [];
  for (let n = 0; n < size.coldStarts; n++) {
    say(`agent: cold start ${n + 1} of ${size.coldStarts}`);
    // by turns, since the disk may be busy with what others leave to it
    writes.push(writeFiles(realm, people));
    starts.push(await startCold(realm, people));
  }
  requireKeys(realm, people);
  const pid = agentPid(realm);
  await untilQuiet(pid);
  const startSeconds = cpuSeconds(pid);
  say(`agent: at rest for ${size.restMs / 1000} s`);
  const rest = await watchRest(pid, size.restMs);
  say('agent: a start with all files there');
  const filledMs = await startFilled(realm, people);
  say('agent: what the directory alone takes');
  await untilQuiet(agentPid(realm));
  const reading = await measureReading(realm, size.floorRestMs, closers);
  const floor = { ...reading, writeMs: quantile(writes, 0.5) };
  show(renderAgent({ starts, startSeconds, filledMs, rest, floor }));
  return [
    judge(LOGIN_GOALS.coldStart, {
      value: quantile(starts, 0.5),
      floor: Math.max(floor.readMs, floor.writeMs) + floor.nodeMs,
      void: why,
    }),
    judge(LOGIN_GOALS.resident, {
      value: Math.max(rest.peakBeforeMib, rest.peakMib),
      floor: floor.rest.peakMib,
      void: why,
    }),
    judge(LOGIN_GOALS.rest, { value: rest.cpuPercent, floor: floor.rest.cpuPercent, void: why }),
  ];
}

function agentPid({ host }: LoginRealm): number {
  const pid = host.agent.pid();
  if (pid === undefined) throw new Error('the agent does not run');
  return pid;
}

/** Writes as many files by a plain loop, into a folder beside the agent's: how long it took. */
function writeFiles({ keysFolder }: LoginRealm, people: number): number {
  const folder = mkdtempSync(join(keysFolder, '../.floor-'));
  const text = 'x'.repeat(118); // expiry-time, type and base64 of one Ed25519 key
  const begin = performance.now();
  for (let n = 0; n < people; n++) {
    writeFileSync(`${folder}/.new`, text);
    renameSync(`${folder}/.new`, `${folder}/${personName(n)}`);
  }
  return performance.now() - begin;
}

interface AgentFloor {
  /** a program of Node's has asked the directory for one thing */
  nodeMs: number;
  /** ldapsearch has read what the agent reads of all people */
  readMs: number;
  /** a plain loop has written as many files, in the median */
  writeMs: number;
  /** of a program that asks for the contextCSN as often as the agent */
  rest: Rest;
}

async function measureReading(
  { slapd, base, realm, secrets }: LoginRealm,
  restMs: number,
  closers: Closers,
): Promise<Omit<AgentFloor, 'writeMs'>> {
  const passwordFile = join(secrets, 'ldap-keys-agent');
  let begin = performance.now();
  const node = spawn(
    process.execPath,
    [join(import.meta.dirname, 'login-floor.ts'), slapd.tcpUri(), base, realm, passwordFile],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  closers.push(() => Promise.resolve(void node.kill()));
  await new Promise<void>((resolve, reject) => {
    node.stdout.once('data', () => resolve());
    node.once('exit', () => reject(new Error('login-floor.ts has ended')));
  });
  const nodeMs = performance.now() - begin;
  const rest = await watchRest(node.pid ?? 0, restMs);
  node.kill();

  begin = performance.now();
  await run('/usr/bin/ldapsearch', [
    ...['-x', '-LLL', '-o', 'ldif-wrap=no', '-H', slapd.tcpUri(), '-E', 'pr=500/noprompt'],
    ...['-D', `cn=keys-agent,ou=chamberlain,${base}`, '-y', passwordFile],
    ...['-s', 'one', '-b', `ou=people,${base}`, '(objectClass=*)'],
    ...['objectClass', 'uid', 'uidNumber', 'gidNumber', 'homeDirectory', 'loginShell'],
    ...['pwdAccountLockedTime', 'pwdPolicySubentry', 'sshPublicKey', 'entryCSN'],
  ]);
  return { nodeMs, readMs: performance.now() - begin, rest };
}

function renderAgent({
  starts,
  startSeconds,
  filledMs,
  rest,
  floor,
}: {
  starts: readonly number[];
  startSeconds: number;
  filledMs: number;
  rest: Rest;
  floor: AgentFloor;
}): string {
  const ms = (value: number) => value.toFixed(0).padStart(8);
  const mib = (value: number) => value.toFixed(1).padStart(8);
  return [
    'The keys agent, ms:',
    ...starts.map(
      (start) => `${ms(start)}  a start on an empty folder, until everybody has a file`,
    ),
    `${ms(filledMs)}  a start with all files there, until it trusts what it has read`,
    `${ms(floor.nodeMs)}  the floor: a program of Node's asks the directory for one thing`,
    `${ms(floor.readMs)}  the floor: ldapsearch reads all people`,
    `${ms(floor.writeMs)}  the floor: a plain loop writes and renames as many files`,
    `${ms(startSeconds * 1000)}  of the processor: the last start on an empty folder, with the reading of all tools that follows`,
    'MiB resident:',
    `${mib(rest.peakBeforeMib)}  the most at the start`,
    `${mib(rest.peakMib)}  the most at rest`,
    `${mib(rest.endMib)}  at the end of the rest`,
    `${mib(floor.rest.peakMib)}  the floor: a program of Node's that asks for the contextCSN`,
    '% of a core at rest:',
    `${rest.cpuPercent.toFixed(2).padStart(8)}  the agent`,
    `${floor.rest.cpuPercent.toFixed(2).padStart(8)}  the floor: a program of Node's that asks for the contextCSN as often`,
  ].join('\n');
}
