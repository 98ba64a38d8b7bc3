-- The accounts of Chamberlain's databases role on a replica server, and their rights. Run as an
-- administrator; it may be run again. No passwords here: give each account one with
-- ALTER USER … IDENTIFIED BY PASSWORD '*…', the verifier of the secret files mariadb-databases and
-- mariadb-databases-reader.

-- On its own host, an anonymous account takes precedence over accounts of any host ('%').
DELETE FROM mysql.global_priv WHERE User = '' AND JSON_VALUE(Priv, '$.is_role') IS NULL;
-- Everybody may read the views. Earlier versions gave this role to each account, and to chamberlain_databases
-- what that requires; the server goes through all those rows when it creates an account.
DELETE FROM mysql.roles_mapping WHERE Host = '%' AND Role = 'labsdbuser'
  AND User REGEXP '^([su][1-9][0-9]{0,9}|chamberlain_databases)$';
DELETE FROM mysql.db WHERE Host = '%' AND User = 'chamberlain_databases' AND Db = 'mysql';
FLUSH PRIVILEGES;

CREATE USER IF NOT EXISTS 'chamberlain_databases'@'%' ACCOUNT LOCK;
CREATE USER IF NOT EXISTS 'chamberlain_databases_reader'@'%' ACCOUNT LOCK;

-- The rights that everybody has here, by this role. The operator grants it SELECT, SHOW VIEW on each database
-- of views, with the underscore escaped: GRANT SELECT, SHOW VIEW ON `enwiki\_p`.* TO labsdbuser.
CREATE ROLE IF NOT EXISTS labsdbuser;
GRANT labsdbuser TO PUBLIC;

-- Creating, changing and dropping accounts; ending their sessions (KILL USER). MariaDB cannot limit this to
-- some accounts: CREATE USER reaches every account, so guard this one's secret well.
GRANT CREATE USER, CONNECTION ADMIN, PROCESS ON *.* TO 'chamberlain_databases'@'%';
-- Checking whether an account (still) exists.
GRANT SELECT (Host, User) ON mysql.global_priv TO 'chamberlain_databases'@'%';

-- The marker, which shows whether this server is an older copy of itself. It is next to the accounts, so if
-- older accounts are restored, the older marker comes back with them. There is a row for each realm that has
-- this server. Tenants have no right to it.
CREATE TABLE IF NOT EXISTS mysql.chamberlain_marker (realm VARCHAR(128) NOT NULL PRIMARY KEY, marker TEXT NOT NULL)
  ENGINE = Aria TRANSACTIONAL = 1 DEFAULT CHARSET = utf8mb4;
GRANT SELECT, INSERT, UPDATE ON mysql.chamberlain_marker TO 'chamberlain_databases'@'%';

-- Surveys only read.
GRANT SELECT ON mysql.global_priv TO 'chamberlain_databases_reader'@'%';
GRANT SELECT ON mysql.chamberlain_marker TO 'chamberlain_databases_reader'@'%';
GRANT SELECT ON mysql.db TO 'chamberlain_databases_reader'@'%';
GRANT SELECT ON mysql.roles_mapping TO 'chamberlain_databases_reader'@'%';
GRANT SELECT ON mysql.tables_priv TO 'chamberlain_databases_reader'@'%';
GRANT SELECT ON mysql.procs_priv TO 'chamberlain_databases_reader'@'%';
GRANT SELECT ON mysql.proxies_priv TO 'chamberlain_databases_reader'@'%';
