/**
 * The agent with two servers that are both written to, each of which receives the other's changes a while
 * later.
 */
import { execFileSync } from 'node:child_process';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { eventually } from '../../scenarios/eventually.ts';
import { stopServer, type World } from '../../stack.ts';
import { backUp, openAgentWorld, openOther, type AgentWorld } from '../agent-world.ts';

const NAMES = Array.from({ length: 6 }, (_, n) => `p${n}`);

let agents: AgentWorld;
let other: World;
let seals: Map<string, string>;

const configure = ({ slapd }: World, ldif: string) =>
  execFileSync('ldapmodify', ['-Q', '-Y', 'EXTERNAL', '-H', slapd.uri], {
    input: ldif,
    stdio: ['pipe', 'ignore', 'pipe'],
  });
/** Makes a server receive the changes of another, or stop doing so. */
function replicate(operation: 'add' | 'delete', to: World, from: World, id: number): void {
  const { dn, password } = agents.world.ldapAdmin;
  const consumer =
    `olcSyncrepl: rid=00${id} provider=${from.slapd.uri} bindmethod=simple binddn="${dn}" ` +
    `credentials=${password} searchbase="dc=example,dc=org" type=refreshAndPersist retry="1 +"`;
  configure(
    to,
    `dn: olcDatabase={1}mdb,cn=config\nchangetype: modify\n${operation}: olcSyncrepl\n` +
      (operation === 'add'
        ? `${consumer}\n-\nreplace: olcMultiProvider\nolcMultiProvider: TRUE\n`
        : ''),
  );
}

beforeAll(async () => {
  agents = await openAgentWorld('agent-providers');
  const { personUid, personSeal, addPerson } = agents;
  seals = new Map(NAMES.map((name, n) => [name, personSeal(name, personUid(n))]));
  await agents.change(
    [...seals].map(([name, seal], n) => addPerson(name, personUid(n), seal)).join('') +
      agents.beat(agents.heartbeat()),
  );
  other = await openOther(agents.world, 'other', backUp(agents.world));
  for (const [n, server] of [agents.world, other].entries()) {
    configure(
      server,
      `dn: cn=config\nchangetype: modify\nadd: olcServerID\nolcServerID: ${n + 1}\n`,
    );
  }
  replicate('add', agents.world, other, 2);
  replicate('add', other, agents.world, 1);
  agents.start({ compareMs: 600_000 });
});

afterAll(async () => {
  await agents?.stop();
  if (other !== undefined) await stopServer(other.slapd);
  await agents?.close();
});

let number = 1;
async function reseal(name: string, at: World): Promise<void> {
  const uid = agents.personUid(NAMES.indexOf(name));
  const seal = agents.personSeal(name, uid, { number: (number += 1) });
  seals.set(name, seal);
  await agents.change(agents.reseal(agents.personDn(name), seal), at);
}
const knowsAll = () =>
  eventually('everything is known', () => {
    expect(Object.fromEntries(agents.helper.known())).toEqual(Object.fromEntries(seals));
    return true;
  });

test('changes at either are reported, even if the other’s come later with an earlier number', async () => {
  await knowsAll();
  await reseal('p0', other); // of a server that was not known
  await knowsAll();
  await reseal('p1', agents.world);
  await knowsAll();

  replicate('delete', agents.world, other, 2);
  await reseal('p2', other);
  await reseal('p3', agents.world);
  await eventually(
    'the later one is known',
    () => agents.helper.known().get('p3') === seals.get('p3'),
  );
  expect(agents.helper.known().get('p2')).not.toBe(seals.get('p2'));
  replicate('add', agents.world, other, 2);
  await knowsAll();
  expect(agents.helper.lines().filter(([word]) => word === 'all')).toHaveLength(2);
});

test('a server that lacks a change of the other is read completely, and followed', async () => {
  replicate('delete', other, agents.world, 1);
  const before = new Map(seals);
  await reseal('p4', agents.world);
  await knowsAll();
  await agents.stop();
  agents.helper.reports.length = 0;
  await agents.helper.restart();
  // at first the server that has it; then that is away
  agents.start({ uris: [agents.world.slapd.uri, other.slapd.uri], compareMs: 600_000 });
  await knowsAll();
  await stopServer(agents.world.slapd);
  await eventually('the other’s content is known', () => {
    expect(Object.fromEntries(agents.helper.known())).toEqual(Object.fromEntries(before));
    return true;
  });
  await reseal('p5', other);
  await eventually('it is followed', () => agents.helper.known().get('p5') === seals.get('p5'));
});
