/** A case of drift: damage done by hand to a subject of its own, and what must follow. */
import type { World } from '../../stack.ts';

/** A person or tool of one case only, everything as wanted until the damage. */
export interface Subject {
  kind: 'person' | 'tool';
  name: string;
  /** the unix account: of a tool `tools.<name>` */
  account: string;
  uid: number;
  /** of the account in the directory */
  dn: string;
  /** the path of the home on this machine */
  home: string;
  /** in the databases: `s<uid>`, `u<uid>` */
  user: string;
}

/** The hand that does damage: the administrator of every server, who does not know Chamberlain. */
export interface Hand {
  world: World;
  base: string;
  /** a tool that no case damages; `alice` and `bob` maintain it, and every other tool */
  neighbour: Subject;
  /** Changes the directory past its overlays; fails if the directory refuses. */
  ldif(text: string): Promise<void>;
  sql(server: 'replica' | 'tools', text: string): Promise<void>;
  /** Runs a program, e.g. setfacl. */
  run(program: string, ...args: string[]): void;
  /** A number in the range of its kind that nobody has. */
  freeNumber(kind: 'person' | 'tool'): number;
}

/**
 * One row of the table. `shows` lists what the plan must contain about the subject, in order: first the steps,
 * each as `<effect> <target>`, then the findings, each as `<CODE> <target>`, with ` (advisory)` if everything
 * that belongs to the subject is right nevertheless. `[]` means: left alone.
 */
export interface DriftCase {
  what: string;
  of: 'person' | 'tool';
  /** the wanted state; active, and for a person with access, by default */
  is?: 'suspended' | 'disabled' | 'without access';
  damage(subject: Subject, hand: Hand): unknown;
  /** `refused`: the directory does not even let its administrator do it */
  shows: readonly string[] | 'refused';
  /**
   * Does what the finding's sentence asks for. If it is given, findings are gone after it and another repair;
   * if not, the finding must be gone with the first repair.
   */
  decide?: ((subject: Subject, hand: Hand) => unknown) | undefined;
  /** the attribute or field of a target's want that this is about, `<target> <kind> <attribute>` */
  covers?: string;
}

/** The DN of a tool's group. */
export function groupDn({ account }: Subject, { base }: Hand): string {
  return `cn=${account},ou=servicegroups,${base}`;
}

/** The DN of a tool's sudo rule. */
export function ruleDn({ account }: Subject, { base }: Hand): string {
  return `cn=runas-${account},ou=sudoers,cn=tools,ou=projects,${base}`;
}

/** LDIF of one change: `change(dn, ['add', 'member', value], ['delete', 'mail'])`. */
export function change(
  dn: string,
  ...parts: [act: 'add' | 'delete' | 'replace', attribute: string, ...values: string[]][]
): string {
  const lines = parts.flatMap(([act, attribute, ...values]) => [
    `${act}: ${attribute}`,
    ...values.map((value) => ldifLine(attribute, value)),
    '-',
  ]);
  return [`dn: ${dn}`, 'changetype: modify', ...lines, ''].join('\n');
}

/** RFC 2849: in base64, since a value may hold a line end. */
function ldifLine(attribute: string, value: string): string {
  return `${attribute}:: ${Buffer.from(value).toString('base64')}`;
}

/** LDIF that deletes an entry. */
export function remove(dn: string): string {
  return `dn: ${dn}\nchangetype: delete\n`;
}

/** LDIF that renames an entry. */
export function rename(dn: string, rdn: string): string {
  return [`dn: ${dn}`, 'changetype: modrdn', `newrdn: ${rdn}`, 'deleteoldrdn: 1', ''].join('\n');
}

/** LDIF of a new entry. */
export function entry(dn: string, attributes: Record<string, string | readonly string[]>): string {
  const lines = Object.entries(attributes).flatMap(([attribute, values]) =>
    [values].flat().map((value) => ldifLine(attribute, value)),
  );
  return [`dn: ${dn}`, 'changetype: add', ...lines, ''].join('\n');
}
