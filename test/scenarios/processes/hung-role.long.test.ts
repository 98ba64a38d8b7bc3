/** A process of a role hangs in the middle of a subject: another takes the subject over. */
import type { ChildProcess } from 'node:child_process';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { runningPid, signalTree } from '../../stack.ts';
import { endProcess, startWorkers } from './crash.ts';
import { eventually } from '../eventually.ts';
import { query, readDirectory } from '../outside.ts';
import { admit, openRunning, type Running } from '../running.ts';

let running: Running;
const children: ChildProcess[] = [];

beforeAll(async () => {
  running = await openRunning('hung role');
  await admit(running.portal, 'alice');
  await running.stopWork();
  await running.startWork(['intake', 'relay']);
});

afterAll(async () => {
  for (const child of children) await endProcess(child, 'SIGKILL');
  await running?.close();
});

async function startDirectory(): Promise<ChildProcess> {
  const { child } = await startWorkers(running.world, ['directory']);
  children.push(child);
  return child;
}

test('a person who is suspended meanwhile loses access, and the process that wakes up changes nothing', async () => {
  const { world, portal } = running;
  const slapd = runningPid(world.slapd) as number;
  const locked = async () =>
    (await query(world, 'SELECT FROM lock_holders() WHERE class = 101')).length > 0;
  const hung = await startDirectory();
  signalTree(slapd, 'SIGSTOP');
  const email = 'alice@elsewhere.example.org';
  await portal.send({ kind: 'person.update', requestedBy: 'alice', person: 'alice', email });
  await eventually('it to work on alice', locked);
  hung.kill('SIGSTOP');
  signalTree(slapd, 'SIGCONT');
  await startDirectory();
  await portal.send({
    kind: 'person.suspend',
    requestedBy: 'steward',
    person: 'alice',
    reason: 'Spam',
  });
  const dn = `uid=alice,ou=people,${world.config.ldap.base}`;
  const account = async () => (await readDirectory(world, { operational: true })).get(dn) ?? {};
  await eventually(
    'alice to lose access',
    async () => (await account())['pwdAccountLockedTime'] !== undefined,
    60_000,
  );
  await eventually('everything to be applied', async () => {
    const behind = `SELECT FROM convergence WHERE role = 'directory' AND applied < wanted`;
    return (await query(world, behind)).length === 0;
  });
  const before = await account();
  hung.kill('SIGCONT');
  // it finishes its work in progress
  expect(await endProcess(hung, 'SIGTERM')).toBe(0);
  expect(await account()).toEqual(before);
});
