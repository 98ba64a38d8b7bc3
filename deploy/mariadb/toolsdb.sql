-- The accounts of Chamberlain's databases role on a tools database server, and their rights. Run as an
-- administrator; it may be run again. No passwords here: give each account one with
-- ALTER USER … IDENTIFIED BY PASSWORD '*…', the verifier of the secret files mariadb-databases and
-- mariadb-databases-reader.

-- On its own host, an anonymous account takes precedence over accounts of any host ('%').
DELETE FROM mysql.global_priv WHERE User = '' AND JSON_VALUE(Priv, '$.is_role') IS NULL;
-- Everybody may read databases that were published as …_p. Earlier versions gave each account a row of its own;
-- the server reads all those rows when it creates an account. (CHAR(92) is the backslash, in any SQL mode.)
GRANT SELECT, SHOW VIEW ON `%\_p`.* TO PUBLIC;
DELETE FROM mysql.db WHERE Host = '%' AND Db = CONCAT('%', CHAR(92), '_p')
  AND User REGEXP '^([su][1-9][0-9]{0,9}|chamberlain_databases)$';
FLUSH PRIVILEGES;

CREATE USER IF NOT EXISTS 'chamberlain_databases'@'%' ACCOUNT LOCK;
CREATE USER IF NOT EXISTS 'chamberlain_databases_reader'@'%' ACCOUNT LOCK;

-- Creating, changing and dropping accounts; ending their sessions (KILL USER). MariaDB cannot limit this to
-- some accounts: CREATE USER reaches every account, so guard this one's secret well. Seeing which databases
-- exist: a database that is not seen would not be archived.
GRANT CREATE USER, CONNECTION ADMIN, PROCESS, SHOW DATABASES ON *.* TO 'chamberlain_databases'@'%';
-- Checking whether an account (still) exists.
GRANT SELECT (Host, User) ON mysql.global_priv TO 'chamberlain_databases'@'%';
-- What tools and people may have, so that it can be granted, and archived when they leave: s51234__name and
-- u1234__name, all of it.
GRANT ALL PRIVILEGES ON `s%\_\_%`.* TO 'chamberlain_databases'@'%' WITH GRANT OPTION;
GRANT ALL PRIVILEGES ON `u%\_\_%`.* TO 'chamberlain_databases'@'%' WITH GRANT OPTION;

-- The marker, which shows whether this server is an older copy of itself. It is next to the accounts, so if
-- older accounts are restored, the older marker comes back with them. There is a row for each realm that has
-- this server. Tenants have no right to it.
CREATE TABLE IF NOT EXISTS mysql.chamberlain_marker (realm VARCHAR(128) NOT NULL PRIMARY KEY, marker TEXT NOT NULL)
  ENGINE = Aria TRANSACTIONAL = 1 DEFAULT CHARSET = utf8mb4;
GRANT SELECT, INSERT, UPDATE ON mysql.chamberlain_marker TO 'chamberlain_databases'@'%';

-- Surveys only read: accounts, and the names of databases.
GRANT SHOW DATABASES ON *.* TO 'chamberlain_databases_reader'@'%';
GRANT SELECT ON mysql.global_priv TO 'chamberlain_databases_reader'@'%';
GRANT SELECT ON mysql.chamberlain_marker TO 'chamberlain_databases_reader'@'%';
GRANT SELECT ON mysql.db TO 'chamberlain_databases_reader'@'%';
GRANT SELECT ON mysql.roles_mapping TO 'chamberlain_databases_reader'@'%';
GRANT SELECT ON mysql.tables_priv TO 'chamberlain_databases_reader'@'%';
GRANT SELECT ON mysql.procs_priv TO 'chamberlain_databases_reader'@'%';
GRANT SELECT ON mysql.proxies_priv TO 'chamberlain_databases_reader'@'%';
