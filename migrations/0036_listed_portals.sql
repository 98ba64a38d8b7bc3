-- Up Migration

-- The portals that the configuration file lists or has listed. Each has or had a user of Redis, so no request adds one of
-- the same name without a user. A row is written before the user is made, and before intake decides by the file.
CREATE TABLE listed_portals (
  name  text PRIMARY KEY,
  since timestamptz NOT NULL DEFAULT now()
);
INSERT INTO listed_portals (name)
  SELECT s.portal FROM event_sequences s WHERE NOT EXISTS (SELECT FROM portals p WHERE p.name = s.portal);

-- What a request is about if that is no person and no tool: the name of a portal.
ALTER TABLE requests ADD COLUMN about text;

-- As in 0028_admin_requests.sql, and what the request is about.
CREATE OR REPLACE VIEW request_progress AS
  SELECT r.id AS number, r.jti AS id, r.portal, r.kind, r.requested_by, r.approved_by, r.body_sha256,
         coalesce(r.about, t.account, p.shell_name) AS account,
         ARRAY(SELECT a.account FROM audit a WHERE a.request = r.id AND a.kind = 'person.suspend'
               AND r.subject IS NULL AND a.account IS NOT NULL
               UNION ALL
               -- written in the same transaction: only the time has an index
               SELECT a.account FROM audit a WHERE a.at = r.at AND a.request = r.id AND a.kind = 'person.reinstate'
               AND r.kind = 'person.reinstate' AND r.subject IS NULL AND a.account IS NOT NULL) AS accounts, r.verdict,
         coalesce(r.code, r.result->>'code', s.code) AS code,
         coalesce(r.sentence, r.result->>'sentence', s.sentence) AS sentence,
         r.at, CASE WHEN r.result->>'code' IS NULL THEN r.done_at END AS done_at,
         CASE WHEN r.result->>'code' IS NULL THEN r.stuck_at ELSE r.done_at END AS stuck_at,
         CASE WHEN w.request IS NOT NULL THEN
           jsonb_build_object('state', w.state, 'why', w.why, 'decidedBy', w.decided_by,
             'reason', CASE WHEN w.state = 'rejected' THEN w.body->>'reason' END) END AS approval,
         CASE WHEN o.id IS NOT NULL THEN
           jsonb_build_object('state', o.state, 'decidedBy', o.decided_by, 'reason', o.decision_reason) END AS access,
         r.result
  FROM requests r LEFT JOIN people p ON p.uid = r.subject LEFT JOIN tools t ON t.uid = r.subject
    LEFT JOIN approvals w ON w.request = r.jti AND w.portal = r.portal
    -- opened in the same transaction
    LEFT JOIN access_requests o ON r.kind = 'access.request' AND r.verdict = 'accepted'
      AND o.person = r.subject AND o.opened_at = r.at
    -- the reason why it is stuck is recorded with what it touched
    LEFT JOIN LATERAL (
      SELECT c.code, c.role || ': ' || c.sentence AS sentence FROM request_touches i
        JOIN convergence c ON c.subject = i.subject AND c.role = i.role
      WHERE i.request = r.id AND c.state = 'parked' LIMIT 1) AS s ON r.done_at IS NULL;

-- For the API.
CREATE OR REPLACE VIEW api.approvals AS
  SELECT request, portal, kind, subject, requested_by, why, state, opened_at, decided_at, decided_by,
         -- of the request itself only why it was sent
         jsonb_build_object('reason', body->'reason') AS body, about FROM approvals;

-- Down Migration
