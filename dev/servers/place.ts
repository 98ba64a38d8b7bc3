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

/** Where one stack keeps what: `dir` is root's own, `servers` is where servers and tenants must get to. */
export interface Place {
  readonly dir: string;
  readonly secrets: string;
  readonly keys: string;
  readonly configFile: string;
  readonly servers: string;
  /** What stands for the file server's `/`: holds `data/project` and `home`. */
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
 * Where the files of the stack in DIR lie: in DIR itself, or in a folder of their own under /var/tmp, named
 * after DIR, where unprivileged users cannot enter DIR or its path is too long or too odd for the servers.
 * Undefined where there is no DIR.
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

/** As findPlace, and makes the folders. */
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

/** What was decided once stays, whatever became of DIR's modes: the data lies there. */
function isInside(dir: string, inside: string): boolean {
  const standing = lstatSync(inside, { throwIfNoEntry: false });
  if (standing !== undefined) return !standing.isSymbolicLink();
  // Most of the servers' own configuration knows no quotes.
  if (!/^[\w./-]+$/.test(inside)) return false;
  return inside.length <= MAX_SERVERS_PATH_BYTES && othersMayEnter(dir);
}

function othersMayEnter(folder: string): boolean {
  for (let at = folder; ; at = dirname(at)) {
    if ((statSync(at).mode & 0o001) === 0) return false;
    if (at === dirname(at)) return true;
  }
}

/** Makes a folder, or takes the one that is there if it is ours: in /var/tmp another could have been first. */
function makeOwnFolder(folder: string): void {
  try {
    mkdirSync(folder, { mode: 0o755 });
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') throw cause;
    const seen = lstatSync(folder);
    if (!seen.isDirectory() || seen.uid !== process.getuid?.()) {
      throw new Error(`${folder} is there already and is not a folder of this user`, { cause });
    }
  }
}

function link(target: string, at: string): void {
  if (lstatSync(at, { throwIfNoEntry: false }) === undefined) symlinkSync(target, at);
}
