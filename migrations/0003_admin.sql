-- Up Migration

-- What admins do beyond requests: surveys in the background, repairs, freezing, the sweep.

-- `background` gives way to the work on requests; a sweep asks so.
ALTER TABLE surveys ADD COLUMN pace text NOT NULL DEFAULT 'prompt'
  CHECK (pace IN ('prompt', 'background'));

-- How far a role is with a long survey. Of no worth after a crash.
CREATE UNLOGGED TABLE survey_progress (
  survey uuid NOT NULL REFERENCES surveys ON DELETE CASCADE,
  role   text NOT NULL CHECK (role IN ('directory', 'homes', 'databases')),
  done   integer NOT NULL,
  total  integer NOT NULL,
  PRIMARY KEY (survey, role)
);

-- One row. Frozen: no request gets a verdict, and no worker acts. Intake holds the row in each
-- transaction that gives verdicts, so that freezing waits for it.
CREATE TABLE frozen (
  single    boolean PRIMARY KEY DEFAULT true CHECK (single),
  frozen_at timestamptz,
  frozen_by text,
  reason    text
);
INSERT INTO frozen DEFAULT VALUES;

-- A thaw is what intake and the relay wait for.
CREATE FUNCTION notify_thaw() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('chamberlain', 'due');
  RETURN NULL;
END $$;
CREATE TRIGGER frozen_thawed AFTER UPDATE ON frozen
  FOR EACH ROW WHEN (NEW.frozen_at IS NULL) EXECUTE FUNCTION notify_thaw();

-- A repair that an admin asked for, and each subject's part in it with each role: the worker makes
-- its plan anew, and acts only where its digest is the one that was read.
--
--   asked ──▶ done       every step of the plan was done, or nothing was to be done any more
--     │ ├───▶ refused    the plan is another one now
--     │ └───▶ failed     a step was refused or could not be done
--     ╰ asked again by whoever waits for it, as long as it is not ended
CREATE TABLE repairs (
  id       uuid PRIMARY KEY,
  at       timestamptz NOT NULL DEFAULT now(),
  asked_by text NOT NULL,
  -- whether steps that destroy are part of it
  destroy  boolean NOT NULL DEFAULT false,
  -- the one target whose steps are part of it; NULL: every target
  target   text
);
CREATE TABLE repair_parts (
  repair   uuid NOT NULL REFERENCES repairs ON DELETE CASCADE,
  subject  integer NOT NULL REFERENCES posix_ids,
  role     text NOT NULL CHECK (role IN ('directory', 'homes', 'databases')),
  digest   text NOT NULL,
  -- what stood beside the steps, see src/reconcile/policy.ts: what comes to it is ground that has moved
  side_conditions   text[] NOT NULL DEFAULT '{}',
  state    text NOT NULL DEFAULT 'asked' CHECK (state IN ('asked', 'done', 'refused', 'failed')),
  code     text,
  sentence text,
  ended_at timestamptz,
  PRIMARY KEY (repair, subject, role)
);
CREATE INDEX repair_parts_asked ON repair_parts (repair, role) WHERE state = 'asked';

-- Sweeps: see the case table in src/drift/sweep-decisions.ts.
CREATE TABLE sweeps (
  id         uuid PRIMARY KEY,
  began_at   timestamptz NOT NULL DEFAULT now(),
  ended_at   timestamptz,
  state      text NOT NULL DEFAULT 'running'
             CHECK (state IN ('running', 'clean', 'touched', 'held', 'frozen', 'unreadable', 'moving', 'cut')),
  -- looked at; with drift; of those, touched
  subjects   integer NOT NULL DEFAULT 0,
  drifted    integer NOT NULL DEFAULT 0,
  touched     integer NOT NULL DEFAULT 0,
  -- rows that it touched although they had been given up, '<subject> <role>' each
  again      text[] NOT NULL DEFAULT '{}',
  steps      integer NOT NULL DEFAULT 0,
  findings   integer NOT NULL DEFAULT 0,
  unreadable integer NOT NULL DEFAULT 0,
  -- of the steps that it found
  digest     text,
  sentence   text
);
CREATE INDEX sweeps_began ON sweeps (began_at);

-- An admin's word that a sweep is to come now, and may touch all that it finds if its digest is this one.
CREATE TABLE sweep_releases (
  id       uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  -- NULL: it may touch no more than any other
  digest   text,
  by       text NOT NULL,
  at       timestamptz NOT NULL DEFAULT now(),
  -- the sweep that heeded it
  sweep    uuid REFERENCES sweeps
);
CREATE FUNCTION notify_sweep_release() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('chamberlain_sweep', 'release');
  RETURN NULL;
END $$;
CREATE TRIGGER sweep_releases_notify AFTER INSERT ON sweep_releases
  FOR EACH ROW EXECUTE FUNCTION notify_sweep_release();

-- What differs or is found, by the last sweep, and since which one.
CREATE TABLE drifts (
  subject integer NOT NULL REFERENCES posix_ids,
  role    text NOT NULL CHECK (role IN ('directory', 'homes', 'databases')),
  target  text NOT NULL,
  object  text NOT NULL,
  -- the step's change, or the finding's code
  what    text NOT NULL,
  since   timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (subject, target, object)
);

-- One row: the marker's time that is being written into the directory, and the one that was. An older
-- one in the directory: that is an older copy of it. A newer one: our database is.
CREATE TABLE directory_heartbeat (
  single    boolean PRIMARY KEY DEFAULT true CHECK (single),
  publishing_at timestamptz,
  published_at    timestamptz,
  -- an older copy was accepted: nothing is told until what was touched then is applied
  accepted_at timestamptz,
  -- why nothing is told, for those who do not see the directory
  doubt      text
);
INSERT INTO directory_heartbeat DEFAULT VALUES;

-- The directory role alone can see that our database is older than the directory. It does so by the
-- marker: nothing is frozen where that has been settled since. A freeze of an admin's becomes this one,
-- which `thaw` does not end.
CREATE FUNCTION freeze_older(why text, by_publishing timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
BEGIN
  PERFORM FROM public.directory_heartbeat WHERE publishing_at IS NOT DISTINCT FROM by_publishing FOR UPDATE;
  IF NOT FOUND THEN RETURN; END IF;
  UPDATE public.frozen
  SET frozen_at = coalesce(frozen_at, now()), frozen_by = 'the role directory', reason = why
  WHERE frozen_by IS DISTINCT FROM 'the role directory';
  IF FOUND THEN
    INSERT INTO public.audit (kind, requested_by, approved_by, verdict)
    VALUES ('freeze', 'the role directory', 'the role directory', 'accepted');
  END IF;
END $$;

-- Rows of the audit that are not sealed yet. Ids are seen out of order, since transactions that took
-- them end out of order; by this no row is passed over, however late its transaction ends.
CREATE TABLE audit_unsealed (audit_id bigint PRIMARY KEY);
CREATE FUNCTION note_unsealed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
BEGIN
  INSERT INTO public.audit_unsealed SELECT id FROM written;
  RETURN NULL;
END $$;
CREATE TRIGGER audit_unsealed_note AFTER INSERT ON audit REFERENCING NEW TABLE AS written
  FOR EACH STATEMENT EXECUTE FUNCTION note_unsealed();
INSERT INTO audit_unsealed SELECT id FROM audit a
WHERE NOT EXISTS (SELECT FROM audit_seals s WHERE s.audit_id = a.id);

-- The chain is in the order of sealing, not of ids: the place in it, from 1, and the row before, so that
-- a row that is missing can be named. Seals from before were made in the order of ids.
ALTER TABLE audit_seals ADD COLUMN position bigint, ADD COLUMN previous bigint;
ALTER TABLE audit_seals DISABLE TRIGGER audit_seals_append_only;
UPDATE audit_seals s SET position = o.position, previous = o.previous
FROM (SELECT audit_id, row_number() OVER w AS position, lag(audit_id) OVER w AS previous
      FROM audit_seals WINDOW w AS (ORDER BY audit_id)) o
WHERE s.audit_id = o.audit_id;
ALTER TABLE audit_seals ENABLE TRIGGER audit_seals_append_only;
ALTER TABLE audit_seals ALTER COLUMN position SET NOT NULL, ADD UNIQUE (position);

-- Of one subject: `explain`, and `audit --subject`.
CREATE INDEX audit_subject ON audit (subject, id);
CREATE INDEX access_requests_person ON access_requests (person);

-- Down Migration
