-- Up Migration

-- Admins' own keys, by their fingerprints. Those that the configuration lists have a row only if they were revoked.
-- Intake reads the row of the key in the transaction of each decision, and the API at each call.
CREATE TABLE admin_keys (
  -- as `ssh-keygen -l` prints it; also the `kid` of what the key signs
  fingerprint text PRIMARY KEY CHECK (fingerprint ~ '^SHA256:[A-Za-z0-9+/]{43}$'),
  person      integer NOT NULL REFERENCES people,
  -- type and base64; empty: the person was erased
  line        text NOT NULL,
  label       text NOT NULL,
  -- NULL: it is in the configuration
  expires_at  timestamptz,
  -- NULL: it is in the configuration
  added_by    text,
  approved_by text,
  added_at    timestamptz,
  revoked_at  timestamptz,
  revoked_by  text,
  revoked_why text,
  CHECK ((expires_at IS NULL) = (added_by IS NULL)),
  CHECK ((expires_at IS NULL) <= (revoked_at IS NOT NULL))
);
CREATE INDEX admin_keys_person ON admin_keys (person);

-- Who has made whom an admin, or has given them a key: for seven days, neither counts as another admin for the other.
CREATE TABLE admin_additions (
  person integer NOT NULL REFERENCES people,
  by     integer NOT NULL REFERENCES people,
  at     timestamptz NOT NULL,
  CHECK (person <> by)
);
CREATE INDEX admin_additions_person ON admin_additions (person, at);

-- What is erased with a person.
CREATE FUNCTION erase_admin_keys() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  UPDATE public.admin_keys SET line = '', label = '', revoked_why = NULL, revoked_at = coalesce(revoked_at, now())
  WHERE person = NEW.uid;
  RETURN NULL;
END $$;
CREATE TRIGGER people_admin_keys AFTER UPDATE OF email ON people
  FOR EACH ROW WHEN (NEW.email IS NULL) EXECUTE FUNCTION erase_admin_keys();

-- The fingerprint of the admin's own key that signed the request; NULL: a portal did, or it is older than this column.
ALTER TABLE audit ADD COLUMN key text;
CREATE INDEX audit_key ON audit (key, id) WHERE key IS NOT NULL;

-- The key that signed a request that waits: what a stolen key has asked for is not approved once the key is revoked.
ALTER TABLE approvals ADD COLUMN key text;

CREATE VIEW api.admin_keys AS
  SELECT fingerprint, person, line, label, expires_at, added_by, approved_by, added_at, revoked_at, revoked_by,
         revoked_why FROM admin_keys;
CREATE OR REPLACE VIEW api.audit AS
  SELECT id, at, portal, kind, requested_by, approved_by, subject, account, fields, verdict, code, key FROM audit;

-- Down Migration
