/** Creates credentials and their file: the only place that holds a password, besides the file itself. */
import {
  chmodSync,
  chownSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { unlink } from 'node:fs/promises';
import {
  CREDENTIALS_NAME,
  renderCredentialsFile,
  verifierOf,
} from '../../credentials/credentials.ts';
import type { Action } from '../../reconcile/action.ts';
import { codeOf } from '../../shared/errors.ts';
import {
  OPEN_TO_LOOK,
  errnoOf,
  itself,
  stale,
  within,
  withOpened,
  withSeen,
} from './file-mount.ts';
import type { Mount, Opened } from './file-mount.ts';

/** What the writer needs to create credentials. */
export interface CredentialsWriter {
  newPassword(): string;
  /** records it and touches the role `databases`, in one transaction */
  recordVerifier(made: {
    account: number;
    epoch: number;
    verifier: string;
    /** whether others may know the previous password */
    known: boolean;
  }): Promise<void>;
}

/**
 * The order is as follows, so that an interruption at any point leads to another new password, and never to two
 * different ones: the file is durable where nobody sees it; its verifier is recorded; the file gets its place.
 * The rename replaces whatever has the name, link or FIFO, and writes through nothing.
 */
export async function writeCredentials(
  { area, staging }: Mount,
  action: Extract<Action, { verb: 'credentials.write' }>,
  credentials: CredentialsWriter,
): Promise<void> {
  const { home, uid, epoch, user, seen, known = false } = action;
  await withSeen(area, home.name, { uid, ...(seen && { ino: seen.ino }) }, async (opened) => {
    const place = within(opened, CREDENTIALS_NAME);
    await refuseUnlessReplaceable(opened, staging);
    const staged = within(staging, `${home.name}.credentials`);
    await withNew(staged, async (file) => {
      try {
        const password = credentials.newPassword();
        writeFileSync(file.fd, renderCredentialsFile(user, password));
        await file.sync();
        await record(credentials, { account: uid, epoch, verifier: verifierOf(password), known });
        fchownSync(file.fd, uid, uid);
        fchmodSync(file.fd, 0o440);
        renameSync(staged, place);
      } catch (cause) {
        await unlink(staged).catch(() => {});
        throw cause;
      }
    });
    await opened.sync();
  });
}

/**
 * Finds out whether the rename will succeed before the verifier is recorded: if a file cannot be put in place,
 * the account must keep the password that it has. If an admin has made the home or the file immutable with
 * chattr, even setting the mode that it already has is refused (EPERM).
 */
async function refuseUnlessReplaceable(home: Opened, staging: Opened): Promise<void> {
  const [ofHome, ofStaging] = [fstatSync(home.fd), fstatSync(staging.fd)];
  if (ofHome.dev !== ofStaging.dev) throw new Error('the home is on a file system of its own');
  fchmodSync(home.fd, ofHome.mode & 0o7777);
  try {
    await withOpened(within(home, CREDENTIALS_NAME), OPEN_TO_LOOK, async (looked) => {
      const there = fstatSync(looked.fd);
      if (there.isDirectory()) throw stale(CREDENTIALS_NAME);
      if (there.isFile()) chmodSync(itself(looked), there.mode & 0o7777);
    });
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
  }
}

/** The errno of a connection to PostgreSQL must not be taken for one of a file. */
async function record(
  credentials: CredentialsWriter,
  ...[made]: Parameters<CredentialsWriter['recordVerifier']>
): Promise<void> {
  await credentials.recordVerifier(made).catch((cause: unknown) => {
    throw codeOf(cause) === 'INTERNAL' ? new Error('recording the verifier', { cause }) : cause;
  });
}

/** Opens a new file, and closes it in the end; removes one that an interrupted run has left. */
async function withNew(path: string, use: (file: Opened) => Promise<void>): Promise<void> {
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
  rmSync(path, { force: true });
  await withOpened(path, flags, use);
}

/**
 * Acts through the magic link of the file that was examined, without opening it: a lease cannot delay it, and a
 * file that is swapped in is not touched. Does nothing to a file that has another name as well.
 */
export async function ownCredentials(
  { area }: Mount,
  action: Extract<Action, { verb: 'credentials.own' }>,
): Promise<void> {
  const { home, seen, file, uid, mode } = action;
  await withSeen(area, home.name, seen, (opened) =>
    withOpened(within(opened, CREDENTIALS_NAME), OPEN_TO_LOOK, async (looked) => {
      const now = fstatSync(looked.fd);
      const same = now.isFile() && now.nlink === 1 && now.ino === file.ino && now.uid === file.uid;
      if (!same) throw stale(CREDENTIALS_NAME);
      chmodSync(itself(looked), mode);
      chownSync(itself(looked), uid, uid);
    }),
  );
}
