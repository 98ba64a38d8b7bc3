-- Up Migration

-- A request about portals makes every process read again what PostgreSQL adds to the configuration file, but not the
-- file: an edit of it counts when an operator asks for a reload, and a file that is wrong delays no request.

ALTER TABLE reloads ADD COLUMN file bigint NOT NULL DEFAULT 0;
UPDATE reloads SET file = number;

-- Makes every process read the file again, and what PostgreSQL adds to it.
CREATE OR REPLACE FUNCTION ask_reload() RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
  SELECT pg_notify('chamberlain_configuration', '');
  UPDATE reloads SET number = number + 1, file = number + 1, at = clock_timestamp() RETURNING number;
$$;

CREATE OR REPLACE FUNCTION reload_portals() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  PERFORM pg_notify('chamberlain_configuration', '');
  UPDATE reloads SET number = number + 1, at = clock_timestamp(),
    -- intake has started with a file that lists the portal: the others must not go on without both
    file = CASE WHEN EXISTS (SELECT FROM portals p
                             WHERE p.removed_by = 'the configuration file' AND p.removed_at >= now())
                THEN number + 1 ELSE file END;
  RETURN NULL;
END $$;

-- What a process says of itself must also tell it which of the two was asked for.
DROP FUNCTION note_configuration(text[], text, int, text, double precision, jsonb, bigint, text);
CREATE FUNCTION note_configuration(
  works text[], machine text, os_pid integer, digest text, seconds double precision, fixed jsonb, reload bigint,
  error text, OUT asked bigint, OUT asked_of_file bigint)
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
  SELECT r.number, r.file INTO asked, asked_of_file FROM reloads r;
END $$;

-- Down Migration
