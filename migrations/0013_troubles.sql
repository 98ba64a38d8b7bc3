-- Up Migration

-- Servers and folders that a role cannot read at present: the role that looks at one writes it and clears it.
CREATE TABLE troubles (
  role     text NOT NULL CHECK (role IN ('directory', 'homes', 'databases', 'relay')),
  -- as in unmanaged_looks; of the relay: `redis`
  place    text NOT NULL,
  since    timestamptz NOT NULL DEFAULT now(),
  -- when the role found it so last; it looks every 20 s
  last_at  timestamptz NOT NULL DEFAULT now(),
  sentence text NOT NULL,
  PRIMARY KEY (role, place)
);
