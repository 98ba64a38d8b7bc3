/** `chamberlain setup`, killed again and again. */
import { afterAll, expect, test } from '@jest/globals';
import { bootNamed, CHECK, GOOD, GREEN, SETUP } from './bare-machine.ts';
import { sharedDaemon } from './daemon.ts';
import { machinesOf } from './systemd-machines.ts';

const machines = machinesOf(sharedDaemon(), 'killed');
afterAll(() => machines.removeAll());

/** Kills setup as soon as it has made a piece. Its exit code is 0 if it made none, or ended before. */
const KILLED = `
  rm -f /root/made; mkfifo /root/made; "$@" >/root/made & pid=$!
  while read -r line; do
    case $line in *': made') echo "$line"; kill -KILL $pid; break ;; esac
  done </root/made
  wait $pid`;

test('killed after each of its pieces, and run again each time, it makes the same realm', async () => {
  const machine = await bootNamed(machines, 'realm');
  const made: string[] = [];
  for (let status: number | null = 137; status === 137;) {
    const ended = machine.start('sh', '-c', KILLED, 'sh', ...SETUP);
    ({ status } = ended);
    expect([0, 137, ended.stderr]).toContain(status);
    made.push(...ended.stdout.split('\n').filter((line) => line !== ''));
  }
  expect(made.length).toBeGreaterThan(15);
  expect(machine.run(...SETUP)).toMatch(GREEN);
  expect(machine.run(...CHECK)).toBe(GOOD);
});
