-- Up Migration

-- What the HTTP API reads besides its requests (0026_api.sql). The views of this schema have the names of the tables and
-- those of their columns that the API may see. The API's connection looks into this schema first: so it runs the same
-- statements as the admin's command line. `migrate` grants it each view, and no table.
CREATE SCHEMA api;
CREATE VIEW api.people AS
  SELECT uid, shell_name, display_name, display_name_key, email, state, admitted_at, created_at, suspended_at,
         suspended_by, suspension_reason, suspended_until, delete_after, delete_requested_by, days_warned, warned_at
  FROM people;
CREATE VIEW api.tools AS
  SELECT uid, name, account, title, state, created_at, disabled_at, disabled_by, disabled_reason, delete_after,
         days_warned, warned_at, orphaned_at FROM tools;
CREATE VIEW api.realm_members AS SELECT person, since FROM realm_members;
CREATE VIEW api.maintainers AS SELECT tool, maintainer, since FROM maintainers;
CREATE VIEW api.ssh_keys AS
  -- of the line only the type
  SELECT id, person, fingerprint, split_part(line, ' ', 1) AS line, options, label, expires_at, added_at, removed_at
  FROM ssh_keys;
CREATE VIEW api.access_requests AS
  SELECT id, person, reason, portal, state, opened_at, decided_at, decided_by, decision_reason FROM access_requests;
CREATE VIEW api.credentials AS SELECT account, again_at FROM credentials;
CREATE VIEW api.database_verifiers AS SELECT previous_until FROM database_verifiers;
CREATE VIEW api.requests AS SELECT id, portal, jti, kind, verdict, at FROM requests;
CREATE VIEW api.request_touches AS SELECT request, subject, role FROM request_touches;
CREATE VIEW api.convergence AS
  SELECT subject, role, wanted, applied, state, code, sentence, attempts, next_try_at, since, targets FROM convergence;
CREATE VIEW api.events AS SELECT portal, seq FROM events;
CREATE VIEW api.event_sequences AS SELECT portal, last FROM event_sequences;
CREATE VIEW api.event_deliveries AS SELECT portal, completed, since, wrong FROM event_deliveries;
CREATE VIEW api.junk AS SELECT portal, code, count, first_at, last_at FROM junk;
CREATE VIEW api.approvals AS
  SELECT request, portal, kind, subject, requested_by, why, state, opened_at, decided_at, decided_by,
         -- of the request itself only why it was sent
         jsonb_build_object('reason', body->'reason') AS body FROM approvals;
CREATE VIEW api.holds AS SELECT subject, held_by, held_at, reason, until FROM holds;
CREATE VIEW api.archivals AS
  SELECT subject, archival, began_at, left_at, keep_until, expired_at, returning_at, back_at, erasure FROM archivals;
CREATE VIEW api.archives AS
  SELECT subject, archival, role, manifest_sha256, path, bytes, made_at FROM archives;
CREATE VIEW api.archive_progress AS SELECT subject, role, act, done, total, at FROM archive_progress;
CREATE VIEW api.login_seals AS SELECT renew_at FROM login_seals;
CREATE VIEW api.id_ranges AS SELECT kind, first, last, next FROM id_ranges;
CREATE VIEW api.posix_ids AS SELECT id FROM posix_ids;
CREATE VIEW api.frozen AS SELECT frozen_at, frozen_by, reason FROM frozen;
CREATE VIEW api.directory_heartbeat AS SELECT doubt, older, published_at FROM directory_heartbeat;
CREATE VIEW api.place_markers AS SELECT role, place, older, doubt, published_at FROM place_markers;
CREATE VIEW api.troubles AS SELECT role, place, since, last_at, sentence FROM troubles;
CREATE VIEW api.sweeps AS
  SELECT id, began_at, ended_at, state, subjects, drifted, touched, steps, findings, unreadable, digest, sentence
  FROM sweeps;
CREATE VIEW api.unmanaged AS
  SELECT role, place, object, kind, name, number, made_by, made_at, since, gone_at, ignored_at, ignored_by, reason
  FROM unmanaged;
CREATE VIEW api.unmanaged_looks AS SELECT role, place, at FROM unmanaged_looks;
CREATE VIEW api.audit AS
  SELECT id, at, portal, kind, requested_by, approved_by, subject, account, fields, verdict, code FROM audit;
CREATE VIEW api.audit_closings AS
  SELECT year, first, last, audit_id, hash, file, sha256, closed_at FROM audit_closings;

-- The requests of one portal, the newest first.
CREATE INDEX requests_of_portal ON requests (portal, id) WHERE portal IS NOT NULL;

-- Who has read personal data through the API, of whom, and what: written before the answer is given.
CREATE TABLE api_reads (
  id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at      timestamptz NOT NULL DEFAULT now(),
  -- a portal; of an admin's own key, `admin.<shell name>`
  caller  text NOT NULL,
  -- a person
  subject integer NOT NULL REFERENCES posix_ids,
  what    text[] NOT NULL CHECK (what <@ '{mail,keys,reasons}' AND what <> '{}')
);
CREATE INDEX api_reads_subject ON api_reads (subject, id);
CREATE VIEW api.api_reads AS SELECT id, at, caller, subject, what FROM api_reads;

-- All that the API may write into PostgreSQL. It chooses neither the time nor the number, and changes nothing that is
-- written. Accounts of tools are left out: what is read of them is not personal.
CREATE FUNCTION log_api_reads(by_caller text, accounts text[], what text[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  IF cardinality(accounts) > 1000 OR length(by_caller) > 100 THEN
    RAISE EXCEPTION 'too much for one call' USING ERRCODE = 'invalid_parameter_value';
  END IF;
  INSERT INTO public.api_reads (caller, subject, what)
  SELECT by_caller, p.uid, log_api_reads.what FROM public.people p WHERE p.shell_name = ANY (accounts) ORDER BY p.uid;
END $$;

-- As in 0016_retention.sql, and the log of reads.
CREATE OR REPLACE FUNCTION remove_expired(what text, days integer, after bigint)
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
