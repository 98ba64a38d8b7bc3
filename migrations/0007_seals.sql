-- Up Migration

-- What login hosts believe of a person or a tool is signed, and has a number: src/seals/seal.ts. The number
-- grows in the transaction that changes the wanted state.
CREATE TABLE login_seals (
  subject  integer PRIMARY KEY REFERENCES posix_ids,
  number   bigint NOT NULL DEFAULT 1 CHECK (number > 0),
  -- when it ends; 'infinity': of a deleted subject, which gets no new seal
  until    timestamptz NOT NULL,
  -- half of its time is over then at the latest; seals that were made together are renewed over a day
  renew_at timestamptz NOT NULL,
  -- no seal below this number counts on any login host: since floor_at something was lost
  floor    bigint NOT NULL DEFAULT 0,
  floor_at timestamptz
);
CREATE INDEX login_seals_renew_at ON login_seals (renew_at) WHERE renew_at < 'infinity';
CREATE INDEX login_seals_floor_at ON login_seals (floor_at) WHERE floor_at IS NOT NULL;

-- What a row is behind on, if that is not everything: names of targets. Renewing a seal must not repair
-- whatever else differs there, which a sweep or an admin may be holding back.
ALTER TABLE convergence ADD COLUMN targets text[];

-- Makes rows due, as a change does, but leaves the numbers of seals: to check again what is wanted already. If
-- each requested row names a target, only those targets are checked, unless more is due.
CREATE FUNCTION look_again(subjects integer[], roles text[], is_urgent boolean, waits boolean[],
                           targets text[] DEFAULT NULL)
RETURNS TABLE (of_subject integer, of_role text, generation bigint) LANGUAGE plpgsql AS $$
BEGIN
  RETURN QUERY INSERT INTO convergence AS c (subject, role, urgent, targets, state, next_try_at)
  SELECT r.subject, r.role, is_urgent,
         CASE WHEN bool_and(r.target IS NOT NULL) THEN array_agg(DISTINCT r.target) END, CASE WHEN bool_and(r.waits) THEN 'waiting' ELSE 'due' END,
         CASE WHEN bool_and(r.waits)
           THEN now() + CASE WHEN is_urgent THEN interval '10 s' ELSE interval '60 s' END ELSE now() END
  FROM unnest(subjects, roles, look_again.waits, look_again.targets) AS r (subject, role, waits, target)
  GROUP BY r.subject, r.role ORDER BY r.subject, r.role
  ON CONFLICT (subject, role) DO UPDATE
    SET wanted = c.wanted + 1, code = NULL, sentence = NULL, attempts = 0,
        targets = CASE WHEN c.applied = c.wanted THEN excluded.targets
                       WHEN c.targets IS NOT NULL AND excluded.targets IS NOT NULL
                         THEN ARRAY(SELECT unnest(c.targets) UNION SELECT unnest(excluded.targets) ORDER BY 1) END,
        state = CASE WHEN c.applied = c.wanted THEN excluded.state ELSE 'due' END,
        next_try_at = CASE WHEN c.applied = c.wanted THEN excluded.next_try_at ELSE now() END,
        urgent = c.urgent OR excluded.urgent,
        since = CASE WHEN c.applied = c.wanted THEN now() ELSE c.since END
  RETURNING c.subject, c.role, c.wanted;
END $$;

-- Gives each subject the next number. If the change may take something away, older seals no longer count.
CREATE FUNCTION number_seals(subjects integer[], is_urgent boolean, at_time timestamptz DEFAULT now()) RETURNS void LANGUAGE sql AS $$
  INSERT INTO login_seals AS s (subject, until, renew_at, floor_at)
  SELECT r.subject,
         CASE WHEN coalesce(p.state, t.state) = 'deleted' THEN 'infinity'
              ELSE date_trunc('second', at_time) + interval '7 days' END,
         CASE WHEN coalesce(p.state, t.state) = 'deleted' THEN 'infinity'
              ELSE at_time + interval '60 hours' + random() * interval '24 hours' END,
         CASE WHEN is_urgent OR coalesce(p.state, t.state) <> 'active' THEN at_time END
  FROM (SELECT DISTINCT unnest(subjects) AS subject) AS r
    LEFT JOIN people p ON p.uid = r.subject LEFT JOIN tools t ON t.uid = r.subject
  ORDER BY r.subject
  ON CONFLICT (subject) DO UPDATE
    SET number = s.number + 1, until = excluded.until, renew_at = excluded.renew_at,
        floor = CASE WHEN excluded.floor_at IS NULL THEN s.floor ELSE s.number + 1 END,
        floor_at = coalesce(excluded.floor_at, s.floor_at)
$$;

-- A change for only some targets (`targets`; NULL: for all) does not change what a seal says.
DROP FUNCTION touch_generations(integer[], text[], boolean, boolean[]);
CREATE FUNCTION touch_generations(subjects integer[], roles text[], is_urgent boolean, waits boolean[],
                                  targets text[] DEFAULT NULL)
RETURNS TABLE (of_subject integer, of_role text, generation bigint) LANGUAGE plpgsql AS $$
DECLARE
  sealed integer[] := ARRAY(SELECT r.subject FROM unnest(subjects, roles, targets) AS r (subject, role, target)
                            WHERE r.role = 'directory' AND r.target IS NULL);
BEGIN
  IF cardinality(sealed) > 0 THEN
    PERFORM number_seals(sealed, is_urgent);
  END IF;
  RETURN QUERY SELECT * FROM look_again(subjects, roles, is_urgent, touch_generations.waits,
                                         touch_generations.targets);
END $$;

-- Makes the role directory seal these, and do nothing else unless something else is due.
CREATE FUNCTION touch_seals(subjects integer[]) RETURNS void LANGUAGE sql AS $$
  SELECT FROM look_again(subjects, array_fill('directory'::text, ARRAY[cardinality(subjects)]), false,
                         array_fill(false, ARRAY[cardinality(subjects)]),
                         array_fill('seal'::text, ARRAY[cardinality(subjects)]))
$$;

-- Every existing subject is sealed.
SELECT number_seals(ARRAY(SELECT uid FROM people UNION ALL SELECT uid FROM tools), false);
SELECT touch_seals(ARRAY(SELECT subject FROM login_seals WHERE until < 'infinity'));

-- Down Migration
