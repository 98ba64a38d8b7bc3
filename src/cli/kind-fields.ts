/** The fields of each kind of request, as a portal writes them and as options of the command line. */
import * as z from 'zod';
import type { RequestKind } from '../requests/kinds.ts';
import { REQUEST_SCHEMAS } from '../requests/schema.ts';

/** A field of a kind, as an option of the command line. */
export interface Field {
  name: string;
  description: string;
  required: boolean;
  /** what follows the name of the option in its help, such as `<a,b>`; in square brackets if it may be left out */
  value: string;
  /** What a text on the command line stands for. Where it stands for nothing, it stays, and the schema refuses it. */
  read: (text: string) => unknown;
}

interface Schema {
  description?: string;
  type?: string;
  const?: unknown;
  anyOf?: Schema[];
}

/** The fields of a kind, without `kind` and `requestedBy`, which every kind has. */
export function fieldsOf(kind: RequestKind): Field[] {
  const { properties, required } = z.toJSONSchema(REQUEST_SCHEMAS[kind], { io: 'input' }) as {
    properties: Record<string, Schema>;
    required?: string[];
  };
  return Object.entries(properties)
    .filter(([name]) => name !== 'kind' && name !== 'requestedBy')
    .map(([name, schema]) => ({
      name,
      description: schema.description ?? '',
      required: required?.includes(name) === true,
      ...readerOf(schema),
    }));
}

function readerOf(schema: Schema): Pick<Field, 'value' | 'read'> {
  const choices = schema.anyOf ?? [schema];
  const words = choices.flatMap(({ const: word }) => (typeof word === 'string' ? [word] : []));
  const types = choices.map(({ type }) => type);
  if (types.includes('array')) {
    return {
      value: `<${[...words, 'a,b'].join('|')}>`,
      read: (text) => (words.includes(text) ? text : splitList(text)),
    };
  }
  if (types.includes('boolean')) {
    return {
      value: '[true|false]',
      read: (text) => (text === 'true' ? true : text === 'false' ? false : text),
    };
  }
  if (types.includes('integer')) {
    return { value: '<value>', read: (text) => (/^\d+$/u.test(text) ? Number(text) : text) };
  }
  return { value: '<value>', read: (text) => text };
}

function splitList(text: string): string[] {
  return text
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '');
}
