-- Up Migration

-- When `days_warned` of a tool was announced: it is archived at the earliest a day later.
ALTER TABLE tools ADD COLUMN warned_at timestamptz;
UPDATE tools SET warned_at = now() WHERE days_warned IS NOT NULL;
ALTER TABLE tools ADD CHECK ((days_warned IS NULL) = (warned_at IS NULL));

-- Each portal chooses the ids of its own requests, and two may choose the same.
ALTER TABLE approvals DROP CONSTRAINT approvals_pkey, ADD PRIMARY KEY (portal, request);

-- A transaction that writes many events at once numbers them at once, under the same lock
-- (src/events/events-table.ts).
CREATE OR REPLACE FUNCTION number_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF NEW.portal IS NOT NULL THEN
    IF NEW.seq IS NULL THEN
      INSERT INTO event_sequences AS s (portal, last) VALUES (NEW.portal, 1)
      ON CONFLICT (portal) DO UPDATE SET last = s.last + 1 RETURNING last INTO NEW.seq;
    END IF;
    PERFORM pg_notify('chamberlain', 'events');
  END IF;
  RETURN NEW;
END $$;

-- If somebody knows a password that must stop working at once, and homes creates no other, they must not be let
-- in for long: then `databases` locks the account. Normally homes has finished by then, and nothing is done
-- twice.
CREATE OR REPLACE FUNCTION touch_generations(subjects integer[], roles text[], is_urgent boolean, waits boolean[])
RETURNS TABLE (of_subject integer, of_role text, generation bigint) LANGUAGE plpgsql AS $$
BEGIN
  RETURN QUERY INSERT INTO convergence AS c (subject, role, urgent, state, next_try_at)
  SELECT r.subject, r.role, is_urgent, CASE WHEN bool_and(r.waits) THEN 'waiting' ELSE 'due' END,
         CASE WHEN bool_and(r.waits)
           THEN now() + CASE WHEN is_urgent THEN interval '10 s' ELSE interval '60 s' END ELSE now() END
  FROM unnest(subjects, roles, touch_generations.waits) AS r (subject, role, waits)
  GROUP BY r.subject, r.role ORDER BY r.subject, r.role
  ON CONFLICT (subject, role) DO UPDATE
    SET wanted = c.wanted + 1, code = NULL, sentence = NULL, attempts = 0,
        state = CASE WHEN c.applied = c.wanted THEN excluded.state ELSE 'due' END,
        next_try_at = CASE WHEN c.applied = c.wanted THEN excluded.next_try_at ELSE now() END,
        urgent = c.urgent OR excluded.urgent,
        since = CASE WHEN c.applied = c.wanted THEN now() ELSE c.since END
  RETURNING c.subject, c.role, c.wanted;
END $$;

-- A second password is put off while access is still being revoked, and created at this time in any case.
ALTER TABLE credentials ADD COLUMN again_by timestamptz;
UPDATE credentials SET again_by = again_at + interval '10 min' WHERE again_at IS NOT NULL;
ALTER TABLE credentials ADD CHECK ((again_at IS NULL) = (again_by IS NULL));

-- Tools that a person could use, and can no longer use because somebody no longer maintains something: with the
-- epoch that was wanted then. A person who is suspended later may still know that password.
CREATE TABLE known_credentials (
  person integer NOT NULL REFERENCES people,
  tool   integer NOT NULL REFERENCES tools,
  epoch  integer NOT NULL,
  PRIMARY KEY (person, tool)
);
CREATE INDEX known_credentials_tool ON known_credentials (tool);

-- Only the audit records whom a suspension of many has changed.
CREATE INDEX audit_suspensions ON audit (request) WHERE kind = 'person.suspend';

-- Accounts that are locked already must lose the right EVENT. They are wanted anew, so that no sweep takes this
-- for drift, and holds it because there are many.
DO $$
DECLARE
  locked integer[] := ARRAY(
    SELECT uid FROM tools t JOIN credentials c ON c.account = t.uid WHERE state IN ('disabled', 'archived')
    UNION ALL
    SELECT uid FROM people p JOIN credentials c ON c.account = p.uid LEFT JOIN realm_members r ON r.person = p.uid
    WHERE state IN ('suspended', 'archived') OR state = 'active' AND r.person IS NULL);
BEGIN
  PERFORM touch_generations(locked, array_fill('databases'::text, ARRAY[cardinality(locked)]), false,
                            array_fill(false, ARRAY[cardinality(locked)]));
END $$;

-- Down Migration
