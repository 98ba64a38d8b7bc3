/** The kinds of request as people know them: one line each. */
import { z } from 'zod';
import { REQUEST_KINDS, REQUEST_SCHEMAS, type RequestKind } from '../requests/schema.ts';

export const KIND_SUMMARIES: Record<RequestKind, string> = {
  'person.create': 'a new person',
  'person.update': 'another display name or mail address',
  'access.request': 'a person asks for access to the realm; an admin decides',
  'access.grant': 'admit a person to the realm, asked or unasked',
  'access.refuse': 'refuse a request for access, with a reason',
  'access.revoke': 'take the access to the realm away from a person',
  'key.add': 'a public SSH key for a person',
  'key.remove': 'take a key away: name the key or its fingerprint',
  'tool.create': 'a new tool: account, group, home, database credentials',
  'tool.update': 'another title for a tool',
  'maintainer.add': 'a further person, or further maintainers, of a tool',
  'maintainer.remove': 'a person, or some maintainers, less',
  'credentials.rotate': 'a new database password: name a tool, a person or a server',
  'person.suspend': 'close every door of a person, or of many, until reinstated',
  'person.reinstate': 'give a suspended person everything back',
  'person.delete': 'put a person away after the grace time; an admin approves',
  'person.erase': 'erase a suspended person for good, archives too; a second admin approves',
  'person.restore': 'bring a deleted person back from the archives, without keys',
  'tool.disable': 'close every door of a tool; nothing is lost',
  'tool.enable': 'open a disabled tool again, or one that is to be deleted',
  'tool.delete': 'disable a tool, and put it away when the grace time is over',
  'tool.restore': 'bring a deleted tool back from its archive',
  'subject.hold': 'keep a person or a tool from being deleted until a day',
  'subject.release': 'lift a hold',
  'request.approve': 'let a request that waits be done: name its id',
  'request.reject': 'refuse a request that waits, with a reason',
};

/** A field of a kind, as a flag shows it. */
export interface Field {
  name: string;
  description: string;
  required: boolean;
  isList: boolean;
  /** true where it is given, and takes no value */
  isSwitch: boolean;
}

/** The JSON Schema of a kind (2020-12), of the request as a portal writes it. */
export function schemaOf(kind: RequestKind): Record<string, unknown> {
  return {
    title: kind,
    description: KIND_SUMMARIES[kind],
    ...z.toJSONSchema(REQUEST_SCHEMAS[kind], { io: 'input' }),
  };
}

/** The fields of a kind, without `kind` and `requestedBy`, which every kind has. */
export function fieldsOf(kind: RequestKind): Field[] {
  const { properties, required } = z.toJSONSchema(REQUEST_SCHEMAS[kind], { io: 'input' }) as {
    properties: Record<string, { description?: string; type?: string }>;
    required?: string[];
  };
  return Object.entries(properties)
    .filter(([name]) => name !== 'kind' && name !== 'requestedBy')
    .map(([name, { description, type }]) => ({
      name,
      description: description ?? '',
      required: required?.includes(name) === true,
      isList: type === 'array',
      isSwitch: type === 'boolean',
    }));
}

/** Whether a text is the name of a kind. */
export function isKind(text: string): text is RequestKind {
  return (REQUEST_KINDS as readonly string[]).includes(text);
}

/** More of them would help nobody. */
const MOST_MEANT = 5;

/** What may have been meant, in brackets: ` (did you mean …?)`. */
export function suggest(text: string, names: readonly string[]): string {
  const close = nearest(text, names);
  return close.length > 0 ? ` (did you mean ${close.join(' or ')}?)` : '';
}

/** A few names that begin with the text, else those nearest to it. */
export function nearest(text: string, names: readonly string[]): string[] {
  let close = text.length > 2 ? names.filter((name) => name.startsWith(text)) : [];
  if (close.length === 0) {
    const distances = names.map((name) => distance(text, name));
    const least = Math.min(2, ...distances);
    close = names.filter((_, index) => distances[index] === least);
  }
  return close.slice(0, MOST_MEANT);
}

/** Levenshtein's distance: how many letters must be put in, taken out or changed. */
function distance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, column) => column);
  for (let i = 1; i <= from.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= to.length; j += 1) {
      const changed = (row[j - 1] ?? 0) + (from[i - 1] === to[j - 1] ? 0 : 1);
      next.push(Math.min(changed, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[to.length] ?? 0;
}
