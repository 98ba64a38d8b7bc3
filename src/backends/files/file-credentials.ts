/** Makes credentials and their file: the one place where a password is, besides the file itself. */
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

/** What the writer is given to make credentials with. */
export interface CredentialsWriter {
  newPassword(): string;
  /** records it and touches the role `databases`, in one transaction */
  recordVerifier(made: {
    account: number;
    epoch: number;
    verifier: string;
    /** whether others may know the password before */
    known: boolean;
  }): Promise<void>;
}

/**
 * In this order, so that a cut anywhere ends in another new password and never in two truths: the
 * file lasts where nobody sees it · its verifier is recorded · it gets its place. The rename
 * replaces whatever has the name, link or FIFO, and writes through nothing.
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
 * Finds out before the verifier is recorded whether the rename will do: a file that cannot be put
 * in place must not cost the account the password that it has. A change of mode to what it is
 * already is refused (EPERM) where an admin has made home or file immutable with chattr.
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

/** The errno of a connection to PostgreSQL says nothing about files. */
async function record(
  credentials: CredentialsWriter,
  ...[made]: Parameters<CredentialsWriter['recordVerifier']>
): Promise<void> {
  await credentials.recordVerifier(made).catch((cause: unknown) => {
    throw codeOf(cause) === 'INTERNAL' ? new Error('recording the verifier', { cause }) : cause;
  });
}

/** Opens a new file, and closes it in the end; one that a cut run has left is removed. */
async function withNew(path: string, use: (file: Opened) => Promise<void>): Promise<void> {
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
  rmSync(path, { force: true });
  await withOpened(path, flags, use);
}

/**
 * Acts through the magic link of what was looked at, without opening it: a lease cannot hold it
 * up, and what is swapped in is not touched. Never where it has another name as well.
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
