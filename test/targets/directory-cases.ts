/** What the tests of the directory's targets share: subjects, and plans as lines of text. */
import type { AccountName, ShellName, ToolName } from '../../src/identity/names.ts';
import type { Realm, Wanted, WantedPerson, WantedTool } from '../../src/reconcile/wanted.ts';
import type { Attributes } from '../../src/reconcile/action.ts';
import type { Finding, Step, TargetPlan } from '../../src/reconcile/plan.ts';
import type { AnyRef, DirectoryEntry } from '../../src/targets/directory-reader.ts';

export const REALM: Realm = {
  realm: 'tools',
  realmGid: 500,
  toolHomes: '/data/project',
  personHomes: '/home',
  toolHomeMode: 0o2775,
  maxUserConnections: 10,
  databaseServers: [],
};

export const KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA';
export const OTHER_KEY = 'restrict,pty ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB';

export function person(changes: Partial<WantedPerson> = {}): WantedPerson {
  return {
    kind: 'person',
    uid: 1003,
    account: 'alice' as AccountName,
    shellName: 'alice' as ShellName,
    state: 'active',
    realmMember: true,
    everAdmitted: true,
    displayName: 'Alice Under',
    email: 'alice@example.org',
    keys: [{ line: KEY, fingerprint: 'SHA256:a', label: '' }],
    ...changes,
  };
}

export function tool(changes: Partial<WantedTool> = {}): WantedTool {
  return {
    kind: 'tool',
    uid: 50001,
    account: 'tools.bot' as AccountName,
    name: 'bot' as ToolName,
    state: 'active',
    members: [
      { kind: 'person', account: 'alice' as AccountName, uid: 1003 },
      { kind: 'tool', account: 'tools.other' as AccountName, uid: 50002 },
      { kind: 'tool', account: 'tools.bot' as AccountName, uid: 50001 },
    ],
    ...changes,
  };
}

export function entry(ref: AnyRef, attributes: Attributes): DirectoryEntry {
  return { ref, attributes };
}

/** A plan as the engine completes it. */
export function completed(
  target: string,
  { uid: subject, account }: Wanted,
  { steps, findings }: TargetPlan,
): { steps: Step[]; findings: Finding[] } {
  const of = { target, subject, account };
  return {
    steps: steps.map((step) => ({ ...of, ...step })),
    findings: findings.map((finding) => ({ ...of, ...finding })),
  };
}

/** One line for each step, `effect object: change`, then one for each finding, `CODE object (advisory)`. */
export function linesOf({ steps, findings }: TargetPlan): string[] {
  return [
    ...steps.map((step) => `${step.effect} ${step.object}: ${step.change}`),
    ...findings.map(
      ({ code, object, advisory }) => `${code} ${object}${advisory ? ' (advisory)' : ''}`,
    ),
  ];
}
