-- One PostgreSQL role per worker, table by table. Run by `chamberlain migrate` after the
-- migrations; may be run again. Sets no passwords: the operator does (see docs/install.md).
--
-- The roles of src/roles are not named here. What they all have is granted to a word in capitals, for which
-- src/database/rights.ts writes their logins: EACH_ROLE, by which a role works; EACH_READER, by which it reads
-- (`…_reader`); EACH_ARCHIVER and EACH_ARCHIVE_READER, of the roles that archive what leaves. EACH_LOGIN is every login of
-- ours. What one role has beyond that stands in its folder, and is run after this.

-- `most` is a limit of connections: as many as two whole `chamberlain work` open (src/reconcile/role.ts and others),
-- and a few for `doctor`, or what the command line opens. It counts for the whole server. One that is set stays:
-- an operator with more processes, or more realms on one server, touches it.
DO $$
DECLARE
  role text;
  most integer;
BEGIN
  FOR role, most IN
    SELECT 'chamberlain_' || n, m FROM (
      VALUES ('intake', 6), ('relay', 12), ('sweep', 6), ('api', 20), ('admin', 20)
      UNION ALL SELECT name, connections FROM roles
      UNION ALL SELECT name || '_reader', 12 FROM roles) AS v (n, m)
  LOOP
    BEGIN
      IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
        EXECUTE format('CREATE ROLE %I LOGIN CONNECTION LIMIT %s', role, most);
      ELSIF EXISTS (SELECT FROM pg_roles WHERE rolname = role AND rolconnlimit < 0) THEN
        EXECUTE format('ALTER ROLE %I CONNECTION LIMIT %s', role, most);
      END IF;
    EXCEPTION
      WHEN duplicate_object OR unique_violation OR internal_error THEN NULL; -- by another at this moment
      WHEN insufficient_privilege THEN NULL; -- a superuser made it, and sets its limit: `doctor` says so
    END;
    -- so that PostgreSQL tells lock_holders() where from and since when a session is
    BEGIN
      IF NOT pg_has_role(current_user, role, 'USAGE') THEN
        EXECUTE format('GRANT %I TO CURRENT_USER WITH INHERIT TRUE, SET FALSE', role);
      END IF;
    EXCEPTION WHEN insufficient_privilege OR internal_error THEN NULL;
    END;
  END LOOP;
END $$;

REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO EACH_LOGIN;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC;
-- whoever else is to connect is granted that; and a table of one's own that has the name of one of ours is of use
-- to nobody honest
DO $$ BEGIN
  EXECUTE format('REVOKE CONNECT, TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
  EXECUTE format('GRANT CONNECT ON DATABASE %I TO EACH_LOGIN', current_database());
END $$;
-- what an older version granted and this one does not
REVOKE ALL ON ALL TABLES IN SCHEMA public, api FROM EACH_LOGIN;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM EACH_LOGIN;

-- intake: writes the wanted state, and nothing that a worker says
GRANT SELECT ON roles TO chamberlain_intake, chamberlain_admin;
GRANT SELECT, INSERT ON posix_ids, names TO chamberlain_intake;
GRANT SELECT, INSERT, UPDATE ON id_ranges, people, tools, access_requests, ssh_keys, credentials
  TO chamberlain_intake;
-- touches: what is applied, a worker alone says
GRANT SELECT, INSERT (subject, role, state, urgent, next_try_at, targets),
  UPDATE (wanted, state, code, sentence, attempts, next_try_at, urgent, since, targets)
  ON convergence TO chamberlain_intake;
-- the numbers of seals grow with what is wanted
GRANT SELECT, INSERT, UPDATE ON login_seals TO chamberlain_intake;
GRANT SELECT, INSERT, UPDATE (count, last_at) ON junk TO chamberlain_intake;
GRANT SELECT, INSERT, DELETE ON realm_members, maintainers TO chamberlain_intake;
GRANT SELECT, INSERT, UPDATE, DELETE ON known_credentials TO chamberlain_intake;
GRANT SELECT, INSERT ON requests, request_touches TO chamberlain_intake;
-- of a request that waited for an admin
GRANT UPDATE (done_at, on_done) ON requests TO chamberlain_intake;
-- without the columns that are numbers and times: nobody chooses those, nor uses a number up
GRANT INSERT (request, portal, kind, requested_by, approved_by, subject, account, fields, verdict, code, key)
  ON audit TO chamberlain_intake;
-- a key that was revoked stays so
GRANT SELECT, INSERT, UPDATE (revoked_at, revoked_by, revoked_why) ON admin_keys TO chamberlain_intake;
GRANT SELECT, INSERT ON admin_additions TO chamberlain_intake;
GRANT SELECT, INSERT, UPDATE ON portals TO chamberlain_intake;
-- the admin makes users of Redis for them: such a name can then be no portal over HTTP
GRANT SELECT, INSERT (name) ON listed_portals TO chamberlain_intake, chamberlain_admin;
-- an event's number is the relay's to give
GRANT SELECT, INSERT (portal, event, subject, request, code, data) ON events
  TO chamberlain_intake, chamberlain_relay, chamberlain_sweep;
-- the events that a removed portal has not taken are handed to another one
GRANT SELECT ON event_deliveries TO chamberlain_intake;
GRANT EXECUTE ON FUNCTION hand_over_events(text, text, integer) TO chamberlain_intake;
GRANT SELECT ON unmanaged_sightings TO chamberlain_intake;
-- leaving: intake makes the moves; the roles archive
GRANT SELECT, INSERT, UPDATE ON archivals, approvals TO chamberlain_intake;
GRANT SELECT, INSERT, UPDATE, DELETE ON holds TO chamberlain_intake;
GRANT SELECT ON archives TO chamberlain_intake;
GRANT SELECT, DELETE ON archive_progress TO chamberlain_intake;
GRANT SELECT (account, epoch, previous_until) ON database_verifiers TO chamberlain_intake;
-- what an admin requests: a survey or a repair, the release of a sweep, a finding that does not count
GRANT SELECT, INSERT (id, portal, kind, asked_by, subjects, role, target, expected) ON kept_surveys TO chamberlain_intake;
GRANT SELECT ON kept_survey_items, drifts, sweeps, sweep_releases TO chamberlain_intake;
GRANT INSERT (digest, by) ON sweep_releases TO chamberlain_intake;
GRANT SELECT, INSERT, UPDATE, DELETE ON ignored_findings TO chamberlain_intake;
GRANT EXECUTE ON FUNCTION end_overlaps(timestamptz, integer), erase_person(integer),
  remove_expired(text, integer, bigint) TO chamberlain_intake;
GRANT EXECUTE ON FUNCTION touch_generation(integer, text, boolean, boolean),
  touch_generations(integer[], text[], boolean, boolean[], text[]),
  look_again(integer[], text[], boolean, boolean[], text[]),
  number_seals(integer[], boolean, timestamptz), touch_seals(integer[]) TO chamberlain_intake;

-- relay: leases, readiness, delivery, seals
GRANT SELECT ON convergence, requests, audit, audit_seals, audit_closings TO chamberlain_relay;
GRANT UPDATE (leased_until) ON convergence TO chamberlain_relay;
GRANT UPDATE (done_at, stuck_at, on_done) ON requests TO chamberlain_relay;
GRANT SELECT, DELETE ON request_touches TO chamberlain_relay;
GRANT SELECT, INSERT, UPDATE (last) ON event_sequences TO chamberlain_relay;
GRANT UPDATE (seq) ON events TO chamberlain_relay;
GRANT SELECT, INSERT, UPDATE ON event_deliveries TO chamberlain_relay;
GRANT INSERT ON audit_seals TO chamberlain_relay;
GRANT SELECT, DELETE ON audit_unsealed, event_erasures TO chamberlain_relay;

-- the roles: each reads what its targets want, and writes how its own rows stand
-- not why and by whom somebody was suspended
GRANT SELECT (uid, shell_name, state, admitted_at) ON people TO EACH_ROLE, EACH_READER;
GRANT SELECT ON tools, realm_members TO EACH_ROLE, EACH_READER;
GRANT SELECT, INSERT ON unmanaged_sightings TO EACH_READER;
GRANT SELECT ON names, posix_ids TO EACH_READER;
-- what an admin has decided, an admin alone writes
GRANT SELECT, DELETE, INSERT (role, place, object, kind, name, number, made_by, made_at, identity),
  UPDATE (kind, name, number, made_by, made_at, identity, gone_at) ON unmanaged
  TO EACH_READER;
GRANT SELECT, INSERT (role, place), UPDATE (at) ON unmanaged_looks
  TO EACH_READER;
GRANT SELECT, DELETE, INSERT (role, place, sentence), UPDATE (since, last_at, sentence) ON troubles
  TO EACH_READER, chamberlain_relay;
GRANT SELECT ON unmanaged, unmanaged_looks TO chamberlain_admin, chamberlain_sweep;
GRANT SELECT ON troubles TO chamberlain_admin;
GRANT UPDATE (ignored_at, ignored_by, reason) ON unmanaged TO chamberlain_admin;
-- In each policy the role is a subselect, which a statement evaluates once. Without it, a count of 120,000 rows took
-- 560 ms instead of 40.
ALTER TABLE unmanaged ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS own_rows ON unmanaged;
CREATE POLICY own_rows ON unmanaged
  USING (role = (SELECT substring(current_user::text from '^chamberlain_([a-z]+)')))
  WITH CHECK (role = (SELECT substring(current_user::text from '^chamberlain_([a-z]+)')));
DROP POLICY IF EXISTS every_row ON unmanaged;
CREATE POLICY every_row ON unmanaged TO chamberlain_admin, chamberlain_sweep USING (true) WITH CHECK (true);
ALTER TABLE unmanaged_looks ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS own_rows ON unmanaged_looks;
CREATE POLICY own_rows ON unmanaged_looks
  USING (role = (SELECT substring(current_user::text from '^chamberlain_([a-z]+)')))
  WITH CHECK (role = (SELECT substring(current_user::text from '^chamberlain_([a-z]+)')));
DROP POLICY IF EXISTS every_row ON unmanaged_looks;
CREATE POLICY every_row ON unmanaged_looks TO chamberlain_admin, chamberlain_sweep USING (true);
ALTER TABLE troubles ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS own_rows ON troubles;
CREATE POLICY own_rows ON troubles
  USING (role = (SELECT substring(current_user::text from '^chamberlain_([a-z]+)')))
  WITH CHECK (role = (SELECT substring(current_user::text from '^chamberlain_([a-z]+)')));
DROP POLICY IF EXISTS every_row ON troubles;
CREATE POLICY every_row ON troubles TO chamberlain_admin USING (true);
GRANT SELECT ON convergence, ignored_findings TO EACH_ROLE, EACH_READER;
GRANT UPDATE (applied, state, code, sentence, attempts, next_try_at, leased_until, urgent, ignored_until)
  ON convergence TO EACH_ROLE;
GRANT SELECT ON surveys, reports
  TO EACH_READER;
GRANT INSERT ON reports
  TO EACH_READER;

ALTER TABLE convergence ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS own_rows ON convergence;
CREATE POLICY own_rows ON convergence
  USING (role = (SELECT substring(current_user::text from '^chamberlain_([a-z]+)')))
  WITH CHECK (role = (SELECT substring(current_user::text from '^chamberlain_([a-z]+)')));
DROP POLICY IF EXISTS every_row ON convergence;
CREATE POLICY every_row ON convergence
  TO chamberlain_intake, chamberlain_relay, chamberlain_sweep, chamberlain_admin
  USING (true) WITH CHECK (true);

-- leaving: who puts something away says so
GRANT SELECT ON archivals, archives TO EACH_ARCHIVER, EACH_ARCHIVE_READER;
-- for the manifest: which keys go to nobody else
GRANT SELECT (person, fingerprint) ON ssh_keys TO EACH_ARCHIVER;
GRANT SELECT ON archivals TO chamberlain_relay;
GRANT INSERT (subject, archival, role, manifest_sha256, path, bytes) ON archives TO EACH_ARCHIVER;
GRANT SELECT, INSERT, DELETE, UPDATE (act, done, total, at) ON archive_progress TO EACH_ARCHIVER;
ALTER TABLE archives ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS own_rows ON archives;
CREATE POLICY own_rows ON archives
  USING (role = (SELECT substring(current_user::text from '^chamberlain_([a-z]+)')))
  WITH CHECK (role = (SELECT substring(current_user::text from '^chamberlain_([a-z]+)')));
DROP POLICY IF EXISTS every_row ON archives;
CREATE POLICY every_row ON archives TO chamberlain_intake, chamberlain_admin USING (true);
ALTER TABLE archive_progress ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS own_rows ON archive_progress;
CREATE POLICY own_rows ON archive_progress
  USING (role = (SELECT substring(current_user::text from '^chamberlain_([a-z]+)')))
  WITH CHECK (role = (SELECT substring(current_user::text from '^chamberlain_([a-z]+)')));
DROP POLICY IF EXISTS every_row ON archive_progress;
CREATE POLICY every_row ON archive_progress TO chamberlain_intake, chamberlain_admin, chamberlain_sweep USING (true);

-- reports: a role reads and writes its own
ALTER TABLE reports ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS own_rows ON reports;
CREATE POLICY own_rows ON reports
  USING (role = (SELECT substring(current_user::text from '^chamberlain_([a-z]+)')))
  WITH CHECK (role = (SELECT substring(current_user::text from '^chamberlain_([a-z]+)')));
DROP POLICY IF EXISTS every_row ON reports;
CREATE POLICY every_row ON reports TO chamberlain_admin, chamberlain_sweep USING (true);

-- freezing: workers look, intake holds the row against it
GRANT SELECT ON frozen TO chamberlain_intake, chamberlain_relay, EACH_ROLE, chamberlain_sweep, chamberlain_admin;
-- FOR KEY SHARE wants the right to update a column, and this one cannot be changed
GRANT UPDATE (single) ON frozen TO chamberlain_intake;
GRANT UPDATE (frozen_at, frozen_by, reason) ON frozen TO chamberlain_admin;

-- the markers
GRANT SELECT ON directory_heartbeat TO chamberlain_sweep, chamberlain_admin;
GRANT SELECT ON place_markers TO EACH_ROLE, chamberlain_admin;
ALTER TABLE place_markers ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS own_rows ON place_markers;
CREATE POLICY own_rows ON place_markers
  USING (role = (SELECT substring(current_user::text from '^chamberlain_([a-z]+)')))
  WITH CHECK (role = (SELECT substring(current_user::text from '^chamberlain_([a-z]+)')));
DROP POLICY IF EXISTS every_row ON place_markers;
CREATE POLICY every_row ON place_markers TO chamberlain_admin USING (true);

-- surveys: a reader says how far it is
GRANT SELECT, INSERT, UPDATE (done, total) ON survey_progress
  TO EACH_READER;
ALTER TABLE survey_progress ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS own_rows ON survey_progress;
CREATE POLICY own_rows ON survey_progress
  USING (role = (SELECT substring(current_user::text from '^chamberlain_([a-z]+)')))
  WITH CHECK (role = (SELECT substring(current_user::text from '^chamberlain_([a-z]+)')));
DROP POLICY IF EXISTS every_row ON survey_progress;
CREATE POLICY every_row ON survey_progress TO chamberlain_admin, chamberlain_sweep USING (true);

-- repairs: an admin asks, the relay gives a role its parts, and the role says what became of them
GRANT SELECT, INSERT ON repairs, repair_parts TO chamberlain_admin;
GRANT UPDATE (waited_until) ON repairs TO chamberlain_admin;
GRANT SELECT (id, waited_until) ON repairs TO chamberlain_relay;
GRANT SELECT (repair, subject, role, slow, state, leased_until), UPDATE (leased_until) ON repair_parts TO chamberlain_relay;
GRANT SELECT ON repairs, repair_parts TO EACH_ROLE;
GRANT UPDATE (state, code, sentence, ended_at) ON repair_parts TO EACH_ROLE;
ALTER TABLE repair_parts ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS own_rows ON repair_parts;
CREATE POLICY own_rows ON repair_parts
  USING (role = (SELECT substring(current_user::text from '^chamberlain_([a-z]+)')))
  WITH CHECK (role = (SELECT substring(current_user::text from '^chamberlain_([a-z]+)')));
DROP POLICY IF EXISTS every_row ON repair_parts;
CREATE POLICY every_row ON repair_parts TO chamberlain_admin, chamberlain_relay USING (true) WITH CHECK (true);
-- the sweep asks and waits only for what an admin has requested (record_kept_repair)
DROP POLICY IF EXISTS requested ON repair_parts;
CREATE POLICY requested ON repair_parts TO chamberlain_sweep
  USING (repair IN (SELECT kept_surveys.id FROM kept_surveys WHERE kept_surveys.state = 'running'))
  WITH CHECK (repair IN (SELECT kept_surveys.id FROM kept_surveys WHERE kept_surveys.state = 'running'));
ALTER TABLE repairs ENABLE ROW LEVEL SECURITY;
DROP POLICY IF EXISTS others ON repairs;
CREATE POLICY others ON repairs USING ((SELECT current_user AS "current_user") <> 'chamberlain_sweep')
  WITH CHECK ((SELECT current_user AS "current_user") <> 'chamberlain_sweep');
DROP POLICY IF EXISTS requested ON repairs;
CREATE POLICY requested ON repairs TO chamberlain_sweep
  USING (id IN (SELECT kept_surveys.id FROM kept_surveys WHERE kept_surveys.state = 'running'));

-- the sweep: asks for surveys, touches what has drifted, tells
GRANT SELECT (uid, shell_name) ON people TO chamberlain_sweep;
GRANT SELECT ON posix_ids, tools, convergence, surveys, reports, survey_progress, sweeps,
  sweep_releases, drifts TO chamberlain_sweep;
GRANT INSERT, DELETE ON surveys TO chamberlain_sweep;
GRANT INSERT, UPDATE ON sweeps TO chamberlain_sweep;
GRANT INSERT, UPDATE, DELETE ON drifts TO chamberlain_sweep;
GRANT UPDATE (sweep) ON sweep_releases TO chamberlain_sweep;
GRANT INSERT (subject, role, state, urgent, next_try_at, targets),
  UPDATE (wanted, state, code, sentence, attempts, next_try_at, urgent, since, targets)
  ON convergence TO chamberlain_sweep;
GRANT EXECUTE ON FUNCTION look_again(integer[], text[], boolean, boolean[], text[]) TO chamberlain_sweep;
-- and carries out what admins request; nothing that it repairs destroys data
GRANT SELECT, UPDATE (state, tries) ON kept_surveys TO chamberlain_sweep;
GRANT SELECT, INSERT, DELETE ON kept_survey_items TO chamberlain_sweep;
GRANT SELECT, UPDATE (waited_until) ON repairs TO chamberlain_sweep;
GRANT SELECT, INSERT (repair, subject, role, digest, side_conditions, slow) ON repair_parts TO chamberlain_sweep;
GRANT SELECT ON archive_progress TO chamberlain_sweep;
GRANT EXECUTE ON FUNCTION end_kept_survey(uuid, integer, text, jsonb, jsonb),
  record_kept_repair(uuid, integer[], text[], text[]), hold_survey(uuid) TO chamberlain_sweep;

-- the API: reads the views that are made for it, and no table. It writes nothing but who has read what of whom.
GRANT SELECT ON request_progress, request_open_touches, request_applied_roles
  TO chamberlain_api, chamberlain_admin;
GRANT SELECT ON known_names TO chamberlain_api, chamberlain_intake;
GRANT SELECT ON active_maintainers TO chamberlain_api;
GRANT USAGE ON SCHEMA api TO chamberlain_api;
GRANT SELECT ON api.people, api.tools, api.realm_members, api.maintainers, api.ssh_keys, api.access_requests,
  api.credentials, api.database_verifiers, api.requests, api.request_touches, api.convergence,
  api.events, api.event_sequences, api.event_deliveries, api.junk, api.approvals, api.holds,
  api.archivals, api.archives, api.archive_progress, api.login_seals, api.id_ranges, api.posix_ids,
  api.frozen, api.directory_heartbeat, api.place_markers, api.troubles, api.sweeps, api.unmanaged,
  api.unmanaged_looks, api.audit, api.audit_closings, api.api_reads, api.admin_keys, api.kept_surveys,
  api.kept_survey_items, api.drifts, api.portals
  TO chamberlain_api;
GRANT EXECUTE ON FUNCTION log_api_reads(text, text[], text[]) TO chamberlain_api;
GRANT SELECT ON api_reads TO chamberlain_admin;

-- the admin's command line: sees, asks for surveys and repairs, has no writer
GRANT SELECT ON posix_ids, id_ranges, names, unmanaged_sightings, people, tools, realm_members,
  maintainers, ssh_keys, access_requests, credentials, requests, request_touches, convergence,
  event_sequences, event_deliveries, events, junk, audit, audit_seals, audit_unsealed, audit_closings, surveys, reports,
  survey_progress, sweeps, sweep_releases, drifts, archivals, archives, archive_progress, approvals,
  event_erasures, known_credentials, login_seals, holds, admin_keys, admin_additions, kept_surveys, ignored_findings,
  portals TO chamberlain_admin;
-- which password a database account should have been given, never its verifier
GRANT SELECT (account, epoch, recorded_at, previous_until) ON database_verifiers TO chamberlain_admin;
GRANT INSERT, DELETE ON surveys TO chamberlain_admin;
GRANT INSERT ON sweep_releases TO chamberlain_admin;
GRANT INSERT (kind, requested_by, approved_by, subject, account, fields, verdict) ON audit TO chamberlain_admin;
-- made by the first `chamberlain migrate`
GRANT SELECT ON migrations TO chamberlain_admin;
-- written by `chamberlain backup`, as the owner
GRANT SELECT ON last_backup TO chamberlain_admin;

-- leases and locks: each role takes its own (0009_locks.sql, 0012_leases.sql)
GRANT EXECUTE ON FUNCTION take_lease(), renew_lease()
  TO chamberlain_intake, chamberlain_relay, chamberlain_sweep, EACH_READER;
GRANT EXECUTE ON FUNCTION confirm_lease() TO chamberlain_intake;
GRANT EXECUTE ON FUNCTION hold_verdicts(boolean) TO chamberlain_intake, chamberlain_sweep;
GRANT EXECUTE ON FUNCTION lock_subjects(integer[]) TO EACH_ROLE;
GRANT EXECUTE ON FUNCTION hold_survey(uuid) TO chamberlain_admin;
GRANT EXECUTE ON FUNCTION lock_holders(), leaders(), vacant_leases() TO chamberlain_admin, chamberlain_api;

-- the configuration: each process says which one it uses (0032_configuration.sql)
GRANT EXECUTE ON FUNCTION note_configuration(text[], text, integer, text, double precision, jsonb, bigint, text)
  TO chamberlain_intake, chamberlain_relay, chamberlain_sweep, chamberlain_api, EACH_ROLE;
-- and reads what PostgreSQL adds to the file (0031_portals.sql)
GRANT EXECUTE ON FUNCTION portals_in_use()
  TO chamberlain_intake, chamberlain_relay, chamberlain_sweep, chamberlain_api, chamberlain_admin, EACH_ROLE;
GRANT EXECUTE ON FUNCTION configurations_in_use() TO chamberlain_admin, chamberlain_api;
GRANT EXECUTE ON FUNCTION ask_reload() TO chamberlain_admin;

-- Every write of a leader is checked, in every table. Nobody else's connection carries a number.
DO $$
DECLARE
  tab regclass;
BEGIN
  FOR tab IN
    SELECT oid FROM pg_class c WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relname <> 'leases'
      AND NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = c.oid AND tgname = 'check_lease')
  LOOP
    EXECUTE format($sql$CREATE TRIGGER check_lease BEFORE INSERT OR UPDATE OR DELETE ON %s FOR EACH STATEMENT
      WHEN (current_setting('chamberlain.epoch', true) <> '' AND coalesce(current_setting('chamberlain.checked', true), '')
        IS DISTINCT FROM pg_current_xact_id_if_assigned()::text) EXECUTE FUNCTION check_lease()$sql$, tab);
  END LOOP;
END $$;
