-- Up Migration

-- When tool.delete was requested. The directory shows it as pwdAccountLockedTime: other programs count from it,
-- as delete_after does (src/targets/unix-account.ts). It stays until the deletion is withdrawn.
ALTER TABLE tools ADD COLUMN delete_requested_at timestamptz;

-- If the request is not known, a later time is safe: it makes nobody's countdown shorter.
UPDATE tools t SET delete_requested_at = coalesce(
  (SELECT max(q.at) FROM requests q
   WHERE q.subject = t.uid AND q.kind = 'tool.delete' AND q.verdict = 'accepted' AND q.portal IS NOT NULL),
  now())
WHERE (t.delete_after IS NOT NULL OR t.state IN ('archived', 'deleted'))
  -- a tool that is being restored is no longer to be deleted
  AND NOT EXISTS (SELECT FROM archivals d
                  WHERE d.subject = t.uid AND d.back_at IS NULL AND d.returning_at IS NOT NULL);
ALTER TABLE tools ADD CHECK (delete_after IS NULL OR delete_requested_at IS NOT NULL);

-- Locked tools have 000001010000Z from before, which other programs read as "delete at once". They are wanted
-- anew, so that no sweep takes them for drift, and holds them because there are many.
DO $$
DECLARE
  locked integer[] := ARRAY(SELECT uid FROM tools WHERE state IN ('disabled', 'archived'));
BEGIN
  PERFORM touch_generations(locked, array_fill('directory'::text, ARRAY[cardinality(locked)]), false,
                            array_fill(false, ARRAY[cardinality(locked)]));
END $$;

-- Down Migration
