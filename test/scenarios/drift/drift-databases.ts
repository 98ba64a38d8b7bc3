/** Drifts of single accounts on the database servers. */
import { limitWhileEnding } from '../../../src/targets/connection-limit.ts';
import type { DriftCase, Hand, Subject } from './drift-case.ts';

const quote = ({ user }: Subject) => `'${user}'@'%'`;

type Statement = (subject: Subject) => string;
const on = (server: 'replica' | 'tools', statement: Statement) => (subject: Subject, hand: Hand) =>
  hand.sql(server, statement(subject));
const onBoth = (statement: Statement) => async (subject: Subject, hand: Hand) => {
  await hand.sql('replica', statement(subject));
  await hand.sql('tools', statement(subject));
};

const ACCOUNTS: readonly DriftCase[] = [
  {
    what: 'the account missing on one of two servers',
    of: 'tool',
    covers: 'database-account tool presence',
    damage: on('replica', (one) => `DROP USER ${quote(one)};`),
    shows: ['create database-account'],
  },
  {
    what: 'the account of a person missing on one of two servers',
    of: 'person',
    covers: 'database-account person presence',
    damage: on('tools', (one) => `DROP USER ${quote(one)};`),
    shows: ['create database-account'],
  },
  {
    what: 'the account missing on both servers',
    of: 'tool',
    damage: onBoth((one) => `DROP USER ${quote(one)};`),
    shows: ['create database-account', 'create database-account'],
  },
  {
    what: 'another password',
    of: 'tool',
    covers: 'database-account tool verifiers',
    damage: on('tools', (one) => `ALTER USER ${quote(one)} IDENTIFIED BY 'chosen by hand';`),
    shows: ['revoke database-account'],
  },
  {
    what: 'another password of a person',
    of: 'person',
    covers: 'database-account person verifiers',
    damage: onBoth((one) => `ALTER USER ${quote(one)} IDENTIFIED BY 'chosen by hand';`),
    shows: ['revoke database-account', 'revoke database-account'],
  },
  {
    what: 'no password',
    of: 'tool',
    damage: on('replica', (one) => `ALTER USER ${quote(one)} IDENTIFIED BY '';`),
    shows: ['revoke database-account'],
  },
  {
    what: 'another way to log in',
    of: 'tool',
    damage: on('replica', (one) => `ALTER USER ${quote(one)} IDENTIFIED VIA unix_socket;`),
    shows: ['revoke database-account'],
  },
  {
    what: 'a second way to log in, besides the right one',
    of: 'tool',
    damage: on(
      'tools',
      ({ user }) =>
        `SELECT JSON_VALUE(Priv, '$.authentication_string') INTO @v FROM mysql.global_priv
          WHERE User = '${user}' AND Host = '%';
         EXECUTE IMMEDIATE CONCAT('ALTER USER ''${user}''@''%'' IDENTIFIED VIA mysql_native_password USING ''',
           @v, ''' OR mysql_native_password USING PASSWORD(''backdoor'')');`,
    ),
    shows: ['revoke database-account'],
  },
  {
    what: 'the password expired',
    of: 'tool',
    damage: on('replica', (one) => `ALTER USER ${quote(one)} PASSWORD EXPIRE;`),
    shows: ['change database-account'],
  },
  {
    what: 'locked on one server',
    of: 'tool',
    covers: 'database-account tool locked',
    damage: on('tools', (one) => `ALTER USER ${quote(one)} ACCOUNT LOCK;`),
    shows: ['change database-account'],
  },
  {
    what: 'a disabled tool unlocked on one server',
    of: 'tool',
    is: 'disabled',
    damage: on('replica', (one) => `ALTER USER ${quote(one)} ACCOUNT UNLOCK;`),
    shows: ['revoke database-account'],
  },
  {
    what: 'a suspended person unlocked on one server',
    of: 'person',
    is: 'suspended',
    covers: 'database-account person locked',
    damage: on('replica', (one) => `ALTER USER ${quote(one)} ACCOUNT UNLOCK;`),
    shows: ['revoke database-account'],
  },
  {
    what: 'a limit of connections changed on one server',
    of: 'tool',
    covers: 'database-account tool maxUserConnections',
    damage: on('replica', (one) => `ALTER USER ${quote(one)} WITH MAX_USER_CONNECTIONS 99;`),
    shows: ['change database-account'],
  },
  {
    what: 'the limit that an interrupted run sets while it ends connections',
    of: 'tool',
    damage: on(
      'replica',
      (one) => `ALTER USER ${quote(one)} WITH MAX_USER_CONNECTIONS ${limitWhileEnding(10)};`,
    ),
    shows: ['revoke database-account'],
  },
  {
    what: 'other limits, and TLS required: left to the administrator',
    of: 'tool',
    damage: on(
      'replica',
      (one) => `ALTER USER ${quote(one)} REQUIRE SSL WITH MAX_QUERIES_PER_HOUR 5000;`,
    ),
    shows: ['DATABASE_FOREIGN database-account (advisory)'],
    decide: on(
      'replica',
      (one) => `ALTER USER ${quote(one)} REQUIRE NONE WITH MAX_QUERIES_PER_HOUR 0;`,
    ),
  },
  {
    what: 'no limit of connections on a person',
    of: 'person',
    covers: 'database-account person maxUserConnections',
    damage: onBoth((one) => `ALTER USER ${quote(one)} WITH MAX_USER_CONNECTIONS 0;`),
    shows: ['change database-account', 'change database-account'],
  },
];

const GRANTS: readonly DriftCase[] = [
  {
    what: 'everything granted everywhere',
    of: 'tool',
    covers: 'database-account tool servers',
    damage: on('tools', (one) => `GRANT ALL ON *.* TO ${quote(one)} WITH GRANT OPTION;`),
    shows: ['revoke database-account'],
  },
  {
    what: 'the databases of another tool granted',
    of: 'tool',
    damage: on('tools', (one) => `GRANT ALL ON \`s1\\_\\_%\`.* TO ${quote(one)};`),
    shows: ['revoke database-account'],
  },
  {
    what: 'the right to grant its own rights to others',
    of: 'tool',
    damage: on(
      'tools',
      ({ user }) => `GRANT ALL ON \`${user}\\_\\_%\`.* TO '${user}'@'%' WITH GRANT OPTION;`,
    ),
    shows: ['revoke database-account'],
  },
  {
    what: 'a table and a column granted',
    of: 'person',
    covers: 'database-account person servers',
    damage: on(
      'replica',
      (one) =>
        `GRANT SELECT ON enwiki.page TO ${quote(one)}; GRANT INSERT (page_id) ON enwiki.page TO ${quote(one)};`,
    ),
    shows: ['revoke database-account'],
  },
  {
    what: 'a procedure granted',
    of: 'tool',
    damage: on(
      'replica',
      (one) =>
        `CREATE PROCEDURE IF NOT EXISTS enwiki.drift() SELECT 1;
         GRANT EXECUTE ON PROCEDURE enwiki.drift TO ${quote(one)};`,
    ),
    shows: ['revoke database-account'],
  },
  {
    what: 'the role with the right to grant it to others',
    of: 'tool',
    damage: on('replica', (one) => `GRANT labsdbuser TO ${quote(one)} WITH ADMIN OPTION;`),
    shows: ['revoke database-account'],
  },
  {
    what: 'the role that everybody has, also granted directly',
    of: 'tool',
    damage: on(
      'replica',
      (one) => `GRANT labsdbuser TO ${quote(one)}; SET DEFAULT ROLE labsdbuser FOR ${quote(one)};`,
    ),
    shows: [],
  },
  {
    what: 'rights on its own databases revoked, and too many others granted',
    of: 'tool',
    damage: on(
      'tools',
      (one) =>
        `REVOKE ALL ON \`${one.user}\\_\\_%\`.* FROM ${quote(one)}; GRANT SELECT ON mysql.* TO ${quote(one)};`,
    ),
    shows: ['revoke database-account', 'change database-account'],
  },
  {
    what: 'the right to run events given to a disabled tool',
    of: 'tool',
    is: 'disabled',
    damage: on('tools', ({ user }) => `GRANT EVENT ON \`${user}\\_\\_%\`.* TO '${user}'@'%';`),
    shows: ['revoke database-account'],
  },
  {
    what: 'the right to run events revoked',
    of: 'tool',
    damage: on('tools', ({ user }) => `REVOKE EVENT ON \`${user}\\_\\_%\`.* FROM '${user}'@'%';`),
    shows: ['change database-account'],
  },
  {
    what: 'rights on its own databases revoked',
    of: 'tool',
    damage: on(
      'tools',
      ({ user }) => `REVOKE ALL PRIVILEGES ON \`${user}\\_\\_%\`.* FROM '${user}'@'%';`,
    ),
    shows: ['change database-account'],
  },
];

const FOREIGN: readonly DriftCase[] = [
  {
    what: 'an account with the same name on another host',
    of: 'tool',
    damage: on('tools', ({ user }) => `CREATE USER '${user}'@'localhost';`),
    shows: ['DATABASE_FOREIGN database-account'],
    decide: on('tools', ({ user }) => `DROP USER '${user}'@'localhost';`),
  },
  {
    what: 'a role with the same name',
    of: 'tool',
    damage: on('replica', ({ user }) => `CREATE ROLE ${user};`),
    shows: ['DATABASE_FOREIGN database-account'],
    decide: on('replica', ({ user }) => `DROP ROLE ${user};`),
  },
  {
    what: 'the right to act as another (PROXY)',
    of: 'tool',
    damage: on('tools', (one) => `GRANT PROXY ON root@localhost TO ${quote(one)};`),
    shows: ['DATABASE_FOREIGN database-account'],
    decide: on('tools', (one) => `REVOKE PROXY ON root@localhost FROM ${quote(one)};`),
  },
  {
    what: 'an account on another host, and too many rights on the right one',
    of: 'tool',
    damage: on(
      'tools',
      (one) => `CREATE USER '${one.user}'@'localhost'; GRANT SELECT ON mysql.* TO ${quote(one)};`,
    ),
    shows: ['revoke database-account', 'DATABASE_FOREIGN database-account'],
    decide: on('tools', ({ user }) => `DROP USER '${user}'@'localhost';`),
  },
];

export const DATABASE_CASES: readonly DriftCase[] = [...ACCOUNTS, ...GRANTS, ...FOREIGN];
