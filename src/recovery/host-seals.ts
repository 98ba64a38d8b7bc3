/**
 * What a login host remembers, as evidence: its file `seals` (src/login-host/helper/seal-journal.ts). Each line is a
 * seal that the host accepted, as it was signed in the directory, or says that a subject is gone. The last line about a
 * subject counts. Pure.
 */
import { parseSeal, verifyPayload, type Seal, type SealKeys } from '../seals/seal.ts';
import type { Shown } from './evidence.ts';

/** `missing`: the subject disappeared from the host's view without a signed statement. */
const GONE = /^(gone|missing) (\d+) (\S+) (\d+)$/;

export interface HostSeals {
  shown: Shown[];
  /** accounts that our database does not know, whose numbers and names were in use */
  unknown: { uid: number; account: string }[];
  /** the number of lines that are not a seal signed with these keys */
  refused: number;
}

/**
 * Reads the seals that are newer than our database.
 *
 * @param host the host of the file, for people to read
 * @param known the number of each subject's seal, by uid
 */
export function readHostSeals(
  text: string,
  host: string,
  keys: SealKeys,
  known: ReadonlyMap<number, number>,
): HostSeals {
  const last = new Map<number, Shown>();
  const unknown = new Map<number, string>();
  let refused = 0;
  // after the last line, the file has free space of NUL bytes
  for (const line of text.split('\n').filter((each) => each !== '' && !each.startsWith('\0'))) {
    const gone = GONE.exec(line);
    if (gone !== null) {
      const [subject, number] = [Number(gone[2]), Number(gone[4])];
      if (!known.has(subject)) unknown.set(subject, gone[3] ?? '');
      const isNewer = number >= (known.get(subject) ?? Number.POSITIVE_INFINITY);
      if (gone[1] === 'missing' || !isNewer) last.delete(subject);
      else last.set(subject, { subject, by: `${host}, where it is gone`, closed: 'directory' });
      continue;
    }
    const seal = sealOf(line, keys);
    if (seal === undefined) {
      refused += 1;
      continue;
    }
    last.delete(seal.uid);
    if (!known.has(seal.uid)) unknown.set(seal.uid, seal.name);
    if (seal.number > (known.get(seal.uid) ?? Number.POSITIVE_INFINITY)) {
      last.set(seal.uid, { subject: seal.uid, by: `its seal ${seal.number} on ${host}`, seal });
    }
  }
  return {
    shown: [...last.values()],
    unknown: [...unknown].map(([uid, account]) => ({ uid, account })),
    refused,
  };
}

function sealOf(line: string, keys: SealKeys): Seal | undefined {
  const verified = verifyPayload(line.replace(/^[!?]/u, ''), keys);
  return verified.ok ? parseSeal(verified.payload) : undefined;
}
