-- Up Migration

CREATE INDEX kept_surveys_ended ON kept_surveys (ended_at);

-- As in 0027_api_reads.sql, and the surveys that admins have requested, with the sweeps.
CREATE OR REPLACE FUNCTION remove_expired(what text, days integer, after bigint)
RETURNS TABLE (removed integer, next bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  -- whatever the caller says: a token lives for up to 7 days, and the same request has the same verdict until then
  before timestamptz := now() - make_interval(days => greatest(days, 8));
  count integer;
  more integer;
  kept integer;
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
    -- with all that each lists, which may be much
    DELETE FROM public.kept_surveys k WHERE k.id = ANY (ARRAY(
      SELECT o.id FROM public.kept_surveys o WHERE o.ended_at < before ORDER BY o.ended_at LIMIT 1));
    GET DIAGNOSTICS kept = ROW_COUNT;
    RETURN QUERY SELECT count + more + kept, CASE WHEN greatest(count, more) = 1000 OR kept = 1 THEN 0::bigint END;
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
  WHEN 'api_reads' THEN
    RETURN QUERY WITH looked AS MATERIALIZED (
      SELECT r.id, r.at FROM public.api_reads r WHERE r.id > after ORDER BY r.id LIMIT 1000
    ), gone AS (
      DELETE FROM public.api_reads r USING looked l WHERE r.id = l.id AND r.at < before RETURNING r.id
    ) SELECT (SELECT count(*)::integer FROM gone),
             (SELECT CASE WHEN bool_or(l.at < before) THEN max(l.id) END FROM looked l);
  END CASE;
END $$;

-- Down Migration
