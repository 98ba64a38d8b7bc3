-- Up Migration

-- The relay gives the roles the parts of a repair, as it gives them the rows of `convergence`.
ALTER TABLE repair_parts
  -- it may take hours, so it has a job of its own
  ADD COLUMN slow boolean NOT NULL DEFAULT false,
  -- a job for it is in the queue, or in progress, until then
  ADD COLUMN leased_until timestamptz;
DROP INDEX repair_parts_asked;
CREATE INDEX repair_parts_asked ON repair_parts (repair, role, slow, leased_until NULLS FIRST) WHERE state = 'asked';

-- A caller that waits says so again and again. What nobody waits for any more is not begun.
ALTER TABLE repairs ADD COLUMN waited_until timestamptz NOT NULL DEFAULT now();
CREATE INDEX repairs_waited_until ON repairs (waited_until);

-- Down Migration
