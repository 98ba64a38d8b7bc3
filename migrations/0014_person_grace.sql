-- Up Migration

-- A person to be deleted has a grace time, and warnings are sent before it ends, as for a tool.
ALTER TABLE people
  -- who requested the deletion: they may withdraw their own request
  ADD COLUMN delete_requested_by text,
  -- the lowest number of days before the end for which a warning was sent, and when; 0: there is no grace time
  ADD COLUMN days_warned integer,
  ADD COLUMN warned_at   timestamptz,
  ADD CHECK ((days_warned IS NULL) = (warned_at IS NULL));

-- Deletions that were approved before go on at once, as they were approved.
UPDATE people SET days_warned = 0, warned_at = now() WHERE delete_after IS NOT NULL;

-- Down Migration
