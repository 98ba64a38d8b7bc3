-- Up Migration

-- The leases that no process has, and since when none has made progress (NULL: none ever had it). A process that has
-- just ended may be about to start again, so a lease counts only after it has run out, and after 15 s at the least.
CREATE FUNCTION vacant_leases() RETURNS TABLE (work text, since timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
  SELECT l.name, l.renewed_at FROM leases l
  WHERE (l.renewed_at > clock_timestamp() - greatest(l.lasts, '15 s')
      AND l.renewed_at < clock_timestamp() + greatest(l.lasts, '15 s')) IS NOT TRUE
    AND NOT EXISTS (SELECT FROM pg_stat_activity a
      WHERE a.pid = l.pid AND a.usename = 'chamberlain_' || l.name AND a.datname = current_database())
  ORDER BY l.name
$$;

-- Down Migration
