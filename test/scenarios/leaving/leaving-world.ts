/** A running realm in which people and tools leave, and what is recorded of it. */
import { createHash, createPrivateKey } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Role } from '../../../src/reconcile/wanted.ts';
import type { World, WorldOptions } from '../../stack.ts';
import { eventually } from '../eventually.ts';
import { homeOf, query } from '../outside.ts';
import { openPortal, type Portal, type Wish } from '../portal.ts';
import { hold } from '../repair/repair-world.ts';
import { admit, openRunning, type Running } from '../running.ts';

/** Every role except the sweep, which runs when a test asks for it. */
export const LEAVING_ROLES = ['intake', 'relay', 'directory', 'homes', 'databases'];

/** A subject that may leave, as the tests name it. */
type Leaver = { tool: string } | { person: string };

export interface LeavingWorld extends Running {
  /**
   * sends a request as the admin `steward`, with her own key, which receives no events; returns the request's
   * id
   */
  askAsAdmin(wish: Record<string, unknown>): Promise<string>;
  makeTool(name: string, more?: Record<string, unknown>): Promise<Subject>;
  find(leaver: Leaver): Promise<Subject>;
  /** The time of its deletion has come, and the minute for revoking access is over. */
  endGrace(subject: Subject): Promise<void>;
  /** A role does nothing for a subject before the release. */
  hold(subject: Subject, role: Role): Promise<() => Promise<void>>;
  becomes(subject: Subject, state: string): Promise<void>;
}

/** A person or tool, by number. */
export interface Subject {
  leaver: Leaver;
  /** shell name, or tool name */
  name: string;
  account: string;
  uid: number;
  /** of its database users: `s51234` */
  user: string;
}

export async function openLeavingWorld(
  name: string,
  options: WorldOptions = {},
): Promise<LeavingWorld> {
  const running = await openRunning(name, options);
  const { world, portal } = running;
  const steward = openPortal(world, {
    name: 'admin.steward',
    kid: 'steward-1',
    key: createPrivateKey(readFileSync(world.adminKey)),
  });
  await admit(portal, 'alice', 'bob');
  const find: LeavingWorld['find'] = async (leaver) => {
    const [table, column, called] =
      'tool' in leaver
        ? (['tools', 'name', leaver.tool] as const)
        : (['people', 'shell_name', leaver.person] as const);
    const [row] = await query<{ uid: number }>(
      world,
      `SELECT uid FROM ${table} WHERE ${column} = $1`,
      [called],
    );
    if (row === undefined) throw new Error(`there is no ${called}`);
    const isTool = 'tool' in leaver;
    return {
      leaver,
      name: called,
      account: isTool ? `${world.config.realm}.${called}` : called,
      uid: row.uid,
      user: `${isTool ? 's' : 'u'}${row.uid}`,
    };
  };
  return {
    ...running,
    find,
    async askAsAdmin(wish) {
      const id = await steward.send({ requestedBy: 'steward', kind: '', ...wish });
      await eventually(`a verdict on ${String(wish['kind'])}`, async () => {
        const [row] = await query(world, 'SELECT verdict, sentence FROM requests WHERE jti = $1', [
          id,
        ]);
        if (row?.['verdict'] === 'refused') throw new Error(String(row['sentence']));
        return row !== undefined;
      });
      return id;
    },
    async makeTool(tool, more = {}) {
      const wish = { kind: 'tool.create', requestedBy: 'alice', name: tool, title: `The ${tool}` };
      await portal.get({ ...wish, ...more });
      return find({ tool });
    },
    async hold({ uid }, role) {
      const release = await hold(world, uid, role);
      return async () => {
        await release();
        // do not wait until the lease has expired
        await query(
          world,
          `UPDATE convergence SET leased_until = NULL, next_try_at = now()
           WHERE subject = $1 AND role = $2`,
          [uid, role],
        );
      };
    },
    async endGrace({ uid }) {
      for (const table of ['people', 'tools']) {
        // and the last warning was a day ago
        await query(
          world,
          `UPDATE ${table} SET delete_after = now() - interval '2 min', days_warned = 1,
             warned_at = now() - interval '25 hours' WHERE uid = $1 AND delete_after IS NOT NULL`,
          [uid],
        );
      }
    },
    async becomes(subject, state) {
      await eventually(
        `${subject.name} to be ${state}`,
        async () => {
          const found = await stateOf(world, subject);
          if (found === state) return true;
          const owed = await query(
            world,
            'SELECT role, code, sentence FROM convergence WHERE subject = $1 AND applied < wanted',
            [subject.uid],
          );
          throw new Error(`it is ${found}: ${JSON.stringify(owed)}`);
        },
        60_000,
      );
    },
    async close() {
      await steward.close();
      await running.close();
    },
  };
}

export async function stateOf(world: World, { uid }: Subject): Promise<string> {
  const [row] = await query<{ state: string }>(
    world,
    'SELECT state FROM tools WHERE uid = $1 UNION ALL SELECT state FROM people WHERE uid = $1',
    [uid],
  );
  return row?.state ?? 'unknown';
}

/** Requests an erasure with the admin's own key, approved by another a day ago; returns the request's id. */
export async function approvedErasure(
  leaving: LeavingWorld,
  { name, uid }: Subject,
): Promise<string> {
  const request = await leaving.askAsAdmin({ kind: 'person.erase', person: name });
  await query(
    leaving.world,
    `UPDATE approvals SET state = 'approved', decided_by = 'second', body = NULL,
       decided_at = now() - interval '24 hours' WHERE subject = $1 AND request = $2`,
    [uid, request],
  );
  return request;
}

/** What is not applied of a subject: `databases failing BACKEND_UNREADABLE`. */
export async function owedOf(world: World, { uid }: Subject): Promise<string[]> {
  const rows = await query<{ role: string; state: string; code: string | null }>(
    world,
    `SELECT role, state, code FROM convergence WHERE subject = $1 AND applied < wanted ORDER BY role`,
    [uid],
  );
  return rows.map(({ role, state, code }) => [role, state, code ?? ''].join(' ').trim());
}

/** Where the folder of a home is after it was quarantined, or partly removed. */
export function withdrawnIn(world: World, { leaver }: Subject): string[] {
  const home = homeOf(world, leaver);
  const staging = join(dirname(home), '.chamberlain');
  const name = home.slice(dirname(home).length + 1);
  return readdirSync(staging)
    .filter((each) => each.startsWith(`${name}.`))
    .map((each) => join(staging, each));
}

export interface RecordedArchive {
  role: 'homes' | 'databases';
  archival: number;
  manifest: string;
  path: string;
}

/** The recorded archives of the open archival. */
export async function archivesOf(world: World, { uid }: Subject): Promise<RecordedArchive[]> {
  return query<RecordedArchive>(
    world,
    `SELECT role, archival, manifest_sha256 AS manifest, path FROM archives
     JOIN archivals d USING (subject, archival) WHERE subject = $1 AND back_at IS NULL ORDER BY role`,
    [uid],
  );
}

/** Whether the manifest, and each file that it lists, is on disk exactly as recorded. */
export function isWhole({ role, manifest, path }: RecordedArchive): boolean {
  const bytes = readFileSync(join(path, 'manifest.json'));
  if (sha256(bytes) !== manifest) return false;
  const parsed = JSON.parse(bytes.toString('utf8')) as {
    files?: { name: string; sha256: string }[];
    databases?: { file: string; sha256: string }[];
  };
  const files =
    role === 'homes'
      ? (parsed.files ?? [])
      : (parsed.databases ?? []).map(({ file, ...rest }) => ({ name: file, ...rest }));
  return files.every((file) => sha256(readFileSync(join(path, file.name))) === file.sha256);
}

const sha256 = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');

/** Requests a tool's deletion, and waits until its access is revoked. */
export async function askDeletion(
  { portal }: { portal: Portal },
  { name }: Subject,
): Promise<void> {
  const wish: Wish = { kind: 'tool.delete', requestedBy: 'alice', tool: name, reason: 'not used' };
  await portal.get(wish);
}
