-- The whole schema, one text for SQLite and PostgreSQL; lightningspace/models.py mirrors it.
-- Times are Unix seconds (UTC), money is msat, space is MB. Facts are stored, states are computed:
-- a *_at column that is NULL has not happened yet. Keys say NOT NULL: SQLite would allow NULL there.

-- servers: what may be sold on each ISPConfig server, and what is taken by sold and unpaid orders.
CREATE TABLE servers (
  id          BIGINT NOT NULL PRIMARY KEY,               -- ISPConfig's server_id
  capacity_mb BIGINT NOT NULL CHECK (capacity_mb >= 0),
  held_mb     BIGINT NOT NULL DEFAULT 0 CHECK (held_mb >= 0),    -- sold and unpaid together
  unpaid_mb   BIGINT NOT NULL DEFAULT 0 CHECK (unpaid_mb >= 0),  -- of these: by orders not yet paid
  queue_empty_at BIGINT                                  -- when its job queue was last seen empty
);

-- accounts: one row per hosting, from the moment an order reserves its name and space.
CREATE TABLE accounts (
  id                TEXT   NOT NULL PRIMARY KEY,         -- random, never used again
  username          TEXT   UNIQUE,                       -- NULL once released
  server_id         BIGINT NOT NULL REFERENCES servers (id),
  space_mb          BIGINT NOT NULL CHECK (space_mb > 0),
  held_by           TEXT   UNIQUE,                       -- one unpaid place of a client; NULL once paid
  email             TEXT,
  password_sealed   TEXT,                                -- typed: until opened; generated: until noted
  password_hash     TEXT,
  rate_msat_per_day BIGINT CHECK (rate_msat_per_day >= 0),
  opened_at         BIGINT,
  ready_at          BIGINT,                              -- every service was applied for the first time
  expires_at        BIGINT,
  suspended_at      BIGINT,                              -- everything is off: the paid time is over
  blocked_at        BIGINT,                              -- everything is off: the operator says so
  blocked_reason    TEXT,                                -- shown to the customer
  closing_at        BIGINT,                              -- to be removed; the row goes when it is
  session_epoch     BIGINT NOT NULL DEFAULT 0,           -- sessions of an older epoch are logged out
  revision          BIGINT NOT NULL DEFAULT 0,           -- counts every change of the account's services
  reconcile_at      BIGINT,                              -- when the worker looks at it; NULL: nothing to do
  leased_by         TEXT,                                -- the worker that reconciles it just now
  leased_until      BIGINT,
  leases            BIGINT NOT NULL DEFAULT 0,           -- how often a worker has taken it
  CHECK ((opened_at IS NULL) = (expires_at IS NULL)),
  CHECK ((opened_at IS NULL) = (rate_msat_per_day IS NULL)),
  CHECK ((opened_at IS NULL) = (password_hash IS NULL)),
  CHECK (opened_at IS NULL OR username IS NOT NULL),
  CHECK (ready_at IS NULL OR opened_at IS NOT NULL),
  CHECK (opened_at IS NOT NULL OR (suspended_at IS NULL AND blocked_at IS NULL AND closing_at IS NULL)),
  CHECK ((blocked_at IS NULL) = (blocked_reason IS NULL)),
  CHECK ((leased_by IS NULL) = (leased_until IS NULL))
);
CREATE INDEX accounts_due ON accounts (reconcile_at) WHERE reconcile_at IS NOT NULL;
CREATE INDEX accounts_to_wipe ON accounts (ready_at) WHERE password_sealed IS NOT NULL;

-- services: what an account has at the panel: wanted (name, settings, active, gone, revision) and
-- applied. A row that is gone is deleted once the panel has nothing of it.
CREATE TABLE services (
  account_id       TEXT    NOT NULL REFERENCES accounts (id),
  kind             TEXT    NOT NULL CHECK (kind IN ('client', 'site', 'alias', 'ftp', 'shell',
                     'database_user', 'database', 'mail_domain', 'mailbox', 'forward')),
  name             TEXT    NOT NULL,
  settings         TEXT    NOT NULL DEFAULT '{}',        -- JSON: what its kind can be set to
  active           BOOLEAN NOT NULL DEFAULT TRUE,        -- switched on by the customer
  gone             BOOLEAN NOT NULL DEFAULT FALSE,       -- to be removed
  password_sealed  TEXT,                                 -- until the panel has it
  own_password_sealed TEXT,                              -- generated for it alone: until noted
  revision         BIGINT  NOT NULL DEFAULT 1,           -- raised by every change of what is wanted
  applied_revision BIGINT  NOT NULL DEFAULT 0,
  applied_at       BIGINT,                               -- the panel was seen to have it so
  panel_id         BIGINT CHECK (panel_id > 0),          -- NULL: the panel has no record of it
  error            TEXT,                                 -- for the operator; NULL after a success
  permanent        BOOLEAN NOT NULL DEFAULT FALSE,       -- no retry cures the error
  tries            BIGINT  NOT NULL DEFAULT 0,           -- since the last success or change
  tried_at         BIGINT,
  failed_since     BIGINT,
  PRIMARY KEY (account_id, kind, name),
  UNIQUE (kind, name),
  CHECK (applied_revision <= revision),
  CHECK (applied_revision = 0 OR applied_at IS NOT NULL)
);
CREATE INDEX services_applied ON services (applied_at);
CREATE INDEX services_to_wipe ON services (applied_at) WHERE own_password_sealed IS NOT NULL;
CREATE INDEX services_failing ON services (failed_since) WHERE failed_since IS NOT NULL;

-- orders: one row per purchase, with its one invoice. Payments that no order waits for are
-- recorded here too (kind 'lost'), for the operator.
CREATE TABLE orders (
  token          TEXT   NOT NULL PRIMARY KEY,            -- in links; with a prefix, the invoice's label
  kind           TEXT   NOT NULL CHECK (kind IN ('open', 'lost')),
  account_id     TEXT   REFERENCES accounts (id),        -- NULL when its place was released
  attempt        TEXT   UNIQUE,                          -- one submitted form makes one order
  browser        TEXT,                                   -- keyed hash of the browser that ordered
  username       TEXT,                                   -- as asked for; NULL: any
  space_mb       BIGINT CHECK (space_mb > 0),
  duration       BIGINT CHECK (duration > 0),
  unit           TEXT   CHECK (unit IN ('hours', 'days', 'months')),
  amount_msat    BIGINT CHECK (amount_msat > 0),
  placed_at      BIGINT NOT NULL,
  expires_at     BIGINT NOT NULL,                        -- of the invoice and so of the price
  bolt11         TEXT,
  payment_hash   TEXT   UNIQUE,
  cancelled_at   BIGINT,
  released_at    BIGINT,                                 -- the node has no invoice to pay any more
  paid_at        BIGINT,
  node_id        TEXT,
  pay_index      BIGINT,                                 -- no key: it repeats after a node's restore
  received_msat  BIGINT CHECK (received_msat > 0),
  applied_at     BIGINT,                                 -- the payment took effect
  bought_seconds BIGINT,
  CHECK (kind = 'lost' OR (space_mb IS NOT NULL AND duration IS NOT NULL AND unit IS NOT NULL
    AND amount_msat IS NOT NULL)),
  CHECK ((paid_at IS NULL) = (received_msat IS NULL)),
  CHECK ((paid_at IS NULL) = (node_id IS NULL)),
  CHECK ((paid_at IS NULL) = (pay_index IS NULL)),
  CHECK (paid_at IS NULL OR payment_hash IS NOT NULL),
  CHECK (applied_at IS NULL OR paid_at IS NOT NULL),
  CHECK ((applied_at IS NULL) = (bought_seconds IS NULL))
);
CREATE INDEX orders_open ON orders (expires_at) WHERE paid_at IS NULL AND released_at IS NULL;
CREATE INDEX orders_released ON orders (released_at) WHERE paid_at IS NULL AND released_at IS NOT NULL;
CREATE INDEX orders_to_apply ON orders (paid_at) WHERE paid_at IS NOT NULL AND applied_at IS NULL;
CREATE INDEX orders_of_account ON orders (account_id);

-- resting_names: names of closed accounts, as keyed hashes: others still write to the last holder.
CREATE TABLE resting_names (
  name_hash TEXT   NOT NULL PRIMARY KEY,
  until     BIGINT NOT NULL                              -- then anybody may have it
);
CREATE INDEX resting_names_over ON resting_names (until);

-- cursors: the last payment recorded, for each node by its id (a new node counts from 1).
CREATE TABLE cursors (
  node_id   TEXT NOT NULL PRIMARY KEY,
  pay_index BIGINT NOT NULL CHECK (pay_index >= 0)
);

-- facts: single values of the whole shop, such as the fingerprint of its secret key.
CREATE TABLE facts (
  name  TEXT NOT NULL PRIMARY KEY,
  value TEXT NOT NULL
);
