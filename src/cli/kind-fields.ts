/** The fields of each kind of request, as a portal writes them and as options of the command line. */
import * as z from 'zod';
import type { RequestKind } from '../requests/kinds.ts';
import { REQUEST_SCHEMAS } from '../requests/schema.ts';

/** A field of a kind, as an option of the command line. */
export interface Field {
  name: string;
  description: string;
  required: boolean;
  isList: boolean;
  isNumber: boolean;
  /** takes no value: it is true if it is given */
  isSwitch: boolean;
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
      isNumber: type === 'integer',
      isSwitch: type === 'boolean',
    }));
}
