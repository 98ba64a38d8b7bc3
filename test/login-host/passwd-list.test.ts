/** The accounts that a login host knows without a server: which lines are taken, and the db made of them. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { execFileSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import {
  checkPasswdList,
  openPasswdDb,
  parseLocalAccounts,
  type Rules,
} from '../../src/login-host/passwd-list.ts';

const RULES: Rules = {
  realm: 'tools',
  realmGid: 500,
  ids: {
    people: [
      { first: 10_000, last: 10_999 },
      { first: 30_000, last: 30_000 },
    ],
    tools: [{ first: 50_000, last: 59_999 }],
  },
  homes: { people: '/home', tools: '/data/project' },
};
const LOCAL = parseLocalAccounts(
  'root:x:0:0:root:/root:/bin/bash\nlocaladmin:x:10500:10500::/home/localadmin:/bin/bash\n',
);
const ALICE = 'alice:x:10001:500:Alice:/home/alice:/bin/bash';
const BOT = 'tools.bridgebot:x:50001:50001::/data/project/bridgebot:/bin/bash';

const check = (...lines: string[]) => checkPasswdList(lines, RULES, LOCAL);

describe('a line that fits is taken, with * in the second field', () => {
  test.each([
    ['a person', ALICE],
    ['a person with * already', ALICE.replace(':x:', ':*:')],
    ['the last number of a range', 'bob:x:10999:500::/home/bob:/bin/sh'],
    ['another range', 'bob:x:30000:500::/home/bob:/usr/bin/zsh'],
    ['an imported name', 'a_b-c_:x:10002:500::/home/a_b-c_:/bin/bash'],
    ['a name of 32', `a${'b'.repeat(31)}:x:10002:500::/home/a${'b'.repeat(31)}:/bin/bash`],
    ['a name for people in other letters', 'zoe:x:10003:500:Zoë Ω, 🦆 & \\ #1:/home/zoe:/bin/bash'],
    ['a tool', BOT],
    ['a disabled tool', BOT.replace('/bin/bash', '/bin/disabledtoolshell')],
  ])('%s', (_, line) => {
    expect(check(line)).toEqual({ taken: [line.replace(':x:', ':*:')], leftOut: [] });
  });
});

describe('a line that does not fit is left out, and says why', () => {
  test.each([
    ['nothing', '', 'seven fields'],
    ['six fields', ALICE.replace(':Alice', ''), 'seven fields'],
    ['eight fields', `${ALICE}:`, 'seven fields'],
    ['the name of a local account', ALICE.replaceAll('alice', 'localadmin'), 'has this name'],
    ['the uid of a local account', ALICE.replace('10001', '10500'), 'has its uid'],
    ['root', 'root:x:0:0:root:/root:/bin/bash', 'has this name'],
    ['another root', 'toor:x:0:500::/home/toor:/bin/bash', 'its uid'],
    ['a uid below the range', ALICE.replace('10001', '9999'), 'its uid'],
    ['a uid above the range', ALICE.replace('10001', '11000'), 'its uid'],
    ['a uid that wraps to root', ALICE.replace('10001', '4294967296'), 'its uid'],
    ['a uid with a sign', ALICE.replace('10001', '+10001'), 'its uid'],
    ['a uid with a leading zero', ALICE.replace('10001', '010001'), 'its uid'],
    ['a uid with a blank', ALICE.replace('10001', ' 10001'), 'its uid'],
    ['no uid', ALICE.replace('10001', ''), 'its uid'],
    ['a uid of a tool', ALICE.replace('10001', '50001'), 'its uid'],
    ['a tool with the uid of a person', BOT.replaceAll('50001', '10001'), 'its uid'],
    ['the gid of root', ALICE.replace(':500:', ':0:'), 'its gid'],
    ['a tool with the gid of another', BOT.replace('50001:50001', '50001:50002'), 'its gid'],
    ['a password', ALICE.replace(':x:', ':$6$abc:'), 'second field'],
    ['no password', ALICE.replace(':x:', '::'), 'second field'],
    ['the home of another', ALICE.replace('/home/alice', '/home/bob'), 'its home'],
    ['a home with more path', ALICE.replace('/home/alice', '/home/alice/..'), 'its home'],
    ['a tool whose home is a person', BOT.replace('/data/project', '/home'), 'its home'],
    ['a shell of her own', ALICE.replace('/bin/bash', '/home/alice/sh'), 'its shell'],
    ['no shell', ALICE.replace('/bin/bash', ''), 'its shell'],
    ['a shell and a carriage return', `${ALICE}\r`, 'its shell'],
    ['a tool with a shell of people', BOT.replace('/bin/bash', '/bin/zsh'), 'its shell'],
    ['a name with a dot', ALICE.replaceAll('alice', 'a.b'), 'no name'],
    ['a tool of another realm', BOT.replace('tools.', 'toolz.'), 'no name'],
    ['a tool without a name', BOT.replaceAll('bridgebot', ''), 'no name'],
    ['a name in capitals', ALICE.replaceAll('alice', 'Alice'), 'no name'],
    ['a name with a dot in front', ALICE.replaceAll('alice', '.ssh'), 'no name'],
    ['a name that leads out', ALICE.replaceAll('alice', '../etc'), 'no name'],
    ['a name with a dash in front', ALICE.replaceAll('alice', '-u'), 'no name'],
    ['a name of 33', ALICE.replaceAll('alice', 'a'.repeat(33)), 'no name'],
    ['no name', ALICE.replaceAll('alice', ''), 'no name'],
    ['a control character', ALICE.replace('Alice', 'Ali\u0007ce'), 'fifth field'],
    ['a line separator', ALICE.replace('Alice', 'Ali\u2028ce'), 'fifth field'],
    ['a fifth field of 201', ALICE.replace('Alice', 'A'.repeat(201)), 'fifth field'],
  ])('%s', (_, line, why) => {
    const { taken, leftOut } = check(line, 'bob:x:10002:500::/home/bob:/bin/bash');
    expect(taken).toEqual(['bob:*:10002:500::/home/bob:/bin/bash']);
    expect(leftOut).toEqual([expect.stringContaining(why)]);
  });

  test('two of one name, and two of one number: sssd alone is to know them', () => {
    const other = 'alice:x:10002:500::/home/alice:/bin/bash';
    const same = 'eve:x:10003:500::/home/eve:/bin/bash';
    const twin = 'mallory:x:10003:500::/home/mallory:/bin/bash';
    const { taken, leftOut } = check(ALICE, other, same, twin, BOT);
    expect(taken).toEqual([BOT.replace(':x:', ':*:')]);
    expect(leftOut).toHaveLength(4);
  });

  test('a line that does not fit cannot push out one that does', () => {
    expect(check(ALICE, 'alice:x:0:0::/:/bin/sh', 'eve:x:10001:0::/:/bin/sh').taken).toHaveLength(
      1,
    );
  });

  test('the sentence holds nothing of the line that would break it', () => {
    const { leftOut } = check(`a\u0000\u009b\u2028\t${'b'.repeat(500)}:x`);
    expect(leftOut[0]).toMatch(/^[\x20-\x7e]{1,100}$/);
  });
});

test('whatever is said, an account that is taken is of the realm', () => {
  const field = fc.oneof(
    ...['alice', 'root', 'tools.a', '../x', 'x', '*', '', '0', '500', '10001', '50001'].map(
      (each) => fc.constant(each),
    ),
    ...['/home/alice', '/data/project/a', '/bin/bash', '/'].map((each) => fc.constant(each)),
    fc.string({ unit: 'binary', maxLength: 8 }),
  );
  const line = fc.oneof(
    fc.array(field, { minLength: 6, maxLength: 8 }).map((fields) => fields.join(':')),
    // one field of a good line is another
    fc
      .tuple(fc.constantFrom(ALICE, BOT), fc.nat({ max: 6 }), field)
      .map(([good, at, value]) => good.split(':').with(at, value).join(':')),
  );
  fc.assert(
    fc.property(fc.array(line, { maxLength: 6 }), (lines) => {
      const { taken, leftOut } = check(...lines);
      expect(taken.length + leftOut.length).toBe(lines.length);
      for (const each of taken) {
        expect(each).toMatch(
          /^([a-z][a-z0-9_-]*:\*:10\d\d\d:500:[^:\n]*:\/home\/[a-z0-9_-]+|tools\.[a-z][a-z0-9_-]*:\*:(5\d{4}):\2:[^:\n]*:\/data\/project\/[a-z0-9_-]+):\/(usr\/)?bin\/[a-z]+$/,
        );
      }
      expect(new Set(taken.map((each) => each.split(':')[0])).size).toBe(taken.length);
      expect(new Set(taken.map((each) => each.split(':')[2])).size).toBe(taken.length);
    }),
    { numRuns: 500 },
  );
});

describe('the db', () => {
  let folder: string;
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'chamberlain-passwd-db-'));
  });
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  const lines = [ALICE, BOT, 'zoe:x:10003:500:Zoë\\ #"%s:/home/zoe:/bin/bash'].map((line) =>
    line.replace(':x:', ':*:'),
  );
  const dump = (path: string) =>
    execFileSync('/usr/bin/makedb', ['-u', path], { encoding: 'utf8' })
      .trimEnd()
      .split('\n')
      .sort();

  test('has each line by name, by number and in a row', async () => {
    const path = join(folder, 'whole.db');
    expect(await openPasswdDb(path).write(lines)).toBe(true);
    expect(dump(path)).toEqual(
      lines
        .flatMap((line, index) => {
          const [name, , uid] = line.split(':');
          return [`.${name} ${line}`, `=${uid} ${line}`, `0${index} ${line}`];
        })
        .sort(),
    );
    expect(statSync(path).mode & 0o7777).toBe(0o644);
    expect(readdirSync(folder)).toEqual(['whole.db']);
  });

  test('has them all, however many', async () => {
    const path = join(folder, 'many.db');
    const many = Array.from({ length: 3000 }, (_, n) => ALICE.replace('alice', `p${n}`));
    await openPasswdDb(path).write(many.map((line, n) => line.replace('10001', `${20_000 + n}`)));
    expect(dump(path)).toHaveLength(9000);
  });

  test('is not written where nothing is new, and is where someone has touched it', async () => {
    const path = join(folder, 'again.db');
    const db = openPasswdDb(path);
    expect(await db.write(lines)).toBe(true);
    const { ino, mtimeMs } = statSync(path);
    expect(await db.write(lines)).toBe(false);
    expect(statSync(path)).toMatchObject({ ino, mtimeMs });
    expect(await db.write(lines.slice(1))).toBe(true);
    expect(dump(path)).toHaveLength(6);
    writeFileSync(path, 'not a db');
    expect(await db.write(lines.slice(1))).toBe(true);
    expect(dump(path)).toHaveLength(6);
    rmSync(path);
    expect(await db.write(lines.slice(1))).toBe(true);
    expect(dump(path)).toHaveLength(6);
  });

  test('may be empty', async () => {
    const path = join(folder, 'empty.db');
    await openPasswdDb(path).write([]);
    expect(dump(path)).toEqual(['']);
  });

  test('is made anew over what a cut run has left, and through no link', async () => {
    const path = join(folder, 'left.db');
    const victim = join(folder, 'victim');
    writeFileSync(victim, 'mine');
    writeFileSync(`${path}.new`, 'half');
    await openPasswdDb(path).write(lines);
    symlinkSync(victim, `${path}.new`);
    await openPasswdDb(path).write(lines);
    expect(dump(path)).toHaveLength(9);
    expect(statSync(victim).size).toBe(4);
  });

  test('stays as it was where a new one cannot be made', async () => {
    const path = join(folder, 'nowhere', 'passwd.db');
    await expect(openPasswdDb(path).write(lines)).rejects.toMatchObject({
      code: 'STEP_FAILED',
      cause: { message: expect.stringContaining('makedb: ') },
    });
    const stays = join(folder, 'stays.db');
    const db = openPasswdDb(stays);
    await db.write(lines);
    mkdirSync(`${stays}.new`);
    await expect(db.write(lines.slice(1))).rejects.toMatchObject({ code: 'STEP_FAILED' });
    expect(dump(stays)).toHaveLength(9);
    expect(await db.write(lines)).toBe(false);
  });
});
