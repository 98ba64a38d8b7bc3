/**
 * The people that the agent knows, and their key files.
 *
 * | person                                | read trusted          | read not trusted                       |
 * | ------------------------------------- | --------------------- | -------------------------------------- |
 * | may log in, keys as in the file       | renewed when due      | left                                   |
 * | may log in, other keys                | written               | keys that are gone leave the file      |
 * | is there, may not log in or has none  | no file               | no file                                |
 * | is not there                          | no file               | left                                   |
 *
 * So what is not trusted never lets anybody in, nor keeps anybody in for longer.
 *
 * Whose processes on this host end, once that is trusted:
 *
 * | the person, by uid                               | |
 * | ------------------------------------------------ | ------------------------------------ |
 * | is locked                                        | ends                                 |
 * | is no realm member any more, or not there        | ends, where this host has let her in |
 * | is refused, or overdue in the marker             | is left                              |
 *
 * Longer than most, so that who is known and what the files hold change in one place.
 */
import { createHash } from 'node:crypto';
import type { SeenEntry } from '../edges/login-directory.ts';
import { describeError } from '../errors.ts';
import { isShellName } from './account-names.ts';
import { judgePerson, type Account, type Ground, type Person, type Refusal } from './judge.ts';
import type { KeyFolder } from './key-folder.ts';
import { grantOf, keepLines, renderKeyFile, renderKeys, type KeyLine } from './key-lines.ts';

/** Small on purpose: 30,000 of them are held. */
interface Known {
  /** a realm member, not locked */
  mayLogIn: boolean;
  /** of the entry as it was judged */
  entryCsn: string;
  uid: number | undefined;
  passwd: string | undefined;
  locked: boolean;
  keyed: boolean;
  /** of the keys in the file; '' where there is no file */
  signature: string;
  /** when the file's lines are to be written anew, in milliseconds since the epoch */
  renewAt: number;
}

/** An entry of ou=people, and what is made of it. */
export interface JudgedEntry {
  dn: string;
  name: string | undefined;
  entryCsn: string;
  judged: Person;
}

/** What a change of a person means for others on this host. */
export interface Consequences {
  /** accounts of which the name service may know something else */
  forget: string[];
  /** people who may not be here any more */
  end: number[];
}

export interface Roll {
  /** Judges an entry, and does nothing yet. */
  judge(entry: SeenEntry): JudgedEntry;
  /** Takes an entry as it is now. */
  take(entry: JudgedEntry): void;
  /** Only what is refused of these entries, where nothing else of them is to be believed. */
  note(entries: readonly JudgedEntry[]): void;
  /** Takes the absence of all people but these: names, or DNs of those without one. */
  takeAbsence(present: ReadonlySet<string>): void;
  /** Sets who may log in; what that changes is found by taking the entries named in the answer again. */
  admit(members: ReadonlySet<string>): string[];
  /** Takes the file of one who is no member, whether there is an entry or not. */
  dismiss(name: string): void;
  /** Whether an entry that has not been changed shows less than it did. */
  contradicts(entry: JudgedEntry): boolean;
  /** Sets from whom access was taken without the directory knowing; answers as `admit`. */
  suspect(uids: readonly number[]): string[];
  /** The entryCSN of a person who is known. */
  entryCsnOf(name: string): string | undefined;
  /** People whose lines are to be written anew: at most `most`. */
  due(now: number, most: number): string[];
  counts(): { people: number; files: number };
  /** From now on it is, or is not, trusted what is taken. */
  trust(trusted: boolean, ground: Ground): void;
  passwdLines(): string[];
  refusals(): Refusal[];
  /** When the first and the last of the lines end, if nothing is renewed; undefined without lines. */
  lasting(): { first: number; last: number } | undefined;
  /** What has followed since the last call. */
  consequences(): Consequences;
  /** Whether processes of this uid are to end. */
  isClosed(uid: number): boolean;
  /** All whose processes are to end: uid and name. */
  closed(): Map<number, string>;
  /** Whom this host has ever let in: uid and name. */
  letIn(): ReadonlyMap<number, string>;
}

/** A grant in a file that ends later than this after what we would grant was made under another limit. */
const GRANT_SLACK_MS = 60_000;

export function openRoll(
  folder: KeyFolder,
  {
    limitMs,
    clock,
    firstGround,
    letInBefore = new Map(),
  }: {
    limitMs: number;
    clock: () => number;
    firstGround: Ground;
    /** whom the last run had let in */
    letInBefore?: ReadonlyMap<number, string>;
  },
): Roll {
  const known = new Map<string, Known>();
  const refused = new Map<string, { name: string | undefined; refusals: Refusal[] }>();
  /** who was seen first with a uid */
  const uids = new Map<number, string>();
  /** files of before this start that have not been looked at */
  const standing = new Set(folder.names());
  const letIn = new Map(letInBefore);
  /** of those, the ones who are not in the directory any more */
  const gone = new Set<number>();
  let members: ReadonlySet<string> = new Set();
  let suspects: ReadonlySet<number> = new Set();
  let isTrusted = false;
  let ground = firstGround;
  let consequences: Consequences = { forget: [], end: [] };
  let nextDue = 0;
  let mustSync = false;

  /** Brings a person's file to what it is to be. */
  function settle(name: string, person: Known, keys: readonly KeyLine[]): void {
    const mayLogIn =
      person.uid !== undefined && !person.locked && members.has(name) && !suspects.has(person.uid);
    if (!mayLogIn || keys.length === 0) {
      if (person.signature !== '' || standing.delete(name)) {
        folder.remove(name);
        mustSync = true;
      }
      person.signature = '';
      person.renewAt = Infinity;
      return;
    }
    const now = clock();
    const signature = signatureOf(keys);
    if (signature === person.signature && now < person.renewAt) return;
    if (person.signature === '' || !isTrusted) {
      // a file of before this start, or one that may only lose lines
      const isThere = standing.delete(name) || person.signature !== '';
      const text = isThere ? folder.read(name) : undefined;
      const grant = text === undefined ? undefined : grantOf(text);
      if (text !== undefined && grant !== undefined) {
        const isWhole = renderKeyFile(keys, grant) === text;
        const isLasting = grant - limitMs / 2 > now && grant <= now + limitMs + GRANT_SLACK_MS;
        // also where it cannot be written anew: the file holds these keys
        if (isWhole) remember(person, signature, Math.min(grant, now + limitMs));
        if (isWhole && (isLasting || !isTrusted)) {
          return;
        }
      }
      if (!isTrusted) {
        const kept = text === undefined ? '' : keepLines(text, keys);
        if (text !== undefined && kept !== text) {
          if (kept === '') folder.remove(name);
          else folder.write(name, kept);
          mustSync = true;
        }
        // whatever is in the file, it is not these keys: it is looked at again once there is trust
        person.signature = kept === '' ? '' : 'kept';
        person.renewAt = now;
        nextDue = Math.min(nextDue, now);
        return;
      }
    }
    const until = now + limitMs;
    folder.write(name, renderKeyFile(keys, until));
    remember(person, signature, until);
  }

  function remember(person: Known, signature: string, grant: number): void {
    person.signature = signature;
    person.renewAt = grant - limitMs / 2;
    nextDue = Math.min(nextDue, person.renewAt);
  }

  function isClosed(uid: number): boolean {
    if (gone.has(uid)) return true;
    const name = uids.get(uid);
    const person = name === undefined ? undefined : known.get(name);
    if (name === undefined || person?.uid !== uid) return false;
    return person.locked || (letIn.has(uid) && !members.has(name));
  }

  function forgetPerson(name: string, person: Known): void {
    folder.remove(name);
    mustSync ||= person.signature !== '';
    known.delete(name);
    if (person.passwd !== undefined) consequences.forget.push(name);
  }

  /** The account, unless another person was seen with its uid before. */
  function accountOf(name: string, account: Account | undefined): Account | undefined {
    if (account === undefined) return undefined;
    const other = uids.get(account.uid);
    if (other !== undefined && other !== name && known.get(other)?.uid === account.uid) {
      return undefined;
    }
    uids.set(account.uid, name);
    return account;
  }

  return {
    judge: (entry) => ({
      dn: entry.dn,
      name: entry.name,
      entryCsn: String(entry.values('entryCSN')[0] ?? ''),
      judged: judgePerson(entry, ground),
    }),
    take({ dn, name, entryCsn, judged }) {
      const refusals = [...judged.refusals];
      if (name !== undefined && isShellName(name)) {
        const account = accountOf(name, judged.account);
        if (judged.account !== undefined && account === undefined) {
          const { uid } = judged.account;
          refusals.push({ entry: dn, why: `${uids.get(uid)} has the same uid, ${uid}` });
        }
        const before = known.get(name);
        const person: Known = {
          mayLogIn: account !== undefined && !judged.locked && members.has(name),
          // who clashes is taken again by each compare: the other may have gone
          entryCsn: judged.account === account ? entryCsn : '',
          uid: account?.uid,
          passwd: account?.passwd,
          locked: judged.locked,
          keyed: judged.keyed,
          signature: before?.signature ?? '',
          renewAt: before?.renewAt ?? 0,
        };
        known.set(name, person);
        if (before?.passwd !== person.passwd || before?.locked !== person.locked) {
          consequences.forget.push(name);
        }
        if (person.uid !== undefined) {
          gone.delete(person.uid);
          if (person.mayLogIn) letIn.set(person.uid, name);
          else if (before?.mayLogIn === true) consequences.end.push(person.uid);
        }
        try {
          settle(name, person, judged.keys);
        } catch (error) {
          // one file that cannot be written holds up nobody else, and keeps no key that is gone
          person.entryCsn = '';
          if (person.signature !== signatureOf(judged.keys)) {
            folder.remove(name);
            person.signature = '';
          }
          refusals.push({ entry: dn, why: `its key file: ${describeError(error)}` });
        }
      }
      if (refusals.length > 0) refused.set(dn, { name, refusals });
      else refused.delete(dn);
    },
    note(entries) {
      for (const { dn, name, judged } of entries) {
        if (judged.refusals.length > 0) refused.set(dn, { name, refusals: judged.refusals });
      }
    },
    takeAbsence(present) {
      for (const [name, person] of known) if (!present.has(name)) forgetPerson(name, person);
      for (const [uid, name] of letIn) {
        if (present.has(name) || gone.has(uid)) continue;
        const other = uids.get(uid);
        if (other !== undefined && known.get(other)?.uid === uid) continue; // under another name
        gone.add(uid);
        consequences.end.push(uid);
      }
      for (const [dn, { name }] of refused) if (!present.has(name ?? dn)) refused.delete(dn);
      const files = new Set(folder.names());
      for (const name of files) {
        if ((known.get(name)?.signature ?? '') === '') folder.remove(name);
      }
      for (const [name, person] of known) {
        if (person.signature === '' || files.has(name)) continue;
        // somebody else has removed it
        person.signature = '';
        person.renewAt = nextDue = 0;
      }
    },
    dismiss(name) {
      const person = known.get(name);
      if (person === undefined || members.has(name)) return;
      if (person.mayLogIn && person.uid !== undefined) consequences.end.push(person.uid);
      person.mayLogIn = false;
      settle(name, person, []);
    },
    contradicts({ name, entryCsn, judged }) {
      const before = name === undefined ? undefined : known.get(name);
      if (before === undefined || before.entryCsn !== entryCsn) return false;
      return (before.keyed && !judged.keyed) || (before.uid !== undefined && !judged.account);
    },
    admit(next) {
      const before = members;
      members = next;
      const changed = [...before].filter((name) => !next.has(name));
      for (const name of next) if (!before.has(name)) changed.push(name);
      consequences.forget.push(...changed);
      return changed;
    },
    suspect(suspected) {
      const next = new Set(suspected);
      const changed = new Set(
        [...suspects, ...next].filter((uid) => suspects.has(uid) !== next.has(uid)),
      );
      suspects = next;
      if (changed.size === 0) return [];
      return [...known].flatMap(([name, { uid }]) =>
        uid !== undefined && changed.has(uid) ? [name] : [],
      );
    },
    entryCsnOf: (name) => known.get(name)?.entryCsn,
    due(now, most) {
      if (now < nextDue) return [];
      const names: string[] = [];
      nextDue = Infinity;
      for (const [name, { renewAt }] of known) {
        if (renewAt <= now && names.length < most) names.push(name);
        // whoever is named here is due until taken: the read may fail
        nextDue = Math.min(nextDue, renewAt);
      }
      return names;
    },
    counts() {
      let files = 0;
      for (const { signature } of known.values()) if (signature !== '') files += 1;
      return { people: known.size, files };
    },
    trust(trusted, next) {
      isTrusted = trusted;
      ground = next;
    },
    passwdLines: () => [...known.values()].flatMap(({ passwd }) => passwd ?? []),
    refusals: () => [...refused.values()].flatMap(({ refusals }) => refusals),
    lasting() {
      let [first, last] = [Infinity, -Infinity];
      for (const { signature, renewAt } of known.values()) {
        if (signature === '') continue;
        first = Math.min(first, renewAt + limitMs / 2);
        last = Math.max(last, renewAt + limitMs / 2);
      }
      return last < first ? undefined : { first, last };
    },
    consequences() {
      if (mustSync) folder.sync();
      mustSync = false;
      const found = consequences;
      consequences = { forget: [], end: [] };
      return found;
    },
    isClosed,
    closed: () =>
      new Map([
        ...[...gone].map((uid) => [uid, letIn.get(uid) ?? ''] as const),
        ...[...known].flatMap(([name, { uid }]) =>
          uid !== undefined && isClosed(uid) ? [[uid, name] as const] : [],
        ),
      ]),
    letIn: () => letIn,
  };
}

function signatureOf(keys: readonly KeyLine[]): string {
  return createHash('sha1').update(renderKeys(keys)).digest('base64');
}
