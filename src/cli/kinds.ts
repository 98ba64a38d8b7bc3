/** The kinds of request, with one line of description each. */
import { z } from 'zod';
import { REQUEST_KINDS, REQUEST_SCHEMAS, type RequestKind } from '../requests/schema.ts';

export const KIND_SUMMARIES: Record<RequestKind, string> = {
  'person.create': 'create a person',
  'person.update': 'change the display name or mail address of a person',
  'access.request': 'request access to the realm for a person; an admin decides',
  'access.grant': 'give a person access to the realm, whether requested or not',
  'access.refuse': 'refuse a request for access, with a reason',
  'access.revoke': "revoke a person's access to the realm",
  'key.add': 'add a public SSH key to a person',
  'key.remove': 'remove a key: name the key or its fingerprint',
  'tool.create': 'create a tool: account, group, home, database credentials',
  'tool.update': 'change the title of a tool',
  'maintainer.add': 'add one or more maintainers to a tool',
  'maintainer.remove': 'remove one or more maintainers from a tool',
  'credentials.rotate': 'make new database passwords: name a tool, a person or a server',
  'person.suspend': 'revoke all access of one or more people until they are reinstated',
  'person.reinstate': 'give a suspended person all their access back',
  'person.delete': 'archive and delete a person after the grace time; an admin must approve',
  'person.erase':
    'erase a suspended person for good, with all archives; a second admin must approve',
  'person.restore': 'restore a deleted person from the archives, without keys',
  'tool.disable': 'revoke all access of a tool; nothing is lost',
  'tool.enable': 'enable a disabled tool, or cancel its planned deletion',
  'tool.delete': 'disable a tool, and archive and delete it after the grace time',
  'tool.restore': 'restore a deleted tool from its archives',
  'subject.hold': 'prevent the deletion of a person or tool until a given day',
  'subject.release': 'lift a hold',
  'request.approve': 'approve a waiting request: name its id',
  'request.reject': 'reject a waiting request, with a reason',
};

/** A field of a kind, as an option of the command line. */
export interface Field {
  name: string;
  description: string;
  required: boolean;
  isList: boolean;
  /** takes no value: it is true if it is given */
  isSwitch: boolean;
}

/** The JSON Schema (2020-12) of a kind, for the request as a portal writes it. */
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

/** How many suggestions are made. */
const MOST_MEANT = 5;

/** A suggestion in brackets, ` (did you mean …?)`, or an empty text. */
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

/** Levenshtein's distance: how many letters must be inserted, removed or changed. */
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
