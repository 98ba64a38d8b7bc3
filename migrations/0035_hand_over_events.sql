-- Up Migration

-- Makes the oldest events that a portal has not confirmed those of another portal, as many as are asked for. They get new
-- numbers. The portal that they are taken from is told that they are gone, if it comes back; the relay removes them from
-- its queue, as it does with erased ones. Returns how many there were.
CREATE FUNCTION hand_over_events(of_portal text, to_portal text, most integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
  confirmed bigint := coalesce((SELECT d.completed FROM event_deliveries d WHERE d.portal = of_portal), 0);
  -- in two parts, so that each finds its rows by the index
  chosen bigint[] := ARRAY(
    SELECT u.row_id FROM (
      SELECT e.row_id, e.seq FROM events e WHERE e.portal = of_portal AND e.seq > confirmed
      UNION ALL SELECT e.row_id, e.seq FROM events e WHERE e.portal = of_portal AND e.seq IS NULL) AS u
    ORDER BY u.seq, u.row_id LIMIT most);
BEGIN
  -- the relay may be numbering them
  PERFORM FROM events e WHERE e.row_id = ANY (chosen) ORDER BY e.row_id FOR UPDATE;
  INSERT INTO event_erasures
    SELECT e.portal, e.seq FROM events e WHERE e.row_id = ANY (chosen) AND e.seq IS NOT NULL ON CONFLICT DO NOTHING;
  INSERT INTO event_deliveries AS d (portal, removed)
    SELECT e.portal, max(e.seq) FROM events e WHERE e.row_id = ANY (chosen) AND e.seq IS NOT NULL GROUP BY e.portal
    ON CONFLICT (portal) DO UPDATE SET removed = greatest(d.removed, excluded.removed);
  UPDATE events e SET portal = to_portal, seq = NULL WHERE e.row_id = ANY (chosen);
  PERFORM pg_notify('chamberlain', 'events');
  RETURN cardinality(chosen);
END $$;

-- Down Migration
