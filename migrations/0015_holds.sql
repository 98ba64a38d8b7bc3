-- Up Migration

-- An admin keeps a person or a tool from being archived, deleted and erased until a day. A second hold replaces
-- the first; a lifted one is removed, and one that has ended does not count.
CREATE TABLE holds (
  subject integer PRIMARY KEY REFERENCES posix_ids,
  held_by text NOT NULL,
  held_at timestamptz NOT NULL,
  -- why, for the people who read it
  reason  text NOT NULL,
  until   timestamptz NOT NULL
);

-- Archives of restored subjects are removed on their day as well; if no day was recorded, a year from now.
UPDATE archivals SET keep_until = now() + interval '365 days'
WHERE back_at IS NOT NULL AND expired_at IS NULL AND keep_until IS NULL;
CREATE INDEX archivals_back ON archivals (keep_until) WHERE back_at IS NOT NULL AND expired_at IS NULL;

-- Down Migration
