/**
 * The laws that hold for every target, on real servers:
 *
 * 1. A second run does nothing. 2. Cut at any step, the next run ends in the same state. 3. A survey
 * changes nothing, and lists exactly what a run then does. 4. Without `destroy`, nothing is lost.
 * 5. What another made is reported and left. 6. An unreadable backend yields UNREADABLE, no step.
 *
 * A scene is a change of what is wanted, or of what is there; each is made anew for every cut.
 */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  chownSync,
} from 'node:fs';
import { join } from 'node:path';
import type { Role } from '../src/reconcile/wanted.ts';
import { describedRole } from '../src/roles/index.ts';
import {
  differences,
  dyingWriter,
  type LawsWorld,
  openLawsWorld,
  PARTS,
  ROLE_ORDER,
  wantKey,
  wantPerson,
  wantTool,
} from './laws-world.ts';
import { administer, startServer, stopServer } from './stack.ts';

let laws: LawsWorld;
let alice: { uid: number; name: string };
let bob: { uid: number; name: string };
let helper: { uid: number; name: string };

beforeAll(async () => {
  laws = await openLawsWorld('laws');
  alice = await wantPerson(laws.owner, laws.world);
  bob = await wantPerson(laws.owner, laws.world);
  helper = await wantTool(laws.owner, laws.world, [alice.uid]);
  await laws.settle([alice.uid, bob.uid, helper.uid]);
});
afterAll(async () => laws.close());

const sql = (text: string, ...values: unknown[]) => laws.owner.query(text, values);
const settledTool = async () => {
  const tool = await wantTool(laws.owner, laws.world, [alice.uid, bob.uid, helper.uid]);
  await laws.settle([tool.uid]);
  return tool;
};
const settledPerson = async () => {
  const person = await wantPerson(laws.owner, laws.world, { keys: 2 });
  await laws.settle([person.uid]);
  return person;
};
const asTool = (change: (tool: { uid: number; name: string }) => Promise<unknown>) => async () => {
  const tool = await settledTool();
  await change(tool);
  return tool.uid;
};
const asPerson =
  (change: (person: { uid: number; name: string }) => Promise<unknown>) => async () => {
    const person = await settledPerson();
    await change(person);
    return person.uid;
  };
const wantOverlap = (uid: number) =>
  sql(
    `UPDATE credentials SET wanted_epoch = wanted_epoch + 1, overlap_seconds = 3600
     WHERE account = $1`,
    uid,
  );
const home = (tool: { name: string }) => join(laws.world.dataRoot, 'data/project', tool.name);
const ldapmodify = (ldif: string) =>
  execFileSync(
    'ldapmodify',
    [
      '-x',
      '-H',
      laws.world.slapd.uri,
      '-D',
      laws.world.ldapAdmin.dn,
      '-w',
      laws.world.ldapAdmin.password,
    ],
    { input: ldif.replaceAll('BASE', laws.world.slapd.base), encoding: 'utf8' },
  );

/** name · roles that have something to do in it · makes a subject of its own in that scene */
const SCENES: [string, readonly Role[], () => Promise<number>][] = [
  [
    'a new tool',
    ROLE_ORDER,
    async () => (await wantTool(laws.owner, laws.world, [alice.uid, bob.uid, helper.uid])).uid,
  ],
  [
    'a new realm member',
    ROLE_ORDER,
    async () => (await wantPerson(laws.owner, laws.world, { keys: 3 })).uid,
  ],
  [
    'a new person without access',
    ['directory'],
    async () => (await wantPerson(laws.owner, laws.world, { realmMember: false })).uid,
  ],
  [
    'access granted',
    ROLE_ORDER,
    async () => {
      const { uid } = await wantPerson(laws.owner, laws.world, { realmMember: false });
      await laws.settle([uid]);
      await sql('INSERT INTO realm_members VALUES ($1)', uid);
      await sql('UPDATE people SET admitted_at = now() WHERE uid = $1', uid);
      await sql('INSERT INTO credentials VALUES ($1)', uid);
      return uid;
    },
  ],
  [
    'maintainers changed',
    ['directory'],
    asTool(async ({ uid }) => {
      await sql('DELETE FROM maintainers WHERE tool = $1 AND maintainer = $2', uid, bob.uid);
      const carol = await settledPerson();
      await sql('INSERT INTO maintainers VALUES ($1, $2)', uid, carol.uid);
    }),
  ],
  [
    'keys changed',
    ['directory'],
    asPerson(async ({ uid }) => {
      await sql(
        'UPDATE ssh_keys SET removed_at = now() WHERE id = (SELECT min(id) FROM ssh_keys WHERE person = $1)',
        uid,
      );
      await wantKey(laws.owner, uid);
    }),
  ],
  [
    'a display name and address changed',
    ['directory'],
    asPerson(({ uid, name }) =>
      sql(
        `UPDATE people SET display_name = $2, display_name_key = lower($2), email = $3 WHERE uid = $1`,
        uid,
        `New, "Name" ${name}`,
        `${name}@example.com`,
      ),
    ),
  ],
  [
    'credentials of a tool rotated',
    ['homes', 'databases'],
    asTool(({ uid }) =>
      sql('UPDATE credentials SET wanted_epoch = wanted_epoch + 1 WHERE account = $1', uid),
    ),
  ],
  [
    'credentials of a person rotated',
    ['homes', 'databases'],
    asPerson(({ uid }) =>
      sql('UPDATE credentials SET wanted_epoch = wanted_epoch + 1 WHERE account = $1', uid),
    ),
  ],
  [
    'credentials of a tool rotated, where the old password works as well',
    ['homes', 'databases'],
    asTool(({ uid }) => wantOverlap(uid)),
  ],
  [
    'two passwords, of which the old one shall work no longer',
    ['databases'],
    asTool(async ({ uid }) => {
      await wantOverlap(uid);
      await laws.settle([uid]);
      await sql(
        `UPDATE database_verifiers SET previous_verifier = NULL, previous_until = NULL
         WHERE account = $1`,
        uid,
      );
    }),
  ],
  [
    'access revoked',
    ['directory', 'databases'],
    asPerson(({ uid }) => sql('DELETE FROM realm_members WHERE person = $1', uid)),
  ],
  [
    'a person suspended',
    ['directory', 'databases'],
    asPerson(({ uid }) => sql(`UPDATE people SET state = 'suspended' WHERE uid = $1`, uid)),
  ],
  [
    'a person reinstated',
    ['directory', 'databases'],
    asPerson(async ({ uid }) => {
      await sql(`UPDATE people SET state = 'suspended' WHERE uid = $1`, uid);
      await laws.settle([uid]);
      await sql(`UPDATE people SET state = 'active' WHERE uid = $1`, uid);
    }),
  ],
  [
    'a tool disabled',
    ['directory', 'databases'],
    asTool(({ uid }) => sql(`UPDATE tools SET state = 'disabled' WHERE uid = $1`, uid)),
  ],
  [
    'a tool enabled',
    ['directory', 'databases'],
    asTool(async ({ uid }) => {
      await sql(`UPDATE tools SET state = 'disabled' WHERE uid = $1`, uid);
      await laws.settle([uid]);
      await sql(`UPDATE tools SET state = 'active' WHERE uid = $1`, uid);
    }),
  ],
  [
    'a tool whose deletion is requested',
    ['directory', 'databases'],
    asTool(({ uid }) =>
      sql(
        `UPDATE tools SET state = 'disabled', delete_requested_at = now(),
           delete_after = now() + interval '40 days' WHERE uid = $1`,
        uid,
      ),
    ),
  ],
  [
    'entries of a tool edited by hand',
    ['directory'],
    asTool(async ({ name }) =>
      ldapmodify(`dn: uid=tools.${name},ou=people,ou=servicegroups,BASE
changetype: modify
replace: loginShell
loginShell: /bin/zsh
-
replace: homeDirectory
homeDirectory: /root

dn: cn=tools.${name},ou=servicegroups,BASE
changetype: modify
delete: member
member: uid=${alice.name},ou=people,BASE
-
add: member
member: uid=nobody,ou=people,BASE

dn: cn=runas-tools.${name},ou=sudoers,cn=tools,ou=projects,BASE
changetype: delete
`),
    ),
  ],
  [
    'an entry of a person edited by hand',
    ['directory'],
    asPerson(async ({ name }) =>
      ldapmodify(`dn: uid=${name},ou=people,BASE
changetype: modify
replace: sshPublicKey
sshPublicKey: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHacked+++++++++++++++++++++++++++++++++++++
-
delete: mail
-
replace: loginShell
loginShell: /bin/zsh
-
add: description
description: grows beans
`),
    ),
  ],
  [
    'labels of keys changed',
    ['directory'],
    asPerson(({ uid }) => sql('UPDATE ssh_keys SET label = upper(label) WHERE person = $1', uid)),
  ],
  [
    'a home loosened and folders lost',
    ['homes'],
    asTool(async (tool) => {
      chmodSync(home(tool), 0o777);
      rmdirSync(join(home(tool), 'logs'));
      chmodSync(join(home(tool), 'public_html'), 0o700);
      execFileSync('setfacl', ['-k', home(tool)]);
    }),
  ],
  [
    'a credentials file emptied',
    ['homes'],
    asTool(async (tool) => writeFileSync(join(home(tool), 'replica.my.cnf'), '')),
  ],
  [
    'a credentials file lost',
    ['homes'],
    asPerson(async ({ name }) => rmSync(join(laws.world.dataRoot, 'home', name, 'replica.my.cnf'))),
  ],
  [
    'a database account tampered with',
    ['databases'],
    asTool(async ({ uid }) => {
      await administer(
        laws.world.tools.socket,
        `GRANT SELECT ON mysql.* TO s${uid}; ALTER USER s${uid} WITH MAX_USER_CONNECTIONS 99; ALTER USER s${uid} IDENTIFIED BY 'hunter2hunter2';`,
      );
      await administer(laws.world.replica.socket, `DROP USER s${uid};`);
    }),
  ],
];

describe.each(SCENES)('%s', (_name, roles, make) => {
  test('a run does exactly what the survey listed, loses nothing, and a second one does nothing', async () => {
    const uid = await make();
    for (const role of ROLE_ORDER) {
      const before = await laws.dump();
      const [seen] = await laws.look(role, [uid]);
      expect(differences(before, await laws.dump())).toEqual([]);
      expect(seen!.findings.filter(({ advisory }) => advisory !== true)).toEqual([]);
      expect(seen!.unreadable).toEqual([]);
      expect(seen!.steps.map(({ effect }) => effect)).not.toContain('destroy');
      if (roles.includes(role)) expect(seen!.steps.length).toBeGreaterThan(0);
      const done = await laws.run(role, uid);
      const listed = seen!.steps.map(({ action }) => JSON.stringify(action));
      expect(done.map((action) => JSON.stringify(action)).sort()).toEqual(listed.sort());
      expect(await laws.run(role, uid)).toEqual([]);
    }
    await expectAsWanted(uid);
  });

  test.each(roles)(
    'cut at any step of %s, before or after it, the next run ends as wanted',
    async (role) => {
      const cut = async (n: number, when: 'before' | 'after') => {
        const uid = await make();
        for (const earlier of ROLE_ORDER.slice(0, ROLE_ORDER.indexOf(role)))
          await laws.run(earlier, uid);
        const [{ steps } = { steps: [] }] = await laws.look(role, [uid]);
        if (n >= steps.length) return false;
        await laws.run(role, uid, (own) => dyingWriter(own, n, when));
        for (const later of ROLE_ORDER.slice(ROLE_ORDER.indexOf(role))) await laws.run(later, uid);
        await expectAsWanted(uid);
        return true;
      };
      expect(await cut(0, 'before')).toBe(true);
      for (let n = 0; await cut(n, 'after'); n += 1);
    },
  );
});

/** Nothing to do for any role, after another look by each. */
async function expectAsWanted(uid: number): Promise<void> {
  for (const role of ROLE_ORDER) {
    const [seen] = await laws.look(role, [uid]);
    expect(seen).toMatchObject({ steps: [], unreadable: [], waiting: [] });
  }
}

describe('what another made is reported and left', () => {
  /** name · role · puts something of another's in the way of a new tool */
  const OTHERS: [string, Role, string, (tool: { uid: number; name: string }) => unknown][] = [
    [
      'a group of the name',
      'directory',
      'NAME_FOREIGN',
      ({ name }) => addGroup(`tools.${name}`, freeNumber()),
    ],
    [
      'a group of the number',
      'directory',
      'ID_FOREIGN',
      ({ uid, name }) => addGroup(`other-${name}`, uid),
    ],
    [
      'a group of the name elsewhere, in capitals',
      'directory',
      'NAME_FOREIGN',
      ({ name }) => addGroup(`TOOLS.${name.toUpperCase()}`, freeNumber(), 'ou=groups'),
    ],
    ['a home that is a file', 'homes', 'PATH_FOREIGN', (tool) => writeFileSync(home(tool), 'mine')],
    ['a home that is a link', 'homes', 'PATH_FOREIGN', (tool) => symlinkSync('/etc', home(tool))],
    [
      'a home of another',
      'homes',
      'PATH_FOREIGN',
      (tool) => {
        mkdirSync(home(tool));
        chownSync(home(tool), 4242, 4242);
        writeFileSync(join(home(tool), 'replica.my.cnf'), 'theirs');
      },
    ],
    [
      'a database account on another host',
      'databases',
      'DATABASE_FOREIGN',
      ({ uid }) => administer(laws.world.tools.socket, `CREATE USER s${uid}@localhost;`),
    ],
  ];
  let taken = 0;
  const freeNumber = () => laws.world.config.ids.tools[0]!.last - (taken += 1);
  const addGroup = (cn: string, gid: number, below = 'ou=servicegroups') =>
    ldapmodify(`dn: cn=${cn},${below},BASE
changetype: add
objectClass: groupOfNames
objectClass: posixGroup
cn: ${cn}
gidNumber: ${gid}
member: cn=chamberlain,BASE
`);

  test.each(OTHERS)('%s', async (_name, role, code, put) => {
    const tool = await wantTool(laws.owner, laws.world, [alice.uid]);
    for (const earlier of ROLE_ORDER.slice(0, ROLE_ORDER.indexOf(role)))
      await laws.run(earlier, tool.uid);
    const clean = await laws.dump();
    await put(tool);
    const theirs = await laws.dump();
    const made = differences(clean, theirs);
    expect(made.length).toBeGreaterThan(0);
    const [seen] = await laws.look(role, [tool.uid]);
    expect(seen!.findings.map((finding) => finding.code)).toContain(code);
    await laws.run(role, tool.uid);
    const after = await laws.dump();
    for (const what of made) expect([what, after.get(what)]).toEqual([what, theirs.get(what)]);
  });
});

describe('an unreadable backend yields UNREADABLE, and no step', () => {
  const lookAt = async (role: Role, uid: number) => {
    const [seen] = await laws.look(role, [uid]);
    // of who stays, archives are not looked at
    const targets = describedRole(role).targets.filter(
      ({ name, of }) => (of as readonly string[]).includes('tool') && !name.endsWith('-archive'),
    );
    expect(seen!.steps).toEqual([]);
    expect(seen!.unreadable.map(({ target, code }) => [target, code])).toEqual(
      targets.map(({ name }) => [name, 'BACKEND_UNREADABLE']),
    );
  };

  test('a directory that is down', async () => {
    const { uid } = await settledTool();
    await stopServer(laws.world.slapd);
    try {
      await lookAt('directory', uid);
    } finally {
      await startServer(laws.world.slapd);
    }
    expect((await laws.look('directory', [uid]))[0]).toMatchObject({ steps: [], unreadable: [] });
  });

  test('an area of homes that is not mounted', async () => {
    const { uid } = await settledTool();
    const area = join(laws.world.dataRoot, 'data/project');
    renameSync(area, `${area}.away`);
    mkdirSync(area);
    try {
      await lookAt('homes', uid);
    } finally {
      rmdirSync(area);
      renameSync(`${area}.away`, area);
    }
    expect((await laws.look('homes', [uid]))[0]).toMatchObject({ steps: [], unreadable: [] });
  });

  test('a database server that refuses to be read', async () => {
    const { uid } = await settledTool();
    const { replica, tools, config } = laws.world;
    const secret = readFileSync(join(config.secrets, 'mariadb-databases-reader'), 'utf8');
    const reader = PARTS.databases.openReader({
      ...config,
      databases: {
        ...config.databases,
        servers: config.databases.servers.map((server) => ({
          ...server,
          socket: '/nonexistent/mariadb.sock',
        })),
      },
    }) as { look(server: string, users: string[]): Promise<unknown>; close(): Promise<void> };
    try {
      expect(secret).not.toBe('');
      await expect(reader.look('toolsdb', [`s${uid}`])).rejects.toMatchObject({
        code: 'BACKEND_UNREADABLE',
      });
      expect([replica.socket, tools.socket]).not.toContain('/nonexistent/mariadb.sock');
    } finally {
      await reader.close();
    }
  });
});
