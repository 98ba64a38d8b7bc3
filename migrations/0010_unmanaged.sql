-- Up Migration

-- What is in our places, or has a number of our ranges, and is not ours: each thing until it is gone, or is ours; what
-- an admin has ignored stays for good. Names and numbers stay in unmanaged_sightings, so that nobody is given them.
CREATE TABLE unmanaged (
  role    text NOT NULL CHECK (role IN ('directory', 'homes', 'databases')),
  -- the part of what the role looks at that can be read, or not, by itself: an area, a folder, a server
  place   text NOT NULL,
  -- a DN, `<DN> in <DN of a group>`, a path, `user@host`
  object  text NOT NULL,
  kind    text NOT NULL,
  name    text,
  number  integer,
  -- what the place itself says of who made it, and when
  made_by text,
  made_at timestamptz,
  -- tells it from another thing that has the same name later; of a member: the DN of its group
  identity text,
  -- when it was first seen
  since   timestamptz NOT NULL DEFAULT now(),
  -- of what was ignored: it is not there any more
  gone_at timestamptz,
  ignored_at timestamptz,
  ignored_by text,
  reason     text
);
-- a DN may be longer than an entry of an index
CREATE UNIQUE INDEX unmanaged_object ON unmanaged (role, place, md5(object));

-- When each place was last looked at: what was not looked at is not known to be gone.
CREATE TABLE unmanaged_looks (
  role  text NOT NULL CHECK (role IN ('directory', 'homes', 'databases')),
  place text NOT NULL,
  at    timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (role, place)
);

-- An admin has ignored one thing. What has its name later, or another number, is to be decided again.
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
