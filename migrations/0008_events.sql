-- Up Migration

-- The relay numbers events before it delivers them: in the order in which they were committed, as far as that
-- can be known, and for each subject in the order in which things happened. A transaction that writes an event
-- takes no lock for it, so that no two transactions wait for each other over portals (43 deadlocks in 2.5
-- minutes were seen).
DROP TRIGGER events_number ON events;
DROP FUNCTION number_event();
CREATE INDEX events_unnumbered ON events (row_id) WHERE seq IS NULL AND portal IS NOT NULL;
CREATE FUNCTION notify_events() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('chamberlain', 'events');
  RETURN NULL;
END $$;
CREATE TRIGGER events_notify AFTER INSERT ON events
  FOR EACH STATEMENT EXECUTE FUNCTION notify_events();

-- A portal's queue holds one job at a time. `completed`: the portal has every event up to this one, and has
-- confirmed it.
ALTER TABLE event_deliveries
  DROP COLUMN enqueued,
  -- the id of that job, and its last event
  ADD COLUMN job    text,
  ADD COLUMN sent   bigint NOT NULL DEFAULT 0,
  -- since when the portal has accepted nothing although there is something; NULL: it has everything
  ADD COLUMN since  timestamptz,
  -- why it does not accept them, as far as the relay knows
  ADD COLUMN wrong  text;

-- Invalid jobs: not signed by the portal in whose queue they were. Nothing else is kept of them.
CREATE TABLE junk (
  portal   text NOT NULL,
  code     text NOT NULL,
  count    bigint NOT NULL,
  first_at timestamptz NOT NULL DEFAULT now(),
  last_at  timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (portal, code)
);

-- Down Migration
