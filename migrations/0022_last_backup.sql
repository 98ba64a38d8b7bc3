-- Up Migration

-- When `chamberlain backup` last made a set: the time of its snapshot. `doctor` reports if that is too long
-- ago.
CREATE TABLE last_backup (
  one     boolean PRIMARY KEY DEFAULT true CHECK (one),
  made_at timestamptz NOT NULL
);
