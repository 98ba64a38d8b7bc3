/**
 * What the agent does when a server, or the login helper, hangs, lies, disappears or comes back as another one.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ReportLine } from '../../../src/login-host/report-lines.ts';
import { eventually } from '../../scenarios/eventually.ts';
import { runningPid, signalTree, startServer, stopServer, type World } from '../../stack.ts';
import {
  backUp,
  openAgentWorld,
  openOther,
  openProxy,
  restore,
  type AgentWorld,
} from '../agent-world.ts';

/** More than a page. */
const NAMES = Array.from({ length: 520 }, (_, n) => `p${n}`);

let agents: AgentWorld;
let seals: Map<string, string>;
let count = 1;

beforeAll(async () => {
  agents = await openAgentWorld('agent-faults');
  const { personUid, personSeal, addPerson } = agents;
  seals = new Map(NAMES.map((name, n) => [name, personSeal(name, personUid(n))]));
  await agents.change(
    [...seals].map(([name, seal], n) => addPerson(name, personUid(n), seal)).join('') +
      agents.beat(agents.heartbeat()),
  );
});

afterAll(() => agents.close());

beforeEach(() => {
  agents.helper.reports.length = 0;
  agents.helper.answer = () => ({});
});

afterEach(() => agents.stop());

const lines = () => agents.helper.lines();
const isLine = (word: string, name: string, text?: string) => (line: ReportLine) =>
  line[0] === word && line[1] === name && (text === undefined || line[2] === text);
const isEnd = ([word, , edge]: ReportLine) => word === 'all' && edge === 'end';
const untilReported = async (what: string, is: (line: ReportLine) => boolean): Promise<void> => {
  await eventually(`it reports ${what}`, () => lines().some(is));
};
const knows = (expected: ReadonlyMap<string, string>) =>
  eventually('everything was reported', () => {
    const known = agents.helper.known();
    const names = new Set([...known.keys(), ...expected.keys()]);
    expect([...names].filter((name) => known.get(name) !== expected.get(name))).toEqual([]);
    return true;
  });

async function start(options: Parameters<AgentWorld['start']>[0] = {}): Promise<void> {
  agents.start(options);
  await untilReported('the end', isEnd);
  await knows(seals);
  agents.helper.reports.length = 0;
}

/** Seals a person anew. */
async function reseal(name: string, of?: World): Promise<string> {
  const uid = agents.personUid(NAMES.indexOf(name));
  const seal = agents.personSeal(name, uid, { number: (count += 1) });
  if (of === undefined) seals.set(name, seal);
  await agents.change(agents.reseal(agents.personDn(name), seal), of);
  return seal;
}

const troubled = async (why: RegExp): Promise<void> => {
  await eventually(`it says ${why}`, () => {
    expect(agents.helper.trouble().why).toMatch(why);
    return true;
  });
};

describe('the login helper', () => {
  test('is away: what has changed meanwhile is reported when it is back', async () => {
    await start();
    agents.helper.answer = () => undefined;
    // more than one at a look
    const changed = NAMES.slice(0, 30);
    for (const name of changed) {
      const uid = agents.personUid(NAMES.indexOf(name));
      seals.set(name, agents.personSeal(name, uid, { number: (count += 1) }));
    }
    await agents.change(
      changed.map((name) => agents.reseal(agents.personDn(name), seals.get(name))).join('') +
        agents.beat(agents.heartbeat()),
    );
    await eventually('it has looked, and could not report', () =>
      agents.helper.reports.some((report) => report.lines.some(isLine('seal', 'p1'))),
    );
    agents.helper.stop();
    agents.helper.answer = () => ({});
    await agents.helper.start();
    await knows(seals);
    expect(lines().some(isEnd)).toBe(false);
  });

  test.each([
    ['hangs up', undefined],
    ['answers nonsense', 'ok\n'],
    ['answers in part', '{"run":"run 1","trusted":tr'],
    ['answers of another version', '{"run":1}\n'],
  ])('%s: the report is sent again', async (_, answer) => {
    await start();
    let times = 0;
    agents.helper.answer = (report) => {
      const isIt = report.some(isLine('seal', 'p3'));
      return isIt && (times += 1) <= 2 ? answer : {};
    };
    const seal = await reseal('p3');
    await eventually('it was sent three times', () => times === 3);
    await knows(seals);
    expect(lines().some(isLine('seal', 'p3', seal))).toBe(true);
  });

  test('is another run: everything is reported again, even in the middle of a reading', async () => {
    agents.helper.answer = (report) => {
      // page by page the first time: it is another run after the first page
      if (!report.some(isLine('seal', 'p1'))) return {};
      agents.helper.answer = () => ({});
      void agents.helper.restart();
      return {};
    };
    agents.start();
    await untilReported('the end', isEnd);
    await knows(seals);
    const tokens = lines().flatMap((line) => (line[0] === 'all' ? [line.slice(1).join(' ')] : []));
    expect(tokens).toHaveLength(3);
    expect(tokens[1]?.split(' ')[0]).toBe(tokens[2]?.split(' ')[0]);
    expect(tokens.map((each) => each.split(' ')[1])).toEqual(['begin', 'begin', 'end']);

    agents.helper.reports.length = 0;
    await agents.helper.restart();
    await untilReported('the end', isEnd);
    await knows(seals);
  });
});

describe('a server', () => {
  test('hangs: the agent reports that, and goes on when the server answers again', async () => {
    await start();
    const pid = runningPid(agents.world.slapd) ?? 0;
    signalTree(pid, 'SIGSTOP');
    try {
      await troubled(/reading dc=example,dc=org/);
      await troubled(/binding as cn=keys-agent/);
    } finally {
      signalTree(pid, 'SIGCONT');
    }
    await troubled(/^$/);
    await reseal('p4');
    await knows(seals);
  });

  test('is away: the agent reports that every few seconds', async () => {
    await start();
    await stopServer(agents.world.slapd);
    try {
      const heard = () => agents.helper.reports.filter(({ lines: [first] }) => first?.[2] !== '');
      await eventually('it is reported again', () => heard().length > 1);
      const [first, second] = heard().map(({ at }) => at) as [number, number];
      expect(second - first).toBeGreaterThan(3000);
    } finally {
      await startServer(agents.world.slapd);
    }
    await troubled(/^$/);
    await reseal('p5');
    await knows(seals);
  });

  test('hangs up while everything is read: that reading does not count, and everything is read again', async () => {
    const proxy = openProxy(agents.world, 'cut');
    try {
      const cut = proxy.cutAt('uid=p510,');
      agents.start({ uris: [proxy.uri] });
      await cut;
      await untilReported('the end', isEnd);
      await knows(seals);
      const all = lines().filter(([word]) => word === 'all');
      expect(all.map(([, , edge]) => edge)).toEqual(['begin', 'begin', 'end']);
      expect(all[2]?.[1]).toBe(all[1]?.[1]);
      expect(all[0]?.[1]).not.toBe(all[1]?.[1]);
    } finally {
      proxy.close();
    }
  });

  test('hangs up while names are read: nobody is taken for gone', async () => {
    const proxy = openProxy(agents.world, 'cut');
    try {
      await start({ uris: [proxy.uri], compareMs: 700 });
      await proxy.cutAt('uid=p515,');
      await troubled(/connection/);
      await troubled(/^$/);
      await reseal('p6');
      await knows(seals);
      expect(lines().filter(([word]) => word === 'gone')).toEqual([]);
    } finally {
      proxy.close();
    }
  });

  test('comes back as an older copy: everything is reported again, with the older seals', async () => {
    await start();
    const backup = backUp(agents.world);
    const before = new Map(seals);
    await reseal('p7');
    await knows(seals);
    await restore(agents.world, backup);
    seals = before;
    await untilReported('the end', isEnd);
    await knows(seals);
    await reseal('p8');
    await knows(seals);
  });

  test('comes back as an older copy that was written to since: older entries are reported, too', async () => {
    let proxy = openProxy(agents.world, 'again');
    try {
      await start({ uris: [proxy.uri] });
      const backup = backUp(agents.world);
      const before = seals.get('p17') ?? '';
      await reseal('p17');
      await knows(seals);
      proxy.close();
      await troubled(/no such socket|nothing listens/);
      await restore(agents.world, backup);
      seals.set('p17', before);
      await agents.change(agents.beat(agents.heartbeat()));
      proxy = openProxy(agents.world, 'again');
      await untilReported('the older seal', isLine('seal', 'p17', before));
      await knows(seals);
      expect(lines().some(isEnd)).toBe(false);
    } finally {
      proxy.close();
    }
  });

  test('whose clock was ahead before shows no new contextCSN: changes are found nevertheless', async () => {
    const backup = backUp(agents.world).replace(/^contextCSN: \d{4}/m, 'contextCSN: 2099');
    await restore(agents.world, backup);
    try {
      await start();
      await reseal('p9');
      const beat = agents.heartbeat();
      await agents.change(agents.beat(beat));
      await untilReported('the heartbeat', isLine('heartbeat', beat));
      await knows(seals);
    } finally {
      await restore(
        agents.world,
        backUp(agents.world).replace(/^contextCSN: 2099/m, 'contextCSN: 2026'),
      );
    }
  });

  test('cannot be read yet: there is no password, or not the right one', async () => {
    const passwordFile = join(agents.world.dir, 'password');
    agents.start({ passwordFile });
    await troubled(/password: there is no such file \(ENOENT\)/);
    writeFileSync(passwordFile, 'another\n');
    await troubled(/binding as cn=keys-agent.* \(LDAP result 49\)/); // invalidCredentials
    rmSync(passwordFile);
    writeFileSync(passwordFile, `${agents.agentPassword()}\n`);
    await untilReported('the end', isEnd);
    await knows(seals);
  });
});

describe('access rules', () => {
  async function hiding(what: string, act: () => Promise<void>): Promise<void> {
    const rule = `{0}to ${what} by * none`;
    agents.configure(['add', 'olcAccess', rule]);
    try {
      await act();
    } finally {
      agents.configure(['delete', 'olcAccess', rule]);
    }
  }

  test('that hide entries: these are gone, and come back when they are visible', async () => {
    await start({ compareMs: 500 });
    await hiding(`dn.base="${agents.personDn('p20')}"`, () =>
      untilReported('who is gone', isLine('gone', 'p20')),
    );
    await knows(seals);
    expect(lines().filter(([word]) => word === 'gone')).toHaveLength(1);
  });

  test('that hide seals at the start: entries without a seal are reported, and their seals when they are visible', async () => {
    const few = `dn.regex="^uid=p1[0-9],.*" attrs=chamberlainSeal`;
    await hiding(few, async () => {
      agents.start({ compareMs: 500 });
      await untilReported('the end', isEnd);
      expect(lines().filter(([word]) => word === 'unsealed')).toHaveLength(10);
    });
    await knows(seals);
  });

  test('that hide all seals: everything is read again as long as the helper does not trust the directory', async () => {
    const isHidden = () => [...agents.helper.known().values()].includes('');
    agents.helper.answer = () => ({ trusted: !isHidden() });
    await hiding(`dn.onelevel="ou=people,dc=example,dc=org" attrs=chamberlainSeal`, async () => {
      agents.start({ compareMs: 500 });
      await untilReported('the end', isEnd);
      expect(lines().filter(([word]) => word === 'unsealed')).toHaveLength(NAMES.length);
    });
    await knows(seals);
  });

  test('that hide the contextCSN: the agent reports that', async () => {
    await start();
    await hiding('dn.base="dc=example,dc=org" attrs=contextCSN', () =>
      troubled(/shows no contextCSN/),
    );
    await troubled(/^$/);
    await reseal('p11');
    await knows(seals);
  });
});

describe('of two servers', () => {
  test('the second is read when the first is away', async () => {
    const nobody = `ldapi://${encodeURIComponent(join(agents.world.dir, 'nobody.sock'))}`;
    agents.start({ uris: [nobody, agents.world.slapd.uri] });
    await untilReported('the end', isEnd);
    await knows(seals);
    await troubled(/^$/);
    expect(agents.helper.trouble().server).toBe(agents.world.slapd.uri);
  });

  test('the agent leaves a stale one for the other, which it reads completely; and it stays there if that is trusted', async () => {
    const other = await openOther(agents.world, 'other', backUp(agents.world));
    try {
      await start({ uris: [other.slapd.uri, agents.world.slapd.uri] });
      const beat = agents.heartbeat();
      const isFresh = (report: readonly ReportLine[]) =>
        report.some(isLine('heartbeat', beat)) || !report.some(([word]) => word === 'heartbeat');
      agents.helper.answer = (report) =>
        isFresh(report) ? {} : { trusted: false, tryAnother: true };
      await reseal('p12');
      await agents.change(agents.beat(beat));
      await untilReported('the fresh heartbeat', isLine('heartbeat', beat));
      await untilReported('the end', isEnd);
      await knows(seals);
      expect(agents.helper.trouble().server).toBe(agents.world.slapd.uri);
    } finally {
      await agents.stop();
      await stopServer(other.slapd);
    }
  });

  test('if both are stale, the agent changes servers less and less often, and follows the one that it reads', async () => {
    const proxies = [openProxy(agents.world, 'one'), openProxy(agents.world, 'two')];
    try {
      agents.helper.answer = () => ({ trusted: false, tryAnother: true });
      agents.start({ uris: proxies.map(({ uri }) => uri) });
      await untilReported('the end', isEnd);
      const turns = () => {
        const servers = agents.helper.reports.map(({ lines: [first] }) => first?.[1]);
        return servers.filter((server, n) => n > 0 && server !== servers[n - 1]).length;
      };
      const begin = performance.now();
      while (performance.now() - begin < 8000 || turns() < 2) {
        await reseal('p13');
        await knows(seals);
      }
      // after 1, 2, 4, 8 s, and so on
      const seconds = (performance.now() - begin) / 1000;
      expect(turns()).toBeLessThanOrEqual(2 + Math.log2(seconds));
    } finally {
      for (const proxy of proxies) proxy.close();
    }
  });

  test('an older one that is stale is skipped as long as there is another, and used if there is none', async () => {
    const old = await openOther(agents.world, 'old', backUp(agents.world));
    const before = new Map(seals);
    const beat = agents.heartbeat();
    await reseal('p14');
    await agents.change(agents.beat(beat));
    try {
      await start({ uris: [agents.world.slapd.uri, old.slapd.uri] });
      let isStale = true;
      agents.helper.answer = (report) => {
        if (report.some(([word]) => word === 'heartbeat'))
          isStale = !report.some(isLine('heartbeat', beat));
        return isStale ? { trusted: false, tryAnother: true } : {};
      };
      const proxy = signalTree;
      // the first answers nothing for a while
      const pid = runningPid(agents.world.slapd) ?? 0;
      proxy(pid, 'SIGSTOP');
      try {
        await eventually('the old one is read completely', () => lines().some(isEnd));
        await knows(before);
      } finally {
        proxy(pid, 'SIGCONT');
      }
      await knows(seals);
      expect(agents.helper.trouble().server).toBe(agents.world.slapd.uri);
    } finally {
      await agents.stop();
      await stopServer(old.slapd);
    }
  });
});
