/** A platform that grew by hand for ten years: valid entries, and every fault that an import may find. */
import {
  chmodSync,
  chownSync,
  mkdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { accountStatement } from '../../bench/tools/shapes.ts';
import { renderCredentialsFile, verifierOf } from '../../src/credentials/credentials.ts';
import { keyOf } from '../scenarios/drift/drift-world.ts';
import { changeDirectory } from '../scenarios/outside.ts';
import { administer, type World } from '../stack.ts';

/** Tools with a valid credentials file that was changed afterwards in some way. */
const FILES = [
  'old-mode',
  'roots',
  'loose',
  'linked',
  'emptied',
  'others',
  'moved',
  'half',
] as const;

const SPOIL: Record<(typeof FILES)[number], (file: string, uid: number) => void> = {
  /** as files were made before 2022 */
  'old-mode': (file) => chmodSync(file, 0o400),
  roots: (file, uid) => chownSync(file, 0, uid),
  loose: (file) => chmodSync(file, 0o444),
  linked: (file) => {
    renameSync(file, `${file}.real`);
    symlinkSync('replica.my.cnf.real', file);
  },
  emptied: (file) => writeFileSync(file, ''),
  others: (file, uid) => writeFileSync(file, renderCredentialsFile(`s${uid + 1}`, 'another')),
  /** the home belongs to another account */
  moved: (file, uid) => chownSync(join(file, '..'), uid + 1, uid + 1),
  /** the file is unchanged, but one of two servers lacks the account */
  half: () => {},
};

type Values = Record<string, string | readonly string[]>;

/** One entry as LDIF. Values that are not plain text are in base64 (RFC 2849). */
function entryText(dn: string, values: Values): string {
  const line = (name: string, value: string) =>
    /^[\x21-\x39\x3b\x3d-\x7e][\x20-\x7e]*$/.test(value) && !value.endsWith(' ')
      ? `${name}: ${value}`
      : `${name}:: ${Buffer.from(value).toString('base64')}`;
  const lines = Object.entries(values).flatMap(([name, of]) =>
    [of].flat().map((value) => line(name, value)),
  );
  return `${[line('dn', dn), ...lines].join('\n')}\n`;
}

/** A real bad key, by the code of its refusal. */
function badKey(code: string): string {
  const path = join(import.meta.dirname, '../horrors/ssh-keys.json');
  const horrors = JSON.parse(readFileSync(path, 'utf8')) as { code: string; text: string }[];
  const found = horrors.find((horror) => horror.code === code);
  if (found === undefined) throw new Error(`no horror is ${code}`);
  return found.text;
}

/** A pasted PKCS #8 Ed25519 key: one line, which is the secret itself. */
export const PRIVATE_KEY = `MC4CAQAwBQYDK2VwBCIEIB${'Secret'.repeat(7)}`;

/**
 * Times at which tools were marked on the old platform. By its own rules, the countdown of the first is over, and that
 * of the second has not begun. One has a fraction of a second, as Toolforge's mark_tool writes it.
 */
export const OLD_TIME = '20260102030405.678901Z';
export const FUTURE_TIME = '20990102030405Z';

/** The numbers of everything that is made, and the passwords in files. */
export interface OldPlatform {
  /** numbers of people and tools by name */
  uid: Record<string, number>;
  passwords: Record<string, string>;
  /** every number in use: of accounts, groups and owners */
  numbers: ReadonlySet<number>;
}

export async function makeOldPlatform(world: World): Promise<OldPlatform> {
  const { base } = world.config.ldap;
  const [firstPerson, firstTool] = [world.config.ids.people, world.config.ids.tools].map(
    (ranges) => ranges[0]?.first ?? 0,
  ) as [number, number];
  const uid: Record<string, number> = {};
  const numbers = new Set<number>();
  const entries: string[] = [];
  const later: string[] = [];
  const members: string[] = [];
  const personDn = (name: string) => `uid=${name},ou=people,${base}`;
  const toolDn = (name: string) => `uid=tools.${name},ou=people,ou=servicegroups,${base}`;

  const person = (
    name: string,
    number: number,
    {
      more = {},
      dn = personDn(name),
      member = false,
    }: { more?: Values; dn?: string; member?: boolean } = {},
  ) => {
    uid[name] = firstPerson + number;
    numbers.add(firstPerson + number);
    const display = `${name} of old`;
    entries.push(
      entryText(dn, {
        objectClass: ['top', 'person', 'inetOrgPerson', 'ldapPublicKey', 'posixAccount'],
        ...{ uid: name, cn: display, sn: display, uidNumber: String(firstPerson + number) },
        ...{ gidNumber: '500', homeDirectory: `/home/${name}`, loginShell: '/bin/bash' },
        mail: `${name}@example.org`,
        ...more,
      }),
    );
    if (member) members.push(personDn(name));
  };
  const tool = (
    name: string,
    number: number,
    {
      maintainers = [],
      parts = ['group', 'account', 'rule'],
      more = {},
      gid = number,
    }: {
      maintainers?: readonly string[];
      parts?: readonly string[];
      more?: Values;
      gid?: number;
    } = {},
  ) => {
    uid[name] = firstTool + number;
    numbers.add(firstTool + number).add(firstTool + gid);
    const account = `tools.${name}`;
    if (parts.includes('group')) {
      entries.push(
        entryText(`cn=${account},ou=servicegroups,${base}`, {
          ...{ objectClass: ['groupOfNames', 'posixGroup'], cn: account },
          ...{ gidNumber: String(firstTool + gid), member: [toolDn(name), ...maintainers] },
        }),
      );
    }
    if (parts.includes('account')) {
      entries.push(
        entryText(toolDn(name), {
          objectClass: ['top', 'person', 'posixAccount', 'shadowAccount'],
          ...{ uid: account, cn: account, sn: account, uidNumber: String(firstTool + number) },
          ...{ gidNumber: String(firstTool + number), homeDirectory: `/data/project/${name}` },
          ...{ loginShell: '/bin/bash', ...more },
        }),
      );
    }
    if (parts.includes('rule')) {
      entries.push(
        entryText(`cn=runas-${account},ou=sudoers,cn=tools,ou=projects,${base}`, {
          ...{ objectClass: 'sudoRole', cn: `runas-${account}`, sudoUser: `%${account}` },
          ...{ sudoHost: 'ALL', sudoCommand: 'ALL', sudoOption: '!authenticate' },
          sudoRunAsUser: account,
        }),
      );
    }
  };
  const lock = (dn: string) =>
    later.push(
      entryText(dn, { changetype: 'modify', replace: 'pwdPolicySubentry' }) +
        `pwdPolicySubentry: cn=disabled,ou=ppolicies,${base}\n-\nreplace: pwdAccountLockedTime\n` +
        'pwdAccountLockedTime: 000001010000Z\n',
    );

  // valid people, as in old directories: keys with comments, an underscore
  person('alice', 1, { more: { sshPublicKey: `${keyOf('alice')} alice@laptop` }, member: true });
  person('bob_b', 11, {
    more: {
      sshPublicKey: [
        `restrict ${keyOf('bob')} bob`,
        `no-pty,expiry-time="20991231235959Z" ${keyOf('bob 2')}`,
      ],
    },
    member: true,
  });
  // locked by the policy, and only by the shell; keys and membership were left behind
  person('carol', 12, { more: { sshPublicKey: `${keyOf('carol')} c` }, member: true });
  lock(personDn('carol'));
  person('dora', 13, { more: { loginShell: '/usr/sbin/nologin' } });
  person('mike', 14);
  // locked until a time, as ppolicy does after too many wrong passwords
  person('tina', 15);
  later.push(
    entryText(personDn('tina'), { changetype: 'modify', replace: 'pwdAccountLockedTime' }) +
      'pwdAccountLockedTime: 20300101000000Z\n',
  );
  person('rita', 16, { more: { mail: ['not an address', 'rita@example.org', 'z@example.org'] } });
  // numbers and names that two entries have
  person('dup1', 20);
  person('dup2', 20);
  person('frank', 22, { more: { cn: 'Frank Old', sn: 'Frank Old' }, member: true });
  person('frank2', 23, { more: { cn: 'FRANK  old', sn: 'FRANK  old' } });
  person('frank3', 24, { more: { cn: 'frank old', sn: 'frank old' } });
  person('gina', 25, { more: { cn: '\uFF27ina', sn: '\uFF27ina' } });
  person('gina2', 26, { more: { cn: 'Gina', sn: 'Gina' } });
  // names outside the grammar, the ranges and the lists
  person('Eve', 30);
  person('docker', 31);
  person('outside', 32, { more: { uidNumber: '999' } });
  person('ivan', 33, { more: { cn: ['Ivan One', 'Ivan Two'], sn: 'Other' } });
  person('mallory', 34, { more: { cn: 'Mal\u202Elory', sn: 'Mallory' } });
  person('laura', 35, { dn: `cn=laura of old,ou=people,${base}` });
  person('oscar', 36, { more: { uid: ['oscar', 'oscar2'] } });
  entries.push(
    entryText(personDn('nora'), {
      ...{ objectClass: ['top', 'person', 'inetOrgPerson'], uid: 'nora', cn: 'Nora', sn: 'Nora' },
    }),
  );
  // two display names, one of which is the sn: the other is left out
  person('hugo', 37, { more: { cn: ['Hugo', 'Hugo B'], sn: 'Hugo' } });
  // keys: broken, smuggled behind a line end, doubled, shared
  person('judy', 40, {
    more: {
      sshPublicKey: [
        'ssh-rsa AAAA',
        `${keyOf('judy 1')} x\n${keyOf('judy 2')}`,
        `${keyOf('judy 3')} at home`,
        `${keyOf('judy 3')} at work`,
        '\u001B[2Jssh-ed25519 x',
        PRIVATE_KEY,
        ...['KEY_KNOWN_BAD', 'KEY_WEAK', 'KEY_TYPE', 'KEY_OPTION'].map(badKey),
      ],
    },
  });
  person('kim', 41, { more: { sshPublicKey: keyOf('kim') } });
  person('kim2', 42, { more: { sshPublicKey: `${keyOf('kim')} mine` } });

  tool('wiki', 1, { maintainers: ['alice', 'bob_b'].map(personDn) });
  tool('old_bot', 2, {
    // maintained by another tool, a person who may not log in, and a suspended person
    maintainers: [toolDn('wiki'), ...['alice', 'mike', 'carol'].map(personDn)],
  });
  tool('gone', 3, { parts: ['group', 'account'], more: { loginShell: '/bin/disabledtoolshell' } });
  lock(toolDn('gone'));
  // marked by Toolforge's mark_tool: disabled for ever; to be deleted, from a time long ago and one in the future
  const shut = { loginShell: '/bin/disabledtoolshell' };
  for (const [index, [name, ...times]] of [
    ['kept'],
    ['dated', OLD_TIME],
    // nobody maintains it, but a tool that is leaving is not orphaned
    ['dated-ahead', FUTURE_TIME],
  ].entries()) {
    const dn = toolDn(name ?? '');
    const maintainers = name === 'dated-ahead' ? [] : [personDn('alice')];
    tool(name ?? '', 30 + index, { parts: ['group', 'account'], more: shut, maintainers });
    later.push(
      entryText(dn, { changetype: 'modify', replace: 'pwdPolicySubentry' }) +
        `pwdPolicySubentry: cn=disabled,ou=ppolicies,${base}\n` +
        times
          .map((at) => `-\nreplace: pwdAccountLockedTime\npwdAccountLockedTime: ${at}\n`)
          .join(''),
    );
  }
  tool('solo-group', 4, { parts: ['group'] });
  tool('solo-account', 5, { parts: ['account'] });
  tool('dupnum', 6);
  tool('differ', 7, { gid: 8 });
  tool('member', 9, {
    maintainers: [
      personDn('nobody-here'),
      'cn=x,dc=elsewhere',
      personDn('dup1'),
      personDn('alice'),
      `cn=tools.wiki,ou=servicegroups,${base}`,
    ],
  });
  tool('root', 10);
  tool('twenty-seven-characters-xxx', 11);
  tool('loop-a', 13, { maintainers: [toolDn('loop-b')] });
  tool('loop-b', 14, { maintainers: [toolDn('loop-a')] });
  tool('gid', 15, { more: { gidNumber: String(firstTool + 900) } });
  numbers.add(firstTool + 900);
  entries.push(
    ...[
      ['cn=tools.Mixed,ou=servicegroups', 'groupOfNames', 'cn', 'tools.Mixed', 'gidNumber'],
      ['uid=tools.mixed,ou=people,ou=servicegroups', 'account', 'uid', 'tools.mixed', 'uidNumber'],
    ].map(([dn = '', kind = '', name = '', value = '', number = '']) =>
      entryText(`${dn},${base}`, {
        ...{ objectClass: [kind, kind === 'account' ? 'posixAccount' : 'posixGroup'] },
        ...{ [name]: value, [number]: String(firstTool + 16) },
        ...(kind === 'account'
          ? { cn: value, gidNumber: String(firstTool + 16), homeDirectory: '/data/project/mixed' }
          : { member: toolDn('mixed') }),
      }),
    ),
  );
  numbers.add(firstTool + 16);
  // an account in a place where none may be
  const elsewhere = `uid=tools.deep,ou=old,ou=servicegroups,${base}`;
  entries.push(
    entryText(`ou=old,ou=servicegroups,${base}`, { objectClass: 'organizationalUnit', ou: 'old' }),
    entryText(elsewhere, {
      ...{ objectClass: ['account', 'posixAccount'], uid: 'tools.deep', cn: 'deep' },
      ...{ uidNumber: String(firstTool + 17), gidNumber: '500', homeDirectory: '/' },
    }),
  );
  numbers.add(firstTool + 17);
  for (const [index, name] of FILES.entries()) tool(name, 20 + index);
  tool('admin', 12, { maintainers: [personDn('alice'), toolDn('wiki')] });
  entries.push(
    // groups of others: with a tool's number, with the first number of people, and of another realm
    ...(
      [
        ['cn=other,ou=groups', 'other', firstTool + 6],
        ['cn=project-x,ou=groups', 'project-x', firstPerson],
        ['cn=other.x,ou=servicegroups', 'other.x', 60_100],
      ] as const
    ).map(([dn, cn, gid]) => {
      numbers.add(gid);
      return entryText(`${dn},${base}`, {
        ...{ objectClass: ['groupOfNames', 'posixGroup'], cn, gidNumber: String(gid) },
        member: `cn=chamberlain,${base}`,
      });
    }),
  );
  later.push(
    entryText(`cn=project-tools,ou=groups,${base}`, {
      ...{ changetype: 'modify', add: 'member' },
      member: [...members, personDn('left-long-ago')],
    }),
  );
  await changeDirectory(world, 'ldapadd', entries.join('\n'), 'relax');
  await changeDirectory(world, 'ldapmodify', later.join('\n'), 'relax');

  const passwords: Record<string, string> = {};
  const home = (
    area: string,
    name: string,
    mode: number,
    gid: number,
    user: string | undefined,
  ) => {
    const number = uid[name] ?? 0;
    const folder = join(world.dataRoot, area);
    // a home inherits the default ACL of the staging folder
    const staged = join(folder, '.chamberlain', `${name}.old`);
    for (const each of mode === 0o700 ? [''] : ['', '/public_html', '/logs']) {
      mkdirSync(staged + each, 0o700);
      chownSync(staged + each, number, gid);
      chmodSync(staged + each, mode);
    }
    if (user !== undefined) {
      const file = join(staged, 'replica.my.cnf');
      const password = `passwordof${name.replaceAll(/[^a-z]/g, '')}`;
      passwords[name] = password;
      writeFileSync(file, renderCredentialsFile(user, password), { mode: 0o440 });
      chownSync(file, number, number);
    }
    renameSync(staged, join(folder, name));
  };
  const ofTool = (name: string, withFile: boolean) =>
    home('data/project', name, 0o2775, uid[name] ?? 0, withFile ? `s${uid[name]}` : undefined);
  ofTool('wiki', true);
  ofTool('old_bot', false);
  ofTool('gone', true);
  ofTool('admin', true);
  for (const name of FILES) {
    ofTool(name, true);
    const file = join(world.dataRoot, 'data/project', name, 'replica.my.cnf');
    SPOIL[name](file, uid[name] ?? 0);
  }
  for (const name of ['alice', 'carol', 'mike']) home('home', name, 0o700, 500, `u${uid[name]}`);
  home('home', 'bob_b', 0o700, 500, 'u1');
  // a home without an account, owned by a number without an account
  uid['unmanaged'] = firstTool + 5000;
  numbers.add(firstTool + 5000);
  home('data/project', 'unmanaged', 0o2775, uid['unmanaged'], undefined);

  for (const [server, kind] of [
    ['replica', 'replica'],
    ['tools', 'toolsdb'],
  ] as const) {
    const make = (user: string, password: string, locked: boolean) =>
      accountStatement(user, kind, verifierOf(password)) +
      // on the old platform each account has its own role
      (kind === 'replica'
        ? `GRANT labsdbuser TO '${user}'@'%'; SET DEFAULT ROLE labsdbuser FOR '${user}'@'%';\n`
        : '') +
      (locked ? `ALTER USER '${user}'@'%' ACCOUNT LOCK;\n` : '');
    const text = [
      make(`s${uid['wiki']}`, passwords['wiki'] ?? '', false),
      make(`s${uid['gone']}`, passwords['gone'] ?? '', true),
      ...FILES.filter((name) => server === 'replica' || name !== 'half').map((name) =>
        make(`s${uid[name]}`, passwords[name] ?? '', false),
      ),
      make(
        `s${uid['admin']}`,
        server === 'replica' ? 'another' : (passwords['admin'] ?? ''),
        false,
      ),
      make(`u${uid['alice']}`, passwords['alice'] ?? '', false),
      make(`u${uid['carol']}`, passwords['carol'] ?? '', true),
      make(`u${uid['mike']}`, passwords['mike'] ?? '', true),
    ];
    await administer(world[server].socket, text.join(''));
  }
  return { uid, passwords, numbers };
}
