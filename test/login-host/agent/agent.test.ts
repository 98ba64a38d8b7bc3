/** The agent against a real slapd: what it reports to the login helper, and in which order. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ReportLine } from '../../../src/login-host/report-lines.ts';
import { eventually } from '../../scenarios/eventually.ts';
import { backUp, line, openAgentWorld, restore, type AgentWorld } from '../agent-world.ts';

/** More than a page of people, so that there are several. */
const NAMES = Array.from({ length: 620 }, (_, n) => `p${n}`);
const TOOLS = ['bot', 'cat'];

let agents: AgentWorld;
/** the content of the directory, by name */
let seals: Map<string, string>;

beforeAll(async () => {
  agents = await openAgentWorld('agent');
  const { personUid, personSeal, addPerson, toolUid, toolSeal, addTool } = agents;
  const people = NAMES.map((name, n) => [name, personSeal(name, personUid(n))] as const);
  const tools = TOOLS.map((tool, n) => [tool, toolSeal(tool, toolUid(n))] as const);
  await agents.change(
    people.map(([name, seal], n) => addPerson(name, personUid(n), seal)).join('') +
      tools.map(([tool, seal], n) => addTool(tool, toolUid(n), seal)).join('') +
      agents.beat(agents.heartbeat()),
  );
  seals = new Map([...people, ...tools.map(([tool, seal]) => [`tools.${tool}`, seal] as const)]);
});

afterAll(() => agents.close());

beforeEach(() => {
  agents.helper.reports.length = 0;
  agents.helper.answer = () => ({});
});

afterEach(() => agents.stop());

const untilReported = (what: string, is: (line: ReportLine) => boolean) =>
  eventually(`it reports ${what}`, () => agents.helper.lines().some(is));
const isLine =
  (word: string, name: string, text?: string) =>
  ([first, second, third]: ReportLine) =>
    first === word && second === name && (text === undefined || third === text);
const knowsAll = () =>
  eventually('everything was reported', () => {
    const known = agents.helper.known();
    const names = new Set([...known.keys(), ...seals.keys()]);
    expect([...names].filter((name) => known.get(name) !== seals.get(name))).toEqual([]);
    return true;
  });

/** Starts the agent, and waits until it has reported everything. */
async function start(options: Parameters<AgentWorld['start']>[0] = {}): Promise<void> {
  agents.start(options);
  await untilReported('the end', ([word, , edge]) => word === 'all' && edge === 'end');
  await knowsAll();
  agents.helper.reports.length = 0;
}

/** Seals a person anew, here and there. */
async function reseal(name: string): Promise<string> {
  const seal = agents.personSeal(name, agents.personUid(NAMES.indexOf(name)), { number: 2 });
  seals.set(name, seal);
  await agents.change(agents.reseal(agents.personDn(name), seal));
  return seal;
}

describe('at its start', () => {
  test('it reports everything: the heartbeat, then each seal once, between a beginning and an end', async () => {
    agents.start();
    await untilReported('the end', ([word, , edge]) => word === 'all' && edge === 'end');
    const lines = agents.helper.lines();
    const [heartbeat, begin, ...rest] = lines;
    const end = rest.findIndex(([word]) => word === 'all');
    expect(heartbeat?.[0]).toBe('heartbeat');
    expect(begin).toEqual(['all', expect.any(String), 'begin']);
    expect(rest[end]).toEqual(['all', begin?.[1], 'end']);
    expect(rest.slice(0, end).filter(([word]) => word === 'seal')).toHaveLength(seals.size);
    await knowsAll();
    expect(agents.helper.trouble()).toEqual({ server: agents.world.slapd.uri, why: '' });
    for (const { lines: report } of agents.helper.reports) {
      expect(report.length).toBeLessThanOrEqual(502);
    }
  });

  test('a change during the first reading wins over the page that was read before', async () => {
    let changed: string | undefined;
    const late = { number: 3 };
    const first = agents.personSeal('p0', agents.personUid(0), late);
    const last = agents.personSeal('p619', agents.personUid(619), late);
    agents.helper.answer = async (lines) => {
      if (changed === undefined && lines.some(isLine('seal', 'p0'))) {
        changed = 'once';
        // the next page has been read already
        await sleep(200);
        await agents.change(
          agents.reseal(agents.personDn('p0'), first) +
            agents.reseal(agents.personDn('p619'), last) +
            agents.remove(agents.personDn('p1')),
        );
      }
      return {};
    };
    try {
      agents.start({ compareMs: 1000 });
      await untilReported('the end', ([word, , edge]) => word === 'all' && edge === 'end');
      expect(agents.helper.known().get('p0')).toBe(first);
      expect(agents.helper.known().get('p619')).toBe(last);
      await untilReported('who is gone', isLine('gone', 'p1'));
    } finally {
      seals.set('p0', first).set('p619', last);
      await agents.change(agents.addPerson('p1', agents.personUid(1), seals.get('p1')));
    }
    await knowsAll();
  });
});

describe('while it runs', () => {
  test('it reports what was added and changed, at once, and nothing else', async () => {
    await start();
    await agents.change(
      agents.addPerson('new', agents.personUid(700)) +
        agents.addTool('new', agents.toolUid(50)) +
        agents.reseal(agents.personDn('p5'), undefined) +
        agents.reseal(agents.toolDn('tools.bot'), undefined),
    );
    const seal = await reseal('p4');
    await untilReported('a new person', isLine('seal', 'new'));
    await untilReported('a new tool', isLine('seal', 'tools.new'));
    await untilReported('another seal', isLine('seal', 'p4', seal));
    await untilReported('a person without one', isLine('unsealed', 'p5'));
    await untilReported('a tool without one', isLine('unsealed', 'tools.bot'));
    const named = agents.helper
      .lines()
      .flatMap(([word, name]) => (word === 'heartbeat' ? [] : name));
    expect(new Set(named)).toEqual(new Set(['new', 'tools.new', 'p4', 'p5', 'tools.bot']));
    for (const each of ['p5', 'tools.bot']) {
      const dn = each === 'p5' ? agents.personDn(each) : agents.toolDn(each);
      await agents.change(agents.reseal(dn, seals.get(each)));
      await untilReported(`a seal of ${each} again`, isLine('seal', each, seals.get(each)));
    }
    await agents.change(
      agents.remove(agents.personDn('new')) + agents.remove(agents.toolDn('tools.new')),
    );
  });

  test('it reports at the next compare which entries are gone', async () => {
    await start({ compareMs: 500 });
    await agents.change(
      agents.addPerson('old', agents.personUid(701)) + agents.addTool('old', agents.toolUid(51)),
    );
    await untilReported('a new person', isLine('seal', 'old'));
    await untilReported('a new tool', isLine('seal', 'tools.old'));
    await agents.change(
      agents.remove(agents.personDn('old')) + agents.remove(agents.toolDn('tools.old')),
    );
    await untilReported('who is gone', isLine('gone', 'old'));
    await untilReported('which tool is gone', isLine('gone', 'tools.old'));
    await knowsAll();
    expect(agents.helper.lines().filter(([word]) => word === 'gone')).toHaveLength(2);
  });

  test('the heartbeat comes after the entries that it counts', async () => {
    await start();
    const seal = agents.personSeal('p6', agents.personUid(6), { number: 2 });
    seals.set('p6', seal);
    const heartbeat = agents.heartbeat({ people: 620 });
    await agents.change(agents.reseal(agents.personDn('p6'), seal) + agents.beat(heartbeat));
    await untilReported('the heartbeat', isLine('heartbeat', heartbeat));
    const lines = agents.helper.lines();
    expect(lines.findIndex(isLine('seal', 'p6', seal))).toBeLessThan(
      lines.findIndex(isLine('heartbeat', heartbeat)),
    );
    expect(lines.some(isLine('seal', 'p6', seal))).toBe(true);
  });

  test('more changes than fit into a page are reported, page by page', async () => {
    await start();
    for (const [n, name] of NAMES.entries()) {
      seals.set(name, agents.personSeal(name, agents.personUid(n), { number: 4 }));
    }
    agents.helper.stop(); // so that they are read at once
    await agents.change(
      NAMES.map((name) => agents.reseal(agents.personDn(name), seals.get(name))).join(''),
    );
    await agents.helper.start();
    await knowsAll();
    expect(agents.helper.lines().filter(([word]) => word === 'all')).toEqual([]);
  });

  test('it reports the new name of a renamed entry, and that the old one is gone', async () => {
    await start({ compareMs: 500 });
    const rename = (from: string, to: string) =>
      agents.change(
        `dn: ${agents.personDn(from)}\nchangetype: modrdn\nnewrdn: uid=${to}\ndeleteoldrdn: 1\n\n`,
      );
    await rename('p9', 'other');
    await untilReported('the new name', isLine('seal', 'other', seals.get('p9')));
    await untilReported('who is gone', isLine('gone', 'p9'));
    await rename('other', 'p9');
    await knowsAll();
  });

  test('it reports at least every five seconds', async () => {
    await start();
    const begin = performance.now();
    await untilReported('the heartbeat again', ([word]) => word === 'heartbeat');
    // twice five seconds, because one report may be left out
    expect(performance.now() - begin).toBeLessThan(9900);
    expect(agents.helper.lines()).toHaveLength(1);
  });
});

test('it reports everything again if another agent has begun to, because nothing else counts until then', async () => {
  await start();
  agents.helper.answer = (lines) => {
    const isBegun = agents.helper.lines().some(([word]) => word === 'all');
    return isBegun || lines.some(([word]) => word === 'all') ? {} : { reading: 'another' };
  };
  await untilReported('the end', ([word, , edge]) => word === 'all' && edge === 'end');
  expect(agents.helper.lines().filter(([word]) => word === 'seal')).toHaveLength(seals.size);
});

describe('an entry that does not belong there', () => {
  /** Adds entries, and returns what is then reported of names that are not ours. */
  async function toldOf(ldif: string): Promise<Map<string, string>> {
    if (ldif !== '') await agents.change(ldif);
    await reseal('p2'); // everything that was written before is reported with it
    await knowsOurs();
    return new Map([...agents.helper.known()].filter(([name]) => !seals.has(name)));
  }
  const knowsOurs = () =>
    eventually('all of our entries are known', () =>
      [...seals].every(([name, seal]) => agents.helper.known().get(name) === seal),
    );
  const { stringify: json } = JSON;

  test('affects nobody else: an invalid name is reported as a DN, shortened if it is long', async () => {
    await start();
    const { base } = agents.world.config.ldap;
    const seal = seals.get('tools.bot') ?? '';
    const rdns = {
      newline: 'no\\0Aname',
      blank: 'no name',
      path: '../x',
      comma: 'a\\,uid\\=p1',
      dots: 'tools.bot2',
      none: '\\C3\\A9',
      invalid: '\\FF',
      long: 'x'.repeat(230),
    };
    const number = (n: number) => agents.personUid(800 + n);
    const add = (rdn: string, n: number) =>
      [
        `dn: uid=${rdn},ou=people,${base}`,
        'changetype: add',
        ...['person', 'posixAccount', 'chamberlainSealed'].map((each) => `objectClass: ${each}`),
        ...[`cn: hostile ${n}`, 'sn: x', `uidNumber: ${number(n)}`, 'gidNumber: 500'],
        ...['homeDirectory: /x', line('chamberlainSeal', seal), '', ''],
      ].join('\n');
    const entries = Object.values(rdns);
    const added: string[] = [];
    for (const [n, rdn] of entries.entries()) {
      try {
        await agents.change(add(rdn, n));
        added.push(`uid=${rdn},ou=people,${base}`);
      } catch (error) {
        // what slapd itself refuses cannot be there
        expect(json(rdn)).toBe(json(rdns.invalid));
        expect(String(error)).toMatch(/nvalid/);
      }
    }
    const told = await toldOf('');
    expect(new Set(told.values())).toEqual(new Set([seal]));
    expect(told.size).toBe(added.length);
    for (const name of told.keys()) {
      expect(name).toMatch(/^uid=[^]+,ou=people,|^x{200}… [0-9a-f]{64}$/);
    }
    // without seals they are read one by one at each compare
    await agents.change(added.map((dn) => agents.reseal(dn, undefined)).join(''));
    await agents.stop();
    agents.start({ compareMs: 500 });
    await untilReported('one of them', ([word, name]) => word === 'unsealed' && told.has(name));
    await agents.change(added.map((dn) => agents.remove(dn)).join(''));
    await knowsAll();
    expect(agents.helper.trouble().why).toBe('');
  });

  test('affects nobody else: a seal that is not text, and several seals', async () => {
    await start();
    const seal = seals.get('p3') ?? '';
    const dn = agents.personDn('p3');
    const reportsOther = async (what: string, change: () => Promise<void>) => {
      await change();
      await untilReported(
        what,
        ([word, name, text]) => word === 'seal' && name === 'p3' && text !== seal,
      );
      const [, , text] = agents.helper.lines().findLast(([, name]) => name === 'p3') ?? [];
      agents.helper.reports.length = 0;
      return text;
    };
    expect(
      await reportsOther('bytes', () =>
        agents.change(agents.reseal(dn, Buffer.from([0xff, 0xfe, 10, 0, 0x61]))),
      ),
    ).toBe('\uFFFD\uFFFD\n\0a');
    const controls = Buffer.alloc(2 ** 20, 1); // six times as long in a report
    const cut = await reportsOther('a long one', () => agents.change(agents.reseal(dn, controls)));
    expect(cut).toBe('\u0001'.repeat(2 ** 18));
    // no schema allows two
    const two = [seal, seals.get('p4') ?? ''];
    const encoded = two.map(
      (each) => `\nchamberlainSeal:: ${Buffer.from(each).toString('base64')}`,
    );
    const backup = backUp(agents.world);
    const [, entry = ''] = /\n(dn: uid=p3,ou=people,[^]*?\n)\n/.exec(backup) ?? [];
    const changed = entry
      .replace(/\nchamberlainSeal:[^\n]*(\n [^\n]*)*/, encoded.join(''))
      .replace(/\nentryCSN: .*/, '\nentryCSN: 20300101000000.000000Z#000000#000#000000');
    await agents.stop();
    agents.start();
    expect(
      new Set(
        (
          await reportsOther('two', () => restore(agents.world, backup.replace(entry, changed)))
        )?.split('\n'),
      ),
    ).toEqual(new Set(two));
    await agents.change(agents.reseal(dn, seal));
    await knowsAll();
  });
});
