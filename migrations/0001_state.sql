-- Up Migration

-- The wanted state: which people and tools should exist, and how. One transaction per request writes it; LDAP,
-- disks and database servers are made to match it, never the other way round.

-- The roles, as src/roles/index.ts lists them: `chamberlain migrate` writes them (src/database/roles-table.ts).
CREATE TABLE roles (
  name        text PRIMARY KEY,
  -- the class of the advisory locks by which the role holds a subject
  lock_class  integer NOT NULL UNIQUE,
  -- the role archives what leaves, and records that
  archives    boolean NOT NULL,
  -- how many connections the role's login may have at a time (roles.sql)
  connections integer NOT NULL
);

-- Every number that was ever given to an account, or must not be given. Append-only: never reused.
CREATE TABLE posix_ids (
  id    integer PRIMARY KEY CHECK (id > 0 AND id NOT IN (65534, 65535)),
  kind  text NOT NULL CHECK (kind IN ('person', 'tool')),
  at    timestamptz NOT NULL DEFAULT now()
);

-- Disjoint ranges per kind, used in the order of `first`; `next` is the next number to try.
CREATE TABLE id_ranges (
  kind  text NOT NULL CHECK (kind IN ('person', 'tool')),
  first integer NOT NULL CHECK (first > 0),
  last  integer NOT NULL CHECK (last >= first),
  next  integer NOT NULL,
  PRIMARY KEY (kind, first),
  EXCLUDE USING gist (int4range(first, last, '[]') WITH &&)
);

-- One namespace, in normal form; a tool is in it by its account. A name is never freed.
CREATE TABLE names (
  name    text PRIMARY KEY,
  subject integer NOT NULL UNIQUE REFERENCES posix_ids
);

-- Names and numbers that the directory role has seen in the directory and that are not ours.
CREATE TABLE unmanaged_sightings (
  name text NOT NULL DEFAULT '',
  id   integer NOT NULL DEFAULT 0,
  at   timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (name, id)
);
CREATE INDEX unmanaged_sightings_id ON unmanaged_sightings (id) WHERE id <> 0;

CREATE TABLE people (
  uid              integer PRIMARY KEY REFERENCES posix_ids,
  shell_name       text NOT NULL UNIQUE,
  display_name     text NOT NULL,
  -- NFKC, lower case, single blanks: `cn` is unique among people, and is compared case-insensitively
  display_name_key text NOT NULL UNIQUE,
  email            text NOT NULL,
  state            text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'suspended', 'deleted')),
  -- when they were first admitted to the realm: from then on there is a home
  admitted_at      timestamptz,
  created_at       timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE tools (
  uid        integer PRIMARY KEY REFERENCES posix_ids,
  name       text NOT NULL UNIQUE,
  account    text NOT NULL UNIQUE,
  title      text NOT NULL,
  state      text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'disabled', 'deleted')),
  created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE realm_members (
  person integer PRIMARY KEY REFERENCES people,
  since  timestamptz NOT NULL DEFAULT now()
);

-- A maintainer is a person or another tool.
CREATE TABLE maintainers (
  tool       integer NOT NULL REFERENCES tools,
  maintainer integer NOT NULL REFERENCES posix_ids CHECK (maintainer <> tool),
  since      timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tool, maintainer)
);
CREATE INDEX maintainers_maintainer ON maintainers (maintainer);

-- Removed keys stay as rows, so that a key is never given to another person.
CREATE TABLE ssh_keys (
  id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  person      integer NOT NULL REFERENCES people,
  fingerprint text NOT NULL UNIQUE,
  -- "type base64", canonical; options come before it in the directory
  line        text NOT NULL,
  options     text[] NOT NULL DEFAULT '{}',
  label       text NOT NULL DEFAULT '',
  expires_at  timestamptz,
  added_at    timestamptz NOT NULL DEFAULT now(),
  removed_at  timestamptz
);
CREATE INDEX ssh_keys_person ON ssh_keys (person);

CREATE TABLE access_requests (
  id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  person          integer NOT NULL REFERENCES people,
  reason          text NOT NULL DEFAULT '',
  -- the portal that sent it, and that is told the decision; NULL: an admin's own key
  portal          text,
  state           text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'granted', 'refused')),
  opened_at       timestamptz NOT NULL DEFAULT now(),
  decided_at      timestamptz,
  decided_by      text,
  decision_reason text
);
CREATE UNIQUE INDEX access_requests_open ON access_requests (person) WHERE state = 'open';

-- The wanted epoch of credentials; if it grows by one, the file gets a new password.
CREATE TABLE credentials (
  account      integer PRIMARY KEY REFERENCES posix_ids,
  wanted_epoch integer NOT NULL DEFAULT 1
);

-- What the homes role records of a password that it created: the verifier, never the password.
CREATE TABLE database_verifiers (
  account     integer PRIMARY KEY REFERENCES credentials,
  epoch       integer NOT NULL,
  verifier    text NOT NULL CHECK (verifier ~ '^\*[0-9A-F]{40}$'),
  recorded_at timestamptz NOT NULL DEFAULT now()
);

-- Down Migration
