/**
 * Decides what a login host makes of a signed payload. Names, numbers and keys are checked again by the program
 * that writes the files, so that a faulty directory role can neither create a root account nor take the path of
 * anyone else.
 *
 * | account          | uid           | home                    | shell                         |
 * | ---------------- | ------------- | ----------------------- | ----------------------------- |
 * | a person's       | of ids.people | `<homes.people>/<name>` | a common one in (/usr)/bin    |
 * | `<realm>.<tool>` | of ids.tools  | `<homes.tools>/<tool>`  | bash, or of a disabled tool's |
 *
 * A wrong value refuses the whole seal. A wrong key or member is left out, and the rest of the seal counts.
 */
import { formatSeal, parseSeal, type Seal } from '../../../seals/seal.ts';
import { parseSshKey } from '../../../ssh-keys/ssh-key.ts';
import { isAccountName, isShellName, isWithin, toolOf } from '../../account-names.ts';
import type { LoginHostConfig } from '../../config.ts';

/** The part of the configuration by which seals are judged. */
export type Rules = Pick<LoginHostConfig, 'realm' | 'ids' | 'homes' | 'knownBadKeys'>;

/** What is known of an account. It is small on purpose: 40,000 of them are held. */
export interface Account {
  isPerson: boolean;
  name: string;
  uid: number;
  shell: string;
  gecos: string;
  /** of a person: whether they are a realm member, too */
  isActive: boolean;
  /** a person's keys, canonical, separated by line ends; a tool's members, separated by commas */
  list: string;
  number: number;
  /** milliseconds since the epoch */
  until: number;
  /** which keys or members are not accepted, and why */
  remark: string | undefined;
}

export type Verdict = { ok: true; account: Account } | { ok: false; why: string };

const PEOPLES_SHELLS = /^(\/usr)?\/bin\/(sh|bash|dash|rbash|zsh|fish|ksh|mksh|csh|tcsh)$/;
const TOOLS_SHELLS = /^\/bin\/(bash|disabledtoolshell)$/;
/** Why a tool is disabled, as the target unix-account writes it. */
const REASON = /^disabled - [ -9;-~]{1,189}$/;
const MOST_REMARKS = 3;

/**
 * @param name the entry's own
 * @param payload verified
 * @param isAccepted whether it was accepted before, with all its keys and members, by the same rules
 * @param seal the payload, if it was parsed already
 */
export function judgePayload(
  name: string,
  payload: string,
  rules: Rules,
  isAccepted = false,
  seal = parseSeal(payload),
): Verdict {
  if (seal === undefined || (!isAccepted && formatSeal(seal) !== payload)) {
    return refuse('its seal has a form that this version cannot read');
  }
  const wrong = whatIsWrong(seal, name, rules);
  if (wrong !== undefined) return refuse(wrong);
  const { ok, remarks } =
    seal.kind === 'person'
      ? judgeKeys(seal.keys, rules, isAccepted)
      : judgeMembers(seal.members, rules);
  return {
    ok: true,
    account: {
      isPerson: seal.kind === 'person',
      name: seal.name,
      uid: seal.uid,
      shell: seal.shell,
      gecos: seal.kind === 'tool' && REASON.test(seal.gecos) ? seal.gecos : '',
      isActive: seal.state === 'active' && (seal.kind === 'tool' || seal.member),
      list: ok.join(seal.kind === 'person' ? '\n' : ','),
      number: seal.number,
      until: Date.parse(seal.until),
      remark: remarks.length === 0 ? undefined : remarks.slice(0, MOST_REMARKS).join('; '),
    },
  };
}

function refuse(why: string): Verdict {
  return { ok: false, why };
}

function whatIsWrong(seal: Seal, name: string, rules: Rules): string | undefined {
  const { realm, ids, homes } = rules;
  if (seal.realm !== realm) return `its seal belongs to the realm ${shown(seal.realm)}`;
  if (seal.name !== name) return `its seal belongs to ${shown(seal.name)}`;
  const tool = toolOf(name, realm);
  const isOfKind = seal.kind === 'person' ? isShellName(name) : tool !== undefined;
  if (!isOfKind) return `its name is not allowed for a ${seal.kind}`;
  const isPerson = seal.kind === 'person';
  if (!isWithin(seal.uid, isPerson ? ids.people : ids.tools)) {
    return `its number ${seal.uid} is outside every range of ids.${isPerson ? 'people' : 'tools'}`;
  }
  const home = isPerson ? `${homes.people}/${name}` : `${homes.tools}/${tool}`;
  if (seal.home !== home) return `its home ${shown(seal.home)} is not ${home}`;
  if (!(isPerson ? PEOPLES_SHELLS : TOOLS_SHELLS).test(seal.shell)) {
    return `its shell ${shown(seal.shell)} is not allowed`;
  }
  if (Number.isNaN(Date.parse(seal.until))) return `its end ${shown(seal.until)} is not a time`;
  return undefined;
}

interface Judged {
  ok: string[];
  remarks: string[];
}

function judgeKeys(keys: string[], { knownBadKeys }: Rules, isAccepted: boolean): Judged {
  if (isAccepted) return { ok: keys, remarks: [] };
  const [ok, remarks]: [string[], string[]] = [[], []];
  const knownBad = new Set(knownBadKeys);
  for (const text of keys) {
    const verdict = parseSshKey(text, knownBad, true);
    if (!verdict.ok) {
      remarks.push(
        `a key is not accepted (${verdict.code}): ${verdict.sentence.replace(/\.$/, '')}`,
      );
    } else if ([verdict.key.options.join(','), verdict.key.line].join(' ').trimStart() !== text) {
      remarks.push('a key is not accepted: it is not in canonical form');
    } else ok.push(text);
  }
  return { ok, remarks };
}

function judgeMembers(members: string[], { realm }: Rules): Judged {
  const bad = members.filter((member) => !isAccountName(member, realm));
  if (bad.length === 0) return { ok: members, remarks: [] };
  return {
    ok: members.filter((member) => isAccountName(member, realm)),
    remarks: bad.map(
      (member) => `its member ${shown(member)} is not accepted: no account may have this name`,
    ),
  };
}

/** The name of an account has at most 81 characters. */
const MOST_SHOWN = 90;

/** Makes an untrusted text safe for a sentence, a log and a terminal. */
export function shown(text: string, most = MOST_SHOWN): string {
  const safe = text.slice(0, most).replace(/[^\x20-\x7e]/gu, '?');
  // a copy: a part of a string keeps the whole string, perhaps megabytes, in memory
  const copy = Buffer.from(safe, 'latin1').toString('latin1');
  return text.length > most ? `${copy}…` : copy;
}
