/**
 * A writer of databases in a process of its own, which a test can kill or isolate: does the action that the
 * variable ARCHIVE_WRITER gives as JSON, `{realm, action}`, and writes how that ended. An argument would show the
 * password in `realm` to every process of the machine, and secrets.test.ts looks for it there. It is next to its
 * tests, because it needs no PostgreSQL.
 */
import {
  openArchiveWriter,
  type ArchiveAction,
} from '../../src/archives/databases/mariadb-archive.ts';
import type { ArchiveRealm } from '../../src/archives/databases/mariadb-archiving.ts';
import { codeOf, describeError } from '../../src/shared/errors.ts';

const given = process.env['ARCHIVE_WRITER'] ?? '';
const { realm, action } = JSON.parse(given) as { realm: ArchiveRealm; action: ArchiveAction };
const writer = openArchiveWriter(realm, {
  now: () => new Date(),
  readFingerprints: async () => [],
  newPassword: () => 'unused',
  readVerifiers: () => Promise.resolve([]),
  stillWanted: () => Promise.resolve(true),
  record: () => Promise.resolve(),
  report: () => Promise.resolve(),
  clear: () => Promise.resolve(),
});
const end = await writer.do(action).then(
  () => 'done',
  (error: unknown) => `${codeOf(error)} ${describeError(error)}`,
);
process.stdout.write(`${end}\n`);
await writer.close();
