/**
 * The figures of a login host among 30,000 people and 10,000 tools, each next to its floor:
 *
 *   start    how soon the login helper and the keys agent have completed everything, and what they take at rest
 *   change   how soon a change of keys or of a tool's members is in the files
 *   lookup   a process that sshd runs for a key, next to `/bin/true` and other ways to a key; `id`
 *   become   a tool's shell among all tools, next to the same among ten
 *   login    a whole `ssh true`, next to the same with a static key file
 */
import { type Figure, judge, quantile, voidIfFailed } from './tools/figure.ts';
import { LOGIN_GOALS, type LoginOptions } from './goals.ts';
import { type Becomes, timeBecomes } from './login/login-become.ts';
import { changeMany, type ChangeTimes } from './login/login-changes.ts';
import { type Lookups, timeLookups } from './login/login-lookups.ts';
import { type LoginRealm, openLoginRealm } from './login/login-realm.ts';
import { measurePrograms } from './login/login-programs.ts';
import { timeLogins } from './login/login-ssh.ts';
import { profileStart } from './login/login-start.ts';
import { closeAll, type Closers } from './realm.ts';

const GOALS = LOGIN_GOALS;

/** Measures all figures of a login host. */
export async function measureLogin(options: LoginOptions): Promise<Figure[]> {
  const closers: Closers = [];
  try {
    return await Promise.race([measureAll(options, closers), options.interrupted]);
  } finally {
    await closeAll(closers);
  }
}

async function measureAll(options: LoginOptions, closers: Closers): Promise<Figure[]> {
  const { size, parent, say, profileDir } = options;
  say(`filling a directory with ${size.people} people and ${size.tools} tools`);
  const realm = await openLoginRealm({ parent, people: size.people, tools: size.tools }, closers);
  const measured = (async () => {
    const programs = await voidIfFailed(
      [GOALS.coldStart, GOALS.restart, GOALS.resident, GOALS.rest],
      say,
      () => measurePrograms(realm, options, closers),
    );
    const change = await voidIfFailed([GOALS.changeP50, GOALS.changeP99], say, () =>
      measureChanges(realm, options),
    );
    const become = await voidIfFailed([GOALS.become], say, () => measureBecomes(realm, options));
    const login = await voidIfFailed([GOALS.login], say, () =>
      measureLogins(realm, options, closers),
    );
    const lookups = await voidIfFailed(
      [GOALS.lookupTrue, GOALS.lookupSss, GOALS.lookupWorst, GOALS.lookup200, GOALS.id],
      say,
      () => measureLookups(realm, options, closers),
    );
    if (profileDir !== undefined) options.show(await profileStart(realm, size, profileDir));
    return [...programs, ...change, ...lookups, ...become, ...login];
  })();
  return Promise.race([measured, realm.beating]);
}

async function measureChanges(
  realm: LoginRealm,
  { size, say, show, void: why }: LoginOptions,
): Promise<Figure[]> {
  say(`change: ${size.changes} keys and as many memberships, one after another`);
  const { keys, groups } = await changeMany(realm, size);
  const of = (taken: readonly ChangeTimes[]) => ({
    whole: taken.map(({ wholeMs }) => wholeMs),
    answer: taken.map(({ answerMs }) => answerMs),
    waits: taken.map(({ wholeMs, answerMs }) => wholeMs - answerMs),
  });
  const kinds = [
    ['a key', 'the key file', of(keys)],
    ['a membership', 'the list of groups', of(groups)],
  ] as const;
  show(
    renderSamples(
      'A change, from sending it until the renamed file has it',
      kinds.flatMap(([change, file, { whole, answer, waits }]) => [
        [`${change}, in ${file}`, whole] as const,
        ['of that, until the directory has answered: the floor', answer] as const,
        ['of that, afterwards', waits] as const,
      ]),
    ),
  );
  const at = (goal: typeof GOALS.changeP50 | typeof GOALS.changeP99, share: number) => {
    const [worst] = kinds
      .map(([, , times]) => ({
        value: quantile(times.whole, share),
        floor: quantile(times.answer, share),
      }))
      .toSorted((a, b) => b.value - a.value);
    return judge(goal, { ...(worst ?? { value: NaN, floor: NaN }), void: why });
  };
  return [at(GOALS.changeP50, 0.5), at(GOALS.changeP99, 0.99)];
}

async function measureBecomes(
  realm: LoginRealm,
  { size, say, show, void: why }: LoginOptions,
): Promise<Figure[]> {
  say(`become: ${size.becomes} of each, alternating between all tools and ten`);
  const { all, few } = await timeBecomes(realm, size);
  const rows = (where: string, times: Becomes) =>
    [
      [`/bin/true, ${where}: the floor`, times.true],
      [`become --list, ${where}`, times.list],
      [`become TOOL true, ${where}`, times.become],
    ] as const;
  show(
    renderSamples('A process of a person, until it has ended', [
      ...rows(`among ${size.tools} tools`, all),
      ...rows('among ten', few),
    ]),
  );
  const ratios = (['list', 'become'] as const).map((kind) => {
    const floor = quantile(few[kind], 0.5);
    return { floor, ratio: quantile(all[kind], 0.5) / floor };
  });
  const [worst] = ratios.toSorted((a, b) => b.ratio - a.ratio);
  const { floor, ratio } = worst ?? { floor: NaN, ratio: NaN };
  return [judge(GOALS.become, { value: ratio, floor, ratio, void: why })];
}

async function measureLookups(
  realm: LoginRealm,
  { size, say, show, void: why }: LoginOptions,
  closers: Closers,
): Promise<Figure[]> {
  say(`lookup: ${size.lookups} of ${size.lookupUsers} users`);
  const times = await timeLookups(realm, size, closers);
  show(
    renderSamples('A process, until its output has been read and it has ended', [
      ['forked, and ended at once: the timer itself', times.fork],
      ['/bin/true: the floor', times.true],
      ['authorized-keys, one key', times.script],
      ['authorized-keys, 200 keys', times.script200],
      ['sss_ssh_authorizedkeys, one key, from its cache', times.sss],
      ['ldapsearch, one seal', times.ldapsearch],
      ['id NAME', times.id],
      ['getent passwd NAME', times.getent],
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
    judge(GOALS.id, { value: p50('id'), floor: p50('true'), void: why }),
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
      ['with the keys of the login host', times.ours],
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
