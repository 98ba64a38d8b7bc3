-- Up Migration

-- Servers and folders that a role cannot read at present: the role that reads one writes and clears its row.
CREATE TABLE troubles (
  -- a role, or `relay`; row-level security lets each write only its own rows
  role     text NOT NULL,
  -- as in unmanaged_looks; for the relay: `redis`
  place    text NOT NULL,
  since    timestamptz NOT NULL DEFAULT now(),
  -- when the role last found it so; it checks every 20 s
  last_at  timestamptz NOT NULL DEFAULT now(),
  sentence text NOT NULL,
  PRIMARY KEY (role, place)
);
