/**
 * The figures of a login host among 30,000 people and 10,000 tools, each beside its floor:
 *
 *   agent    how soon it has everybody's file, what it takes at rest, how soon a change is in a file
 *   lookup   a process that sshd runs for a key, beside `/bin/true` and other ways to a key
 *   login    a whole `ssh true`, beside the same with a static key file
 */
import { type Figure, judge, quantile, voidIfFailed } from './figure.ts';
import { LOGIN_GOALS, type LoginOptions } from './goals.ts';
import { measureAgent } from './login-agent.ts';
import { changeMany } from './login-changes.ts';
import { type Lookups, timeLookups } from './login-lookups.ts';
import { type LoginRealm, openLoginRealm } from './login-realm.ts';
import { timeLogins } from './login-ssh.ts';
import { profileStart } from './login-start.ts';
import { memoryMib, untilQuiet } from './processes.ts';
import type { Closers } from './realm.ts';

const GOALS = LOGIN_GOALS;

/** Measures all figures of a login host. */
export async function measureLogin(options: LoginOptions): Promise<Figure[]> {
  const closers: Closers = [];
  try {
    return await Promise.race([measureAll(options, closers), options.interrupted]);
  } finally {
    for (const close of closers.toReversed()) await close();
  }
}

async function measureAll(options: LoginOptions, closers: Closers): Promise<Figure[]> {
  const { size, parent, say, profileDir } = options;
  say(`filling a directory with ${size.people} people and ${size.tools} tools`);
  const realm = await openLoginRealm({ parent, people: size.people, tools: size.tools }, closers);
  const measured = (async () => {
    const { host } = realm;
    await Promise.all([host.sssd.start(), host.helper.start()]);
    await untilQuiet(host.sssd.pid() ?? 0); // it reads all sudo rules first
    const agent = await voidIfFailed([GOALS.coldStart, GOALS.resident, GOALS.rest], say, () =>
      measureAgent(realm, options, closers),
    );
    const change = await voidIfFailed([GOALS.changeP50, GOALS.changeP99], say, () =>
      measureChanges(realm, options),
    );
    const login = await voidIfFailed([GOALS.login], say, () =>
      measureLogins(realm, options, closers),
    );
    const lookups = await voidIfFailed(
      [GOALS.lookupTrue, GOALS.lookupSss, GOALS.lookupWorst, GOALS.lookup200],
      say,
      () => measureLookups(realm, options),
    );
    if (profileDir !== undefined) options.show(await profileStart(realm, size.people, profileDir));
    return [...lookups, ...change, ...agent, ...login];
  })();
  return Promise.race([measured, realm.beating]);
}

async function measureChanges(
  realm: LoginRealm,
  { size, say, show, void: why }: LoginOptions,
): Promise<Figure[]> {
  say(`change: ${size.changes} keys, one after another`);
  const times = await changeMany(realm, size);
  const whole = times.map(({ wholeMs }) => wholeMs);
  const answer = times.map(({ answerMs }) => answerMs);
  const waits = times.map(({ wholeMs, answerMs }) => wholeMs - answerMs);
  const pid = realm.host.agent.pid();
  show(
    [
      renderSamples(`${times.length} changes of a key`, [
        ['from its sending until the key is in the file', whole],
        ['of that, until the directory has answered: the floor', answer],
        ['of that, afterwards', waits],
      ]),
      `The agent has ${pid === undefined ? 0 : memoryMib(pid).toFixed(1)} MiB resident after them.`,
    ].join('\n'),
  );
  const at = (goal: typeof GOALS.changeP50 | typeof GOALS.changeP99, share: number) =>
    judge(goal, { value: quantile(whole, share), floor: quantile(answer, share), void: why });
  return [at(GOALS.changeP50, 0.5), at(GOALS.changeP99, 0.99)];
}

async function measureLookups(
  realm: LoginRealm,
  { size, say, show, void: why }: LoginOptions,
): Promise<Figure[]> {
  say(`lookup: ${size.lookups} of ${size.lookupUsers} users`);
  const times = await timeLookups(realm, size);
  show(
    renderSamples('A process, until its output has been read and it has ended', [
      ['forked, and ended at once: the timer itself', times.fork],
      ['/bin/true: the floor', times.true],
      ['authorized-keys, one key', times.script],
      ['authorized-keys, 200 keys', times.script200],
      ['sss_ssh_authorizedkeys, one key, from its cache', times.sss],
      ['ldapsearch, one key', times.ldapsearch],
    ]),
  );
  const p50 = (name: keyof Lookups) => quantile(times[name], 0.5);
  const beside = (
    goal: typeof GOALS.lookupTrue | typeof GOALS.lookupSss | typeof GOALS.lookup200,
    value: keyof Lookups,
    floor: keyof Lookups,
  ) => {
    const ratio = p50(value) / p50(floor);
    return judge(goal, { value: ratio, floor: p50(floor), ratio, void: why });
  };
  const worstTrue = quantile(times.true, 0.999);
  return [
    beside(GOALS.lookupTrue, 'script', 'true'),
    beside(GOALS.lookupSss, 'script', 'sss'),
    judge(GOALS.lookupWorst, {
      value: quantile(times.script, 0.999),
      floor: worstTrue,
      void:
        why ??
        (worstTrue > GOALS.lookupWorst.goal
          ? `/bin/true alone takes ${worstTrue.toFixed(0)} ms`
          : undefined),
    }),
    beside(GOALS.lookup200, 'script200', 'true'),
  ];
}

async function measureLogins(
  realm: LoginRealm,
  { size, say, show, void: why }: LoginOptions,
  closers: Closers,
): Promise<Figure[]> {
  say(`login: ${size.logins} of each, in turn`);
  const times = await timeLogins(realm, size.logins, closers);
  show(
    renderSamples('A whole `ssh true`', [
      ['with the keys of the agent', times.ours],
      ['with a static key file: the floor', times.static],
    ]),
  );
  const floor = quantile(times.static, 0.5);
  const ratio = quantile(times.ours, 0.5) / floor;
  return [judge(GOALS.login, { value: ratio, floor, ratio, void: why })];
}

function renderSamples(
  title: string,
  rows: readonly (readonly [name: string, ms: readonly number[]])[],
): string {
  const shares = [0.5, 0.99, 0.999];
  return [
    `${title}, ms:`,
    '     p50     p99   p99.9   count',
    ...rows.map(([name, samples]) => {
      const times = shares.map((share) => quantile(samples, share).toPrecision(3).padStart(8));
      return `${times.join('')}${String(samples.length).padStart(8)}  ${name}`;
    }),
  ].join('\n');
}
