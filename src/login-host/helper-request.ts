/**
 * What the root helper of a login host is asked, and how it answers.
 *
 * On a unix socket a client sends one request, lines of UTF-8 that each end in a line end, and half-closes;
 * the helper answers with one line and closes.
 *
 * | request                               | does                                                             |
 * | ------------------------------------- | ---------------------------------------------------------------- |
 * | lines `forget <name>`, `end <uid>`,   | has sssd forget the account, its group and the sudo rules;       |
 * | 10,000 at most                        | ends the sessions of a person, and what runs as a tool           |
 * | `passwd <count>`, then so many lines  | makes `passwd.db`; lines that do not fit are left out            |
 * | of passwd(5), 32 MiB at most          |                                                                  |
 *
 * | answer                | means                                                                |
 * | --------------------- | -------------------------------------------------------------------- |
 * | `ok`                  | all is done                                                          |
 * | `ok left out <n>: …`  | done but for n lines of passwd; the first, and why                   |
 * | `refused: <sentence>` | the request is outside the grammar, and nothing was done; or it failed |
 *
 * The count is there because a client that is killed while it writes looks like one that has ended:
 * half a list must not replace a whole one.
 */
import type { LoginHostConfig } from './config.ts';
import { isAccountName, isWithin } from './account-names.ts';
import type { LocalAccounts } from './passwd-list.ts';

const MAX_LINES = 10_000;

export type HelperRequest =
  { verb: 'accounts'; forget: string[]; end: number[] } | { verb: 'passwd'; lines: string[] };

/** Reads a request; a sentence where anything in it is outside the grammar. */
export function parseRequest(
  body: Buffer,
  config: Pick<LoginHostConfig, 'realm' | 'ids'>,
  local: LocalAccounts,
): HelperRequest | string {
  let request: string;
  try {
    request = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(body);
  } catch {
    return 'the request is not UTF-8';
  }
  if (!request.endsWith('\n')) return 'the request does not end in a line end';
  const lines = request.slice(0, -1).split('\n');
  const count = /^passwd (0|[1-9][0-9]{0,9})$/.exec(lines[0] ?? '')?.[1];
  if (count !== undefined) {
    return lines.length - 1 === Number(count)
      ? { verb: 'passwd', lines: lines.slice(1) }
      : `the list has ${lines.length - 1} lines, not ${count}`;
  }
  if (lines.length > MAX_LINES) return `the request has more than ${MAX_LINES} lines`;
  const forget: string[] = [];
  const end: number[] = [];
  for (const [index, line] of lines.entries()) {
    const [verb, argument = '', ...more] = line.split(' ');
    if (more.length > 0) return `line ${index + 1} is no line of a request`;
    if (verb === 'forget') {
      if (!isAccountName(argument, config.realm)) return `line ${index + 1} has no account's name`;
      forget.push(argument);
    } else if (verb === 'end') {
      const uid = /^[1-9][0-9]{0,9}$/.test(argument) ? Number(argument) : 0;
      if (!isWithin(uid, config.ids.people) && !isWithin(uid, config.ids.tools)) {
        return `line ${index + 1} has no uid of a person or tool`;
      }
      if (local.uids.has(uid)) return `line ${index + 1} has the uid of a local account`;
      end.push(uid);
    } else {
      return `line ${index + 1} is no line of a request`;
    }
  }
  return { verb: 'accounts', forget, end };
}
