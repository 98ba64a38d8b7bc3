-- Up Migration

-- The event of a request goes to at most one portal besides its own: `alsoTo`, which was a list, `portals`.
UPDATE requests SET on_done = (on_done - 'portals')
  || CASE WHEN on_done -> 'portals' ->> 0 IS NULL THEN '{}' ELSE jsonb_build_object('alsoTo', on_done -> 'portals' -> 0) END
WHERE on_done ? 'portals';

-- Down Migration
