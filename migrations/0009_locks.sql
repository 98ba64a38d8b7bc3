-- Workers hold advisory locks, which end with the connection, however that ends. But any login of a database
-- may take any of them. So deploy/postgres/locks.sql reserves that for the owner, and by the owner's functions
-- each role takes only its own. The numbers are those of src/database/connection.ts. session_user is the login,
-- whatever role was set since.

-- The work that one process at a time does: intake, relay, sweep, and looking for unmanaged things as each
-- role. False if another process holds it.
CREATE FUNCTION take_lock(lock integer) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  IF session_user IS DISTINCT FROM
     (ARRAY['chamberlain_intake', 'chamberlain_relay', 'chamberlain_sweep', NULL, 'chamberlain_directory_reader',
            'chamberlain_homes_reader', 'chamberlain_databases_reader'])[lock] THEN
    RAISE insufficient_privilege USING MESSAGE = format('%s may not take the lock %s', session_user, lock);
  END IF;
  RETURN pg_try_advisory_lock(lock);
END $$;

-- Each transaction that gives verdicts holds it shared until it ends. The owner takes it exclusively, to
-- import. So does a transaction that touches many rows of `convergence` at once, so that it never waits in a
-- circle with a batch of verdicts, which touches rows request by request.
CREATE FUNCTION hold_verdicts(alone boolean DEFAULT false) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  IF alone THEN
    PERFORM pg_advisory_xact_lock(4);
  ELSE
    PERFORM pg_advisory_xact_lock_shared(4);
  END IF;
END $$;

-- Locks subjects for the role that has logged in, and returns those that no other process works on.
CREATE FUNCTION lock_subjects(subjects integer[]) RETURNS SETOF integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  class integer := (SELECT lock_class FROM roles WHERE name = substr(session_user, length('chamberlain_') + 1));
BEGIN
  IF class IS NULL THEN
    RAISE insufficient_privilege USING MESSAGE = format('%s works on no subjects', session_user);
  END IF;
  RETURN QUERY SELECT s FROM unnest(subjects) AS s WHERE pg_try_advisory_lock(class, s);
END $$;

-- Records, as long as the connection lives, that somebody waits for the survey.
CREATE FUNCTION hold_survey(survey uuid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  PERFORM pg_advisory_lock_shared(100, hashtext(survey::text));
END $$;

-- Who holds which locks, one row for each session and class of locks. `class` is 0 if `number` says which lock
-- it is. For logins whose rights the owner does not have, PostgreSQL gives neither the address nor the time.
CREATE FUNCTION lock_holders()
RETURNS TABLE (class integer, number integer, subjects integer, is_alone boolean,
               holder text, pid integer, address text, since timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
  SELECT l.classid::bigint::integer, CASE l.objsubid WHEN 1 THEN l.objid::bigint::integer END, count(*)::integer,
         bool_or(l.mode = 'ExclusiveLock'), a.usename::text, l.pid, host(a.client_addr), a.backend_start
  FROM pg_locks l JOIN pg_stat_activity a USING (pid)
  WHERE l.locktype = 'advisory' AND l.granted
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND (l.classid = 0 AND l.objsubid = 1 AND l.objid BETWEEN 1 AND 7
         OR l.classid IN (SELECT lock_class FROM roles) AND l.objsubid = 2)
  GROUP BY 1, 2, 5, 6, 7, 8 ORDER BY 1, 2, a.backend_start, 6
$$;
