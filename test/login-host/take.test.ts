/** `take` as a whole program, in a mount namespace. What others do meanwhile: take-races.test.ts. */
import { linkSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals';
import {
  ALICE,
  BOB,
  DAEMON,
  REALM_GID,
  X,
  Y,
  makeDirectory,
  makeFile,
  ownerOf,
  ownership,
  quote,
  startTakeHost,
} from './take-host.ts';
import type { TakeHost } from './take-host.ts';

const DONE = { code: 0, stdout: '', stderr: '' };

let host: TakeHost;
let home: string;
let homes = 0;

beforeAll(async () => {
  host = await startTakeHost();
});
afterAll(async () => await host.stop());
beforeEach(() => {
  homes += 1;
  makeDirectory(host.path(`${homes}`), 0, 0, 0o755);
  home = makeDirectory(host.path(`${homes}/x`), X, X);
});

const refusal = (...lines: string[]) => ({
  code: 1,
  stdout: '',
  stderr: lines.map((line) => `take: ${line}\n`).join(''),
});

describe('what a person has put into a home', () => {
  test('becomes the tool’s, with all that is in it; groups and modes stay', () => {
    const umask =
      'umask 022; mkdir -p site/a/b; echo x >site/a/b/f; echo y >site/g; chmod 600 site/g';
    host.as(ALICE, home, `${umask}; ln -s a/b/f site/link; ln -s /nowhere site/dangling`);
    expect(ownership(`${home}/site/a/b/f`)).toBe(`${ALICE}:${X} 644`);

    expect(host.take(X, home, ['site'])).toEqual(DONE);

    expect(ownership(`${home}/site`)).toBe(`${X}:${X} 2755`);
    expect(ownership(`${home}/site/a/b`)).toBe(`${X}:${X} 2755`);
    expect(ownership(`${home}/site/a/b/f`)).toBe(`${X}:${X} 644`);
    expect(ownership(`${home}/site/g`)).toBe(`${X}:${X} 600`);
    expect(ownerOf(`${home}/site/link`)).toBe(X);
    expect(ownerOf(`${home}/site/dangling`)).toBe(X);
    expect(host.take(X, home, ['site'])).toEqual(DONE);
  });

  test('may have names of any bytes, also on the command line', () => {
    const odd = [
      Buffer.from('\u00e4 \n-rf'),
      Buffer.from([0x61, 0xff, 0xfe]),
      Buffer.from('$(x)*'),
    ];
    const inHome = (name: Buffer) => Buffer.concat([Buffer.from(`${home}/`), name]);
    const inTree = (name: Buffer) => Buffer.concat([Buffer.from(`${home}/tree/`), name]);
    makeDirectory(`${home}/tree`, ALICE, X);
    for (const name of odd) {
      makeFile(inHome(name), ALICE, X);
      makeFile(inTree(name), ALICE, X);
    }
    makeFile(`${home}/-v`, ALICE, X);

    const names = `tree './-v' "$(printf '\\303\\244 \\n-rf')" "$(printf 'a\\377\\376')" '$(x)*'`;
    expect(host.takeByShell(X, home, (take) => `${take} ${names}`)).toEqual(DONE);

    for (const name of odd) expect([ownerOf(inHome(name)), ownerOf(inTree(name))]).toEqual([X, X]);
    expect(ownerOf(`${home}/-v`)).toBe(X);
  });

  test('is refused by names that are fit for a terminal', () => {
    const odd = [Buffer.from('\u001b[31m\u202e\\'), Buffer.from([0x61, 0xff])];
    for (const name of odd)
      makeFile(Buffer.concat([Buffer.from(`${home}/`), name]), ALICE, Y, 0o4755);
    const why = 'it is setuid or setgid: its owner can run `chmod ug-s`';
    const { code, stderr } = host.take(X, home, ['.']);
    expect(code).toBe(1);
    expect(stderr.split('\n').sort()).toEqual([
      '',
      `take: ./\\x1b[31m\\u{202e}\\\\: ${why}`,
      `take: ./a\\xff: ${why}`,
    ]);
  });

  test('is counted for who looks on', () => {
    host.as(ALICE, home, 'mkdir -p site/a; echo x >site/a/f; ln -s f site/link');
    const look = (name: string, meddling?: string) =>
      host.takeByShell(
        X,
        home,
        (take) => `script -qec ${quote(`${take} ${name}`)} /dev/null </dev/null`,
        meddling,
      ).stdout;
    expect(look('site')).toBe('took 1 file, 2 directories and 1 link\r\n');
    expect(look('site')).toBe('took nothing: everything was yours already, or was refused\r\n');
    const hasHurry = `let nowMs = 0; performance.now = () => (nowMs += 600);`;
    expect(look('site', `data:text/javascript,${encodeURIComponent(hasHurry)}`)).toContain(
      '\rtake: 3 checked\r\u001b[Ktook nothing',
    );
  });
});

test('a person takes what lies in a directory of the person’s', () => {
  const mine = makeDirectory(`${home}/of-alice`, ALICE, X);
  makeFile(`${mine}/f`, BOB, X);
  expect(host.take(ALICE, mine, ['f'])).toEqual(DONE);
  expect(ownership(`${mine}/f`)).toBe(`${ALICE}:${X} 664`);
});

describe('names', () => {
  test('are relative, absolute, with slashes, dots and double dots', () => {
    makeDirectory(`${home}/sub/deep`, X, X);
    const names = ['a', 'b', 'c', 'd', 'e'];
    for (const name of names) makeFile(`${home}/${name}`, ALICE, X);
    makeDirectory(`${home}/f`, ALICE, X);
    const words = ['../a', './/..//b', `${home}/c`, 'deep/../../d', `${home}/sub/../e`, '../f//'];
    expect(host.take(X, `${home}/sub`, words)).toEqual(DONE);
    for (const name of [...names, 'f']) expect(ownerOf(`${home}/${name}`)).toBe(X);
  });

  test('of the directory itself take what is in it where it is yours already', () => {
    for (const word of ['.', 'sub/..', `${home}/.`, home]) {
      makeFile(`${home}/f`, ALICE, X);
      makeDirectory(`${home}/sub`, X, X);
      expect(host.take(X, home, [word])).toEqual(DONE);
      expect(ownerOf(`${home}/f`)).toBe(X);
    }
    const theirs = makeDirectory(`${home}/theirs`, ALICE, X);
    const why = 'it is not yours: go to its parent directory, and give its name there';
    expect(host.take(X, theirs, ['.', '/', ''])).toEqual(
      refusal(`.: ${why}`, `/: ${why}`, ': there is no such file'),
    );
  });

  test('that are not there are told, and the others go on', () => {
    makeFile(`${home}/f`, ALICE, X);
    expect(host.take(X, home, ['gone', 'f/x', 'f'])).toEqual(
      refusal(
        'gone: there is no such file',
        'f/x: part of the path is a symbolic link, or not a directory',
      ),
    );
    expect(ownerOf(`${home}/f`)).toBe(X);
  });

  test('are not followed through links that a user made, but through those of the admin', () => {
    makeDirectory(`${home}/real`, X, X);
    makeFile(`${home}/real/f`, ALICE, X);
    symlinkSync('real', `${home}/way`);
    expect(host.take(X, home, ['way/f'])).toEqual(
      refusal('way/f: part of the path is a symbolic link, or not a directory'),
    );
    expect(ownerOf(`${home}/real/f`)).toBe(ALICE);

    symlinkSync(home, host.path(`${homes}/admins`));
    expect(host.take(X, '/', [host.path(`${homes}/admins/real/f`)])).toEqual(DONE);
    expect(ownerOf(`${home}/real/f`)).toBe(X);
  });

  test('are reached with the caller’s rights: a closed directory tells nothing', () => {
    for (const [uid, gid, mode] of [
      [ALICE, REALM_GID, 0o700],
      [0, 0, 0o750],
    ] as const) {
      const closed = makeDirectory(host.path(`${homes}/closed-${uid}`), uid, gid, mode);
      makeDirectory(`${closed}/of-x`, X, X);
      makeFile(`${closed}/of-x/f`, ALICE, X);
      makeFile(`${closed}/f`, ALICE, X);
      for (const name of ['of-x/f', 'f', 'gone']) {
        const path = `${closed}/${name}`;
        expect(host.take(X, '/', [path])).toEqual(refusal(`${path}: you may not look there`));
      }
      expect(ownerOf(`${closed}/of-x/f`)).toBe(ALICE);
    }
  });

  test('are reached by groups that the caller has as one of many', () => {
    const closed = makeDirectory(host.path(`${homes}/of-y`), Y, Y, 0o750);
    makeDirectory(`${closed}/of-x`, X, X);
    makeFile(`${closed}/of-x/f`, ALICE, Y);
    expect(host.take(X, '/', [`${closed}/of-x/f`])).toEqual(DONE);
    expect(ownership(`${closed}/of-x/f`)).toBe(`${X}:${Y} 664`);
  });
});

describe('left as it is, and named:', () => {
  test('what lies in another’s directory', () => {
    const theirs = makeDirectory(`${home}/theirs`, ALICE, REALM_GID);
    makeFile(`${theirs}/f`, ALICE, X);
    expect(host.take(X, home, ['theirs/f', 'theirs'])).toEqual(
      refusal(
        'theirs/f: its parent directory is not yours',
        `theirs: its group (${REALM_GID}) is not one of yours: its owner can run \`chgrp\``,
      ),
    );
    expect([ownerOf(theirs), ownerOf(`${theirs}/f`)]).toEqual([ALICE, ALICE]);
  });

  test('what has no group in common, root’s group among them', () => {
    for (const gid of [0, REALM_GID, DAEMON]) {
      makeFile(`${home}/f`, ALICE, gid);
      expect(host.take(X, home, ['f'])).toEqual(
        refusal(`f: its group (${gid}) is not one of yours: its owner can run \`chgrp\``),
      );
      expect(ownerOf(`${home}/f`)).toBe(ALICE);
    }
  });

  test('a file with another name, and a link with one', () => {
    const victim = makeDirectory(host.path(`${homes}/victim`), ALICE, X, 0o700);
    makeFile(`${victim}/f`, ALICE, X);
    makeDirectory(`${home}/tree`, ALICE, X);
    linkSync(`${victim}/f`, `${home}/f`);
    linkSync(`${victim}/f`, `${home}/tree/f`);
    symlinkSync('f', `${victim}/link`);
    host.asRoot(`chown -h ${ALICE}:${X} ${victim}/link; ln -P ${victim}/link ${home}/tree/link`);
    const { code, stderr } = host.take(X, home, ['f', 'tree']);
    expect(code).toBe(1);
    expect(stderr.split('\n').sort()).toEqual([
      '',
      'take: f: it has another name as well (a hard link): copy it instead',
      'take: tree/f: it has another name as well (a hard link): copy it instead',
      'take: tree/link: it has another name as well (a hard link): copy it instead',
    ]);
    expect([ownerOf(`${victim}/f`), ownerOf(`${victim}/link`)]).toEqual([ALICE, ALICE]);
  });

  test('setuid and setgid files', () => {
    makeFile(`${home}/u`, ALICE, X, 0o4755);
    makeFile(`${home}/g`, ALICE, X, 0o2755);
    const why = 'it is setuid or setgid: its owner can run `chmod ug-s`';
    expect(host.take(X, home, ['u', 'g'])).toEqual(refusal(`u: ${why}`, `g: ${why}`));
    expect(ownership(`${home}/u`)).toBe(`${ALICE}:${X} 4755`);
  });

  test('a link that is named; your own is yours', () => {
    makeFile(host.path(`${homes}/victim`), ALICE, X);
    host.as(ALICE, home, 'ln -s ../victim theirs');
    host.as(X, home, 'ln -s ../victim mine');
    expect(host.take(X, home, ['theirs', 'mine'])).toEqual(
      refusal('theirs: it is a symbolic link: name its target'),
    );
    expect([ownerOf(`${home}/theirs`), ownerOf(host.path(`${homes}/victim`))]).toEqual([
      ALICE,
      ALICE,
    ]);
  });

  test('what a link in a tree leads to', () => {
    const victim = makeDirectory(host.path(`${homes}/victim`), ALICE, X);
    makeFile(`${victim}/f`, ALICE, X);
    host.as(ALICE, home, `mkdir tree; ln -s ${victim} tree/directory; ln -s ${victim}/f tree/file`);
    expect(host.take(X, home, ['tree'])).toEqual(DONE);
    expect([ownerOf(`${home}/tree/directory`), ownerOf(`${home}/tree/file`)]).toEqual([X, X]);
    expect([ownerOf(victim), ownerOf(`${victim}/f`)]).toEqual([ALICE, ALICE]);
  });

  test('FIFOs, sockets and devices, without waiting for any', () => {
    makeDirectory(`${home}/tree`, ALICE, X);
    const socket = `require('net').createServer().listen('socket', () => process.exit())`;
    host.asRoot(
      `cd ${home}/tree; mkfifo fifo; mknod device c 1 3; '${process.execPath}' -e "${socket}"; chown ${ALICE}:${X} *`,
    );
    expect(readdirSync(`${home}/tree`)).toEqual(['device', 'fifo', 'socket']);
    const { code, stderr } = host.take(X, home, ['tree', 'tree/fifo']);
    expect(code).toBe(1);
    expect(stderr.split('\n').sort()).toEqual([
      '',
      'take: tree/device: it is a FIFO, a socket or a device',
      'take: tree/fifo: it is a FIFO, a socket or a device',
      'take: tree/fifo: it is a FIFO, a socket or a device',
      'take: tree/socket: it is a FIFO, a socket or a device',
    ]);
    expect([ownerOf(`${home}/tree`), ownerOf(`${home}/tree/fifo`)]).toEqual([X, ALICE]);
  });

  test('what is on another device', () => {
    const mounted = makeDirectory(`${home}/tree/mounted`, X, X);
    const options = `uid=${X},gid=${X},mode=2775`;
    host.asRoot(
      `mount -t tmpfs -o ${options} tmpfs ${mounted}; echo x >${mounted}/f; chown ${ALICE}:${X} ${mounted}/f`,
    );
    const why = 'it is not on the same device as its parent directory';
    expect(host.take(X, home, ['tree', 'tree/mounted'])).toEqual(
      refusal(`tree/mounted: ${why}`, `tree/mounted: ${why}`),
    );
    expect(host.asRoot(`stat -c %u ${mounted}/f`).stdout).toBe(`${ALICE}\n`);
    expect(host.take(X, mounted, ['.'])).toEqual(DONE);
    expect(host.asRoot(`stat -c %u ${mounted}/f`).stdout).toBe(`${X}\n`);
  });

  test('what the system refuses, while the others go on', () => {
    makeDirectory(`${home}/tree`, ALICE, X);
    for (const name of ['a', 'b', 'c']) makeFile(`${home}/tree/${name}`, ALICE, X);
    host.asRoot(`chattr +i ${home}/tree/b`);
    try {
      expect(host.take(X, home, ['tree'])).toEqual(refusal('tree/b: the system refuses (EPERM)'));
    } finally {
      host.asRoot(`chattr -i ${home}/tree/b`);
    }
    expect(['a', 'b', 'c'].map((name) => ownerOf(`${home}/tree/${name}`))).toEqual([X, ALICE, X]);
  });
});

describe('trees', () => {
  test('of 10,000 levels are taken with few descriptors and little stack', () => {
    host.asRoot(`'${process.execPath}' -e "
      const fs = require('fs'); process.chdir('${home}');
      for (let level = 0; level < 10000; level++) {
        fs.mkdirSync('d'); fs.chownSync('d', ${ALICE}, ${X}); process.chdir('d');
        fs.writeFileSync('f', ''); fs.chownSync('f', ${ALICE}, ${X});
      }"`);
    const line = (take: string) => `ulimit -n 40; ulimit -s 1024; ${take} d`;
    try {
      expect(host.takeByShell(X, home, line)).toEqual(DONE);
      expect(host.asRoot(`find ${home} ! -uid ${X} | wc -l; find ${home} | wc -l`).stdout).toBe(
        '0\n20001\n',
      );
    } finally {
      host.asRoot(`rm -rf ${home}`);
    }
  });

  test('of 10,000 files in one directory are taken', () => {
    makeDirectory(`${home}/wide`, ALICE, X);
    host.as(ALICE, `${home}/wide`, 'seq 10000 | xargs touch');
    expect(host.take(X, home, ['wide'])).toEqual(DONE);
    expect(host.asRoot(`find ${home} ! -uid ${X} | wc -l; find ${home} | wc -l`).stdout).toBe(
      '0\n10002\n',
    );
  });
});

describe('the program', () => {
  test('says what it does, and refuses what it does not understand', () => {
    const help = host.take(X, home, ['--help']);
    expect(help.code).toBe(0);
    expect(help.stdout).toMatch(/^Usage: take FILE…\n/u);
    expect(host.take(undefined, home, ['--help'])).toEqual(help);
    expect(host.take(X, home, [])).toMatchObject({ code: 2, stdout: '' });
    expect(host.take(X, home, ['--config', 'x'])).toEqual({
      code: 2,
      stdout: '',
      stderr: 'take: there is no option --config; for a file of this name, use ./--config\n',
    });
    makeFile(`${home}/--help`, ALICE, X);
    expect(host.take(X, home, ['--', '--help'])).toEqual(DONE);
    expect(ownerOf(`${home}/--help`)).toBe(X);
  });

  test('serves people and tools alone, of whom sudo speaks', () => {
    const why = (uid: number) =>
      refusal(
        `only people and tools of the realm may take files, and you (uid ${uid}) are neither`,
      );
    for (const uid of [0, DAEMON, 3000, 3011, 53_100]) {
      const theirs = makeDirectory(`${home}/${uid}`, uid, X);
      makeFile(`${theirs}/f`, ALICE, X);
      expect(host.take(uid, theirs, ['f'])).toEqual(why(uid));
      expect(ownerOf(`${theirs}/f`)).toBe(ALICE);
    }
    const usage = {
      code: 2,
      stderr: 'take: run it as /usr/bin/take, which starts it through sudo\n',
    };
    expect(host.take(undefined, home, ['f'])).toMatchObject(usage);
    expect(host.takeByShell(X, home, (take) => `SUDO_UID=x ${take} f`)).toMatchObject(usage);
    expect(host.as(X, home, host.command, { SUDO_UID: String(X) })).toMatchObject(usage);
    expect(host.take(3010, home, ['f'])).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(
        /^take: BACKEND_UNREADABLE: looking up the account of uid 3010: /u,
      ),
    });
  });

  test('does nothing without its configuration', () => {
    makeFile(`${home}/f`, ALICE, X);
    const config = '/etc/chamberlain/login-host.yaml';
    host.asRoot(`mount --bind /dev/null ${config}`);
    const ended = host.take(X, home, ['f']);
    host.asRoot(`umount ${config}`);
    expect(ended).toMatchObject({ code: 2, stderr: expect.stringContaining('CONFIG_INVALID') });
    expect(ownerOf(`${home}/f`)).toBe(ALICE);
  });
});

test('through sudo, in the caller’s working directory, whatever the caller’s environment says', () => {
  writeFileSync(host.path('evil.mjs'), 'process.exit(99)');
  makeFile(`${home}/f`, ALICE, X);
  const evil = {
    NODE_OPTIONS: `--import=${host.path('evil.mjs')}`,
    SUDO_UID: String(ALICE),
    SUDO_GID: '0',
  };
  expect(host.as(X, home, 'take f gone', evil)).toEqual(refusal('gone: there is no such file'));
  expect(ownership(`${home}/f`)).toBe(`${X}:${X} 664`);
});
