-- Up Migration

-- When somebody showed that they read the mail of this very address; null: nobody has. Another address is not verified,
-- whoever changes it: the database itself clears the time. So a request that gives an address and says that it is
-- verified writes the address first.
ALTER TABLE people ADD COLUMN mail_verified_at timestamptz,
  ADD CONSTRAINT people_mail_verified CHECK (mail_verified_at IS NULL OR coalesce(email, '') <> '');
CREATE FUNCTION clear_mail_verified() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  NEW.mail_verified_at := NULL;
  RETURN NEW;
END $$;
CREATE TRIGGER people_mail_verified BEFORE UPDATE OF email ON people FOR EACH ROW
  WHEN (OLD.email IS DISTINCT FROM NEW.email) EXECUTE FUNCTION clear_mail_verified();

CREATE OR REPLACE VIEW api.people AS
  SELECT uid, shell_name, display_name, display_name_key, email, state, admitted_at, created_at, suspended_at,
         suspended_by, suspension_reason, suspended_until, delete_after, delete_requested_by, days_warned, warned_at,
         mail_verified_at
  FROM people;

-- Down Migration
