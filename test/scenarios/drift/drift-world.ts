/** The world of the cases of drift: its subjects, the hand that damages, and the output of the commands. */
import { execFileSync } from 'node:child_process';
import { createHash, createPrivateKey, createPublicKey } from 'node:crypto';
import type { Report } from '../../../src/reconcile/report.ts';
import { type Ended, runCli } from '../../cli/run-cli.ts';
import { administer, type WorldOptions } from '../../stack.ts';
import { changeDirectory, homeOf, query, settled } from '../outside.ts';
import { admit, openRunning, type Running } from '../running.ts';
import type { DriftCase, Hand, Subject } from './drift-case.ts';

export interface DriftWorld extends Running {
  hand: Hand;
  /** Creates a subject for each case, all as wanted. */
  populate(cases: readonly DriftCase[]): Promise<Map<DriftCase, Subject>>;
  /** The output of a survey or a plan, as JSON. */
  ask(command: 'survey' | 'plan', ...args: string[]): Promise<PlanSeen>;
  repair(...args: string[]): Promise<RepairSeen>;
}

export interface PlanSeen extends Report {
  exit: number | null;
  digest: string;
}

/** How a repair ended, and what it complains of. */
export interface RepairSeen extends Pick<Ended, 'exit' | 'err'> {
  said: Record<string, unknown>;
}

/** Subjects that are made side by side. */
const AT_ONCE = 40;

/** Every role except the sweep, which would repair by itself what is damaged here. */
export const ROLES = ['intake', 'relay', 'directory', 'homes', 'databases'];

export async function openDriftWorld(
  name: string,
  options: WorldOptions = {},
): Promise<DriftWorld> {
  const running = await openRunning(name, options);
  const { world, portal } = running;
  const { base } = world.config.ldap;
  await running.stopWork();
  await running.startWork(ROLES);
  await admit(portal, 'alice', 'bob');
  let taken = 0;

  const describe = async (kind: Subject['kind'], subject: string): Promise<Subject> => {
    const account = kind === 'person' ? subject : `tools.${subject}`;
    const [row] = await query<{ subject: number }>(
      world,
      'SELECT subject FROM names WHERE name = $1',
      [account],
    );
    const uid = row?.subject ?? 0;
    return {
      ...{ kind, name: subject, account, uid },
      dn: `uid=${account},ou=people,${kind === 'tool' ? 'ou=servicegroups,' : ''}${base}`,
      home: homeOf(world, kind === 'person' ? { person: subject } : { tool: subject }),
      user: `${kind === 'person' ? 'u' : 's'}${uid}`,
    };
  };

  const make = async (one: Pick<DriftCase, 'of' | 'is'>, subject: string): Promise<Subject> => {
    if (one.of === 'tool') {
      const wish = { kind: 'tool.create', requestedBy: 'steward', name: subject };
      await portal.get({ ...wish, title: `Tool ${subject}`, maintainers: ['alice', 'bob'] });
    } else {
      await portal.get({
        ...{ kind: 'person.create', requestedBy: subject, shellName: subject },
        ...{ displayName: `The ${subject}`, email: `${subject}@example.org` },
      });
      const add = { kind: 'key.add', requestedBy: subject, person: subject };
      await portal.get({ ...add, key: keyOf(subject), label: 'laptop' });
      if (one.is !== 'without access')
        await portal.get({ kind: 'access.grant', requestedBy: 'steward', person: subject });
    }
    const made = await describe(one.of, subject);
    if (one.is === 'suspended' || one.is === 'disabled') {
      const table = one.of === 'person' ? 'people' : 'tools';
      await query(world, `UPDATE ${table} SET state = $1 WHERE uid = $2`, [one.is, made.uid]);
      const why = `UPDATE tools SET disabled_reason = 'It floods' WHERE uid = $1`;
      if (one.of === 'tool') await query(world, why, [made.uid]);
      for (const role of ['directory', 'databases'])
        await query(world, 'SELECT touch_generation($1, $2)', [made.uid, role]);
    }
    return made;
  };

  const command = (...args: string[]) => runCli(args, { config: world.configFile });
  return {
    ...running,
    hand: {
      world,
      base,
      neighbour: await make({ of: 'tool' }, 'neighbour'),
      ldif: (text) => changeDirectory(world, 'ldapmodify', text, 'relax'),
      async sql(server, text) {
        await administer(world[server].socket, text);
      },
      run(program, ...args) {
        execFileSync(program, args);
      },
      freeNumber(kind) {
        const ranges = kind === 'person' ? world.config.ids.people : world.config.ids.tools;
        return (ranges.at(-1)?.last ?? 0) - (taken += 1);
      },
    },
    async populate(cases) {
      const made: [DriftCase, Subject][] = [];
      // a busy machine takes its time, and nobody is waited for without an end
      for (let at = 0; at < cases.length; at += AT_ONCE) {
        const some = cases.slice(at, at + AT_ONCE).map(async (one, index) => {
          const subject = await make(one, `d${String(at + index).padStart(3, '0')}`);
          return [one, subject] as [DriftCase, Subject];
        });
        made.push(...(await Promise.all(some)));
      }
      await settled(world);
      // the watcher corrects a password that was changed after its account had rested for 10 s: these do not
      // rest yet
      await query(
        world,
        `UPDATE convergence SET next_try_at = now() + interval '1 hour'
         WHERE role = 'databases' AND applied = wanted`,
      );
      return new Map(made);
    },
    async ask(what, ...args) {
      const { exit, out, err } = await command(what, '--json', ...args);
      if (out === '') throw new Error(err);
      return { ...(JSON.parse(out) as Report & { digest: string }), exit };
    },
    async repair(...args) {
      const { exit, out, err } = await command('repair', '--json', ...args);
      if (out === '') throw new Error(err);
      return { exit, err, said: JSON.parse(out) as Record<string, unknown> };
    },
  };
}

/** A key that nobody else has, the same in every run (RFC 8410: an Ed25519 key from its seed). */
export function keyOf(name: string): string {
  const seed = createHash('sha256').update(name).digest();
  const key = createPrivateKey({
    key: Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), seed]),
    format: 'der',
    type: 'pkcs8',
  });
  const point = createPublicKey(key).export({ format: 'der', type: 'spki' }).subarray(-32);
  const head = Buffer.from('0000000b7373682d6564323535313900000020', 'hex');
  return `ssh-ed25519 ${Buffer.concat([head, point]).toString('base64')}`;
}
