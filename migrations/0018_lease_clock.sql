-- Up Migration

-- PostgreSQL's clock may be set back: then the last progress of a leader that hangs is in the future, and its
-- lease would last until that time has come. So a progress that is further ahead than the lease lasts does not
-- count. Otherwise both functions are those of 0012_leases.sql.
CREATE OR REPLACE FUNCTION take_lease() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  taken bigint;
BEGIN
  UPDATE leases SET epoch = epoch + 1, pid = pg_backend_pid(), since = clock_timestamp(), renewed_at = clock_timestamp()
  WHERE name = (
    SELECT name FROM leases l
    WHERE l.name = substr(session_user, length('chamberlain_') + 1)
      AND (l.renewed_at > clock_timestamp() - l.lasts AND l.renewed_at < clock_timestamp() + l.lasts
        AND EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = l.pid AND a.pid <> pg_backend_pid()
          AND a.usename = session_user AND a.datname = current_database())) IS NOT TRUE
    FOR UPDATE SKIP LOCKED)
  RETURNING epoch INTO taken;
  PERFORM set_config('chamberlain.epoch', taken::text, false) WHERE taken IS NOT NULL;
  RETURN taken;
END $$;

CREATE OR REPLACE FUNCTION leaders()
RETURNS TABLE (work text, pid integer, address text, since timestamptz, renewed_at timestamptz, hangs boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
  SELECT l.name, l.pid, host(a.client_addr), l.since, l.renewed_at,
    l.renewed_at < clock_timestamp() - l.lasts OR l.renewed_at > clock_timestamp() + l.lasts
  FROM leases l JOIN pg_stat_activity a
    ON a.pid = l.pid AND a.usename = 'chamberlain_' || l.name AND a.datname = current_database()
  ORDER BY l.name
$$;

-- Down Migration
