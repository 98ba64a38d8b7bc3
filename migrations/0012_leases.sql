-- Up Migration

-- The process that has the lease of a work leads it. Only progress renews the lease, so a leader that hangs is
-- replaced; one whose session has ended is replaced at once. `epoch` is the fencing number: a connection that
-- carries one (the setting chamberlain.epoch) can write nothing once another leader has a higher one. For this
-- every table has the trigger check_lease (roles.sql).
CREATE TABLE leases (
  name       text PRIMARY KEY,
  -- how long it lasts without progress
  lasts      interval NOT NULL,
  epoch      bigint NOT NULL DEFAULT 0,
  -- of the PostgreSQL process that serves the leader
  pid        integer,
  since      timestamptz,
  -- the last progress
  renewed_at timestamptz,
  -- makes `epoch` a part of a key: a transaction that changes it waits for each transaction that holds the row
  -- FOR KEY SHARE
  UNIQUE (name, epoch)
);
-- those of the roles are made with the roles (src/database/roles-table.ts)
INSERT INTO leases (name, lasts) VALUES ('intake', '10 s'), ('relay', '10 s'), ('sweep', '10 s');

-- Takes the lease of the login, and returns its new number; NULL if another process has it. A leader that is in
-- the middle of a transaction may end it, or PostgreSQL ends it (idle_in_transaction_session_timeout).
CREATE FUNCTION take_lease() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  taken bigint;
BEGIN
  UPDATE leases SET epoch = epoch + 1, pid = pg_backend_pid(), since = clock_timestamp(), renewed_at = clock_timestamp()
  WHERE name = (
    SELECT name FROM leases l
    WHERE l.name = substr(session_user, length('chamberlain_') + 1) AND (l.renewed_at + l.lasts > clock_timestamp()
      AND EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = l.pid AND a.pid <> pg_backend_pid()
        AND a.usename = session_user AND a.datname = current_database())) IS NOT TRUE
    FOR UPDATE SKIP LOCKED)
  RETURNING epoch INTO taken;
  PERFORM set_config('chamberlain.epoch', taken::text, false) WHERE taken IS NOT NULL;
  RETURN taken;
END $$;

-- Records that the work has made progress. It does not wait for the disk: only the number matters, and that is
-- durable already.
CREATE FUNCTION renew_lease() RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  UPDATE leases SET renewed_at = clock_timestamp()
  WHERE name = substr(session_user, length('chamberlain_') + 1)
    AND epoch = current_setting('chamberlain.epoch', true)::bigint;
  IF NOT FOUND THEN
    RAISE object_not_in_prerequisite_state USING MESSAGE = format('another has the lease of %s', session_user);
  END IF;
  PERFORM set_config('synchronous_commit', 'off', true);
END $$;

-- Fails if another process has the lease; otherwise does nothing, and renews nothing.
CREATE FUNCTION confirm_lease() RETURNS void
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  PERFORM FROM leases WHERE name = substr(session_user, length('chamberlain_') + 1)
    AND epoch = current_setting('chamberlain.epoch', true)::bigint;
  IF NOT FOUND THEN
    RAISE object_not_in_prerequisite_state USING MESSAGE = format('another has the lease of %s', session_user);
  END IF;
END $$;

-- Refuses what a leader writes after another has taken its lease. Until the transaction ends, no other process
-- can take it, so one check is enough for each transaction (chamberlain.checked).
CREATE FUNCTION check_lease() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  PERFORM FROM leases WHERE name = substr(session_user, length('chamberlain_') + 1)
    AND epoch = current_setting('chamberlain.epoch')::bigint FOR KEY SHARE;
  IF NOT FOUND THEN
    RAISE object_not_in_prerequisite_state USING MESSAGE = format('another has the lease of %s', session_user);
  END IF;
  PERFORM set_config('chamberlain.checked', pg_current_xact_id()::text, true);
  RETURN NULL;
END $$;

-- The leaders whose session lives, and whether they make progress. For logins whose rights the owner does not
-- have, PostgreSQL does not give the address.
CREATE FUNCTION leaders()
RETURNS TABLE (work text, pid integer, address text, since timestamptz, renewed_at timestamptz, hangs boolean)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
  SELECT l.name, l.pid, host(a.client_addr), l.since, l.renewed_at, l.renewed_at + l.lasts < clock_timestamp()
  FROM leases l JOIN pg_stat_activity a
    ON a.pid = l.pid AND a.usename = 'chamberlain_' || l.name AND a.datname = current_database()
  ORDER BY l.name
$$;

DROP FUNCTION take_lock(integer);

-- Of the locks of 0009, those of verdicts and subjects remain.
CREATE OR REPLACE FUNCTION lock_holders()
RETURNS TABLE (class integer, number integer, subjects integer, is_alone boolean,
               holder text, pid integer, address text, since timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
  SELECT l.classid::bigint::integer, CASE l.objsubid WHEN 1 THEN l.objid::bigint::integer END, count(*)::integer,
         bool_or(l.mode = 'ExclusiveLock'), a.usename::text, l.pid, host(a.client_addr), a.backend_start
  FROM pg_locks l JOIN pg_stat_activity a USING (pid)
  WHERE l.locktype = 'advisory' AND l.granted
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND (l.classid = 0 AND l.objsubid = 1 AND l.objid = 4
         OR l.classid IN (SELECT lock_class FROM roles) AND l.objsubid = 2)
  GROUP BY 1, 2, 5, 6, 7, 8 ORDER BY 1, 2, a.backend_start, 6
$$;

-- Down Migration
