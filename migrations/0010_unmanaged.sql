-- Up Migration

-- Whatever is in our places, or has a number of our ranges, and is not ours: each thing stays here until it is
-- gone, or is ours; a thing that an admin has ignored stays permanently. Names and numbers stay in
-- unmanaged_sightings, so that they are never given out.
CREATE TABLE unmanaged (
  role    text NOT NULL REFERENCES roles,
  -- a part of the role's places that can be read, or not, independently: an area, a folder, a server
  place   text NOT NULL,
  -- a DN, `<DN> in <DN of a group>`, a path, `user@host`
  object  text NOT NULL,
  kind    text NOT NULL,
  name    text,
  number  integer,
  -- what the place itself says of who made it, and when
  made_by text,
  made_at timestamptz,
  -- distinguishes it from a later thing of the same name; for a member: the DN of its group
  identity text,
  -- when it was first seen
  since   timestamptz NOT NULL DEFAULT now(),
  -- of an ignored thing: it no longer exists
  gone_at timestamptz,
  ignored_at timestamptz,
  ignored_by text,
  reason     text
);
-- a DN may be longer than an index entry
CREATE UNIQUE INDEX unmanaged_object ON unmanaged (role, place, md5(object));

-- When each place was last read: in a place that was not read, nothing is known to be gone.
CREATE TABLE unmanaged_looks (
  role  text NOT NULL REFERENCES roles,
  place text NOT NULL,
  at    timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (role, place)
);

-- An admin has ignored one thing. If something else gets its name later, or another number, that must be
-- decided again.
CREATE FUNCTION forget_ignored() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  NEW.ignored_at = NULL;
  NEW.ignored_by = NULL;
  NEW.reason = NULL;
  NEW.since = now();
  RETURN NEW;
END $$;
CREATE TRIGGER unmanaged_other BEFORE UPDATE ON unmanaged
  FOR EACH ROW WHEN ((OLD.kind, OLD.number, OLD.identity) IS DISTINCT FROM (NEW.kind, NEW.number, NEW.identity))
  EXECUTE FUNCTION forget_ignored();
