-- Up Migration

-- What admins do besides requests: surveys in the background, repairs, freezing, the sweep.

-- `background` gives way to the work on requests; a sweep uses it.
ALTER TABLE surveys ADD COLUMN pace text NOT NULL DEFAULT 'prompt'
  CHECK (pace IN ('prompt', 'background'));

-- How far a role is with a long survey. It is worthless after a crash.
CREATE UNLOGGED TABLE survey_progress (
  survey uuid NOT NULL REFERENCES surveys ON DELETE CASCADE,
  role   text NOT NULL REFERENCES roles,
  done   integer NOT NULL,
  total  integer NOT NULL,
  PRIMARY KEY (survey, role)
);

-- One row. While the realm is frozen, no request gets a verdict, and no worker acts. Intake holds the row in
-- each transaction that gives verdicts, so that freezing waits for it.
CREATE TABLE frozen (
  single    boolean PRIMARY KEY DEFAULT true CHECK (single),
  frozen_at timestamptz,
  frozen_by text,
  reason    text
);
INSERT INTO frozen DEFAULT VALUES;

-- Intake and the relay wait for a thaw.
CREATE FUNCTION notify_thaw() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('chamberlain', 'due');
  RETURN NULL;
END $$;
CREATE TRIGGER frozen_thawed AFTER UPDATE ON frozen
  FOR EACH ROW WHEN (NEW.frozen_at IS NULL) EXECUTE FUNCTION notify_thaw();

-- A repair that an admin requested, and the part of each subject in each role. The worker makes its plan anew,
-- and acts only if the plan's digest is the one that was read.
--
--   asked ──▶ done       every step of the plan was done, or nothing was left to do
--     │ ├───▶ refused    the plan has changed
--     │ └───▶ failed     a step was refused or could not be done
--     ╰ asked again by the waiting process, as long as it has not ended
CREATE TABLE repairs (
  id       uuid PRIMARY KEY,
  at       timestamptz NOT NULL DEFAULT now(),
  asked_by text NOT NULL,
  -- whether steps that destroy are part of it
  destroy  boolean NOT NULL DEFAULT false,
  -- the only target whose steps are part of it; NULL: every target
  target   text
);
CREATE TABLE repair_parts (
  repair   uuid NOT NULL REFERENCES repairs ON DELETE CASCADE,
  subject  integer NOT NULL REFERENCES posix_ids,
  role     text NOT NULL REFERENCES roles,
  digest   text NOT NULL,
  -- the side conditions of the steps, see src/reconcile/policy.ts: any new one means that the situation has
  -- changed
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
  -- how many were checked; how many had drift; how many of those were touched
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

-- An admin's release: a sweep must start now, and may touch everything that it finds if its digest is this one.
CREATE TABLE sweep_releases (
  id       uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  -- NULL: it may touch no more than any other sweep
  digest   text,
  by       text NOT NULL,
  at       timestamptz NOT NULL DEFAULT now(),
  -- the sweep that used it
  sweep    uuid REFERENCES sweeps
);
CREATE FUNCTION notify_sweep_release() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('chamberlain_sweep', 'release');
  RETURN NULL;
END $$;
CREATE TRIGGER sweep_releases_notify AFTER INSERT ON sweep_releases
  FOR EACH ROW EXECUTE FUNCTION notify_sweep_release();

-- The differences and findings of the last sweep, and the sweep that first saw each.
CREATE TABLE drifts (
  subject integer NOT NULL REFERENCES posix_ids,
  role    text NOT NULL REFERENCES roles,
  target  text NOT NULL,
  object  text NOT NULL,
  -- the step's change, or the finding's code
  what    text NOT NULL,
  since   timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (subject, target, object)
);

-- One row: the time of the heartbeat that is being written into the directory, and of the one before. If the
-- directory has an older one, it is an older copy of itself. If it has a newer one, our database is.
CREATE TABLE directory_heartbeat (
  single    boolean PRIMARY KEY DEFAULT true CHECK (single),
  publishing_at timestamptz,
  published_at    timestamptz,
  -- an older copy was accepted: no heartbeat is published until what was touched then is applied
  accepted_at timestamptz,
  -- why no heartbeat is published, for processes that do not see the directory
  doubt      text
);
INSERT INTO directory_heartbeat DEFAULT VALUES;

-- Only the directory role can see that our database is older than the directory. It compares the heartbeat:
-- nothing is frozen if the matter was settled since. An admin's freeze becomes this one, which `thaw` does not
-- end.
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

-- Rows of the audit that are not sealed yet. Ids are seen out of order, because the transactions that took them
-- end out of order; this table makes sure that no row is missed, however late its transaction ends.
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

-- The chain follows the order of sealing, not of ids: it records the place in it, from 1, and the row before,
-- so that a missing row can be named. Earlier seals were made in the order of ids.
ALTER TABLE audit_seals ADD COLUMN position bigint, ADD COLUMN previous bigint;
ALTER TABLE audit_seals DISABLE TRIGGER audit_seals_append_only;
UPDATE audit_seals s SET position = o.position, previous = o.previous
FROM (SELECT audit_id, row_number() OVER w AS position, lag(audit_id) OVER w AS previous
      FROM audit_seals WINDOW w AS (ORDER BY audit_id)) o
WHERE s.audit_id = o.audit_id;
ALTER TABLE audit_seals ENABLE TRIGGER audit_seals_append_only;
ALTER TABLE audit_seals ALTER COLUMN position SET NOT NULL, ADD UNIQUE (position);

-- For one subject: `explain`, and `audit --subject`.
CREATE INDEX audit_subject ON audit (subject, id);
CREATE INDEX access_requests_person ON access_requests (person);

-- Down Migration
