/** The demo's scenario: each request of requests.jsonl in a sentence, and the verdict that it must have. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Code } from '../../src/shared/errors.ts';

export const REQUESTS_FILE = join(import.meta.dirname, 'requests.jsonl');

/** One line of requests.jsonl. */
export interface DemoRequest {
  readonly id: string;
  readonly kind: string;
  readonly requestedBy: string;
  /** the line itself */
  readonly line: string;
}

export interface Scene {
  readonly request: DemoRequest;
  readonly sentence: string;
  readonly expect: 'accepted' | Code;
}

/** How a portal sends a request. */
export type Way = 'queue' | 'http';

export interface Chapter {
  readonly title: string;
  readonly way: Way;
  readonly scenes: readonly Scene[];
}

type Line = readonly [sentence: string, expect?: Code];

// In the order of requests.jsonl.
const CHAPTERS: readonly { title: string; way: Way; sentences: readonly Line[] }[] = [
  {
    title: 'People sign up',
    way: 'queue',
    sentences: [
      ['alice signs up, with an SSH key'],
      ['bob signs up'],
      ['carol signs up'],
      ['the admin creates an account for dave'],
    ],
  },
  {
    title: 'People ask for access to the realm, and get it',
    way: 'http',
    sentences: [
      ['alice asks for access'],
      ['the admin grants it'],
      ['the admin gives bob access without a request'],
      ['and dave'],
      ['carol asks, and waits'],
    ],
  },
  {
    title: 'People create tools',
    way: 'queue',
    sentences: [
      ['alice creates the tool bridgebot'],
      ['bob becomes its second maintainer'],
      ['bob creates archivebot, and bridgebot maintains it'],
      ['dave becomes a maintainer of archivebot'],
    ],
  },
  {
    title: 'Things change, and some access is revoked',
    way: 'queue',
    sentences: [
      ['bob adds a key, for one network only'],
      ['alice adds a key'],
      ['alice has lost that phone: the key is removed'],
      ['alice changes her address'],
      ['bridgebot gets a better title'],
      ['bob wants a new database password for bridgebot'],
      ['dave has left: his access is revoked'],
    ],
  },
  {
    title: 'Some requests must be refused, and leave nothing behind',
    way: 'http',
    sentences: [
      ['a person called docker', 'NAME_RESERVED'],
      ['a second bridgebot', 'NAME_TAKEN'],
      ['and in another case', 'NAME_TAKEN'],
      ['a name that leads out of its folder', 'NAME_INVALID'],
      ["a person with alice's name in capitals", 'NAME_TAKEN'],
      ['a tool for carol, who has no access', 'PERSON_NOT_REALM_MEMBER'],
      ['dave, who has left, wants to maintain bridgebot', 'NOT_ALLOWED'],
      ['alice, who is no admin, grants access', 'NOT_ALLOWED'],
      ['an unknown maintainer', 'PERSON_UNKNOWN'],
      ['alice makes herself an admin', 'ADMIN_TOOL'],
      ['carol pastes her private key', 'KEY_PRIVATE'],
      ["carol adds alice's key", 'KEY_TAKEN'],
      ['a second key behind a newline', 'KEY_MALFORMED'],
      ['a key with a command in front', 'KEY_OPTION'],
      ['a key that carol does not have', 'KEY_UNKNOWN'],
      ["bob changes alice's address", 'NOT_ALLOWED'],
    ],
  },
];

/** Reads requests.jsonl, and assigns its lines to the chapters. Throws if the two do not match. */
export function readScenario(): Chapter[] {
  const requests = readFileSync(REQUESTS_FILE, 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => ({ ...(JSON.parse(line) as Omit<DemoRequest, 'line'>), line }));
  const lines = requests.values();
  const chapters = CHAPTERS.map(({ title, way, sentences }) => ({
    ...{ title, way },
    scenes: sentences.map(([sentence, expect]) => {
      const request = lines.next().value;
      if (request === undefined)
        throw new Error(`${REQUESTS_FILE} has no request for "${sentence}"`);
      return { request, sentence, expect: expect ?? ('accepted' as const) };
    }),
  }));
  const left = lines.next().value;
  if (left !== undefined) throw new Error(`the scenario has no sentence for ${left.id}`);
  return chapters;
}
