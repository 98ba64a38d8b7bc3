/** The SQL that grants each of our logins its rights: migrations/roles.sql, and what each role adds of its own. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ARCHIVING_ROLES, REGISTRY, ROLES } from '../roles/index.ts';
import { loginOf, POSTGRES_ROLES, readerOf } from './connection.ts';

/** The logins that a word in roles.sql stands for. */
const EACH = {
  EACH_LOGIN: POSTGRES_ROLES,
  EACH_ROLE: ROLES,
  EACH_READER: ROLES.map(readerOf),
  EACH_ARCHIVER: ARCHIVING_ROLES,
  EACH_ARCHIVE_READER: ARCHIVING_ROLES.map(readerOf),
} as const;

/** @param folder `migrations` */
export function readRights(folder: string): string {
  const text = readFileSync(join(folder, 'roles.sql'), 'utf8').replaceAll(
    /\bEACH_[A-Z_]+\b/gu,
    (word) => EACH[word as keyof typeof EACH].map(loginOf).join(', '),
  );
  return [text, ...REGISTRY.map(({ rights = '' }) => rights)].join('\n');
}
