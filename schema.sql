-- The whole schema, one text for SQLite and PostgreSQL; lightningspace/base/models.py mirrors it.
-- Times are Unix seconds (UTC), money is msat, space is MB. Facts are stored, states are computed:
-- a *_at column that is NULL has not happened yet. Keys say NOT NULL: SQLite would allow NULL there.

-- servers: what may be sold on each ISPConfig server. The accounts say what is sold.
CREATE TABLE servers (
  id          BIGINT NOT NULL PRIMARY KEY,               -- ISPConfig's server_id
  capacity_mb BIGINT NOT NULL CHECK (capacity_mb >= 0),
  php_versions TEXT NOT NULL DEFAULT '[]',               -- JSON: [[id, name], …] beside its own PHP
  php_at       BIGINT                                    -- when the panel was asked for them
);

-- accounts: one row per hosting, from the moment an order reserves its name.
CREATE TABLE accounts (
  id                TEXT   NOT NULL PRIMARY KEY,         -- random, never used again
  username          TEXT   UNIQUE,                       -- NULL: released, or never held for its order
  server_id         BIGINT NOT NULL REFERENCES servers (id),  -- chosen when it is paid for
  moved_from        BIGINT,                              -- the server that it is being moved from
  space_mb          BIGINT NOT NULL CHECK (space_mb > 0),
  extra_addresses   BIGINT NOT NULL DEFAULT 0 CHECK (extra_addresses >= 0),  -- beyond those included
  extra_domains     BIGINT NOT NULL DEFAULT 0 CHECK (extra_domains >= 0),
  held_by           TEXT   UNIQUE,                       -- a network's slot for unpaid names; NULL once paid
  email             TEXT,                                -- for reminders; its owner has confirmed it
  email_waits       TEXT,                                -- asked for, but not confirmed yet
  email_epoch       BIGINT NOT NULL DEFAULT 0,           -- counts the changes asked for after the order
  password_sealed   TEXT,                                -- typed: until opened; generated: until saved
  password_hash     TEXT,
  opened_at         BIGINT,
  ready_at          BIGINT,                              -- every first service was applied once
  expires_at        BIGINT,
  valued_at         BIGINT,                              -- when the end was last set: since then
  value_msat        BIGINT CHECK (value_msat >= 0),      -- this falls evenly to 0 at expires_at
  credit_msat       BIGINT NOT NULL DEFAULT 0 CHECK (credit_msat >= 0),  -- for time beyond HORIZON_DAYS
  paid_msat         BIGINT NOT NULL DEFAULT 0 CHECK (paid_msat >= 0),  -- by all its payments
  unpaid_seconds    BIGINT NOT NULL DEFAULT 0 CHECK (unpaid_seconds >= 0),  -- between each end and
                                                         -- the payment after it, in total
  began_at          BIGINT,                              -- where the time begins that was bought since
                                                         -- it was last over; NULL: it never was over
  kept_until        BIGINT,                              -- paid again when over: not closed before this
  calendar_at       BIGINT,                              -- when the calendar looks at it; NULL: never
  last_call_at      BIGINT,                              -- since then no invoices: it is about to close
  suspended_at      BIGINT,                              -- everything is off: the paid time is over
  blocked_at        BIGINT,                              -- everything is off: the operator blocked it
  blocked_reason    TEXT,                                -- shown to the customer
  blocked_for       TEXT,                                -- one of lightningspace/rules/abuse.py's
  closing_at        BIGINT,                              -- since then to be removed; the row goes last
  deleting_at       BIGINT,                              -- the panel was told to delete: no way back
  session_epoch     BIGINT NOT NULL DEFAULT 0,           -- raised when all sessions are ended
  receipt_epoch     BIGINT NOT NULL DEFAULT 0,           -- raised by a new receipt: older ones are void
  entered_at        BIGINT,                              -- its owner has a lasting way to log in
  wallet_recovers   BOOLEAN NOT NULL DEFAULT TRUE,       -- by its history of payments
  recovery_asked_at BIGINT,                              -- when this was asked for; it waits a day
  tips_page         BOOLEAN NOT NULL DEFAULT TRUE,       -- the doors that tips may come in by
  tips_address      BOOLEAN NOT NULL DEFAULT TRUE,
  tips_offer        BOOLEAN NOT NULL DEFAULT TRUE,
  tips_show_end     BOOLEAN NOT NULL DEFAULT TRUE,       -- tippers see until when the site is paid
  small_tips        BIGINT NOT NULL DEFAULT 0 CHECK (small_tips >= 0),  -- smaller than the smallest
  small_tips_msat   BIGINT NOT NULL DEFAULT 0 CHECK (small_tips_msat >= 0),  -- tip: credited, not listed
  revision          BIGINT NOT NULL DEFAULT 0,           -- counts every change of the account's services
  reconcile_at      BIGINT,                              -- when the worker looks at it; NULL: nothing to do
  leased_by         TEXT,                                -- the worker that is reconciling it
  leased_until      BIGINT,
  leases            BIGINT NOT NULL DEFAULT 0,           -- how often a worker has leased it
  used_site_mb      BIGINT,                              -- as the panel last said, at used_at
  used_database_mb  BIGINT,
  used_mail_mb      BIGINT,
  used_at           BIGINT,
  usage_at          BIGINT,                              -- when the panel is asked again; NULL: never
  CHECK ((opened_at IS NULL) = (expires_at IS NULL)),
  CHECK ((opened_at IS NULL) = (valued_at IS NULL)),
  CHECK ((opened_at IS NULL) = (value_msat IS NULL)),
  CHECK (valued_at <= expires_at),
  CHECK (opened_at IS NOT NULL OR credit_msat = 0),
  CHECK ((opened_at IS NULL) = (password_hash IS NULL)),
  CHECK (opened_at IS NULL OR username IS NOT NULL),
  CHECK (ready_at IS NULL OR opened_at IS NOT NULL),
  CHECK (opened_at IS NOT NULL OR (suspended_at IS NULL AND blocked_at IS NULL AND closing_at IS NULL)),
  CHECK ((blocked_at IS NULL) = (blocked_reason IS NULL)),
  CHECK (deleting_at IS NULL OR closing_at IS NOT NULL),
  CHECK ((leased_by IS NULL) = (leased_until IS NULL)),
  CHECK (used_at IS NULL
    OR (used_site_mb IS NOT NULL AND used_database_mb IS NOT NULL AND used_mail_mb IS NOT NULL))
);
CREATE INDEX accounts_sold ON accounts (server_id, space_mb) WHERE opened_at IS NOT NULL;
CREATE INDEX accounts_due ON accounts (reconcile_at) WHERE reconcile_at IS NOT NULL;
CREATE INDEX accounts_to_wipe ON accounts (ready_at) WHERE password_sealed IS NOT NULL;
CREATE INDEX accounts_calendar ON accounts (calendar_at) WHERE calendar_at IS NOT NULL;
CREATE INDEX accounts_valued ON accounts (valued_at) WHERE opened_at IS NOT NULL;
CREATE INDEX accounts_suspended ON accounts (expires_at) WHERE suspended_at IS NOT NULL;
CREATE INDEX accounts_usage ON accounts (usage_at) WHERE usage_at IS NOT NULL;

-- tokens: credentials that an account's owner hands out. Receipts and challenges have no row: they
-- are checked by the key that minted them, and by their order. A revoked token has no row.
CREATE TABLE tokens (
  id           TEXT   NOT NULL PRIMARY KEY,              -- the token id in its macaroon, in hex
  account_id   TEXT   NOT NULL REFERENCES accounts (id),
  name         TEXT   NOT NULL,
  capabilities TEXT   NOT NULL,                          -- separated by commas
  valid_until  BIGINT,                                   -- NULL: as long as the account
  made_at      BIGINT NOT NULL
);
CREATE INDEX tokens_of_account ON tokens (account_id);

-- sessions: the browsers that are logged in to each account. One that is logged out has no row.
CREATE TABLE sessions (
  id         TEXT    NOT NULL PRIMARY KEY,               -- SHA-256 of what the cookie holds
  account_id TEXT    NOT NULL REFERENCES accounts (id),
  begun_at   BIGINT  NOT NULL,
  used_at    BIGINT  NOT NULL,                           -- to the hour; it ends 31 days later
  proved_at  BIGINT  NOT NULL,                           -- the last password or receipt, or the order
  by_receipt BOOLEAN NOT NULL DEFAULT FALSE              -- it was the receipt
);
CREATE INDEX sessions_of_account ON sessions (account_id);
CREATE INDEX sessions_used ON sessions (used_at);

-- wallets: those that may log in to an account, by the key that each has for this shop alone
-- (LNURL-auth).
CREATE TABLE wallets (
  account_id TEXT   NOT NULL REFERENCES accounts (id),
  wallet_key TEXT   NOT NULL,                            -- compressed, in hex
  linked_at  BIGINT NOT NULL,
  used_at    BIGINT,                                     -- its last login
  PRIMARY KEY (account_id, wallet_key)
);
CREATE INDEX wallets_of_key ON wallets (wallet_key);

-- wallet_signatures: each challenge that a wallet has signed. A row is kept for a day, so that nobody can
-- use the signature again.
CREATE TABLE wallet_signatures (
  k1         TEXT    NOT NULL PRIMARY KEY,               -- the challenge
  wallet_key TEXT    NOT NULL,
  until      BIGINT  NOT NULL,                           -- the last moment at which it could be signed
  is_used    BOOLEAN NOT NULL DEFAULT FALSE              -- by a login, or to link the wallet
);
CREATE INDEX wallet_signatures_over ON wallet_signatures (until);

-- services: what an account should have at the panel (name, settings, active, gone, revision), and
-- what was applied. A row with gone set is deleted once the panel has no record of it.
CREATE TABLE services (
  account_id       TEXT    NOT NULL REFERENCES accounts (id),
  kind             TEXT    NOT NULL,                     -- one of lightningspace/rules/kinds.py
  name             TEXT    NOT NULL,
  settings         TEXT    NOT NULL DEFAULT '{}',        -- JSON: what its kind can be set to
  active           BOOLEAN NOT NULL DEFAULT TRUE,        -- switched on by the customer
  gone             BOOLEAN NOT NULL DEFAULT FALSE,       -- to be removed
  password_sealed  TEXT,                                 -- until the panel has it
  own_password_sealed TEXT,                              -- generated for it alone: until saved
  revision         BIGINT  NOT NULL DEFAULT 1,           -- raised by every change of what is wanted
  applied_revision BIGINT  NOT NULL DEFAULT 0,
  applied_at       BIGINT,                               -- when the panel was last seen to match
  panel_id         BIGINT CHECK (panel_id > 0),          -- NULL: the panel has no record of it
  error            TEXT,                                 -- for the operator; NULL after a success
  note             TEXT,                                 -- for its owner: why it is not as wanted
  permanent        BOOLEAN NOT NULL DEFAULT FALSE,       -- no retry cures the error
  tries            BIGINT  NOT NULL DEFAULT 0,           -- since the last success or change
  tried_at         BIGINT,
  failed_since     BIGINT,
  certificate_asked_at BIGINT,                           -- of a site: when the server was last told to
  certificate_asks BIGINT  NOT NULL DEFAULT 0,           -- fetch a certificate, and how often in a row
  certificate_at   BIGINT,                               -- when one was first seen; NULL: it has none
  PRIMARY KEY (account_id, kind, name),
  UNIQUE (kind, name),
  CHECK (applied_revision <= revision),
  CHECK (applied_revision = 0 OR applied_at IS NOT NULL)
);
CREATE INDEX services_applied ON services (applied_at);
CREATE INDEX services_to_wipe ON services (applied_at) WHERE own_password_sealed IS NOT NULL;
CREATE INDEX services_failing ON services (failed_since) WHERE failed_since IS NOT NULL;
CREATE INDEX services_asked ON services (certificate_asked_at) WHERE certificate_asked_at IS NOT NULL;

-- uploads: what each account's owner last uploaded for the site. An hour after the upload has ended, its
-- row is deleted.
CREATE TABLE uploads (
  account_id TEXT   NOT NULL PRIMARY KEY REFERENCES accounts (id),
  id         TEXT   NOT NULL UNIQUE,                     -- the name of its file in UPLOADS_DIR
  total      BIGINT NOT NULL CHECK (total > 0),
  compared   BIGINT NOT NULL DEFAULT 0,                  -- how many were compared with the owner's files
  done       BIGINT NOT NULL DEFAULT 0,                  -- how many are online
  sent_at    BIGINT NOT NULL,
  ended_at   BIGINT,
  outcome    TEXT,                                       -- NULL: under way
  about      TEXT   NOT NULL DEFAULT '[]'                -- JSON: the files that it is about
);

-- domains: the extra domains that customers want to use. Each is proven by a TXT record with the
-- account's token, which is looked up again each day; an alias among the services makes it work. For a
-- domain whose proof was lost, added_at is when that happened.
CREATE TABLE domains (
  account_id   TEXT    NOT NULL REFERENCES accounts (id),
  name         TEXT    NOT NULL,                         -- in A-labels
  added_at     BIGINT  NOT NULL,
  look_at      BIGINT  NOT NULL,                         -- when its records are looked up next
  asked_at     BIGINT,                                   -- when they were last looked up
  looked_at    BIGINT,                                   -- when a look-up was last answered
  verified_at  BIGINT,                                   -- when its token was first seen
  missing_at   BIGINT,                                   -- since when the token is gone
  wants_mail   BOOLEAN NOT NULL DEFAULT FALSE,
  has_mx       BOOLEAN NOT NULL DEFAULT FALSE,           -- its MX points here
  mx_missing_at BIGINT,                                  -- since when it no longer does
  problem      TEXT,                                     -- for the customer: what is wrong
  found        TEXT,                                     -- JSON: what was found (domain_records.Found)
  PRIMARY KEY (account_id, name)
);
CREATE INDEX domains_due ON domains (look_at);

-- notices: mails to send and mails sent, each written once for what it is about. A row outlives its
-- account until the mail is sent; then recipient and text are wiped.
CREATE TABLE notices (
  account_id TEXT   NOT NULL,
  kind       TEXT   NOT NULL,
  about      BIGINT NOT NULL,                            -- such as the end date that it announces
  channel    TEXT   NOT NULL CHECK (channel IN ('email', 'mailbox')),
  recipient  TEXT,
  subject    TEXT,
  body       TEXT,
  unsubscribe TEXT,                                      -- the link that ends such mails
  written_at BIGINT NOT NULL,
  try_at     BIGINT,                                     -- NULL: sent, or given up
  tries      BIGINT NOT NULL DEFAULT 0,
  sent_at    BIGINT,
  error      TEXT,
  PRIMARY KEY (account_id, kind, about, channel),
  CHECK (try_at IS NULL OR (recipient IS NOT NULL AND subject IS NOT NULL AND body IS NOT NULL))
);
CREATE INDEX notices_due ON notices (try_at) WHERE try_at IS NOT NULL;

-- mail_places: limits the mails to one recipient, and for one account, in a day. A mail takes a place
-- for a day; then the row is deleted.
CREATE TABLE mail_places (
  for_whom TEXT   NOT NULL,                              -- keyed hash: of recipient or account, and kind
  number   BIGINT NOT NULL,
  taken_at BIGINT NOT NULL,
  PRIMARY KEY (for_whom, number)
);
CREATE INDEX mail_places_taken ON mail_places (taken_at);

-- orders: one row per purchase, with its only invoice. Payments that belong to no order are recorded
-- here too (kind 'lost'), for the operator.
CREATE TABLE orders (
  token          TEXT   NOT NULL PRIMARY KEY,            -- in links; with a prefix, the invoice's label
  kind           TEXT   NOT NULL CHECK (kind IN ('open', 'extend', 'resize', 'topup', 'lost')),
  account_id     TEXT   REFERENCES accounts (id),        -- NULL: released, or the account is gone
  attempt        TEXT   UNIQUE,                          -- one submitted form makes one order
  browser        TEXT,                                   -- keyed hash of the browser that ordered
  username       TEXT,                                   -- as asked for; NULL: any
  held_name      TEXT,                                   -- keyed hash of the name and the network it is
                                                         -- held for, until paid; kept for a day
  space_mb       BIGINT CHECK (space_mb > 0),
  extra_addresses BIGINT NOT NULL DEFAULT 0 CHECK (extra_addresses >= 0),
  extra_domains  BIGINT NOT NULL DEFAULT 0 CHECK (extra_domains >= 0),
  duration       BIGINT CHECK (duration > 0),
  unit           TEXT   CHECK (unit IN ('hours', 'days', 'months')),
  amount_msat    BIGINT CHECK (amount_msat > 0),
  placed_at      BIGINT NOT NULL,
  expires_at     BIGINT NOT NULL,                        -- of the invoice, and so of the price
  bolt11         TEXT,
  payment_hash   TEXT   UNIQUE,
  invoice_hash   TEXT,                                   -- SHA-256 of the bolt11, which is not kept
  asked          TEXT,                                   -- keyed hash of the whole form
  holder         TEXT,                                   -- whose rights its token carries: 'receipt'
                                                         -- or a token's id; NULL: nobody's
  receipt_epoch  BIGINT NOT NULL DEFAULT 0,              -- of the account when it was placed
  redeemed_at    BIGINT,                                 -- when its token was first used for what it bought
  cancelled_at   BIGINT,                                 -- the customer's wish: the node may not know yet
  withdrawn_at   BIGINT,                                 -- the node was told to delete its invoice
  missing_at     BIGINT,                                 -- the node did not know its invoice; if it
                                                         -- is released as well, it may have been paid
  released_at    BIGINT,                                 -- the node has no payable invoice any more
  paid_at        BIGINT,
  node_id        TEXT,                                   -- or 'voucher'
  pay_index      BIGINT,                                 -- not unique: it repeats after a node's restore
  received_msat  BIGINT CHECK (received_msat > 0),
  applied_at     BIGINT,                                 -- the payment took effect
  bought_seconds BIGINT,                                 -- by how much the end moved
  ends_at        BIGINT,                                 -- the end after this payment
  bought_credit_msat BIGINT NOT NULL DEFAULT 0 CHECK (bought_credit_msat >= 0),  -- beyond HORIZON_DAYS
  is_late        BOOLEAN NOT NULL DEFAULT FALSE,         -- its hosting was gone, and it opened a new one
  door           TEXT   CHECK (door IN ('page', 'address', 'offer', 'owner')),  -- of a top-up
  message        TEXT,                                   -- from whoever paid a top-up
  hidden_at      BIGINT,                                 -- the owner has hidden the message
  offer_id       TEXT,                                   -- the BOLT 12 offer that it was paid to
  CHECK (kind = 'lost' OR (space_mb IS NOT NULL AND amount_msat IS NOT NULL)),
  CHECK ((duration IS NULL) = (unit IS NULL)),
  CHECK (kind <> 'extend' OR duration IS NOT NULL),
  CHECK ((kind = 'topup') = (door IS NOT NULL)),
  CHECK ((paid_at IS NULL) = (received_msat IS NULL)),
  CHECK ((paid_at IS NULL) = (node_id IS NULL)),
  CHECK ((paid_at IS NULL) = (pay_index IS NULL)),
  CHECK (paid_at IS NULL OR payment_hash IS NOT NULL),
  CHECK (applied_at IS NULL OR paid_at IS NOT NULL),
  CHECK ((applied_at IS NULL) = (bought_seconds IS NULL)),
  CHECK ((applied_at IS NULL) = (ends_at IS NULL))
);
CREATE INDEX orders_open ON orders (account_id) WHERE paid_at IS NULL AND released_at IS NULL;
CREATE INDEX orders_released ON orders (released_at) WHERE paid_at IS NULL AND released_at IS NOT NULL;
CREATE INDEX orders_to_apply ON orders (account_id, paid_at) WHERE paid_at IS NOT NULL AND applied_at IS NULL;
CREATE UNIQUE INDEX orders_opening ON orders (account_id) WHERE kind = 'open';
CREATE INDEX orders_of_account ON orders (account_id, door, paid_at, token, received_msat);
CREATE INDEX orders_paid ON orders (paid_at, token) WHERE paid_at IS NOT NULL;
CREATE INDEX orders_held_name ON orders (held_name) WHERE held_name IS NOT NULL;

-- refunds: what is paid back of an order, once each. A payment that belongs to no order, or a late tip,
-- gets a row once its payer has claimed it.
CREATE TABLE refunds (
  id           TEXT   NOT NULL PRIMARY KEY,              -- as the operator types it
  order_token  TEXT   NOT NULL REFERENCES orders (token),
  msat         BIGINT NOT NULL CHECK (msat > 0),
  made_at      BIGINT NOT NULL,
  approved_at  BIGINT,                                   -- when the operator approved it
  refused_at   BIGINT,
  reason       TEXT,                                     -- of the refusal, for whoever claimed it
  claimed_at   BIGINT,
  destination  TEXT,                                     -- Lightning Address, offer or invoice; until
                                                         -- it is paid
  problem      TEXT,                                     -- why it was not paid there
  sent_at      BIGINT,                                   -- recorded before the node is told to pay; NULL:
                                                         -- certainly no payment is under way
  payment_hash TEXT   UNIQUE,                            -- of the invoice being paid, or paid last
  expires_at   BIGINT,                                   -- of that invoice
  paid_at      BIGINT,
  preimage     TEXT,
  fee_msat     BIGINT,                                   -- NULL: the node did not say
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

-- income: what came in on each day. Whatever records a payment adds it here.
CREATE TABLE income (
  day   BIGINT NOT NULL,                                 -- since 1970, of the payment
  kind  TEXT   NOT NULL,                                 -- one of lightningspace/rules/income.py's
  times BIGINT NOT NULL,
  msat  BIGINT NOT NULL,
  PRIMARY KEY (day, kind)
);

-- daily_rates: what a bitcoin cost when the source of the rate was first asked on a day.
CREATE TABLE daily_rates (
  currency    TEXT   NOT NULL,
  day         BIGINT NOT NULL,                           -- since 1970
  per_bitcoin TEXT   NOT NULL,                           -- a decimal number
  PRIMARY KEY (currency, day)
);

-- offers: the BOLT 12 offers of accounts, as the node has them. lightningspace/rules/offers.py says
-- whether an offer should be active there.
CREATE TABLE offers (
  id         TEXT    NOT NULL PRIMARY KEY,         -- the node's offer_id
  account_id TEXT    UNIQUE REFERENCES accounts (id),  -- NULL: the account is closed
  bolt12     TEXT    NOT NULL,                     -- empty once the account is closed
  is_active  BOOLEAN NOT NULL,                     -- as the node was last told
  is_due     BOOLEAN NOT NULL DEFAULT TRUE,        -- the rule may have a new answer for it
  revision   BIGINT  NOT NULL DEFAULT 1,           -- raised each time it becomes due
  held_until BIGINT                                -- until when a worker may be telling the node
);
CREATE INDEX offers_due ON offers (id) WHERE is_due;

-- resting_names: names of closed accounts, as keyed hashes. A name rests, since others may still write
-- to its last holder.
CREATE TABLE resting_names (
  name_hash     TEXT   NOT NULL PRIMARY KEY,
  until         BIGINT NOT NULL,                         -- after that anybody may have it
  payment_hash  TEXT,                                    -- of the receipt that may take it sooner
  receipt_epoch BIGINT NOT NULL DEFAULT 0                -- of that receipt
);
CREATE INDEX resting_names_over ON resting_names (until);
CREATE INDEX resting_names_of_payment ON resting_names (payment_hash);

-- gate_balances: what is left of prepaid bundles, by token id. Until `until`, every credential with that
-- id may use it.
CREATE TABLE gate_balances (
  token_id TEXT   NOT NULL,
  service  TEXT   NOT NULL,                              -- a name in gate.toml
  msat     BIGINT NOT NULL CHECK (msat >= 0),
  until    BIGINT NOT NULL,
  PRIMARY KEY (token_id, service)
);
CREATE INDEX gate_balances_over ON gate_balances (until);

-- gate_credited: the payments that were added to a balance, each once. Kept until their credentials
-- expire.
CREATE TABLE gate_credited (
  payment_hash TEXT   NOT NULL PRIMARY KEY,
  until        BIGINT NOT NULL
);
CREATE INDEX gate_credited_over ON gate_credited (until);

-- gate_leases: parts of balances that a web process holds in memory. What a killed process held is given
-- back.
CREATE TABLE gate_leases (
  process    TEXT   NOT NULL,
  token_id   TEXT   NOT NULL,
  service    TEXT   NOT NULL,
  msat       BIGINT NOT NULL CHECK (msat >= 0),          -- what was left of the part when last noted
  renewed_at BIGINT NOT NULL,
  PRIMARY KEY (process, token_id, service)
);
CREATE INDEX gate_leases_of_token ON gate_leases (token_id, service);
CREATE INDEX gate_leases_over ON gate_leases (renewed_at);

-- gate_settled: the requests whose cost was settled, so that each is settled once. Kept for some days.
CREATE TABLE gate_settled (
  request_id TEXT   NOT NULL PRIMARY KEY,                -- nginx's
  settled_at BIGINT NOT NULL
);
CREATE INDEX gate_settled_at ON gate_settled (settled_at);

-- gate_revoked: token ids that were revoked. Kept until all their credentials have expired.
CREATE TABLE gate_revoked (
  token_id   TEXT   NOT NULL PRIMARY KEY,
  revoked_at BIGINT NOT NULL,
  until      BIGINT NOT NULL
);
CREATE INDEX gate_revoked_at ON gate_revoked (revoked_at);
CREATE INDEX gate_revoked_over ON gate_revoked (until);

-- gate_freebies: how many free requests each network has had today.
CREATE TABLE gate_freebies (
  service TEXT   NOT NULL,
  network TEXT   NOT NULL,                               -- a keyed hash of its address
  day     BIGINT NOT NULL,                               -- since 1970
  used    BIGINT NOT NULL,
  PRIMARY KEY (service, network, day)
);
CREATE INDEX gate_freebies_of_day ON gate_freebies (day);

-- gate_counts: how often the gate's check gave each answer on a day, and what was paid.
CREATE TABLE gate_counts (
  service TEXT   NOT NULL,
  day     BIGINT NOT NULL,
  outcome TEXT   NOT NULL,
  times   BIGINT NOT NULL,                               -- for the outcome paid_msat: msat
  PRIMARY KEY (day, service, outcome)
);

-- gate_disks: the folders of those who have paid for disk space.
CREATE TABLE gate_disks (
  service  TEXT   NOT NULL,
  token_id TEXT   NOT NULL,
  until    BIGINT NOT NULL,                              -- then the folder is locked, and later deleted
  PRIMARY KEY (service, token_id)
);
CREATE INDEX gate_disks_over ON gate_disks (service, until);

-- evidence: what the operator noted about blocked hostings. It outlives them, and is deleted after
-- EVIDENCE_DAYS.
CREATE TABLE evidence (
  id         TEXT   NOT NULL PRIMARY KEY,
  username   TEXT   NOT NULL,
  category   TEXT   NOT NULL,
  note       TEXT   NOT NULL,
  noted_at   BIGINT NOT NULL
);
CREATE INDEX evidence_noted ON evidence (noted_at);

-- vouchers: codes that pay for one order each, instead of Lightning.
CREATE TABLE vouchers (
  code_hash TEXT   NOT NULL PRIMARY KEY,                 -- SHA-256
  space_mb  BIGINT NOT NULL CHECK (space_mb > 0),        -- the largest order that it pays for
  days      BIGINT NOT NULL CHECK (days > 0),            -- and the longest
  made_at   BIGINT NOT NULL,
  used_at   BIGINT
);
CREATE INDEX vouchers_unused ON vouchers (made_at) WHERE used_at IS NULL;

-- cursors: the last payment recorded from each node, by the node's id (a new node counts from 1).
CREATE TABLE cursors (
  node_id      TEXT   NOT NULL PRIMARY KEY,
  pay_index    BIGINT NOT NULL CHECK (pay_index >= 0),
  payment_hash TEXT,                                     -- of that payment; a restored node has another
  CHECK (pay_index = 0 OR payment_hash IS NOT NULL)
);

-- facts: single values of the whole shop, such as the fingerprint of its secret key.
CREATE TABLE facts (
  name  TEXT NOT NULL PRIMARY KEY,
  value TEXT NOT NULL
);
