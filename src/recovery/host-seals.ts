/**
 * What a login host remembers, as evidence: its file `seals` (src/login-host/helper/seal-journal.ts). Each line is a seal that it
 * has taken, signed as it stood in the directory, or says that somebody is gone. The last line of a subject counts. Pure.
 */
import { parseSeal, verifyPayload, type Seal, type SealKeys } from '../seals/seal.ts';
import type { Shown } from './evidence.ts';

/** One that is only missing was taken from the host's view by nothing signed. */
const GONE = /^(gone|missing) (\d+) (\S+) (\d+)$/;

export interface HostSeals {
  shown: Shown[];
  /** accounts that our database does not know: their numbers and names were given */
  unknown: { uid: number; account: string }[];
  /** how many lines were no seal that these keys have signed */
  refused: number;
}

/**
 * What is newer than our database knows.
 *
 * @param host for people: whose file it is
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
  // behind the last line there is room of NUL bytes
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
