-- Up Migration

-- What the HTTP API reads (src/api): views, which show what their owner may see. The API has no right on a table.

-- Requests, with what is known of each: `requests` and the API show the same.
CREATE VIEW request_progress AS
  SELECT r.id AS number, r.jti AS id, r.portal, r.kind, r.requested_by, r.approved_by, r.body_sha256,
         coalesce(t.account, p.shell_name) AS account,
         ARRAY(SELECT a.account FROM audit a WHERE a.request = r.id AND a.kind = 'person.suspend'
               AND r.subject IS NULL AND a.account IS NOT NULL
               UNION ALL
               -- written in the same transaction: only the time has an index
               SELECT a.account FROM audit a WHERE a.at = r.at AND a.request = r.id AND a.kind = 'person.reinstate'
               AND r.kind = 'person.reinstate' AND r.subject IS NULL AND a.account IS NOT NULL) AS accounts, r.verdict,
         coalesce(r.code, s.code) AS code, coalesce(r.sentence, s.sentence) AS sentence,
         r.at, r.done_at, r.stuck_at,
         CASE WHEN w.request IS NOT NULL THEN
           jsonb_build_object('state', w.state, 'why', w.why, 'decidedBy', w.decided_by,
             'reason', CASE WHEN w.state = 'rejected' THEN w.body->>'reason' END) END AS approval,
         CASE WHEN o.id IS NOT NULL THEN
           jsonb_build_object('state', o.state, 'decidedBy', o.decided_by, 'reason', o.decision_reason) END AS access
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

-- What a request touched and is not known to be applied.
CREATE VIEW request_open_touches AS
  SELECT g.request, g.subject, coalesce(t.account, p.shell_name, g.subject::text) AS account, g.role,
         c.applied >= g.generation AS applied, c.state, c.code, c.sentence
  FROM request_touches g JOIN convergence c USING (subject, role)
    LEFT JOIN people p ON p.uid = g.subject LEFT JOIN tools t ON t.uid = g.subject;

-- The roles that have applied what a request touched for its own subject.
CREATE VIEW request_applied_roles AS
  SELECT r.id AS request, c.role FROM requests r
    JOIN convergence c ON c.subject = r.subject AND c.since = r.at AND c.applied = c.wanted;

-- One namespace: what Chamberlain made or will not give again, and what it only saw.
CREATE VIEW known_names AS
  SELECT name, false AS unmanaged FROM names UNION ALL SELECT name, true FROM unmanaged_sightings;

-- The maintainers of each tool who may log in: of the admin tool, the admins.
CREATE VIEW active_maintainers AS
  SELECT t.name AS tool, p.shell_name FROM maintainers a JOIN tools t ON t.uid = a.tool
    JOIN people p ON p.uid = a.maintainer JOIN realm_members m ON m.person = p.uid WHERE p.state = 'active';

-- Down Migration
