-- Payments that are paid back, each once: every step is an UPDATE that names the state it leaves.
CREATE TABLE refunds (
  id           TEXT   NOT NULL PRIMARY KEY,
  order_token  TEXT   NOT NULL REFERENCES orders (token),
  msat         BIGINT NOT NULL CHECK (msat > 0),
  made_at      BIGINT NOT NULL,
  approved_at  BIGINT,
  refused_at   BIGINT,
  reason       TEXT,
  claimed_at   BIGINT,
  destination  TEXT,
  problem      TEXT,
  sent_at      BIGINT,
  payment_hash TEXT   UNIQUE,
  expires_at   BIGINT,
  paid_at      BIGINT,
  preimage     TEXT,
  fee_msat     BIGINT,
  CHECK ((refused_at IS NULL) = (reason IS NULL)),
  CHECK (refused_at IS NULL OR (sent_at IS NULL AND paid_at IS NULL)),
  CHECK (sent_at IS NULL OR (payment_hash IS NOT NULL AND expires_at IS NOT NULL)),
  CHECK (paid_at IS NULL OR sent_at IS NOT NULL),
  CHECK ((paid_at IS NULL) = (preimage IS NULL))
);
CREATE UNIQUE INDEX refunds_open ON refunds (order_token) WHERE paid_at IS NULL AND refused_at IS NULL;
CREATE INDEX refunds_waiting ON refunds (made_at) WHERE paid_at IS NULL AND refused_at IS NULL;
CREATE INDEX refunds_of_order ON refunds (order_token);
CREATE INDEX refunds_paid ON refunds (paid_at) WHERE paid_at IS NOT NULL;
