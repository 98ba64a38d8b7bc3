-- Up Migration

-- A person who is to be deleted waits out a grace time of their own, and is told of as a tool is.
ALTER TABLE people
  -- who asked for the deletion: they may withdraw their own
  ADD COLUMN delete_requested_by text,
  -- the least number of days before the end of which it has been told, and when; 0: there is no grace time
  ADD COLUMN days_warned integer,
  ADD COLUMN warned_at   timestamptz,
  ADD CHECK ((days_warned IS NULL) = (warned_at IS NULL));

-- What was approved before goes on at once, as it was approved.
UPDATE people SET days_warned = 0, warned_at = now() WHERE delete_after IS NOT NULL;

-- Down Migration
