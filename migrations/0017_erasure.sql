-- Up Migration

-- Erasure by law (src/requests/rules/person-erasing.ts): the only way in which anything is destroyed without an
-- archive. It begins a day after a second admin approved it, by this clock, whatever time intake gives.

CREATE INDEX approvals_erasures ON approvals (subject) WHERE kind = 'person.erase' AND state = 'approved';
CREATE FUNCTION time_erasure() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.decided_at := greatest(NEW.decided_at, now());
  RETURN NEW;
END $$;
CREATE TRIGGER approvals_erasure BEFORE INSERT OR UPDATE ON approvals FOR EACH ROW
  WHEN (NEW.kind = 'person.erase' AND NEW.state = 'approved' AND current_user = 'chamberlain_intake')
  EXECUTE FUNCTION time_erasure();

-- An approved erasure stays until it has begun, however long it is held: the role that removes old records
-- removes only the others.
CREATE FUNCTION keep_erasure() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  IF EXISTS (SELECT FROM public.archivals d WHERE d.subject = OLD.subject AND d.erasure IS NOT NULL) THEN
    RETURN OLD;
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER approvals_kept BEFORE DELETE ON approvals FOR EACH ROW
  WHEN (OLD.kind = 'person.erase' AND OLD.state = 'approved') EXECUTE FUNCTION keep_erasure();

-- The approved request by which a subject is erased: {portal, request, requestedBy, approvedBy, approvedAt}.
-- Whatever is written here, the database itself replaces it by the approved request, and refuses if there is
-- none. It is never changed, nor moved to another subject.
ALTER TABLE archivals ADD COLUMN erasure jsonb;
CREATE FUNCTION guard_erasure() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  approved jsonb := (
    SELECT jsonb_build_object('portal', a.portal, 'request', a.request, 'requestedBy', a.requested_by,
                              'approvedBy', a.decided_by, 'approvedAt', a.decided_at)
    FROM public.approvals a
    WHERE a.subject = NEW.subject AND a.kind = 'person.erase' AND a.state = 'approved'
      AND a.decided_by <> a.requested_by AND a.decided_at <= now() - interval '24 hours'
    ORDER BY a.decided_at DESC LIMIT 1);
BEGIN
  IF TG_OP = 'UPDATE' THEN
    RAISE EXCEPTION 'an erasure is never changed' USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  IF approved IS NULL OR NOT EXISTS (SELECT FROM public.people p WHERE p.uid = NEW.subject AND p.state = 'suspended')
     OR EXISTS (SELECT FROM public.holds h WHERE h.subject = NEW.subject AND h.until > now()) THEN
    RAISE EXCEPTION '% may not be erased: no suspended person, held, or not approved for a day', NEW.subject
      USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  NEW.erasure := approved;
  RETURN NEW;
END $$;
CREATE TRIGGER archivals_erasure BEFORE INSERT ON archivals
  FOR EACH ROW WHEN (NEW.erasure IS NOT NULL) EXECUTE FUNCTION guard_erasure();
CREATE TRIGGER archivals_erasure_stays BEFORE UPDATE ON archivals FOR EACH ROW
  WHEN (NEW.erasure IS DISTINCT FROM OLD.erasure
    OR OLD.erasure IS NOT NULL AND (NEW.subject, NEW.archival) IS DISTINCT FROM (OLD.subject, OLD.archival))
  EXECUTE FUNCTION guard_erasure();

CREATE OR REPLACE FUNCTION guard_deleted() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  IF TG_TABLE_NAME = 'people' AND EXISTS (SELECT FROM public.archivals d
             WHERE d.subject = NEW.uid AND d.back_at IS NULL AND d.erasure IS NOT NULL) THEN
    RETURN NEW;
  END IF;
  IF (SELECT count(*) FROM public.archives a JOIN public.archivals d USING (subject, archival)
      WHERE a.subject = NEW.uid AND d.back_at IS NULL AND d.left_at IS NOT NULL) < (SELECT count(*) FROM public.roles WHERE archives) THEN
    RAISE EXCEPTION '% is not archived: no archive of it is recorded', NEW.uid
      USING ERRCODE = 'object_not_in_prerequisite_state';
  END IF;
  RETURN NEW;
END $$;

-- Down Migration
