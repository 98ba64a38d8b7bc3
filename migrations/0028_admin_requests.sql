-- Up Migration

-- What admins request with their own key, besides the wanted state: surveys and repairs, and findings that do not count.

-- What came of a request that changes no wanted state by itself. With `code`, it failed.
ALTER TABLE requests ADD COLUMN result jsonb;

-- As in 0026_api.sql, and the result. A request that ended without what it asked for is not done: it is stuck.
CREATE OR REPLACE VIEW request_progress AS
  SELECT r.id AS number, r.jti AS id, r.portal, r.kind, r.requested_by, r.approved_by, r.body_sha256,
         coalesce(t.account, p.shell_name) AS account,
         ARRAY(SELECT a.account FROM audit a WHERE a.request = r.id AND a.kind = 'person.suspend'
               AND r.subject IS NULL AND a.account IS NOT NULL
               UNION ALL
               -- written in the same transaction: only the time has an index
               SELECT a.account FROM audit a WHERE a.at = r.at AND a.request = r.id AND a.kind = 'person.reinstate'
               AND r.kind = 'person.reinstate' AND r.subject IS NULL AND a.account IS NOT NULL) AS accounts, r.verdict,
         coalesce(r.code, r.result->>'code', s.code) AS code,
         coalesce(r.sentence, r.result->>'sentence', s.sentence) AS sentence,
         r.at, CASE WHEN r.result->>'code' IS NULL THEN r.done_at END AS done_at,
         CASE WHEN r.result->>'code' IS NULL THEN r.stuck_at ELSE r.done_at END AS stuck_at,
         CASE WHEN w.request IS NOT NULL THEN
           jsonb_build_object('state', w.state, 'why', w.why, 'decidedBy', w.decided_by,
             'reason', CASE WHEN w.state = 'rejected' THEN w.body->>'reason' END) END AS approval,
         CASE WHEN o.id IS NOT NULL THEN
           jsonb_build_object('state', o.state, 'decidedBy', o.decided_by, 'reason', o.decision_reason) END AS access,
         r.result
  FROM requests r LEFT JOIN people p ON p.uid = r.subject LEFT JOIN tools t ON t.uid = r.subject
    LEFT JOIN approvals w ON w.request = r.jti AND w.portal = r.portal
    -- opened in the same transaction
    LEFT JOIN access_requests o ON r.kind = 'access.request' AND r.verdict = 'accepted'
      AND o.person = r.subject AND o.opened_at = r.at
    -- the reason why it is stuck is recorded with what it touched
    LEFT JOIN LATERAL (
      SELECT c.code, c.role || ': ' || c.sentence AS sentence FROM request_touches i
        JOIN convergence c ON c.subject = i.subject AND c.role = i.role
      WHERE i.request = r.id AND c.state = 'parked' LIMIT 1) AS s ON r.done_at IS NULL;

-- A survey that an admin has requested (survey.run), alone or before a repair (repair.run). The process that sweeps
-- carries it out. The id is that of the request.
--
--   asked ──▶ running ──▶ done
--     ▲          ╰ its process ended: another begins again; not a repair that had been given to the roles
CREATE TABLE kept_surveys (
  id       uuid PRIMARY KEY,
  -- the request's
  portal   text NOT NULL,
  kind     text NOT NULL CHECK (kind IN ('survey.run', 'repair.run')),
  asked_by text NOT NULL,
  at       timestamptz NOT NULL DEFAULT now(),
  -- NULL: every subject, every role, every target
  subjects integer[],
  role     text REFERENCES roles,
  target   text,
  -- of a repair: the digest of the plan that the admin has seen
  expected text CHECK ((kind = 'repair.run') = (expected IS NOT NULL)),
  state    text NOT NULL DEFAULT 'asked' CHECK (state IN ('asked', 'running', 'done')),
  -- how often a process has begun it
  tries    integer NOT NULL DEFAULT 0,
  ended_at timestamptz,
  -- of the steps that were found
  digest   text,
  -- totals and groups, and of a repair its outcome; the rest is in the items
  summary  jsonb
);
CREATE INDEX kept_surveys_open ON kept_surveys (at) WHERE state <> 'done';
CREATE TRIGGER kept_surveys_notify AFTER INSERT ON kept_surveys
  FOR EACH ROW EXECUTE FUNCTION notify_sweep_release();

-- What it found, thing by thing, in the order in which `plan` shows it.
CREATE TABLE kept_survey_items (
  survey  uuid NOT NULL REFERENCES kept_surveys ON DELETE CASCADE,
  -- steps, findings, waiting, unreadable, unmanaged; parts: of a repair
  list    text NOT NULL,
  n       integer NOT NULL,
  subject integer,
  item    jsonb NOT NULL,
  PRIMARY KEY (survey, list, n)
);
CREATE INDEX kept_survey_items_subject ON kept_survey_items (subject);

-- Ends a survey, and the request for it. `tries` is that of the process that carried it out: if another one has begun
-- again meanwhile, nothing is changed.
CREATE FUNCTION end_kept_survey(of_survey uuid, of_tries integer, its_digest text, its_summary jsonb, its_result jsonb)
RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  UPDATE public.kept_surveys SET state = 'done', ended_at = now(), digest = its_digest, summary = its_summary
  WHERE id = of_survey AND state = 'running' AND tries = of_tries;
  IF NOT FOUND THEN RETURN false; END IF;
  UPDATE public.requests q SET done_at = now(), result = its_result FROM public.kept_surveys s
  WHERE s.id = of_survey AND q.portal = s.portal AND q.jti = s.id AND q.done_at IS NULL;
  PERFORM pg_notify('chamberlain', 'events');
  RETURN true;
END $$;

-- Records the repair that an admin has requested, and what it does to each subject in the audit. The request says who it
-- is; and no such repair destroys data.
CREATE FUNCTION record_kept_repair(of_survey uuid, subjects integer[], accounts text[], fields text[])
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  INSERT INTO public.repairs (id, asked_by, destroy, target)
  SELECT s.id, s.asked_by, false, s.target FROM public.kept_surveys s
  WHERE s.id = of_survey AND s.kind = 'repair.run' AND s.state = 'running';
  IF NOT FOUND THEN
    RAISE EXCEPTION '% is no repair that an admin has requested', of_survey USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  INSERT INTO public.audit (request, portal, kind, requested_by, approved_by, subject, account, fields, verdict)
  SELECT q.id, q.portal, 'repair', q.requested_by, q.approved_by, a.subject, a.account,
         coalesce(string_to_array(a.fields, ' '), '{}'), 'accepted'
  FROM public.kept_surveys s JOIN public.requests q ON q.portal = s.portal AND q.jti = s.id,
    unnest(record_kept_repair.subjects, record_kept_repair.accounts, record_kept_repair.fields) WITH ORDINALITY AS a (subject, account, fields, n)
  WHERE s.id = of_survey ORDER BY a.n;
END $$;

-- Findings that an admin knows of (finding.ignore). Each is as it was seen then: with another sentence it counts again.
CREATE TABLE ignored_findings (
  subject  integer NOT NULL REFERENCES posix_ids,
  target   text NOT NULL,
  object   text NOT NULL,
  code     text NOT NULL,
  sentence text NOT NULL,
  by       text NOT NULL,
  at       timestamptz NOT NULL DEFAULT now(),
  reason   text NOT NULL,
  -- NULL: until somebody ends it, or it changes
  until    timestamptz
);
-- a DN may be longer than an index entry
CREATE UNIQUE INDEX ignored_findings_one ON ignored_findings (subject, target, code, md5(object));

-- The sentence of a finding, as the last sweep saw it.
ALTER TABLE drifts ADD COLUMN sentence text;

-- Set if a row is parked only because of findings that are ignored: until when they are.
ALTER TABLE convergence ADD COLUMN ignored_until timestamptz;

-- Whoever is erased leaves nothing here. (The numbers of a plan, its digest and its totals stay.)
CREATE FUNCTION forget_kept() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  DELETE FROM public.kept_survey_items WHERE subject = NEW.uid;
  DELETE FROM public.ignored_findings WHERE subject = NEW.uid;
  RETURN NULL;
END $$;
CREATE TRIGGER people_erased AFTER UPDATE OF display_name ON people
  FOR EACH ROW WHEN (NEW.display_name IS NULL AND OLD.display_name IS NOT NULL) EXECUTE FUNCTION forget_kept();

-- For the API.
CREATE VIEW api.kept_surveys AS
  SELECT id, kind, asked_by, at, subjects, role, target, expected, state, ended_at, digest, summary FROM kept_surveys;
CREATE VIEW api.kept_survey_items AS SELECT survey, list, n, subject, item FROM kept_survey_items;
CREATE VIEW api.drifts AS SELECT subject, role, target, object, what, sentence, since FROM drifts;
CREATE OR REPLACE VIEW api.convergence AS
  SELECT subject, role, wanted, applied, state, code, sentence, attempts, next_try_at, since, targets, ignored_until
  FROM convergence;
CREATE OR REPLACE VIEW api.credentials AS
  SELECT account, again_at, wanted_epoch, overlap_seconds FROM credentials;
CREATE OR REPLACE VIEW api.database_verifiers AS
  SELECT previous_until, account, epoch, recorded_at FROM database_verifiers;

-- Down Migration
