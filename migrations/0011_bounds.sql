-- Up Migration

-- What is looked for in the history is found by an index, however long that is. `audit --since`:
CREATE INDEX audit_at ON audit (at, id);
-- whether `chamberlain restored` came before, in a database without statistics
CREATE INDEX audit_restored ON audit (at) WHERE kind = 'restored';
-- what was decided about one who leaves
CREATE INDEX approvals_subject ON approvals (subject, decided_at);

-- Down Migration
