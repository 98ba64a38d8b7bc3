-- Up Migration

-- Portals that were added by request. They count besides those of the configuration file; where both have a name, the
-- file counts. Intake and the API read the row in each decision about what such a portal has sent.
CREATE TABLE portals (
  name         text PRIMARY KEY,
  -- as in the configuration, but for the name
  settings     jsonb NOT NULL,
  -- of every key that it has or had: none of them ever becomes the key of another portal, or counts again
  fingerprints text[] NOT NULL,
  added_by     text NOT NULL,
  approved_by  text NOT NULL,
  added_at     timestamptz NOT NULL,
  changed_by   text,
  -- the last change of any kind, by the clock of PostgreSQL
  changed_at   timestamptz NOT NULL,
  removed_by   text,
  removed_why  text,
  removed_at   timestamptz
);
CREATE INDEX portals_fingerprints ON portals USING gin (fingerprints);

-- What PostgreSQL adds to the configuration file.
CREATE FUNCTION portals_in_use() RETURNS TABLE (name text, settings jsonb)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
  SELECT p.name, p.settings FROM portals p WHERE p.removed_at IS NULL ORDER BY p.name
$$;

-- Every process reads the configuration again, at COMMIT.
CREATE FUNCTION reload_portals() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  PERFORM ask_reload();
  RETURN NULL;
END $$;
CREATE TRIGGER portals_reload AFTER INSERT OR UPDATE OR DELETE ON portals
  FOR EACH STATEMENT EXECUTE FUNCTION reload_portals();

-- Requests about several portals may wait at once, although one admin is their subject.
ALTER TABLE approvals ADD COLUMN about text NOT NULL DEFAULT '';
DROP INDEX approvals_once;
CREATE UNIQUE INDEX approvals_once ON approvals (kind, subject, about) WHERE state = 'open';

CREATE VIEW api.portals AS
  SELECT name, settings, fingerprints, added_by, approved_by, added_at, changed_by, changed_at, removed_by, removed_why,
         removed_at FROM portals;

-- Down Migration
