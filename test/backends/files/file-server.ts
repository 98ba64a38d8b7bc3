/** A file server for one test: areas in a temporary folder, and a tenant that can be hostile. */
import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { chmodSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { prepareFileAreas } from '../../../src/backends/files/file-acls.ts';
import { prepareArchives } from '../../../src/archives/homes/file-archive-mount.ts';
import type { ArchiveWriter } from '../../../src/archives/homes/file-archive.ts';
import { openFilesWriter } from '../../../src/backends/files/file-writer.ts';
import { openFilesReader } from '../../../src/backends/files/files.ts';
import { makePassword } from '../../../src/credentials/credentials.ts';
import type { AccountName, ShellName, ToolName } from '../../../src/identity/names.ts';
import type { Realm, WantedPerson, WantedTool } from '../../../src/reconcile/wanted.ts';
import type { Action } from '../../../src/reconcile/action.ts';
import { orderSteps, type DraftStep } from '../../../src/reconcile/plan.ts';
import { credentialsFile } from '../../../src/targets/credentials-file.ts';
import { homeDirectory } from '../../../src/targets/home-directory.ts';

export const REALM: Realm = {
  realm: 'tools',
  realmGid: 500,
  toolHomes: '/project',
  personHomes: '/home',
  toolHomeMode: 0o2775,
  maxUserConnections: 10,
  databaseServers: [],
};

type RecordedHome = Parameters<ArchiveWriter['record']>[0];

/** What must be removed and ended, even if a test fails halfway. */
const roots = new Set<string>();
const tenants = new Set<ChildProcess>();

/** Ends all tenants and removes all file servers of this test file. */
export async function stopFileServers(): Promise<void> {
  await endTenants();
  for (const root of roots) rmSync(root, { recursive: true, force: true });
}

/** Ends the tenants of one test. */
export async function endTenants(): Promise<void> {
  for (const tenant of tenants) await endOf(tenant);
}

export type FileServerOfTest = Awaited<ReturnType<typeof startFileServer>>;

/** Creates areas, reader and writer; `recorded` stands for the content of PostgreSQL, by uid. */
export async function startFileServer() {
  const root = mkdtempSync(join(tmpdir(), 'chamberlain-files-'));
  roots.add(root);
  chmodSync(root, 0o755);
  for (const folder of ['project', 'home', 'skel', 'victim']) mkdirSync(join(root, folder), 0o755);
  const files = {
    root,
    toolHomes: REALM.toolHomes,
    personHomes: REALM.personHomes,
    skel: join(root, 'skel'),
    toolHomeMode: '2775',
  };
  await prepareFileAreas(files);
  const recorded = new Map<number, { epoch: number; verifier: string }>();
  const passwords: string[] = [];
  const beforeRecord = { act: async (): Promise<void> => {} };
  const archives = join(root, 'archives');
  await prepareArchives(archives);
  const archived: RecordedHome[] = [];
  /** may say that a step is no longer wanted, receive progress, or fail at a chosen point */
  const archiveDouble = {
    stillWanted: async (): Promise<boolean> => true,
    report: async (_progress: { act: string; done: number }): Promise<void> => {},
    record: async (archive: RecordedHome): Promise<void> => void archived.push(archive),
  };
  const reader = openFilesReader(files, archives);
  const openWriter = () =>
    openFilesWriter(
      files,
      {
        newPassword() {
          passwords.push(makePassword(randomBytes));
          return passwords.at(-1)!;
        },
        async recordVerifier({ account, epoch, verifier }) {
          await beforeRecord.act();
          recorded.set(account, { epoch, verifier });
        },
      },
      {
        folder: archives,
        realm: REALM.realm,
        now: () => new Date('2026-11-25T12:00:00Z'),
        readFingerprints: async () => ['SHA256:of-a-key'],
        record: (archive) => archiveDouble.record(archive),
        stillWanted: () => archiveDouble.stillWanted(),
        report: (progress) => archiveDouble.report(progress),
        clear: async () => {},
      },
    );
  const writer = openWriter();

  const tool = (name: string, uid: number): WantedTool => ({
    kind: 'tool',
    uid,
    account: `tools.${name}` as AccountName,
    name: name as ToolName,
    state: 'active',
    credentials: { wantedEpoch: 1, recorded: recorded.get(uid) },
  });
  const person = (name: string, uid: number): WantedPerson => ({
    kind: 'person',
    uid,
    account: name as AccountName,
    shellName: name as ShellName,
    state: 'active',
    realmMember: true,
    everAdmitted: true,
    credentials: { wantedEpoch: 1, recorded: recorded.get(uid) },
  });

  /** What both targets of the role find for one subject. */
  const survey = async (wanted: WantedTool | WantedPerson) => {
    const [home] = await homeDirectory.observe(reader, [wanted], REALM);
    const [file] = await credentialsFile.observe(reader, [wanted], REALM);
    const plans = [
      homeDirectory.plan(homeDirectory.want(wanted, REALM), home!, wanted),
      credentialsFile.plan(credentialsFile.want(wanted, REALM), file!, wanted),
    ];
    return {
      steps: orderSteps(plans.flatMap((plan) => plan.steps)),
      findings: plans.flatMap((plan) => plan.findings),
    };
  };
  const converge = async (wanted: WantedTool | WantedPerson): Promise<DraftStep[]> => {
    const { steps } = await survey(wanted);
    for (const step of steps) await writer.do(step.action);
    return steps;
  };

  /** A tool with home and credentials, as the writer created it. */
  let lastUid = 51000;
  const madeTool = async () => {
    const uid = (lastUid += 1);
    const name = `t${uid}`;
    const wanted = () => tool(name, uid);
    await converge(wanted());
    const home = join(root, 'project', name);
    return { uid, name, wanted, home, file: `${home}/replica.my.cnf` };
  };
  /** A survey as lines: `verb: because` for a step, `CODE: sentence` for a finding. */
  const linesOf = async (wanted: WantedTool | WantedPerson): Promise<string[]> => {
    const { steps, findings } = await survey(wanted);
    return [
      ...steps.map((step) => `${step.action.verb}: ${step.because}`),
      ...findings.map((finding) => `${finding.code}: ${finding.sentence}`),
    ];
  };

  return {
    root,
    madeTool,
    linesOf,
    files,
    recorded,
    passwords,
    beforeRecord,
    archives,
    archived,
    archiveDouble,
    reader,
    writer,
    openWriter,
    tool,
    person,
    survey,
    converge,
    path: (...parts: string[]) => join(root, ...parts),
    staged: () => [
      ...readdirSync(join(root, 'project/.chamberlain')),
      ...readdirSync(join(root, 'home/.chamberlain')),
    ],
    do: async (action: Action) => await writer.do(action),
  };
}

/** The error that an act failed with, or undefined. */
export async function failureOf(act: Promise<unknown>): Promise<unknown> {
  return await act.then(
    () => undefined,
    (error: unknown) => error,
  );
}

/** `uid:gid mode` of a path itself, e.g. `50001:50001 2775`. */
export function ownership(path: string): string {
  const { uid, gid, mode } = lstatSync(path);
  return `${uid}:${gid} ${(mode & 0o7777).toString(8)}`;
}

/** The tenant dies with the test, however that ends. */
const asTenant = (uid: number, gid: number) =>
  `--reuid ${uid} --regid ${gid} --clear-groups --pdeathsig KILL --`.split(' ');

/** Runs a shell script as an account, in a directory, to its end. */
export function runAs(uid: number, gid: number, cwd: string, script: string): string {
  const { status, stdout, stderr } = spawnSync(
    'setpriv',
    [...asTenant(uid, gid), 'sh', '-euc', script],
    { cwd, encoding: 'utf8' },
  );
  if (status !== 0) throw new Error(`as uid ${uid}: ${stderr}`);
  return stdout;
}

/**
 * Starts a Perl program as an account, and waits until it has printed its first line. Perl is part of Debian's
 * base and has the bare system calls.
 */
export async function startAs(uid: number, cwd: string, program: string): Promise<Tenant> {
  const child = spawn('setpriv', [...asTenant(uid, uid), 'perl', '-e', `$| = 1; ${program}`], {
    cwd,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  tenants.add(child);
  const lines: string[] = [];
  await new Promise<void>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', () => reject(new Error('the tenant ended')));
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      lines.push(...text.split('\n').filter((line) => line !== ''));
      resolve();
    });
  });
  return { lines, end: async () => await endOf(child) };
}

export interface Tenant {
  lines: string[];
  end(): Promise<void>;
}

async function endOf(child: ChildProcess): Promise<void> {
  tenants.delete(child);
  if (child.exitCode !== null || child.signalCode !== null) return;
  const closed = new Promise((resolve) => child.once('close', resolve));
  child.kill('SIGKILL');
  await closed;
}
