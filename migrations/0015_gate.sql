-- Payment in front of what nginx serves.
CREATE TABLE gate_balances (
  token_id TEXT   NOT NULL,
  service  TEXT   NOT NULL,
  msat     BIGINT NOT NULL CHECK (msat >= 0),
  until    BIGINT NOT NULL,
  PRIMARY KEY (token_id, service)
);
CREATE INDEX gate_balances_over ON gate_balances (until);

CREATE TABLE gate_credited (
  payment_hash TEXT   NOT NULL PRIMARY KEY,
  until        BIGINT NOT NULL
);
CREATE INDEX gate_credited_over ON gate_credited (until);

CREATE TABLE gate_leases (
  process    TEXT   NOT NULL,
  token_id   TEXT   NOT NULL,
  service    TEXT   NOT NULL,
  msat       BIGINT NOT NULL CHECK (msat >= 0),
  renewed_at BIGINT NOT NULL,
  PRIMARY KEY (process, token_id, service)
);
CREATE INDEX gate_leases_of_token ON gate_leases (token_id, service);
CREATE INDEX gate_leases_over ON gate_leases (renewed_at);

CREATE TABLE gate_settled (
  request_id TEXT   NOT NULL PRIMARY KEY,
  settled_at BIGINT NOT NULL
);
CREATE INDEX gate_settled_at ON gate_settled (settled_at);

CREATE TABLE gate_revoked (
  token_id   TEXT   NOT NULL PRIMARY KEY,
  revoked_at BIGINT NOT NULL,
  until      BIGINT NOT NULL
);
CREATE INDEX gate_revoked_at ON gate_revoked (revoked_at);
CREATE INDEX gate_revoked_over ON gate_revoked (until);

CREATE TABLE gate_freebies (
  service TEXT   NOT NULL,
  network TEXT   NOT NULL,
  day     BIGINT NOT NULL,
  used    BIGINT NOT NULL,
  PRIMARY KEY (service, network, day)
);
CREATE INDEX gate_freebies_of_day ON gate_freebies (day);

CREATE TABLE gate_counts (
  service TEXT   NOT NULL,
  day     BIGINT NOT NULL,
  outcome TEXT   NOT NULL,
  times   BIGINT NOT NULL,
  PRIMARY KEY (day, service, outcome)
);

CREATE TABLE gate_disks (
  service  TEXT   NOT NULL,
  token_id TEXT   NOT NULL,
  until    BIGINT NOT NULL,
  PRIMARY KEY (service, token_id)
);
CREATE INDEX gate_disks_over ON gate_disks (service, until);
