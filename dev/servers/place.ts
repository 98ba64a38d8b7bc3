import { createHash } from 'node:crypto';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';

/** The folders of one stack: `dir` belongs to root; servers and tenants must be able to reach `servers`. */
export interface Place {
  readonly dir: string;
  readonly secrets: string;
  readonly keys: string;
  readonly configFile: string;
  readonly servers: string;
  /** Stands for the file server's `/`: holds `data/project` and `home`. */
  readonly dataRoot: string;
  /** A name that no other folder on this machine has. */
  readonly mark: string;
}

/**
 * sun_path holds 107 bytes and an end (unix(7)); the longest name under a place's servers folder is
 * `/mariadb-replica/run/mariadb.sock`.
 */
const MAX_SERVERS_PATH_BYTES = 107 - '/mariadb-replica/run/mariadb.sock'.length;

/**
 * The place of the stack in DIR: DIR itself, or a folder of its own under /var/tmp, named after DIR, if
 * unprivileged users cannot enter DIR or its path is too long or too unusual for the servers. Undefined if
 * there is no DIR.
 */
export function findPlace(dir: string): Place | undefined {
  if (!existsSync(resolve(dir))) return undefined;
  const real = realpathSync(resolve(dir));
  const mark = createHash('sha256').update(real).digest('hex').slice(0, 12);
  const inside = join(real, 'servers');
  const servers = isInside(real, inside) ? inside : `/var/tmp/chamberlain-${mark}`;
  return {
    dir: real,
    secrets: join(real, 'secrets'),
    keys: join(real, 'keys'),
    configFile: join(real, 'config.yaml'),
    servers,
    dataRoot: join(servers, 'root'),
    mark,
  };
}

/** Like findPlace, but creates the folders. */
export function makePlace(dir: string): Place {
  mkdirSync(resolve(dir), { recursive: true, mode: 0o755 });
  const place = findPlace(dir);
  if (place === undefined) throw new Error(`cannot make ${dir}`);
  const inside = join(place.dir, 'servers');
  makeOwnFolder(place.servers);
  if (place.servers !== inside) link(place.servers, inside);
  mkdirSync(place.secrets, { recursive: true, mode: 0o700 });
  mkdirSync(place.keys, { recursive: true, mode: 0o700 });
  return place;
}

/** Deletes a place and all data in it. Its servers must have ended. */
export function purgePlace(place: Place): void {
  rmSync(place.servers, { recursive: true, force: true });
  rmSync(place.dir, { recursive: true, force: true });
}

/** A decision that was made once stays, whatever became of DIR's modes, because the data is there. */
function isInside(dir: string, inside: string): boolean {
  const existing = lstatSync(inside, { throwIfNoEntry: false });
  if (existing !== undefined) return !existing.isSymbolicLink();
  // the configuration of most servers cannot quote names
  if (!/^[\w./-]+$/.test(inside)) return false;
  return inside.length <= MAX_SERVERS_PATH_BYTES && othersMayEnter(dir);
}

function othersMayEnter(folder: string): boolean {
  for (let at = folder; ; at = dirname(at)) {
    if ((statSync(at).mode & 0o001) === 0) return false;
    if (at === dirname(at)) return true;
  }
}

/**
 * Creates a folder, or takes an existing one if it is ours: in a place where everybody may write, somebody else could have
 * created it first.
 */
export function makeOwnFolder(folder: string): void {
  try {
    mkdirSync(folder, { mode: 0o755 });
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') throw cause;
    const seen = lstatSync(folder);
    if (!seen.isDirectory() || seen.uid !== process.getuid?.()) {
      throw new Error(`${folder} already exists, but is not a folder of this user`, { cause });
    }
  }
}

function link(target: string, at: string): void {
  if (lstatSync(at, { throwIfNoEntry: false }) === undefined) symlinkSync(target, at);
}
