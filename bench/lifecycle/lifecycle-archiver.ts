/**
 * Archives one home by the writer of the role `homes`, and returns it to its place, at each message: a process
 * of its own, so that its memory can be measured. Reports how many milliseconds archiving took.
 */
import { lstatSync } from 'node:fs';
import { openFilesWriter } from '../../src/backends/files/file-writer.ts';
import type { FileServer } from '../../src/backends/files/file-mount.ts';

/** The arguments at its start. */
export interface Archiver {
  files: FileServer;
  archives: string;
  realm: string;
  name: string;
  uid: number;
}

const { files, archives, realm, name, uid } = JSON.parse(process.argv[2] ?? '{}') as Archiver;
const home = { area: 'toolHomes', name } as const;
const refuse = () => Promise.reject(new Error('no credentials are created here'));
const writer = openFilesWriter(
  files,
  { newPassword: () => '', recordVerifier: refuse },
  {
    ...{ folder: archives, realm },
    now: () => new Date(),
    readFingerprints: async () => [],
    record: async () => {},
    stillWanted: async () => true,
    report: async () => {},
    clear: async () => {},
  },
);

process.on('message', (archival: number) => {
  void archiveHome(archival).then(
    (ms) => process.send?.({ ms }),
    (error: unknown) => process.send?.({ error: String(error) + String((error as Error).cause) }),
  );
});

async function archiveHome(archival: number): Promise<number> {
  const { ino, gid, mode } = lstatSync(`${files.root}${files.toolHomes}/${name}`);
  const seen = { ino, uid, gid, mode: mode & 0o7777 };
  const which = { home, uid, archival };
  await writer.do({ verb: 'home.withdraw', ...which, seen });
  const begin = performance.now();
  await writer.do({ verb: 'home.archive', ...which });
  const ms = performance.now() - begin;
  await writer.do({ verb: 'home.return', ...which });
  return ms;
}
