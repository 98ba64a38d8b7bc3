-- Up Migration

-- docs/operations.md says how long each kind of record is kept. The role that removes records has no right to
-- delete: the functions below decide what may be removed.

-- The audit outlives the requests that it is about.
ALTER TABLE audit DROP CONSTRAINT audit_request_fkey;

-- The highest number among the removed events of a portal: a portal that asks for older ones is told this
-- number.
ALTER TABLE event_deliveries ADD COLUMN removed bigint NOT NULL DEFAULT 0;

-- Removes records that are older than so many days. It checks 1,000 rows after the given number, in the order
-- of their numbers, and returns how many were removed and the number to go on after; NULL: the rows after that
-- are not old enough. For a kind without numbers it removes 1,000 rows, and returns 0 if there may be more.
CREATE FUNCTION remove_expired(what text, days integer, after bigint)
RETURNS TABLE (removed integer, next bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  -- whatever the caller says: a token lives for up to 7 days, and the same request has the same verdict until then
  before timestamptz := now() - make_interval(days => greatest(days, 8));
  count integer;
  more integer;
BEGIN
  CASE what
  WHEN 'requests' THEN
    RETURN QUERY WITH looked AS MATERIALIZED (
      SELECT q.id, q.at FROM public.requests q WHERE q.id > after ORDER BY q.id LIMIT 1000
    ), gone AS (
      DELETE FROM public.requests q USING looked l
      WHERE q.id = l.id AND q.done_at < before
        AND NOT EXISTS (SELECT FROM public.request_touches r WHERE r.request = q.id)
        -- an event of nobody is erased with whoever asked for its request
        AND NOT EXISTS (SELECT FROM public.events e WHERE e.subject IS NULL AND e.request = q.jti)
      RETURNING q.id
    ) SELECT (SELECT count(*)::integer FROM gone),
             (SELECT CASE WHEN bool_or(l.at < before) THEN max(l.id) END FROM looked l);
  WHEN 'access_requests' THEN
    RETURN QUERY WITH looked AS MATERIALIZED (
      SELECT a.id, a.opened_at FROM public.access_requests a WHERE a.id > after ORDER BY a.id LIMIT 1000
    ), gone AS (
      DELETE FROM public.access_requests a USING looked l
      WHERE a.id = l.id AND a.state <> 'open' AND a.decided_at < before RETURNING a.id
    ) SELECT (SELECT count(*)::integer FROM gone),
             (SELECT CASE WHEN bool_or(l.opened_at < before) THEN max(l.id) END FROM looked l);
  WHEN 'events' THEN
    -- what a portal does not have stays. Numbers are given by event_sequences, and never again.
    RETURN QUERY WITH looked AS MATERIALIZED (
      SELECT e.row_id, e.at FROM public.events e WHERE e.row_id > after ORDER BY e.row_id LIMIT 1000
    ), gone AS (
      DELETE FROM public.events e USING looked l
      WHERE e.row_id = l.row_id AND e.at < before AND (e.portal IS NULL OR e.seq <=
        (SELECT d.completed FROM public.event_deliveries d WHERE d.portal = e.portal))
      RETURNING e.portal, e.seq
    ), noted AS (
      UPDATE public.event_deliveries d SET removed = greatest(d.removed, g.seq)
      FROM (SELECT gone.portal, max(gone.seq) AS seq FROM gone GROUP BY gone.portal) AS g
      WHERE d.portal = g.portal
    ) SELECT (SELECT count(*)::integer FROM gone),
             (SELECT CASE WHEN bool_or(l.at < before) THEN max(l.row_id) END FROM looked l);
  WHEN 'approvals' THEN
    DELETE FROM public.approvals a WHERE a.ctid = ANY (ARRAY(
      SELECT o.ctid FROM public.approvals o WHERE o.state <> 'open' AND o.decided_at < before LIMIT 1000));
    GET DIAGNOSTICS count = ROW_COUNT;
    RETURN QUERY SELECT count, CASE WHEN count = 1000 THEN 0::bigint END;
  WHEN 'sweeps' THEN
    DELETE FROM public.sweep_releases r WHERE r.id = ANY (ARRAY(
      SELECT o.id FROM public.sweep_releases o WHERE o.at < before LIMIT 1000));
    GET DIAGNOSTICS count = ROW_COUNT;
    -- the last 1,000 stay, however seldom there is one
    DELETE FROM public.sweeps s WHERE s.id = ANY (ARRAY(
      SELECT o.id FROM public.sweeps o
      WHERE o.began_at < before AND o.state <> 'running'
        AND NOT EXISTS (SELECT FROM public.sweep_releases r WHERE r.sweep = o.id)
        AND o.began_at < (SELECT min(k.began_at) FROM
          (SELECT n.began_at FROM public.sweeps n ORDER BY n.began_at DESC LIMIT 1000) AS k)
      LIMIT 1000));
    GET DIAGNOSTICS more = ROW_COUNT;
    RETURN QUERY SELECT count + more, CASE WHEN greatest(count, more) = 1000 THEN 0::bigint END;
  WHEN 'repairs' THEN
    DELETE FROM public.repair_parts p WHERE p.ctid = ANY (ARRAY(
      SELECT o.ctid FROM public.repair_parts o JOIN public.repairs r ON r.id = o.repair
      WHERE r.at < before LIMIT 1000));
    GET DIAGNOSTICS count = ROW_COUNT;
    DELETE FROM public.repairs r WHERE r.id = ANY (ARRAY(
      SELECT o.id FROM public.repairs o WHERE o.at < before
        AND NOT EXISTS (SELECT FROM public.repair_parts p WHERE p.repair = o.id) LIMIT 1000));
    GET DIAGNOSTICS more = ROW_COUNT;
    RETURN QUERY SELECT count + more, CASE WHEN greatest(count, more) = 1000 THEN 0::bigint END;
  END CASE;
END $$;

-- Years of the audit that are closed: their rows are in a signed file (src/audit/audit-file.ts), and the chain
-- goes on from the last of them. Only their rows may be deleted.
CREATE TABLE audit_closings (
  year      integer PRIMARY KEY,
  -- places in the chain
  first     bigint NOT NULL,
  last      bigint NOT NULL UNIQUE CHECK (last >= first),
  -- the last row, and its hash
  audit_id  bigint NOT NULL,
  hash      bytea NOT NULL,
  -- name and digest of the file, which was read back
  file      text NOT NULL,
  sha256    text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
  closed_at timestamptz NOT NULL DEFAULT now(),
  closed_by text NOT NULL
);
CREATE TRIGGER audit_closings_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_closings
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Nothing is closed before it may be, whoever asks: the database itself makes sure.
CREATE FUNCTION check_closing() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  ends   timestamptz := make_timestamptz(NEW.year + 1, 1, 1, 0, 0, 0, 'UTC');
  before public.audit_closings := (SELECT c FROM public.audit_closings c ORDER BY c.last DESC LIMIT 1);
  undone text := (SELECT coalesce(q.jti::text, q.id::text) FROM public.requests q
                  WHERE q.done_at IS NULL AND q.at < ends ORDER BY q.at LIMIT 1);
  wrong  text := CASE
    -- by then every transaction of its last minutes has ended
    WHEN now() < ends + interval '1 day' THEN 'it is not over, or not for a day'
    WHEN NEW.year <= before.year OR NEW.first <> coalesce(before.last, 0) + 1
      THEN 'it does not begin where what is closed ends'
    WHEN undone IS NOT NULL THEN format('the request %s is not done', undone)
    WHEN EXISTS (SELECT FROM public.audit_unsealed u JOIN public.audit a ON a.id = u.audit_id WHERE a.at < ends)
      THEN 'a row of it is not sealed yet'
    WHEN NOT EXISTS (SELECT FROM public.audit_seals s JOIN public.audit a ON a.id = s.audit_id
                     WHERE s.position = NEW.last AND s.hash = NEW.hash AND a.id = NEW.audit_id AND a.at < ends)
      THEN 'its last row is not the one that the chain has there'
  END;
BEGIN
  IF wrong IS NOT NULL THEN
    RAISE EXCEPTION '%', wrong USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER audit_closings_check BEFORE INSERT ON audit_closings
  FOR EACH ROW EXECUTE FUNCTION check_closing();

-- A row that is not closed can never be deleted, nor can its seal.
CREATE FUNCTION guard_closed() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  place bigint;
BEGIN
  IF TG_TABLE_NAME = 'audit' THEN
    place := (SELECT s.position FROM public.audit_seals s WHERE s.audit_id = OLD.id);
  ELSE
    place := OLD.position;
  END IF;
  IF place IS NULL OR place > coalesce((SELECT max(c.last) FROM public.audit_closings c), 0) THEN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
  END IF;
  RETURN OLD;
END $$;
DROP TRIGGER audit_append_only ON audit;
CREATE TRIGGER audit_append_only BEFORE UPDATE OR TRUNCATE ON audit
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_closed_only BEFORE DELETE ON audit
  FOR EACH ROW EXECUTE FUNCTION guard_closed();
DROP TRIGGER audit_seals_append_only ON audit_seals;
CREATE TRIGGER audit_seals_append_only BEFORE UPDATE OR TRUNCATE ON audit_seals
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_seals_closed_only BEFORE DELETE ON audit_seals
  FOR EACH ROW EXECUTE FUNCTION guard_closed();

-- Down Migration
