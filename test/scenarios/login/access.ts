/**
 * A person in the middle of work, with every kind of access at once, and when each of them ends: an open ssh
 * session, processes of her own and of a tool, a `become` in progress, a connection to each database server.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Client } from 'ldapts';
import { type Connection, createConnection } from 'mariadb';
import { eventually } from '../eventually.ts';
import type { Login, Session } from './login.ts';
import { query, readCredentials } from '../outside.ts';

export interface Process {
  pid: number;
  uid: number;
  /** who has logged in to start it; undefined if the kernel keeps no record */
  login: number | undefined;
  /** its arguments, separated by blanks */
  command: string;
}

/** Every process of a login host that has not ended. */
export function processesOf({ host }: Login): Process[] {
  const proc = join(host.machine.root, 'proc');
  const read = (pid: string, file: string) => readFileSync(join(proc, pid, file), 'latin1');
  return readdirSync(proc).flatMap((pid) => {
    if (!/^\d+$/.test(pid)) return [];
    try {
      const [, state = '', uid = ''] =
        /^State:\s+(\S)[\s\S]*^Uid:\s+(\d+)/m.exec(read(pid, 'status')) ?? [];
      if ('ZX'.includes(state)) return [];
      const login = Number(read(pid, 'loginuid'));
      return {
        pid: Number(pid),
        uid: Number(uid),
        login: login === 4_294_967_295 ? undefined : login,
        command: read(pid, 'cmdline').replaceAll('\0', ' ').trim(),
      };
    } catch {
      return []; // it has ended meanwhile
    }
  });
}

export interface Access {
  uid: number;
  session: Session;
  /** Whether each has ended; asks the servers. */
  closed: Record<string, () => boolean | Promise<boolean>>;
  /** From `began` until each has ended, in milliseconds. */
  untilClosed(began: number): Promise<Record<string, number>>;
  close(): Promise<void>;
}

/** Opens every kind of access of a person who maintains the tool `tool`, and waits until each is in use. */
export async function openAccess(login: Login, name: string, tool: string): Promise<Access> {
  const { world } = login;
  const [{ uid } = { uid: 0 }] = await query<{ uid: number }>(
    world,
    'SELECT uid FROM people WHERE shell_name = $1',
    [name],
  );
  const [{ uid: toolUid } = { uid: 0 }] = await query<{ uid: number }>(
    world,
    'SELECT uid FROM tools WHERE name = $1',
    [tool],
  );
  await eventually(`${name} gets in`, async () => (await login.ssh(name, 'true')).code === 0);
  const session = await login.openSession(name);
  await eventually(`${name} becomes ${tool}`, async () => {
    return (await session.run(`become ${tool} true`)).code === 0;
  });
  // as a tool: one process whose end is awaited, one that was detached; as herself: one that outlives a session
  const left = '</dev/null >/dev/null 2>&1';
  await session.run(`become ${tool} sleep 3001 ${left} & `);
  await session.run(`become ${tool} setsid -f nohup sleep 3002 ${left}`);
  await session.run(`setsid -f nohup sleep 3003 ${left}`);
  // one after another, so that one is always in progress
  await session.run(`sh -c 'while :; do become ${tool} true; done' ${left} & `);

  const connections = await Promise.all(
    [world.replica, world.tools].map(({ socket }) =>
      connect(socket, readCredentials(world, { person: name })),
    ),
  );
  const runs = (command: string, as: number) => () =>
    processesOf(login).some(
      (each) => each.uid === as && each.login === uid && each.command.endsWith(command),
    );
  const isHers = (each: Process) => each.uid === uid || each.login === uid;
  const processes = {
    'a process as the tool': runs('sleep 3001', toolUid),
    'a process as the tool that was let go of': runs('sleep 3002', toolUid),
    'a process of her own that was let go of': runs('sleep 3003', uid),
    'one become after another': () =>
      processesOf(login).some(
        (each) => isHers(each) && each.command.includes(`become ${tool} true`),
      ),
  };
  for (const [what, isThere] of Object.entries(processes)) await eventually(what, isThere);

  // a program for each look would be half of the machine's load
  const directory = new Client({ url: world.slapd.tcpUri() });
  await directory.bind(world.ldapAdmin.dn, world.ldapAdmin.password);
  const base = world.config.ldap.base;
  const finds = async (filter: string): Promise<boolean> => {
    const { searchEntries } = await directory.search(base, { filter, attributes: ['1.1'] });
    return searchEntries.length === 1;
  };
  const closed: Access['closed'] = {
    'the key': () => login.keyFile(name).length === 0,
    'the account': () => finds(`(&(uid=${name})(pwdAccountLockedTime=*))`),
    'the group': async () =>
      !(await finds(`(&(cn=tools.${tool})(member=uid=${name},ou=people,${base}))`)),
    'the ssh session': () => !session.isOpen,
    ...Object.fromEntries(
      Object.entries(processes).map(([what, isThere]) => [what, () => !isThere()]),
    ),
    'all that is hers': () => !processesOf(login).some(isHers),
    'the replica': () => !(connections[0]?.isOpen() ?? true),
    'the tools database': () => !(connections[1]?.isOpen() ?? true),
  };
  return {
    uid,
    session,
    closed,
    async untilClosed(began) {
      const entries = Object.entries(closed).map(async ([what, isClosed]) => {
        await eventually(`${what} to end`, isClosed);
        return [what, Math.round(performance.now() - began)] as const;
      });
      return Object.fromEntries(await Promise.all(entries));
    },
    async close() {
      await session.close();
      await directory.unbind();
      for (const connection of connections) connection.close();
    },
  };
}

async function connect(
  socketPath: string,
  { user, password }: { user: string; password: string },
): Promise<{ isOpen(): boolean; close(): void }> {
  const connection: Connection = await createConnection({ socketPath, user, password });
  let isOpen = true;
  connection.on('error', () => (isOpen = false));
  connection.on('end', () => (isOpen = false));
  return { isOpen: () => isOpen, close: () => connection.destroy() };
}
