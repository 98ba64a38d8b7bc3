-- Up Migration

-- An admin keeps a person or a tool from being put away, deleted and erased until a day. A second hold takes the
-- place of the first; a lifted one is removed, and one that has ended counts for nothing.
CREATE TABLE holds (
  subject integer PRIMARY KEY REFERENCES posix_ids,
  held_by text NOT NULL,
  held_at timestamptz NOT NULL,
  -- why, for the people who read it
  reason  text NOT NULL,
  until   timestamptz NOT NULL
);

-- Archives of what came back are removed on their day as well; where no day was written, a year from now.
UPDATE archivals SET keep_until = now() + interval '365 days'
WHERE back_at IS NOT NULL AND expired_at IS NULL AND keep_until IS NULL;
CREATE INDEX archivals_back ON archivals (keep_until) WHERE back_at IS NOT NULL AND expired_at IS NULL;

-- Down Migration
