/**
 * What a tool consists of on the servers, as LDIF and SQL: floors and fillings create by hand what the targets
 * create, so this repeats it on purpose.
 */
import {
  formatSeal,
  signPayload,
  type PersonSeal,
  type Seal,
  type SealKey,
  type ToolSeal,
} from '../../src/seals/seal.ts';

/** What must be known of a realm to write its entries. */
export interface ShapedRealm {
  config: {
    realm: string;
    ldap: { base: string };
    ids: { realmGid: number };
    files: { toolHomes: string; personHomes: string };
  };
}

export interface ShapedTool {
  name: string;
  uid: number;
  /** shell names */
  maintainers: readonly string[];
}

export interface ShapedPerson {
  name: string;
  uid: number;
  /** a canonical line */
  key: string;
}

/** What is needed for a seal besides its content. */
export interface Sealing {
  key: SealKey;
  until: string;
}

/** The first number that PostgreSQL gives. */
const NUMBER = 1;

export function personSeal(
  { name, uid, key }: ShapedPerson,
  { config }: ShapedRealm,
  { until }: Pick<Sealing, 'until'>,
): PersonSeal {
  return {
    ...{ kind: 'person', realm: config.realm, name, uid },
    ...{ home: `${config.files.personHomes}/${name}`, shell: '/bin/bash' },
    ...{ state: 'active', member: true, keys: [key], number: NUMBER, until },
  };
}

export function toolSeal(
  { name, uid, maintainers }: ShapedTool,
  { config }: ShapedRealm,
  { until }: Pick<Sealing, 'until'>,
): ToolSeal {
  return {
    ...{ kind: 'tool', realm: config.realm, name: `${config.realm}.${name}`, uid },
    ...{ home: `${config.files.toolHomes}/${name}`, shell: '/bin/bash', state: 'active' },
    ...{ gecos: '', members: maintainers.toSorted(), number: NUMBER, until },
  };
}

function signSeal(seal: Seal, { key }: Sealing): string {
  return signPayload(formatSeal(seal), key);
}

export function personDn(shellName: string, { config }: ShapedRealm): string {
  return `uid=${shellName},ou=people,${config.ldap.base}`;
}

/** Group, account and sudo rule of a tool. */
export function toolEntries(tool: ShapedTool, realm: ShapedRealm, sealing: Sealing): string {
  const { name, uid, maintainers } = tool;
  const { config } = realm;
  const { base } = config.ldap;
  const account = `${config.realm}.${name}`;
  const dn = `uid=${account},ou=people,ou=servicegroups,${base}`;
  const members = [dn, ...maintainers.map((person) => personDn(person, realm))];
  return `dn: cn=${account},ou=servicegroups,${base}
objectClass: groupOfNames
objectClass: posixGroup
cn: ${account}
gidNumber: ${uid}
${members.map((member) => `member: ${member}\n`).join('')}
dn: ${dn}
objectClass: top
objectClass: person
objectClass: posixAccount
objectClass: shadowAccount
objectClass: chamberlainMember
objectClass: chamberlainSealed
uid: ${account}
cn: ${account}
sn: ${account}
uidNumber: ${uid}
gidNumber: ${uid}
homeDirectory: ${config.files.toolHomes}/${name}
loginShell: /bin/bash
memberOf: cn=${account},ou=servicegroups,${base}
chamberlainSeal: ${signSeal(toolSeal(tool, realm, sealing), sealing)}

dn: cn=runas-${account},ou=sudoers,cn=${config.realm},ou=projects,${base}
objectClass: sudoRole
cn: runas-${account}
sudoUser: %${account}
sudoHost: ALL
sudoCommand: ALL
sudoOption: !authenticate
sudoRunAsUser: ${account}

`;
}

/**
 * A realm member with one key.
 *
 * @param tools the names of the tools that this person maintains
 */
export function personEntry(
  person: ShapedPerson,
  tools: readonly string[],
  realm: ShapedRealm,
  sealing: Sealing,
): string {
  const { name, uid, key } = person;
  const { config } = realm;
  const { base } = config.ldap;
  const groups = [
    `cn=project-${config.realm},ou=groups,${base}`,
    ...tools.map((tool) => `cn=${config.realm}.${tool},ou=servicegroups,${base}`),
  ];
  return `dn: ${personDn(name, realm)}
objectClass: top
objectClass: person
objectClass: inetOrgPerson
objectClass: ldapPublicKey
objectClass: posixAccount
objectClass: chamberlainMember
objectClass: chamberlainSealed
uid: ${name}
cn: The ${name}
sn: The ${name}
uidNumber: ${uid}
gidNumber: ${config.ids.realmGid}
homeDirectory: ${config.files.personHomes}/${name}
loginShell: /bin/bash
mail: ${name}@example.org
${groups.map((group) => `memberOf: ${group}\n`).join('')}sshPublicKey: ${key}
chamberlainSeal: ${signSeal(personSeal(person, realm, sealing), sealing)}

`;
}

/** The statement that creates a database account and gives it its rights, with a `;`. */
export function accountStatement(
  user: string,
  kind: 'replica' | 'toolsdb',
  verifier: string,
): string {
  const account = `'${user}'@'%'`;
  const made = `${account} IDENTIFIED BY PASSWORD '${verifier}' WITH MAX_USER_CONNECTIONS 10;\n`;
  return kind === 'replica'
    ? `CREATE USER ${made}`
    : `GRANT ALL PRIVILEGES ON \`${user}\\_\\_%\`.* TO ${made}`;
}
