-- Up Migration

-- Whatever is looked up in the history is found by an index, however long the history is. `audit --since`:
CREATE INDEX audit_at ON audit (at, id);
-- whether `chamberlain recover` came before, in a database without statistics
CREATE INDEX audit_restored ON audit (at) WHERE kind = 'restored';
-- what was decided about a subject that leaves
CREATE INDEX approvals_subject ON approvals (subject, decided_at);

-- The time of the heartbeat that is about to be written: later than any before it, whatever the clock does; but
-- if an older copy of the directory was accepted, later than the one in that copy. A process that may only call
-- this cannot set the time far ahead, to where no clock would get for a long time.
CREATE FUNCTION begin_publishing(seen timestamptz) RETURNS timestamptz
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  clock timestamptz := clock_timestamp();
  before public.directory_heartbeat;
  later timestamptz;
BEGIN
  SELECT * INTO before FROM public.directory_heartbeat FOR UPDATE;
  later := greatest(date_trunc('milliseconds', clock), seen + interval '1 ms',
                    CASE WHEN before.accepted_at IS NULL THEN before.publishing_at + interval '1 ms' END);
  IF later > greatest(clock + interval '1 min', before.publishing_at + interval '1 ms') THEN
    RAISE EXCEPTION 'the heartbeat in the directory is of %, and the clock of PostgreSQL says %', seen, clock
      USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  UPDATE public.directory_heartbeat SET publishing_at = later;
  RETURN later;
END $$;

-- The heartbeat of that time was written.
CREATE FUNCTION end_publishing(at_time timestamptz) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
  UPDATE public.directory_heartbeat SET doubt = NULL, accepted_at = NULL,
    published_at = least(publishing_at, CASE WHEN accepted_at IS NOT NULL THEN at_time ELSE greatest(published_at, at_time) END)
$$;

-- Makes the role databases check again accounts whose password was changed on a server, so many seconds ago, at
-- a time when the role was not working on them: that is, by somebody else. At most ten at a time are corrected
-- this way; more are left to the sweep, and its limits.
CREATE FUNCTION look_at_passwords(subjects integer[], seconds_ago integer[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  changed integer[] := ARRAY(
    SELECT DISTINCT c.subject FROM unnest(subjects, seconds_ago) AS p (subject, seconds)
      JOIN public.convergence c ON c.subject = p.subject AND c.role = 'databases'
    -- a row that is applied rests from the moment at which it was; servers tell whole seconds, and the answer takes time
    WHERE c.applied = c.wanted AND c.next_try_at < clock_timestamp() - make_interval(secs => p.seconds + 10));
BEGIN
  IF cardinality(changed) BETWEEN 1 AND 10 THEN
    -- else two that touch several rows could wait for each other
    PERFORM public.hold_verdicts(true);
    PERFORM public.look_again(changed, array_fill('databases'::text, ARRAY[cardinality(changed)]), false,
                              array_fill(false, ARRAY[cardinality(changed)]));
  END IF;
END $$;

-- Down Migration
