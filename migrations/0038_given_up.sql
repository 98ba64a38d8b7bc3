-- Up Migration

-- What takes access away is tried once a minute even after a role has given it up: the relay finds it by this index.
CREATE INDEX convergence_given_up ON convergence (role, next_try_at)
  WHERE urgent AND state = 'parked' AND applied < wanted;
