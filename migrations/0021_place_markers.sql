-- Up Migration

-- What the role directory last published, in a short form for the other places: the signed text, the public key
-- that verifies it (SubjectPublicKeyInfo, base64), and, in a doubt, which side is the older copy.
ALTER TABLE directory_heartbeat ADD COLUMN marker text, ADD COLUMN key text,
  ADD COLUMN older text CHECK (older IN ('directory', 'database'));

-- The same as in directory_heartbeat, for each MariaDB server and each area of homes: src/seals/heartbeat.ts.
CREATE TABLE place_markers (
  role       text NOT NULL REFERENCES roles,
  place      text NOT NULL,
  publishing_at timestamptz,
  published_at    timestamptz,
  doubt      text,
  older      text CHECK (older IN ('place', 'database')),
  -- since when there is a doubt
  doubted_at timestamptz,
  PRIMARY KEY (role, place)
);

-- The heartbeat of that time was written, and this is its short form.
DROP FUNCTION end_publishing(timestamptz);
CREATE FUNCTION end_publishing(at_time timestamptz, signed text DEFAULT NULL, verifying text DEFAULT NULL) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
  UPDATE public.directory_heartbeat SET doubt = NULL, older = NULL, accepted_at = NULL,
    published_at = least(publishing_at, CASE WHEN accepted_at IS NOT NULL THEN at_time ELSE greatest(published_at, at_time) END),
    marker = coalesce(signed, marker), key = coalesce(verifying, key)
$$;

-- As in 0003_admin.sql; but if another role has already frozen the realm, the audit gets no second row.
CREATE OR REPLACE FUNCTION freeze_older(why text, by_publishing timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  was text;
BEGIN
  PERFORM FROM public.directory_heartbeat WHERE publishing_at IS NOT DISTINCT FROM by_publishing FOR UPDATE;
  IF NOT FOUND THEN RETURN; END IF;
  SELECT frozen_by INTO was FROM public.frozen FOR UPDATE;
  UPDATE public.frozen
  SET frozen_at = coalesce(frozen_at, now()), frozen_by = 'the role directory', reason = why
  WHERE frozen_by IS DISTINCT FROM 'the role directory';
  IF was IS NULL OR was NOT LIKE 'the role %' THEN
    INSERT INTO public.audit (kind, requested_by, approved_by, verdict)
    VALUES ('freeze', 'the role directory', 'the role directory', 'accepted');
  END IF;
END $$;

-- Like freeze_older, for a role that finds a place newer than our database. A freeze by the program itself
-- stays as it is.
CREATE FUNCTION freeze_older_than(of_place text, why text, by_publishing timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  own text := substring(session_user::text from '^chamberlain_([a-z]+)$');
BEGIN
  PERFORM FROM public.place_markers
  WHERE role = own AND place = of_place AND publishing_at IS NOT DISTINCT FROM by_publishing FOR UPDATE;
  IF NOT FOUND THEN RETURN; END IF;
  UPDATE public.frozen SET frozen_at = coalesce(frozen_at, now()), frozen_by = 'the role ' || own, reason = why
  WHERE frozen_by IS NULL OR frozen_by NOT LIKE 'the role %';
  IF FOUND THEN
    INSERT INTO public.audit (kind, requested_by, approved_by, verdict)
    VALUES ('freeze', 'the role ' || own, 'the role ' || own, 'accepted');
  END IF;
END $$;

-- Makes a role at once remove what a place that is an older copy gives and should not: those targets of these
-- subjects are checked. There is no limit to their number, because nothing is given by it. A subject that is
-- being worked on already is not touched again, and one that was parked since the doubt began waits for an
-- admin. Returns how many are still to come; NULL: nothing is done, because the place is not in doubt, or the
-- realm is frozen.
CREATE FUNCTION take_away(of_place text, subjects integer[], targets text[]) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  own text := substring(session_user::text from '^chamberlain_([a-z]+)$');
  doubted timestamptz;
  due integer[];
  due_targets text[];
  stuck integer[];
BEGIN
  SELECT p.doubted_at INTO doubted FROM public.place_markers p, public.frozen f
  WHERE p.role = own AND p.place = of_place AND p.older = 'place' AND f.frozen_at IS NULL;
  IF NOT FOUND THEN RETURN NULL; END IF;
  SELECT array_agg(c.subject) FILTER (WHERE c.applied = c.wanted OR NOT c.urgent
           OR (c.state = 'parked' AND c.next_try_at < doubted)),
         array_agg(s.target) FILTER (WHERE c.applied = c.wanted OR NOT c.urgent
           OR (c.state = 'parked' AND c.next_try_at < doubted)),
         array_agg(c.subject) FILTER (WHERE c.applied < c.wanted AND c.urgent
           AND c.state = 'parked' AND c.next_try_at >= doubted)
  INTO due, due_targets, stuck
  FROM unnest(subjects, targets) AS s (subject, target) JOIN public.convergence c USING (subject)
  WHERE c.role = own;
  IF due IS NOT NULL THEN
    -- else two that touch several rows could wait for each other
    PERFORM public.hold_verdicts(true);
    PERFORM public.look_again(due, array_fill(own, ARRAY[cardinality(due)]), true,
                              array_fill(false, ARRAY[cardinality(due)]), due_targets);
  END IF;
  RETURN (SELECT count(DISTINCT s) FROM unnest(subjects) AS s WHERE s <> ALL (coalesce(stuck, '{}')));
END $$;

-- Down Migration
