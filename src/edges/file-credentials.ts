/** Makes credentials and their file: the one place where a password is, besides the file itself. */
import { constants } from 'node:fs';
import { chmod, chown, open, rename, unlink } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { CREDENTIALS_NAME, renderCredentialsFile, verifierOf } from '../model/credentials.ts';
import type { Action } from '../plan/action.ts';
import { codeOf } from '../errors.ts';
import {
  OPEN_TO_LOOK,
  errnoOf,
  itself,
  stale,
  within,
  withOpened,
  withSeen,
} from './file-ground.ts';
import type { Ground } from './file-ground.ts';

/** What the hands are given to make credentials with. */
export interface CredentialsHands {
  newPassword(): string;
  /** records it and raises the role `databases`, in one transaction */
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
  { area, staging }: Ground,
  action: Extract<Action, { verb: 'credentials.write' }>,
  credentials: CredentialsHands,
): Promise<void> {
  const { home, uid, epoch, user, seen, known = false } = action;
  await withSeen(area, home.name, { uid, ...(seen && { ino: seen.ino }) }, async (opened) => {
    const place = within(opened, CREDENTIALS_NAME);
    await refuseUnlessReplaceable(opened, staging);
    const staged = within(staging, `${home.name}.credentials`);
    const file = await openNew(staged);
    try {
      const password = credentials.newPassword();
      await file.writeFile(renderCredentialsFile(user, password));
      await file.sync();
      await record(credentials, { account: uid, epoch, verifier: verifierOf(password), known });
      await file.chown(uid, uid);
      await file.chmod(0o440);
      await rename(staged, place);
    } catch (cause) {
      await unlink(staged).catch(() => {});
      throw cause;
    } finally {
      await file.close();
    }
    await opened.sync();
  });
}

/**
 * Finds out before the verifier is recorded whether the rename will do: a file that cannot be put
 * in place must not cost the account the password that it has. A change of mode to what it is
 * already is refused (EPERM) where an admin has made home or file immutable with chattr.
 */
async function refuseUnlessReplaceable(home: FileHandle, staging: FileHandle): Promise<void> {
  const [ofHome, ofStaging] = await Promise.all([home.stat(), staging.stat()]);
  if (ofHome.dev !== ofStaging.dev) throw new Error('the home is on a file system of its own');
  await home.chmod(ofHome.mode & 0o7777);
  try {
    await withOpened(within(home, CREDENTIALS_NAME), OPEN_TO_LOOK, async (looked) => {
      const there = await looked.stat();
      if (there.isDirectory()) throw stale(CREDENTIALS_NAME);
      if (there.isFile()) await chmod(itself(looked), there.mode & 0o7777);
    });
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
  }
}

/** The errno of a connection to PostgreSQL says nothing about files. */
async function record(
  credentials: CredentialsHands,
  ...[made]: Parameters<CredentialsHands['recordVerifier']>
): Promise<void> {
  await credentials.recordVerifier(made).catch((cause: unknown) => {
    throw codeOf(cause) === 'INTERNAL' ? new Error('recording the verifier', { cause }) : cause;
  });
}

async function openNew(path: string): Promise<FileHandle> {
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
  try {
    return await open(path, flags, 0o600);
  } catch (error) {
    if (errnoOf(error) !== 'EEXIST') throw error;
    await unlink(path);
    return await open(path, flags, 0o600);
  }
}

/**
 * Acts through the magic link of what was looked at, without opening it: a lease cannot hold it
 * up, and what is swapped in is not touched. Never where it has another name as well.
 */
export async function ownCredentials(
  { area }: Ground,
  action: Extract<Action, { verb: 'credentials.own' }>,
): Promise<void> {
  const { home, seen, file, uid, mode } = action;
  await withSeen(area, home.name, seen, (opened) =>
    withOpened(within(opened, CREDENTIALS_NAME), OPEN_TO_LOOK, async (looked) => {
      const now = await looked.stat();
      const same = now.isFile() && now.nlink === 1 && now.ino === file.ino && now.uid === file.uid;
      if (!same) throw stale(CREDENTIALS_NAME);
      await chmod(itself(looked), mode);
      await chown(itself(looked), uid, uid);
    }),
  );
}
