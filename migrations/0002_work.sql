-- Up Migration

-- Requests, what follows from them, and the events about them.

-- A request with its verdict. `portal` and `jti` are set only if the signature was valid, so that nobody can
-- use up another portal's ids; any other job is identified only by the hash of its bytes. The body is not kept.
CREATE TABLE requests (
  id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  portal       text,
  jti          uuid,
  body_sha256  bytea NOT NULL,
  kind         text,
  requested_by text,
  approved_by  text,
  subject      integer REFERENCES posix_ids,
  verdict      text NOT NULL CHECK (verdict IN ('accepted', 'refused')),
  code         text,
  sentence     text,
  urgent       boolean NOT NULL DEFAULT false,
  at           timestamptz NOT NULL DEFAULT now(),
  -- the event to send when everything that it touched is applied: {event, portals, data}
  on_done      jsonb,
  -- everything that it touched is applied
  done_at      timestamptz,
  -- something that it touched is parked, and the portal was told
  stuck_at     timestamptz,
  CHECK ((portal IS NULL) = (jti IS NULL)),
  UNIQUE (portal, jti)
);
CREATE UNIQUE INDEX requests_unsigned ON requests (body_sha256) WHERE jti IS NULL;

-- The status of a subject in a role: which generation is wanted, and which is applied.
--
--   due ──▶ applied            a worker did all steps of the generation that it read
--    │ ▲──── touch             any change of the wanted state, from any status
--    ├──▶ waiting              for another role; not failing, not counted
--    ├──▶ failing ──▶ due      tried again at next_try_at
--    └──▶ parked               only a touch, a repair or the sweep makes it due again
CREATE TABLE convergence (
  subject      integer NOT NULL REFERENCES posix_ids,
  role         text NOT NULL REFERENCES roles,
  wanted       bigint NOT NULL DEFAULT 1,
  applied      bigint NOT NULL DEFAULT 0,
  state        text NOT NULL DEFAULT 'due' CHECK (state IN ('due', 'applied', 'waiting', 'failing', 'parked')),
  code         text,
  sentence     text,
  attempts     integer NOT NULL DEFAULT 0,
  next_try_at  timestamptz NOT NULL DEFAULT now(),
  -- a job for it is in the queue, or in progress, until then
  leased_until timestamptz,
  urgent       boolean NOT NULL DEFAULT false,
  since        timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (subject, role)
) WITH (fillfactor = 70);
CREATE INDEX convergence_behind ON convergence (role, urgent DESC, next_try_at)
  WHERE applied < wanted AND state <> 'parked';
CREATE INDEX convergence_leased ON convergence (role, leased_until) WHERE leased_until IS NOT NULL;

-- The generations that a request touched and that are not applied yet.
CREATE TABLE request_touches (
  request    bigint NOT NULL REFERENCES requests,
  subject    integer NOT NULL,
  role       text NOT NULL,
  generation bigint NOT NULL,
  PRIMARY KEY (request, subject, role),
  FOREIGN KEY (subject, role) REFERENCES convergence
);
CREATE INDEX request_touches_of ON request_touches (subject, role);

-- Touches one generation: makes the row due now and un-parks it. A row that waits for another role, which is
-- certain to touch it again, need not be tried before; if more than that is due, it is.
CREATE FUNCTION touch_generation(of_subject integer, of_role text, is_urgent boolean DEFAULT false,
                                 waits boolean DEFAULT false)
RETURNS bigint LANGUAGE sql AS $$
  INSERT INTO convergence AS c (subject, role, urgent, state, next_try_at)
  VALUES (of_subject, of_role, is_urgent, CASE WHEN waits THEN 'waiting' ELSE 'due' END,
          CASE WHEN waits THEN now() + interval '60 s' ELSE now() END)
  ON CONFLICT (subject, role) DO UPDATE
    SET wanted = c.wanted + 1, code = NULL, sentence = NULL, attempts = 0,
        state = CASE WHEN c.applied = c.wanted THEN excluded.state ELSE 'due' END,
        next_try_at = CASE WHEN c.applied = c.wanted THEN excluded.next_try_at ELSE now() END,
        urgent = c.urgent OR excluded.urgent,
        since = CASE WHEN c.applied = c.wanted THEN now() ELSE c.since END
  RETURNING wanted
$$;

-- A new verifier is what every database server is behind on. The role that records it may not touch the other
-- role's rows, so the function runs with the definer's rights.
CREATE FUNCTION touch_databases() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
BEGIN
  PERFORM public.touch_generation(NEW.account, 'databases', false);
  RETURN NULL;
END $$;
CREATE TRIGGER database_verifiers_touch AFTER INSERT OR UPDATE ON database_verifiers
  FOR EACH ROW EXECUTE FUNCTION touch_databases();

-- `due` wakes the relay when something may have to be enqueued; `applied` names the subject whose row a worker
-- has just written. If a row is touched while a worker handles it, it is due when the worker ends.
CREATE FUNCTION notify_convergence() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'INSERT' OR NEW.wanted > OLD.wanted THEN
    PERFORM pg_notify('chamberlain', 'due');
  ELSIF NEW.applied < NEW.wanted AND NEW.state = 'due' AND NEW.leased_until IS NULL
        AND OLD.leased_until IS NOT NULL THEN
    PERFORM pg_notify('chamberlain', 'due');
    PERFORM pg_notify('chamberlain', 'applied ' || NEW.subject);
  ELSIF NEW.applied > OLD.applied OR (NEW.state = 'parked' AND OLD.state <> 'parked')
        OR (NEW.leased_until IS NULL AND OLD.leased_until IS NOT NULL) THEN
    PERFORM pg_notify('chamberlain', 'applied ' || NEW.subject);
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER convergence_made AFTER INSERT ON convergence
  FOR EACH ROW EXECUTE FUNCTION notify_convergence();
CREATE TRIGGER convergence_changed AFTER UPDATE ON convergence
  FOR EACH ROW WHEN (NEW.wanted > OLD.wanted OR NEW.leased_until IS NULL)
  EXECUTE FUNCTION notify_convergence();

-- The last number given to a portal's events: a transaction that writes an event holds the row until the
-- commit.
CREATE TABLE event_sequences (
  portal text PRIMARY KEY,
  last   bigint NOT NULL DEFAULT 0
);

-- Written by the relay: the highest event put into Redis, and the highest up to which the portal has completed
-- every one.
CREATE TABLE event_deliveries (
  portal    text PRIMARY KEY,
  enqueued  bigint NOT NULL DEFAULT 0,
  completed bigint NOT NULL DEFAULT 0
);

CREATE TABLE events (
  row_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id      uuid NOT NULL DEFAULT gen_random_uuid(),
  -- both NULL if nobody can be told: a job that no portal has signed
  portal  text,
  seq     bigint,
  at      timestamptz NOT NULL DEFAULT now(),
  event   text NOT NULL,
  subject integer,
  request uuid,
  code    text,
  data    jsonb NOT NULL DEFAULT '{}',
  UNIQUE (portal, seq)
);

-- Gives each event its number in the transaction that writes it: the lock of the sequence row makes the order
-- of numbers the order of commits.
CREATE FUNCTION number_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.portal IS NOT NULL THEN
    INSERT INTO event_sequences AS s (portal, last) VALUES (NEW.portal, 1)
    ON CONFLICT (portal) DO UPDATE SET last = s.last + 1 RETURNING last INTO NEW.seq;
    PERFORM pg_notify('chamberlain', 'events');
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER events_number BEFORE INSERT ON events
  FOR EACH ROW EXECUTE FUNCTION number_event();

-- The audit: who requested what, who approved it, and what came of it. No personal data: subjects by number and
-- account name, which fields changed, but not to what.
CREATE TABLE audit (
  id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at           timestamptz NOT NULL DEFAULT now(),
  request      bigint REFERENCES requests,
  portal       text,
  kind         text,
  requested_by text,
  approved_by  text,
  subject      integer,
  account      text,
  fields       text[] NOT NULL DEFAULT '{}',
  verdict      text NOT NULL,
  code         text
);
-- The hash chain over it, made by a single sealer: sha256(previous hash, row).
CREATE TABLE audit_seals (
  audit_id bigint PRIMARY KEY REFERENCES audit,
  hash     bytea NOT NULL
);
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER audit_seals_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_seals
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER posix_ids_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON posix_ids
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER names_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON names
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- A survey that an admin requested, and each role's answer. The writers never read it.
CREATE TABLE surveys (
  id       uuid PRIMARY KEY,
  -- NULL: every subject
  subjects integer[],
  at       timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE reports (
  survey uuid NOT NULL REFERENCES surveys ON DELETE CASCADE,
  role   text NOT NULL REFERENCES roles,
  at     timestamptz NOT NULL DEFAULT now(),
  report jsonb NOT NULL,
  PRIMARY KEY (survey, role)
);
CREATE FUNCTION notify_report() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('chamberlain_reports', NEW.survey::text);
  RETURN NULL;
END $$;
CREATE TRIGGER reports_notify AFTER INSERT ON reports
  FOR EACH ROW EXECUTE FUNCTION notify_report();

-- Down Migration
