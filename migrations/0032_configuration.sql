-- Up Migration

-- How often a reload of the configuration was asked for. A process that has not read it so often reads it again, also
-- where it has missed the notice.
CREATE TABLE reloads (
  single boolean PRIMARY KEY DEFAULT true CHECK (single),
  number bigint NOT NULL DEFAULT 0,
  at     timestamptz
);
INSERT INTO reloads DEFAULT VALUES;

-- Which configuration each process uses. A row belongs to the connection on which the process listens, and counts as
-- long as that is open.
CREATE TABLE configurations (
  -- of the PostgreSQL process that serves the connection
  pid           integer PRIMARY KEY,
  backend_start timestamptz,
  login         text NOT NULL,
  works         text[] NOT NULL CHECK (cardinality(works) BETWEEN 1 AND 20),
  machine       text NOT NULL CHECK (length(machine) <= 255),
  os_pid        integer NOT NULL,
  -- of what a reload can change
  digest        text NOT NULL CHECK (length(digest) = 64),
  since         timestamptz NOT NULL,
  -- the hash of each setting that needs a restart
  fixed         jsonb NOT NULL,
  -- the reload that it has carried out
  reload        bigint NOT NULL,
  -- why the last one changed nothing
  error         text CHECK (length(error) <= 5000)
);

-- Makes every process read the configuration again. A transaction that changes what PostgreSQL adds to the file calls it.
CREATE FUNCTION ask_reload() RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
  SELECT pg_notify('chamberlain_configuration', '');
  UPDATE reloads SET number = number + 1, at = clock_timestamp() RETURNING number;
$$;

-- What a process says of itself, by the connection that it says it on. Returns the number of the last reload that was
-- asked for.
CREATE FUNCTION note_configuration(
  works text[], machine text, os_pid integer, digest text, seconds double precision, fixed jsonb, reload bigint,
  error text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  began timestamptz := (SELECT a.backend_start FROM pg_stat_activity a WHERE a.pid = pg_backend_pid());
  used_since timestamptz := clock_timestamp() - make_interval(secs => seconds);
BEGIN
  INSERT INTO configurations AS c
    VALUES (pg_backend_pid(), began, session_user, works, machine, os_pid, digest, used_since, fixed, reload, error)
  ON CONFLICT (pid) DO UPDATE SET (backend_start, login, works, machine, os_pid, digest, since, fixed, reload, error)
    = (excluded.backend_start, excluded.login, excluded.works, excluded.machine, excluded.os_pid, excluded.digest,
       excluded.since, excluded.fixed, excluded.reload, excluded.error);
  DELETE FROM configurations c WHERE NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = c.pid);
  RETURN (SELECT number FROM reloads);
END $$;

-- The processes that work, and the configuration that each uses.
CREATE FUNCTION configurations_in_use() RETURNS TABLE (
  works text[], machine text, os_pid integer, digest text, since timestamptz, fixed jsonb, reload bigint, asked bigint,
  error text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
  SELECT c.works, c.machine, c.os_pid, c.digest, c.since, c.fixed, c.reload, r.number, c.error
  FROM configurations c JOIN pg_stat_activity a ON a.pid = c.pid AND a.usename = c.login
      AND a.backend_start IS NOT DISTINCT FROM c.backend_start AND a.datname = current_database()
    CROSS JOIN reloads r
  ORDER BY c.machine, c.works, c.os_pid
$$;

-- Down Migration
