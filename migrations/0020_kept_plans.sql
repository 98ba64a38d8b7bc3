-- Up Migration

-- An SQL function is planned anew for each statement that calls it, a plpgsql function once for each
-- connection: a verdict took 0.4 ms longer. The result is the same as before (0007_seals.sql).
CREATE OR REPLACE FUNCTION number_seals(subjects integer[], is_urgent boolean, at_time timestamptz DEFAULT now())
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO login_seals AS s (subject, until, renew_at, floor_at)
  SELECT r.subject,
         CASE WHEN coalesce(p.state, t.state) = 'deleted' THEN 'infinity'
              ELSE date_trunc('second', at_time) + interval '7 days' END,
         CASE WHEN coalesce(p.state, t.state) = 'deleted' THEN 'infinity'
              ELSE at_time + interval '60 hours' + random() * interval '24 hours' END,
         CASE WHEN is_urgent OR coalesce(p.state, t.state) <> 'active' THEN at_time END
  FROM (SELECT DISTINCT unnest(subjects) AS subject) AS r
    LEFT JOIN people p ON p.uid = r.subject LEFT JOIN tools t ON t.uid = r.subject
  ORDER BY r.subject
  ON CONFLICT (subject) DO UPDATE
    SET number = s.number + 1, until = excluded.until, renew_at = excluded.renew_at,
        floor = CASE WHEN excluded.floor_at IS NULL THEN s.floor ELSE s.number + 1 END,
        floor_at = coalesce(excluded.floor_at, s.floor_at);
END $$;

-- Calls the one function that does it, not two others in between: nothing of this is sealed.
CREATE OR REPLACE FUNCTION touch_databases() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
  PERFORM public.look_again(ARRAY[NEW.account], '{databases}', false, '{false}');
  RETURN NULL;
END $$;

-- Down Migration
