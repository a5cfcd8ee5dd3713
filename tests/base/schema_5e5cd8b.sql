-- A shop's database as commit 5e5cd8b left it, with something of everything in it; both SQLite and
-- PostgreSQL load it. Its SECRET_KEY is that of the tests, its clock stood at the moment below.
-- now: 1795817200
-- alice's receipt: AgEEbHNhdAJCAACNL0yjprCM45JsX2oYs42DJ6a6HZL6aG9P92H/P56uPhziFl0AAAAAAAAAAJHV0kpfqauzUeuIeFvrULuWmJzgAAIac2VydmljZXM9bGlnaHRuaW5nLXNwYWNlOjAAAkFsaWdodG5pbmctc3BhY2VfY2FwYWJpbGl0aWVzPXJlYWQsbWFpbCxkb21haW5zLHNldHRpbmdzLHBheSxjbG9zZQAABiA4u81JW+fYS2f1RvfVLLXTKkDhKNWX/GGWFZwn4d4lrg==:c6abe8e28451a5d4915c5865140e5fc33fab7136ffd3751065ab2ac436f7674f

-- The whole schema, one text for SQLite and PostgreSQL; lightningspace/models.py mirrors it.
-- Times are Unix seconds (UTC), money is msat, space is MB. Facts are stored, states are computed:
-- a *_at column that is NULL has not happened yet. Keys say NOT NULL: SQLite would allow NULL there.

-- servers: what may be sold on each ISPConfig server, and what is taken by sold and unpaid orders.
CREATE TABLE servers (
  id          BIGINT NOT NULL PRIMARY KEY,               -- ISPConfig's server_id
  capacity_mb BIGINT NOT NULL CHECK (capacity_mb >= 0),
  held_mb     BIGINT NOT NULL DEFAULT 0 CHECK (held_mb >= 0),    -- sold and unpaid together
  unpaid_mb   BIGINT NOT NULL DEFAULT 0 CHECK (unpaid_mb >= 0),  -- of these: by orders not yet paid
  queue_empty_at BIGINT,                                 -- when its job queue was last seen empty
  php_versions TEXT NOT NULL DEFAULT '[]',               -- JSON: [[id, name], …] beside its own PHP
  php_at       BIGINT                                    -- when the panel was asked for them
);

-- accounts: one row per hosting, from the moment an order reserves its name and space.
CREATE TABLE accounts (
  id                TEXT   NOT NULL PRIMARY KEY,         -- random, never used again
  username          TEXT   UNIQUE,                       -- NULL once released
  server_id         BIGINT NOT NULL REFERENCES servers (id),
  space_mb          BIGINT NOT NULL CHECK (space_mb > 0),
  extra_addresses   BIGINT NOT NULL DEFAULT 0 CHECK (extra_addresses >= 0),  -- beyond the included
  extra_domains     BIGINT NOT NULL DEFAULT 0 CHECK (extra_domains >= 0),
  held_by           TEXT   UNIQUE,                       -- one unpaid place of a client; NULL once paid
  email             TEXT,                                -- for reminders
  email_epoch       BIGINT NOT NULL DEFAULT 0,           -- links to confirm of an older one are over
  password_sealed   TEXT,                                -- typed: until opened; generated: until noted
  password_hash     TEXT,
  opened_at         BIGINT,
  ready_at          BIGINT,                              -- every service was applied for the first time
  expires_at        BIGINT,
  valued_at         BIGINT,                              -- when the end was last set; from then on
  value_msat        BIGINT CHECK (value_msat >= 0),      -- this melts away evenly until expires_at
  credit_msat       BIGINT NOT NULL DEFAULT 0 CHECK (credit_msat >= 0),  -- paid beyond the horizon
  unpaid_seconds    BIGINT NOT NULL DEFAULT 0 CHECK (unpaid_seconds >= 0),  -- between an end and
                                                         -- the payment after it, all together
  calendar_at       BIGINT,                              -- when the calendar looks at it; NULL: never
  last_call_at      BIGINT,                              -- no more invoices: the calendar closes it
  suspended_at      BIGINT,                              -- everything is off: the paid time is over
  blocked_at        BIGINT,                              -- everything is off: the operator says so
  blocked_reason    TEXT,                                -- shown to the customer
  closing_at        BIGINT,                              -- to be removed; the row goes when it is
  deleting_at       BIGINT,                              -- the panel was told to delete: no way back
  session_epoch     BIGINT NOT NULL DEFAULT 0,           -- sessions of an older epoch are logged out
  receipt_epoch     BIGINT NOT NULL DEFAULT 0,           -- receipts of another epoch are void
  entered_at        BIGINT,                              -- somebody has a way in that lasts
  wallet_recovers   BOOLEAN NOT NULL DEFAULT TRUE,       -- the wallet's history may log in
  recovery_asked_at BIGINT,                              -- it was tried, and waits
  tips_page         BOOLEAN NOT NULL DEFAULT TRUE,       -- the doors by which tips come in
  tips_address      BOOLEAN NOT NULL DEFAULT TRUE,
  tips_offer        BOOLEAN NOT NULL DEFAULT TRUE,
  tips_show_end     BOOLEAN NOT NULL DEFAULT TRUE,       -- whoever may tip sees until when it is paid
  revision          BIGINT NOT NULL DEFAULT 0,           -- counts every change of the account's services
  reconcile_at      BIGINT,                              -- when the worker looks at it; NULL: nothing to do
  leased_by         TEXT,                                -- the worker that reconciles it just now
  leased_until      BIGINT,
  leases            BIGINT NOT NULL DEFAULT 0,           -- how often a worker has taken it
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
CREATE INDEX accounts_due ON accounts (reconcile_at) WHERE reconcile_at IS NOT NULL;
CREATE INDEX accounts_to_wipe ON accounts (ready_at) WHERE password_sealed IS NOT NULL;
CREATE INDEX accounts_calendar ON accounts (calendar_at) WHERE calendar_at IS NOT NULL;
CREATE INDEX accounts_suspended ON accounts (expires_at) WHERE suspended_at IS NOT NULL;
CREATE INDEX accounts_usage ON accounts (usage_at) WHERE usage_at IS NOT NULL;

-- tokens: credentials that an account's owner hands out. Receipts and challenges have no row: they
-- are checked by the key that minted them, and by their order. A row that is gone is revoked.
CREATE TABLE tokens (
  id           TEXT   NOT NULL PRIMARY KEY,              -- the token id in its macaroon, in hex
  account_id   TEXT   NOT NULL REFERENCES accounts (id),
  name         TEXT   NOT NULL,
  capabilities TEXT   NOT NULL,                          -- with commas between them
  valid_until  BIGINT,                                   -- NULL: as long as the account
  made_at      BIGINT NOT NULL
);
CREATE INDEX tokens_of_account ON tokens (account_id);

-- services: what an account has at the panel: wanted (name, settings, active, gone, revision) and
-- applied. A row that is gone is deleted once the panel has nothing of it.
CREATE TABLE services (
  account_id       TEXT    NOT NULL REFERENCES accounts (id),
  kind             TEXT    NOT NULL CHECK (kind IN ('client', 'site', 'alias', 'ftp', 'shell',
                     'database_user', 'database', 'mail_domain', 'mailbox', 'forward',
                     'tipjar')),
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
  note             TEXT,                                 -- for its owner: why it is applied otherwise
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

-- domains: what customers want to use as extra domains. It is proven by a TXT record with the
-- account's token, which is looked for again each day; then an alias among the services makes it
-- work. Of a domain that was lost again, added_at is that day.
CREATE TABLE domains (
  account_id   TEXT    NOT NULL REFERENCES accounts (id),
  name         TEXT    NOT NULL,                         -- in A-labels
  added_at     BIGINT  NOT NULL,
  look_at      BIGINT  NOT NULL,                         -- when its records are looked up next
  asked_at     BIGINT,                                   -- when they were last
  looked_at    BIGINT,                                   -- when they were last with an answer
  verified_at  BIGINT,                                   -- its token was seen for the first time
  missing_at   BIGINT,                                   -- since then the token is not there any more
  wants_mail   BOOLEAN NOT NULL DEFAULT FALSE,
  has_mx       BOOLEAN NOT NULL DEFAULT FALSE,           -- its MX points here
  mx_missing_at BIGINT,                                  -- since then it does not
  problem      TEXT,                                     -- for the customer: what was found instead
  PRIMARY KEY (account_id, name)
);
CREATE INDEX domains_due ON domains (look_at);

-- notices: mails to be sent and sent, each once for what it is about. A row outlives its account
-- until it is sent; then recipient and text are wiped.
CREATE TABLE notices (
  account_id TEXT   NOT NULL,
  kind       TEXT   NOT NULL,
  about      BIGINT NOT NULL,                            -- such as the end date it speaks of
  channel    TEXT   NOT NULL CHECK (channel IN ('email', 'mailbox')),
  recipient  TEXT,
  subject    TEXT,
  body       TEXT,
  unsubscribe TEXT,                                      -- the address that ends such mails
  written_at BIGINT NOT NULL,
  try_at     BIGINT,                                     -- NULL: sent, or given up
  tries      BIGINT NOT NULL DEFAULT 0,
  sent_at    BIGINT,
  error      TEXT,
  PRIMARY KEY (account_id, kind, about, channel),
  CHECK (try_at IS NULL OR (recipient IS NOT NULL AND subject IS NOT NULL AND body IS NOT NULL))
);
CREATE INDEX notices_due ON notices (try_at) WHERE try_at IS NOT NULL;

-- orders: one row per purchase, with its one invoice. Payments that no order waits for are
-- recorded here too (kind 'lost'), for the operator.
CREATE TABLE orders (
  token          TEXT   NOT NULL PRIMARY KEY,            -- in links; with a prefix, the invoice's label
  kind           TEXT   NOT NULL CHECK (kind IN ('open', 'extend', 'resize', 'topup', 'lost')),
  account_id     TEXT   REFERENCES accounts (id),        -- NULL when its place was released
  attempt        TEXT   UNIQUE,                          -- one submitted form makes one order
  browser        TEXT,                                   -- keyed hash of the browser that ordered
  username       TEXT,                                   -- as asked for; NULL: any
  space_mb       BIGINT CHECK (space_mb > 0),
  extra_addresses BIGINT NOT NULL DEFAULT 0 CHECK (extra_addresses >= 0),
  extra_domains  BIGINT NOT NULL DEFAULT 0 CHECK (extra_domains >= 0),
  held_mb        BIGINT NOT NULL DEFAULT 0 CHECK (held_mb >= 0),  -- held for it beside its account's
  duration       BIGINT CHECK (duration > 0),
  unit           TEXT   CHECK (unit IN ('hours', 'days', 'months')),
  amount_msat    BIGINT CHECK (amount_msat > 0),
  placed_at      BIGINT NOT NULL,
  expires_at     BIGINT NOT NULL,                        -- of the invoice and so of the price
  bolt11         TEXT,
  payment_hash   TEXT   UNIQUE,
  invoice_hash   TEXT,                                   -- SHA-256 of the bolt11, which is not kept
  asked          TEXT,                                   -- keyed hash of all that was asked for
  holder         TEXT,                                   -- whose rights its token carries: 'receipt'
                                                         -- or a token's id; NULL: nobody's
  receipt_epoch  BIGINT NOT NULL DEFAULT 0,              -- of the account when it was placed
  redeemed_at    BIGINT,                                 -- its token was shown for what it bought
  cancelled_at   BIGINT,
  released_at    BIGINT,                                 -- the node has no invoice to pay any more
  paid_at        BIGINT,
  node_id        TEXT,
  pay_index      BIGINT,                                 -- no key: it repeats after a node's restore
  received_msat  BIGINT CHECK (received_msat > 0),
  applied_at     BIGINT,                                 -- the payment took effect
  bought_seconds BIGINT,                                 -- by how much the end moved
  ends_at        BIGINT,                                 -- the end that it led to
  bought_credit_msat BIGINT NOT NULL DEFAULT 0 CHECK (bought_credit_msat >= 0),  -- beyond the horizon
  only_time      BOOLEAN NOT NULL DEFAULT FALSE,         -- the other size could not be had any more
  is_late        BOOLEAN NOT NULL DEFAULT FALSE,         -- its hosting was gone: it opened one anew
  door           TEXT   CHECK (door IN ('page', 'address', 'offer', 'owner')),  -- of a top-up
  message        TEXT,                                   -- from who has paid a top-up
  hidden_at      BIGINT,                                 -- the owner wants to see it no more
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
CREATE INDEX orders_open ON orders (expires_at) WHERE paid_at IS NULL AND released_at IS NULL;
CREATE INDEX orders_released ON orders (released_at) WHERE paid_at IS NULL AND released_at IS NOT NULL;
CREATE INDEX orders_to_apply ON orders (paid_at) WHERE paid_at IS NOT NULL AND applied_at IS NULL;
CREATE INDEX orders_of_account ON orders (account_id);

-- offers: the BOLT 12 offer of each account that has one, at the node. Whether it is to be active
-- there is a rule (see offers.py); its revision is raised when that may have changed.
CREATE TABLE offers (
  id         TEXT    NOT NULL PRIMARY KEY,         -- the node's offer_id
  account_id TEXT    UNIQUE REFERENCES accounts (id),  -- NULL: it is closed
  bolt12     TEXT    NOT NULL,
  is_active  BOOLEAN NOT NULL,                     -- as the node was last told
  is_due     BOOLEAN NOT NULL DEFAULT TRUE,        -- the rule may say something else by now
  revision   BIGINT  NOT NULL DEFAULT 1,           -- counts how often it may
  held_until BIGINT                                -- a worker tells the node just now
);
CREATE INDEX offers_due ON offers (id) WHERE is_due;

-- resting_names: names of closed accounts, as keyed hashes: others still write to the last holder.
CREATE TABLE resting_names (
  name_hash     TEXT   NOT NULL PRIMARY KEY,
  until         BIGINT NOT NULL,                         -- then anybody may have it
  payment_hash  TEXT,                                    -- of the receipt that may have it before
  receipt_epoch BIGINT NOT NULL DEFAULT 0                -- of that receipt
);
CREATE INDEX resting_names_over ON resting_names (until);
CREATE INDEX resting_names_of_payment ON resting_names (payment_hash);

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

INSERT INTO servers (id, capacity_mb, held_mb, unpaid_mb, queue_empty_at, php_versions, php_at) VALUES
(1, 100000, 6200, 300, NULL, '[]', NULL);
INSERT INTO accounts (id, username, server_id, space_mb, extra_addresses, extra_domains, held_by, email, email_epoch, password_sealed, password_hash, opened_at, ready_at, expires_at, valued_at, value_msat, credit_msat, unpaid_seconds, calendar_at, last_call_at, suspended_at, blocked_at, blocked_reason, closing_at, deleting_at, session_epoch, receipt_epoch, entered_at, wallet_recovers, recovery_asked_at, tips_page, tips_address, tips_offer, tips_show_end, revision, reconcile_at, leased_by, leased_until, leases, used_site_mb, used_database_mb, used_mail_mb, used_at, usage_at) VALUES
('108cf3bdf7262e30', 'dave', 1, 100, 0, 0, NULL, 'dave@example.org', 0, 'gAAAAABrC0VqrkaskZ4DxRp0PawGyFYn-XjZQ6PlLjiRQpmkoX86HZV5XsSfRhZbL7m5ETw3Z5G4N06guWP43y1nfvO2-J-hqsHYNo0fVUCp6561-XmpijY=', 'scrypt:1024:8:1$ijQUefZFtgeE4qpB$0450bdb909f97c80de9b6d8059aa731de72f8f5832be1e889aed32aec68e5226cd04ae312c886b06f7e6583a12513a47a89f31d716fd6112afbfb2b5a27ace65', 1795000000, 1795000000, 1802776000, 1795000000, 630000, 0, 0, 1801566400, NULL, NULL, 1795817200, 'It sent spam again; more of it -- and more.', NULL, NULL, 0, 0, NULL, TRUE, NULL, TRUE, TRUE, TRUE, TRUE, 4, 1795817200, NULL, NULL, 2, NULL, NULL, NULL, NULL, 1795000000),
('1d75aa20e3909150', 'grace', 1, 100, 0, 0, NULL, NULL, 0, 'gAAAAABrC0Vqqf4Nf7ytoPtU9WlTX2j2MT3obTWr799FK7nBwC4Gyh3DIWrBl1blhDCdKJBkBBnnAOpGDZg41DbsQwB5qDOiy1vb7jGvUo0omE4C6Eo4jWY=', 'scrypt:1024:8:1$iLjgGuDrRMM5Paq7$4b830ef8d838f42ddd79f38789d6ed2cf67a918384a05b3909803b047aa0760632cd0afef078882f758c089c7c798aa4af903f58191152154d6cc03fa22bd25e', 1795000000, 1795000000, 1795691200, 1795000000, 56000, 0, 0, 1796296000, NULL, 1795712200, NULL, NULL, NULL, NULL, 0, 0, NULL, TRUE, NULL, TRUE, TRUE, TRUE, TRUE, 2, NULL, NULL, NULL, 2, NULL, NULL, NULL, NULL, 1795000000),
('299a90ccaccb2ff9', 'judy', 1, 100, 0, 0, 'b3ceb552127382bbe7cd4e3967c0fc5f:0', 'judy@example.org', 0, 'gAAAAABrC0VyILuYlrLb41-wgAacBxlK76AexHVoiA7o-4xqVn8kQb0vn-2po7n1HbkciWQ5Vfbgsy1dM7IBAM5Fg-TIak9uBQ==', NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, NULL, TRUE, NULL, TRUE, TRUE, TRUE, TRUE, 0, NULL, NULL, NULL, 0, NULL, NULL, NULL, NULL, NULL),
('83214443e17636f7', 'mike', 1, 100, 0, 0, '6258cd78a8e2e7cb66745d71e289a7b0:0', 'mike@example.org', 0, 'gAAAAABrC0VzAwYQsWlpMZgaoJEaIMgmk5UPmUhD9wwY_TpSoJH8jwmqmohQAMHM-15tQWd7-_rjcIn9XwaUuUEmMroi4N1FLQ==', NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, NULL, TRUE, NULL, TRUE, TRUE, TRUE, TRUE, 0, NULL, NULL, NULL, 0, NULL, NULL, NULL, NULL, NULL),
('856417fc74828f6b', 'heidi', 1, 5000, 0, 0, NULL, NULL, 0, 'gAAAAABrC0Vwdzm-9umPu-DbHvE8draPytx6LWzNorH9OiyGOYLNXM6G148nyaLgt_ifLt-TvIQHzcC1VQVk-99-QeM1d0WgArmD1MYtmrvbtwaShage2WM=', 'scrypt:1024:8:1$Xy7FiGf6KB5QiOod$e2422a82b9ea97e91a7b03403afc554fa39a711171ef80b3d0fb743367bb9b2ecca5f93c56020ecb066b24f271d65d7ff59d836cbb184fbe74cd6e507c3d787a', 1795802800, 1795802800, 1890425200, 1795817200, 114975000, 785653833, 0, 1795903600, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, NULL, TRUE, NULL, TRUE, TRUE, TRUE, TRUE, 2, 1795817200, NULL, NULL, 1, NULL, NULL, NULL, NULL, 1795802800),
('88dd3f76ff359c6e', 'ivan', 1, 100, 0, 0, NULL, NULL, 0, 'gAAAAABrC0VxioDqQyBWrc5oYDtTZf3CBjNJWW5BkA4YzO02bgQqIXdgrxiFzfCWD8VdFY89CxD2-7M_KVtTRJPeMmMj4gNMBwmJUiHuknVXss2nm6beA2U=', 'scrypt:1024:8:1$EyifqMcnM1hoEqwM$43e0f536546c389b81cab7b127996152a029b1c4cd42b8feace04ad290389414af2e08fa6d144f6b145a72698c9f3161b83719749fb1decc7244d955e558d92f', 1795802800, 1795802800, 1795815142, 1795802800, 1000, 0, 0, 1795826584, NULL, 1795817200, NULL, NULL, 1795817200, NULL, 0, 0, NULL, TRUE, NULL, TRUE, TRUE, TRUE, TRUE, 3, 1795817200, NULL, NULL, 2, NULL, NULL, NULL, NULL, 1795802800),
('ac2534a542a8a8a9', 'alice', 1, 500, 2, 1, NULL, 'alice@example.org', 0, NULL, 'scrypt:1024:8:1$CUO2l0G0ATOLkDOY$5bc3ced274f3d3ff41e12fe449e55b9eadb0fd6280ef7662251d55989e594eda35f267548971abcc0f812e33292a35ec678bbc0d0814d8bedaa4f7e3309684ee', 1795000000, 1795000000, 1831289598, 1795014400, 7557333, 0, 0, 1830079998, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, NULL, TRUE, NULL, TRUE, TRUE, TRUE, TRUE, 7, 1795817202, NULL, NULL, 4, NULL, NULL, NULL, NULL, 1795000000),
('c2f5255f7df4d7c2', 'paul', 1, 100, 0, 0, NULL, NULL, 0, 'gAAAAABrC0VxSslXQIOCx_Ek_BY8zrZPKUqgX68aRYOF3HDxI36qRKZET6KFBtBuTHzHBRSSwY5Y3okW5DBcZ2hWkBsdO6WZpBbRXB435YzIDcOMEedW6wo=', 'scrypt:1024:8:1$k8VT7cHaUT6qnBYw$53fd386ddf5d476a08fad5ca5311d31461aca39b5bde220503617af0d3098e76bda064ae3ad8b53fa9a387d28c20bdf709682011d7cbb230e9e877c4ed21fb61', 1795802800, 1795802800, 1796187485, 1795817200, 30000, 0, 2058, 1796101085, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, NULL, TRUE, NULL, TRUE, TRUE, TRUE, TRUE, 3, NULL, NULL, NULL, 3, NULL, NULL, NULL, NULL, 1795802800),
('e9cdc8e93e88a4f6', 'ken', 1, 100, 0, 0, 'b3ceb552127382bbe7cd4e3967c0fc5f:1', NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, 0, NULL, TRUE, NULL, TRUE, TRUE, TRUE, TRUE, 0, NULL, NULL, NULL, 0, NULL, NULL, NULL, NULL, NULL);
INSERT INTO tokens (id, account_id, name, capabilities, valid_until, made_at) VALUES
('1ce2165d0000000000000000e346ae54b7ad850736cff5d2c9f50c8258f23cad', 'ac2534a542a8a8a9', 'for the mail program', 'read,mail', NULL, 1795014400);
INSERT INTO services (account_id, kind, name, settings, active, gone, password_sealed, own_password_sealed, revision, applied_revision, applied_at, panel_id, error, note, permanent, tries, tried_at, failed_since) VALUES
('108cf3bdf7262e30', 'client', 'ls_108cf3bdf7262e30', '{}', TRUE, FALSE, NULL, NULL, 1, 1, 1795000000, 4, NULL, NULL, FALSE, 0, NULL, NULL),
('108cf3bdf7262e30', 'database', 'ls_dave', '{}', TRUE, FALSE, NULL, NULL, 4, 2, 1795000000, 4, NULL, NULL, FALSE, 0, NULL, NULL),
('108cf3bdf7262e30', 'database_user', 'ls_dave', '{}', TRUE, FALSE, NULL, 'gAAAAABrC0VqE8xQZiTnjWOXACe2bqQezLujgogw2nC9ZoNl3Ju41l-Dq0ZaooNjXoI0HlZbyY2sKxIj73RR90FVcjGatMVqpH8jw3KuX4TdkFNB4UpRAuY=', 1, 1, 1795000000, 4, NULL, NULL, FALSE, 0, NULL, NULL),
('108cf3bdf7262e30', 'ftp', 'ls_dave', '{}', TRUE, FALSE, NULL, 'gAAAAABrC0VqbAWRrHeki2s5zShtN1D2pFwZPLN_bPCTh_iRodA3FzKReIHLHi9Dg4gKLftWwYQLe_61bkK8GmLLJLDfZBPNt0QzGDx5s7Ye-rQgrT1DkTE=', 4, 2, 1795000000, 4, NULL, NULL, FALSE, 0, NULL, NULL),
('108cf3bdf7262e30', 'mail_domain', 'dave.shop.test', '{}', TRUE, FALSE, NULL, NULL, 1, 1, 1795000000, 4, NULL, NULL, FALSE, 0, NULL, NULL),
('108cf3bdf7262e30', 'mailbox', 'info@dave.shop.test', '{}', TRUE, FALSE, NULL, 'gAAAAABrC0VqJ6weLJW1Fs8_3HMgB2TV-Vf6hvzjhzP0B-QaEdPxMICEq9HEXvOYxrbsAURMlrfTXcYdAtAZuLEZUue0KSbecIiHE_GdNFtbqArqAif6qMQ=', 4, 2, 1795000000, 4, NULL, NULL, FALSE, 0, NULL, NULL),
('108cf3bdf7262e30', 'shell', 'ls_dave', '{}', TRUE, FALSE, NULL, NULL, 4, 2, 1795000000, NULL, NULL, NULL, FALSE, 0, NULL, NULL),
('108cf3bdf7262e30', 'site', 'dave.shop.test', '{}', TRUE, FALSE, NULL, NULL, 4, 2, 1795000000, 4, NULL, NULL, FALSE, 0, NULL, NULL),
('1d75aa20e3909150', 'client', 'ls_1d75aa20e3909150', '{}', TRUE, FALSE, NULL, NULL, 1, 1, 1795000000, 6, NULL, NULL, FALSE, 0, NULL, NULL),
('1d75aa20e3909150', 'database', 'ls_grace', '{}', TRUE, FALSE, NULL, NULL, 2, 2, 1795712200, 6, NULL, NULL, FALSE, 0, NULL, NULL),
('1d75aa20e3909150', 'database_user', 'ls_grace', '{}', TRUE, FALSE, NULL, 'gAAAAABrC0VqtEn2HNoH1-9OnyRZ7TpHViXK8lXH1sv3fQXZEskDd_s9Si4mWW_nhIj4KO5JxBqBEmIOhPxI3AhJ0r1GaIN2imKNcdXAV_K68enBZDpBeYA=', 1, 1, 1795000000, 6, NULL, NULL, FALSE, 0, NULL, NULL),
('1d75aa20e3909150', 'ftp', 'ls_grace', '{}', TRUE, FALSE, NULL, 'gAAAAABrC0VqiH8NJkcmNfOS_I50MF5_ct_KyMu6DnPne-ny6ljhctzTt3-aLsRSq3hm1JLrH4XFzSDK7U0Qua5dbkNCZKCdBBjXqCIiO6qbImNhV5eCcfY=', 2, 2, 1795712200, 6, NULL, NULL, FALSE, 0, NULL, NULL),
('1d75aa20e3909150', 'mail_domain', 'grace.shop.test', '{}', TRUE, FALSE, NULL, NULL, 1, 1, 1795000000, 6, NULL, NULL, FALSE, 0, NULL, NULL),
('1d75aa20e3909150', 'mailbox', 'info@grace.shop.test', '{}', TRUE, FALSE, NULL, 'gAAAAABrC0Vq0VaiCwtNMUKAE0JGat2wF31CwV4atdatptZ95_R_5-WYrum7PM2EQH7x9XZ_0VpkTzzDEHruyeu6RoWNhKtHVhY1t4NEhg4vLGeZ6UppZG4=', 2, 2, 1795712200, 6, NULL, NULL, FALSE, 0, NULL, NULL),
('1d75aa20e3909150', 'shell', 'ls_grace', '{}', TRUE, FALSE, NULL, NULL, 2, 2, 1795712200, NULL, NULL, NULL, FALSE, 0, NULL, NULL),
('1d75aa20e3909150', 'site', 'grace.shop.test', '{}', TRUE, FALSE, NULL, NULL, 2, 2, 1795712200, 6, NULL, NULL, FALSE, 0, NULL, NULL),
('856417fc74828f6b', 'client', 'ls_856417fc74828f6b', '{}', TRUE, FALSE, NULL, NULL, 1, 1, 1795802800, 7, NULL, NULL, FALSE, 0, NULL, NULL),
('856417fc74828f6b', 'database', 'ls_heidi', '{}', TRUE, FALSE, NULL, NULL, 2, 1, 1795802800, 7, NULL, NULL, FALSE, 0, NULL, NULL),
('856417fc74828f6b', 'database_user', 'ls_heidi', '{}', TRUE, FALSE, NULL, 'gAAAAABrC0Vwu6aCIt44Y4nhfvq47XfmcQzWRVEMa7gOu9-TKyOkg0V3EMQiVFdcGyquF4PaBkyJ0yiVFGwf6JygzMaQ9Ck4ZURuPSeAl8L4Ne_qMvJI1to=', 1, 1, 1795802800, 7, NULL, NULL, FALSE, 0, NULL, NULL),
('856417fc74828f6b', 'ftp', 'ls_heidi', '{}', TRUE, FALSE, NULL, 'gAAAAABrC0VwiZXyvUCprt1ZrvOuoisYMhxBQGUNSrftUB46bCF6cOatxAtmDH5nmvLJ1ifxqX_Itbgg2KgdJxdIyEoKJhJLHSNQpJV-iC-yNhuzkfI-1gU=', 1, 1, 1795802800, 7, NULL, NULL, FALSE, 0, NULL, NULL),
('856417fc74828f6b', 'mail_domain', 'heidi.shop.test', '{}', TRUE, FALSE, NULL, NULL, 1, 1, 1795802800, 8, NULL, NULL, FALSE, 0, NULL, NULL),
('856417fc74828f6b', 'mailbox', 'info@heidi.shop.test', '{}', TRUE, FALSE, NULL, 'gAAAAABrC0Vwqxbc1lm4Ri5qk2Etw-z1_L4aHoa03tGKOaL84BJAc4dAsfo6F0ta46H5HA83Ukbp8YUd7mnDunN_x5ssovNYWRKWl2ZG5jdeZP_7VKL_Y00=', 2, 1, 1795802800, 8, NULL, NULL, FALSE, 0, NULL, NULL),
('856417fc74828f6b', 'shell', 'ls_heidi', '{}', TRUE, FALSE, NULL, 'gAAAAABrC0VwQjq-kG1K3eRblWhWdfF9iWIinTpjIXB93w8RXOyofgG7FvOPM-TlqyEkWBo_a8EoAwprynjCoeuC7kWxWd9ZiFOnWMubWKgrjNnVVDmATqs=', 1, 1, 1795802800, 8, NULL, NULL, FALSE, 0, NULL, NULL),
('856417fc74828f6b', 'site', 'heidi.shop.test', '{}', TRUE, FALSE, NULL, NULL, 2, 1, 1795802800, 8, NULL, NULL, FALSE, 0, NULL, NULL),
('88dd3f76ff359c6e', 'client', 'ls_88dd3f76ff359c6e', '{}', TRUE, FALSE, NULL, NULL, 2, 1, 1795802800, 8, NULL, NULL, FALSE, 0, NULL, NULL),
('88dd3f76ff359c6e', 'database', 'ls_ivan', '{}', TRUE, FALSE, NULL, NULL, 3, 2, 1795817200, 8, NULL, NULL, FALSE, 0, NULL, NULL),
('88dd3f76ff359c6e', 'database_user', 'ls_ivan', '{}', TRUE, FALSE, NULL, 'gAAAAABrC0VxymnPiz3AqydXkkm86_p_jFjzgkhUjXviCe6GojPQ3gs8dYq-URQdcHRqhW7REaYHcV8OaK1g90AXBmitgXY01sEqMqlR0AwP8ULqRw-JVuA=', 2, 1, 1795802800, 8, NULL, NULL, FALSE, 0, NULL, NULL),
('88dd3f76ff359c6e', 'ftp', 'ls_ivan', '{}', TRUE, FALSE, NULL, 'gAAAAABrC0VxkUy7I8OvYgnBVlcwURZib1MvHjhnCinPFu26A2q-yWrz4uNGX9gJZrd6ZAHSNYVajdCb3_KlQ8xjUDc-norTSAIYej03pSHDSy4OUpWQ0wA=', 3, 2, 1795817200, 8, NULL, NULL, FALSE, 0, NULL, NULL),
('88dd3f76ff359c6e', 'mail_domain', 'ivan.shop.test', '{}', TRUE, FALSE, NULL, NULL, 2, 1, 1795802800, 9, NULL, NULL, FALSE, 0, NULL, NULL),
('88dd3f76ff359c6e', 'mailbox', 'info@ivan.shop.test', '{}', TRUE, FALSE, NULL, 'gAAAAABrC0Vxpufx4wI2czGaP1mkg3koQE8msmERrWGM-kp9OWl1L8P-am1cwMjl-9VIGikDzTYsDLGXxyRHbi0EnRGfTMAljY1RNmcFTMkrVsfFfLyfGJw=', 3, 2, 1795817200, 9, NULL, NULL, FALSE, 0, NULL, NULL),
('88dd3f76ff359c6e', 'shell', 'ls_ivan', '{}', TRUE, FALSE, NULL, NULL, 3, 2, 1795817200, NULL, NULL, NULL, FALSE, 0, NULL, NULL),
('88dd3f76ff359c6e', 'site', 'ivan.shop.test', '{}', TRUE, FALSE, NULL, NULL, 3, 2, 1795817200, 9, NULL, NULL, FALSE, 0, NULL, NULL),
('ac2534a542a8a8a9', 'alias', 'alice.example', '{}', TRUE, FALSE, NULL, NULL, 1, 1, 1795014400, 7, NULL, NULL, FALSE, 0, NULL, NULL),
('ac2534a542a8a8a9', 'client', 'ls_ac2534a542a8a8a9', '{}', TRUE, FALSE, NULL, NULL, 1, 1, 1795000000, 1, NULL, NULL, FALSE, 0, NULL, NULL),
('ac2534a542a8a8a9', 'database', 'ls_alice', '{}', TRUE, FALSE, NULL, NULL, 2, 2, 1795014400, 1, NULL, NULL, FALSE, 0, NULL, NULL),
('ac2534a542a8a8a9', 'database_user', 'ls_alice', '{}', TRUE, FALSE, NULL, NULL, 1, 1, 1795000000, 1, NULL, NULL, FALSE, 0, NULL, NULL),
('ac2534a542a8a8a9', 'forward', 'sales@alice.shop.test', '{"destination": "bob@example.org"}', TRUE, FALSE, NULL, NULL, 1, 1, 1795014400, 1, NULL, NULL, FALSE, 0, NULL, NULL),
('ac2534a542a8a8a9', 'ftp', 'ls_alice', '{}', TRUE, FALSE, NULL, NULL, 1, 1, 1795000000, 1, NULL, NULL, FALSE, 0, NULL, NULL),
('ac2534a542a8a8a9', 'mail_domain', 'alice.example', '{}', TRUE, FALSE, NULL, NULL, 1, 1, 1795014400, 7, NULL, NULL, FALSE, 0, NULL, NULL),
('ac2534a542a8a8a9', 'mail_domain', 'alice.shop.test', '{}', TRUE, FALSE, NULL, NULL, 1, 1, 1795000000, 1, NULL, NULL, FALSE, 0, NULL, NULL),
('ac2534a542a8a8a9', 'mailbox', 'ann@alice.shop.test', '{"quota_mb": null}', TRUE, FALSE, 'gAAAAABrC0VzKInQTd0xxnOTP8RK66K6XQB2f4ZeCjqjtpkH_oFFvY9bxS4SkGwnTI8HrimcpaGTrLJ4rWPm_xK5Xa--z4TIcoGRrY0JavtKGX_fXjRkwDM=', NULL, 2, 0, NULL, NULL, 'the panel did not answer client_get_by_username: connection refused', NULL, FALSE, 1, 1795817200, 1795817200),
('ac2534a542a8a8a9', 'mailbox', 'eve@alice.shop.test', '{"quota_mb": null}', TRUE, FALSE, NULL, NULL, 4, 3, 1795014400, 7, NULL, NULL, FALSE, 0, NULL, NULL),
('ac2534a542a8a8a9', 'mailbox', 'info@alice.shop.test', '{}', TRUE, FALSE, NULL, NULL, 4, 3, 1795014400, 1, NULL, NULL, FALSE, 0, NULL, NULL),
('ac2534a542a8a8a9', 'shell', 'ls_alice', '{}', TRUE, FALSE, NULL, NULL, 1, 1, 1795000000, 1, NULL, NULL, FALSE, 0, NULL, NULL),
('ac2534a542a8a8a9', 'site', 'alice.shop.test', '{}', TRUE, FALSE, NULL, NULL, 2, 2, 1795014400, 1, NULL, NULL, FALSE, 0, NULL, NULL),
('c2f5255f7df4d7c2', 'client', 'ls_c2f5255f7df4d7c2', '{}', TRUE, FALSE, NULL, NULL, 1, 1, 1795802800, 9, NULL, NULL, FALSE, 0, NULL, NULL),
('c2f5255f7df4d7c2', 'database', 'ls_paul', '{}', TRUE, FALSE, NULL, NULL, 3, 3, 1795817200, 9, NULL, NULL, FALSE, 0, NULL, NULL),
('c2f5255f7df4d7c2', 'database_user', 'ls_paul', '{}', TRUE, FALSE, NULL, 'gAAAAABrC0Vxd5nPG6TwJtRuzqwwP-qB45ZANbLAXC9kSj4qs54kminc2LCvV2sNiuGltxVv18wfSZiae0bJHrhZ3F3wjqLXsHnf3LlIX0KiPeLQj2gcVvU=', 1, 1, 1795802800, 9, NULL, NULL, FALSE, 0, NULL, NULL),
('c2f5255f7df4d7c2', 'ftp', 'ls_paul', '{}', TRUE, FALSE, NULL, 'gAAAAABrC0Vxd6-BSTLQUTCrImgyGHGwiSH_rjtDPtAui7bb0_Dp_pG3IlK4swFDUvLyibDghlQTTEFBDzsw_pi9FUu9VxT2pAkL48tV6q_GmQazz9SOWFA=', 3, 3, 1795817200, 9, NULL, NULL, FALSE, 0, NULL, NULL),
('c2f5255f7df4d7c2', 'mail_domain', 'paul.shop.test', '{}', TRUE, FALSE, NULL, NULL, 1, 1, 1795802800, 10, NULL, NULL, FALSE, 0, NULL, NULL),
('c2f5255f7df4d7c2', 'mailbox', 'info@paul.shop.test', '{}', TRUE, FALSE, NULL, 'gAAAAABrC0VxiDzYKy18C-otEz62onqdexJU_rrKcLrd9uceYDHVZQX5XVBca8pRynSOccbOYBp2YcwdOGrXnlQ0i_I7MnlZmYDjPq1Wm4QznYWQ2oSdWX8=', 3, 3, 1795817200, 10, NULL, NULL, FALSE, 0, NULL, NULL),
('c2f5255f7df4d7c2', 'shell', 'ls_paul', '{}', TRUE, FALSE, NULL, 'gAAAAABrC0VyJudJojdCa25lTX_wfUa0Lsa856hqdzgmgiYY8OHNy1xkT5g-yoYI810WlcGMpK0gXBV8lJqgdijzDK6XdECzwVxnbnt7ziqR5iEMzlydtc4=', 3, 3, 1795817200, 11, NULL, NULL, FALSE, 0, NULL, NULL),
('c2f5255f7df4d7c2', 'site', 'paul.shop.test', '{}', TRUE, FALSE, NULL, NULL, 3, 3, 1795817200, 10, NULL, NULL, FALSE, 0, NULL, NULL);
INSERT INTO domains (account_id, name, added_at, look_at, asked_at, looked_at, verified_at, missing_at, wants_mail, has_mx, mx_missing_at, problem) VALUES
('ac2534a542a8a8a9', 'alice.example', 1795014400, 1795889200, 1795802800, 1795802800, 1795014400, NULL, TRUE, TRUE, NULL, NULL),
('ac2534a542a8a8a9', 'other.example', 1795014400, 1795889200, 1795802800, 1795802800, NULL, NULL, FALSE, FALSE, NULL, 'We found no TXT record at _lightning-space.other.example.');
INSERT INTO notices (account_id, kind, about, channel, recipient, subject, body, unsubscribe, written_at, try_at, tries, sent_at, error) VALUES
('108cf3bdf7262e30', 'blocked', 1795000000, 'email', NULL, NULL, NULL, NULL, 1795000000, NULL, 1, 1795000000, NULL),
('108cf3bdf7262e30', 'blocked', 1795817200, 'email', 'dave@example.org', 'dave.shop.test is blocked', 'Hello,

your hosting dave.shop.test is blocked, and everything in it is switched
off. The reason:

It sent spam again; more of it -- and more.

You see how it stands here:

http://localhost/account
localhost

No more of these mails:
http://localhost/reminders/stop/108cf3bdf7262e30-d46be7be369b97044edb16edbfe27ae0-a86339e221dd3a9efb1f3cf280442748
', 'http://localhost/reminders/stop/108cf3bdf7262e30-d46be7be369b97044edb16edbfe27ae0-a86339e221dd3a9efb1f3cf280442748', 1795817200, 1795817200, 0, NULL, NULL),
('1d75aa20e3909150', 'ending-1d', 1795691200, 'mailbox', NULL, NULL, NULL, NULL, 1795622200, NULL, 1, 1795802800, NULL);
INSERT INTO orders (token, kind, account_id, attempt, browser, username, space_mb, extra_addresses, extra_domains, held_mb, duration, unit, amount_msat, placed_at, expires_at, bolt11, payment_hash, invoice_hash, asked, holder, receipt_epoch, redeemed_at, cancelled_at, released_at, paid_at, node_id, pay_index, received_msat, applied_at, bought_seconds, ends_at, bought_credit_msat, only_time, is_late, door, message, hidden_at, offer_id) VALUES
('0d10b73904fbbee059d9b04525f7f2c7', 'open', 'e9cdc8e93e88a4f6', 'c6189ada8b42df52cd5ba2f7acc11067', 'alice''s browser', 'ken', 100, 0, 0, 0, 3, 'months', 630000, 1795817200, 1795818100, 'lnbcrt6300n1p4snlhssp5gdwuepnm8qxzwjssugj5x97s0v2l5t45ezwrd6kaen2c6zzuqtkqpp5ngrc7alzqnt74fn5nyyh9v5zs9kh0gzqfvavachtfkzw0ame3w5sdzy2ajkygrgdaehg6twvuazqmmsv4hzqvfsxqsy6s3qxvsx6mmww358xgpsvscnqc3hxvusxqzuycqp29qxpqysgq4vjd8henn0etvcxw3hjtx9alt694rph3up72w6t2y8dzs3qwhhlqcz2e2n86h8k0yz60v6pu8368ql4n0kvrlkj5ukdn4nk68jsml3cqngr595', '9a078f77e204d7eaa674990972b282816d77a0404b3acee2eb4d84e7f7798ba9', 'db8e05e58e54a4b3c28f708813a49607b460976f0ead0f49e1592c69c9b9fbca', '5c0c9318d207c501cb8a89ddc499f188', NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, FALSE, FALSE, NULL, NULL, NULL, NULL),
('0e038d38d89bef24a47612d10d86e86c', 'open', NULL, NULL, NULL, NULL, 100, 0, 0, 0, 2, 'hours', 1000, 1795000000, 1795000900, NULL, '138ecb5fd5e6c52cc81752a85b62cdf30664cd7eb85c6e48fc7ab3159c683aa8', 'a25af813ffb542f098d01ec4fc110f83765fc6d6c56c4ca41367d6175f2d7298', NULL, NULL, 0, NULL, NULL, NULL, 1795000000, '03e6fb27b02be75428afa538615ff291eeee935425100b7e8c4bd6d372ad407fab', 2, 1000, 1795000000, 12342, 1795012342, 0, FALSE, FALSE, NULL, NULL, NULL, NULL),
('14fa4d0e3af6a3d0a1c0040c9a97118c', 'extend', 'ac2534a542a8a8a9', '618f7bc8413e8ecb7c3b162a34e9b030', 'alice''s browser', 'alice', 500, 2, 1, 0, 2, 'months', 1080000, 1795817200, 1795818100, 'lnbcrt10800n1p4snlhssp5tlrt9hrwnxggfhcdekudvz36tfpr2hqaw0trj7duc0p9alkp8s8spp57jva5t0k855ncamw8qrzc3pe3dxra2snvf06fer0nnjuajzy28wsdr22ajkygrgdaehg6twvuazqetcw3jkuepqx5crqgzdggsrygrpv3j8yetnwdjhxgp3ypjx7mtpd9h8xgpjypkk7mn5dpejqvf5vesngepsv5xqzuycqp29qxpqysgq73wjwds8pxllx2lz6nr8zhr8z7x7pqscwvjjvag7v5u754xxgswp9z287xdj67zknv5080jf46r8mw9y450wnzjhejvwm3u58gwe4zsq3hx4cq', 'f499da2df63d293c776e38062c44398b4c3eaa13625fa4e46f9ce5cec84451dd', '1b2bc0c40ca8f244430a828bca30d6fc712bcd199fbff5e8c0d869d285a0a768', NULL, NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, FALSE, FALSE, NULL, NULL, NULL, NULL),
('2148a895913fbdba6f7830b4cdea5183', 'resize', 'ac2534a542a8a8a9', NULL, 'alice''s browser', 'alice', 500, 2, 1, 0, NULL, NULL, 4288000, 1795014400, 1795015300, NULL, '6a339da55fbc1697690dae0b9c6b6079e7211423ca2628b0b5636109f0d6bfd3', 'a2ecb2f7b08c201ac81a1b9226daa984489ab441f54eb431eccaf513cf6e131e', NULL, NULL, 0, NULL, NULL, NULL, 1795014400, '03e6fb27b02be75428afa538615ff291eeee935425100b7e8c4bd6d372ad407fab', 11, 4288000, 1795014400, 1599, 1828697598, 0, FALSE, FALSE, NULL, NULL, NULL, NULL),
('343a2f39e82670503fb85baa9b5953e1', 'lost', NULL, NULL, NULL, NULL, NULL, 0, 0, 0, NULL, NULL, NULL, 1795817200, 1795817200, NULL, 'd3dcc0bd5dc680b4489877f22d641e285cf9946a666e67ce227f4cb110267d1c', NULL, NULL, NULL, 0, NULL, NULL, NULL, 1795817200, '03e6fb27b02be75428afa538615ff291eeee935425100b7e8c4bd6d372ad407fab', 18, 7000, NULL, NULL, NULL, 0, FALSE, FALSE, NULL, NULL, NULL, NULL),
('5b384014c4990364ef4b7bc579cf7ea4', 'open', NULL, NULL, NULL, NULL, 500, 0, 0, 0, 2, 'hours', 2000, 1795000000, 1795000900, NULL, 'd89cf643eae840ccb37581e03a81467f67c82ccff4213bcaa9dac045a8b21940', '0dcb3511de20039c1dd471d57fa27388c6782258feb8ce05b991e55003b29c55', NULL, NULL, 0, NULL, NULL, NULL, 1795000000, '03e6fb27b02be75428afa538615ff291eeee935425100b7e8c4bd6d372ad407fab', 3, 2000, 1795000000, 11520, 1795011520, 0, FALSE, FALSE, NULL, NULL, NULL, NULL),
('5f7c0a1c43d01d61df4ef4f7d9ab331a', 'topup', 'ac2534a542a8a8a9', '2f8ca70cb46af64db86fc2b8e52d1377', 'd browser', NULL, 500, 2, 1, 0, NULL, NULL, 50000, 1795817200, 1795818100, 'lnbcrt500n1p4snlhssp552cxkekm95atpmmln3kru4cu5k37wdcwm23gyavcz45q7qvestgqpp5f070xf8zq6ycsrxkzm9n5wkupvz5p7w22wnlptexgmwu0tvt7r2qdz62ajkygrgdaehg6twvuazqar0wp6hqgp4xqczqn2zyqezqctyv3ex2umnv4ejqvfqv3hk6ctfdeejqdtxxa3nqcf3vvxqzuycqp29qxpqysgqfjt44wxm5ayp3cyl6wflr3rsns7vcpnal6umysl9k0taqpgvczhxpcssq6643gdv5u6t84ns2zqrnwnh82ua9wjupwkrt2766ghfzeqp07hkd5', '4bfcf324e20689880cd616cb3a3adc0b0540f9ca53a7f0af2646ddc7ad8bf0d4', '1fda01ea8e68442edf8680f8bc733e88bcbb17c969fa037c7b9ed89577998540', NULL, NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, FALSE, FALSE, 'page', 'Not paid', NULL, NULL),
('66810788fe2c105ae723276f5f63fbb6', 'open', NULL, NULL, NULL, NULL, 100, 0, 0, 0, 30, 'days', 210000, 1795000000, 1795000900, NULL, '92b52da9d70f2ad713ed74bb27dfa309b80a33fa427af3a85a24f5c666f470c7', '07523f8e531c70d8990f7a941f1d0de0242286e2a0bf99dec6b7e4d9c6e8af34', NULL, NULL, 0, NULL, NULL, NULL, 1795000000, '03e6fb27b02be75428afa538615ff291eeee935425100b7e8c4bd6d372ad407fab', 5, 210000, 1795000000, 2592000, 1797592000, 0, FALSE, FALSE, NULL, NULL, NULL, NULL),
('6a28abaedf5e61b40041adaa0c877123', 'open', '299a90ccaccb2ff9', '720b8185ca198f831914186c4223f269', 'alice''s browser', 'judy', 100, 0, 0, 0, 3, 'months', 630000, 1795817200, 1795818100, 'lnbcrt6300n1p4snlhssp54ks2jt794yh7af8va34sl53ufs83tl257fvvh82vsfc6s0r0nahqpp5a9jm97yfv6007nqyaxwquu9lsg052pxm2vk2wnuwg9zev2p0e3nsdzy2ajkygrgdaehg6twvuazqmmsv4hzqvfsxqsy6s3qxvsx6mmww358xgpkvyersctzv9jsxqzuycqp29qxpqysgq5qmtplax02da282t5x9c2alnvqmjva0xprzdh2mxqakn6q20yn8nmpwv7ngyex95k740f9khwjqdj7xk2lafkuz5ns7gvyvqxnt553sp58zn0r', 'e965b2f889669eff4c04e99c0e70bf821f4504db532ca74f8e414596282fcc67', '6e1b5b4fc2a07d6c2ecc5e042cd4a830af492d73f2ff7785d3d493e8ff96fbee', '11017d23aa1cf7803026b789a4c57e4d', NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, FALSE, FALSE, NULL, NULL, NULL, NULL),
('7a3ba343ed019a70a49f739d82049d11', 'open', NULL, NULL, 'alice''s browser', 'lena', 100, 0, 0, 0, 3, 'months', 630000, 1795817200, 1795818100, NULL, 'b533bc9fb763091b19cfb1f43566efc35a3049d64fda489d326750e8d9845f2d', '35ad55c59ae4ea2ac8a147d59e55a184795129c3e5a243a0fef39577b72b5139', '4518562b7fdc82fc24ebcb5d7ca70270', NULL, 0, NULL, 1795817200, 1795817200, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0, FALSE, FALSE, NULL, NULL, NULL, NULL),
('7cdf7be6e0009cde413e1f5a46f9a0e5', 'open', '88dd3f76ff359c6e', NULL, 'alice''s browser', 'ivan', 100, 0, 0, 0, 1, 'hours', 1000, 1795802800, 1795803700, NULL, '1edbc5840e411492dfdf0df398cf0e4c9817bc3fe4acf31f9c43db1b4c1bbec2', '1ac8ab9822ea12da4c2c63ecf2c94f889e27850c44e070b5821a3d01c7c3cb54', 'bbd0c7bb4f4b7eba984691ba09640443', NULL, 0, NULL, NULL, NULL, 1795802800, '03e6fb27b02be75428afa538615ff291eeee935425100b7e8c4bd6d372ad407fab', 15, 1000, 1795802800, 12342, 1795815142, 0, FALSE, FALSE, NULL, NULL, NULL, NULL),
('935ec409916b26a0848759fb9125b745', 'topup', 'ac2534a542a8a8a9', NULL, NULL, NULL, 100, 0, 0, 0, NULL, NULL, 2000000, 1795014400, 1795015300, NULL, 'a9d568170ae926ed1c1e91adfe2e56802bfabbf5cc7762944cbb8f4280e7bfcb', NULL, NULL, NULL, 0, NULL, NULL, NULL, 1795014400, '03e6fb27b02be75428afa538615ff291eeee935425100b7e8c4bd6d372ad407fab', 8, 2000000, 1795014400, 24685714, 1827461714, 0, FALSE, FALSE, 'offer', 'räksmörgås ⚡; it''s -- good', NULL, 'e21a8d7a9f0a855d7a6a174f557a6057769e80f3d27dc8c34af49d732ebb055a'),
('a280c031b2e548ac16bb244a3d2131ad', 'open', 'ac2534a542a8a8a9', NULL, 'alice''s browser', 'alice', 100, 0, 0, 0, 3, 'months', 630000, 1795000000, 1795000900, NULL, '8d2f4ca3a6b08ce3926c5f6a18b38d8327a6ba1d92fa686f4ff761ff3f9eae3e', 'e4d8362d77da19e5a57a1508a9df1c9703527329e8747fb6692234f846a30eb0', '50cd1029d7f803ae9e4204204600d97b', NULL, 0, NULL, NULL, NULL, 1795000000, '03e6fb27b02be75428afa538615ff291eeee935425100b7e8c4bd6d372ad407fab', 1, 630000, 1795000000, 7776000, 1802776000, 0, FALSE, FALSE, NULL, NULL, NULL, NULL),
('a43998f1077e29710c0622eaf2c69cfb', 'open', '83214443e17636f7', '0ed78b1b5328012a9f4edbdf96fb4cc8', 'alice''s browser', 'mike', 100, 0, 0, 0, 3, 'months', 630000, 1795817200, 1795818100, NULL, '156ffad9fc1dbecef4cd112fee0ae705e3587e3d71134292926e905d2bffc965', '911018ef48c7480ce0713f0433709ff3c74034fb5c908f984f9e3454cfb495fb', '647ada2a784c441d48ef9cf682f06fe5', NULL, 0, NULL, NULL, NULL, 1795817200, '03e6fb27b02be75428afa538615ff291eeee935425100b7e8c4bd6d372ad407fab', 20, 630000, NULL, NULL, NULL, 0, FALSE, FALSE, NULL, NULL, NULL, NULL),
('a80161de9e91b92b8d90e3890b035fc4', 'open', 'c2f5255f7df4d7c2', NULL, 'alice''s browser', 'paul', 100, 0, 0, 0, 1, 'hours', 1000, 1795802800, 1795803700, NULL, '772cc98cef98f2c42ebc4984f4bbb993170248b2156883b6b870b8c39a170a3a', '68ad3178f4a6f1a5ba1de4419dd333f8afdd813d5ecfbef247409261453800dd', 'a73e1e5725f8fcd5b1cd8e1f4e8821ad', NULL, 0, NULL, NULL, NULL, 1795802800, '03e6fb27b02be75428afa538615ff291eeee935425100b7e8c4bd6d372ad407fab', 16, 1000, 1795802800, 12342, 1795815142, 0, FALSE, FALSE, NULL, NULL, NULL, NULL),
('af253b0ac05bbb7bcea4fe08b3fe3911', 'topup', 'ac2534a542a8a8a9', NULL, NULL, NULL, 100, 0, 0, 0, NULL, NULL, 500, 1795014400, 1795015300, NULL, '640d8b293a685779e8b95983ef05cdefc912b5ac4c3966af3a7414319adfd378', NULL, NULL, NULL, 0, NULL, NULL, NULL, 1795014400, '03e6fb27b02be75428afa538615ff291eeee935425100b7e8c4bd6d372ad407fab', 9, 500, 1795014400, 0, 1827461714, 500, FALSE, FALSE, 'offer', NULL, NULL, 'e21a8d7a9f0a855d7a6a174f557a6057769e80f3d27dc8c34af49d732ebb055a'),
('b04b1337911330a23dacd22759e700fa', 'topup', NULL, NULL, NULL, NULL, 100, 0, 0, 0, NULL, NULL, 30000, 1795014400, 1795015300, NULL, '217517488e9e7425783af23405ffc75fa3e516f227479b1978210b7611bff341', 'e31319cb9a8de66bca35fa07722f0503ab9498bd0239206cef69b38848becfdb', NULL, NULL, 0, NULL, NULL, NULL, 1795014400, '03e6fb27b02be75428afa538615ff291eeee935425100b7e8c4bd6d372ad407fab', 7, 30000, 1795014400, 370285, 1795384685, 0, FALSE, FALSE, 'page', NULL, NULL, NULL),
('bbf0f0f282fdd040c63dceea94635c1e', 'topup', 'ac2534a542a8a8a9', NULL, 'b browser', NULL, 100, 0, 0, 0, NULL, NULL, 100000, 1795014400, 1795015300, NULL, '66de2fe826205445b4016d167fe5e06ccd294915faa33a542a71f35cf60f80ee', 'ca9b5c8137eca0b0acfbba46132158c61a8683f99f805d2425354738da5b29a1', NULL, NULL, 0, NULL, NULL, NULL, 1795014400, '03e6fb27b02be75428afa538615ff291eeee935425100b7e8c4bd6d372ad407fab', 10, 100000, 1795014400, 1234285, 1828695999, 0, FALSE, FALSE, 'page', 'Rude words', 1795014400, NULL),
('c0ab5be93985a7fd5a4058eec6556eba', 'open', '108cf3bdf7262e30', NULL, 'alice''s browser', 'dave', 100, 0, 0, 0, 3, 'months', 630000, 1795000000, 1795000900, NULL, '9b17dbd7b780d4d4d5467f36606dfdbb882d071a4a9ad5eb6ca8abbcadb45c9c', 'ffd7b6ecd0a2f17a698a2948761f91665baa4aa78d688127a0b5d7a65e213758', '20cc5b23a443636083b3589fb8d02a14', NULL, 0, NULL, NULL, NULL, 1795000000, '03e6fb27b02be75428afa538615ff291eeee935425100b7e8c4bd6d372ad407fab', 4, 630000, 1795000000, 7776000, 1802776000, 0, FALSE, FALSE, NULL, NULL, NULL, NULL),
('cf18114319a4245498b981fa5cd13b14', 'open', '856417fc74828f6b', NULL, 'alice''s browser', 'heidi', 100, 0, 0, 0, 3, 'months', 630000, 1795802800, 1795803700, NULL, 'e68b657f23156c1fb855209bc0698c98a557dbd005d408a3b108309edb33c521', '858ef21102b716607ae603acf96d7733549dc80a3d26c32ed0f3fb6adf1ab18f', '5f211e4cc567ac110bc7624a17a6d2b8', NULL, 0, NULL, NULL, NULL, 1795802800, '03e6fb27b02be75428afa538615ff291eeee935425100b7e8c4bd6d372ad407fab', 13, 630000, 1795802800, 7776000, 1803578800, 0, FALSE, FALSE, NULL, NULL, NULL, NULL),
('d1e2c0daac8201fbf0a88919fc30dc75', 'open', '1d75aa20e3909150', NULL, 'alice''s browser', 'grace', 100, 0, 0, 0, 8, 'days', 56000, 1795000000, 1795000900, NULL, 'd1c7ca79ab449f12dcae14f8558eee9fdb1d249b00a577335e09d8aad4b79015', '1f1dd314dd1f65dfb7d5ef74aad92d7314b4e1647cde21295d24356ddc331548', '7260b0c5aa92671c8b3117b4457ffd37', NULL, 0, NULL, NULL, NULL, 1795000000, '03e6fb27b02be75428afa538615ff291eeee935425100b7e8c4bd6d372ad407fab', 6, 56000, 1795000000, 691200, 1795691200, 0, FALSE, FALSE, NULL, NULL, NULL, NULL),
('e04f017772eeff977ede7ef45bd30730', 'topup', 'c2f5255f7df4d7c2', NULL, 'a browser', NULL, 100, 0, 0, 0, NULL, NULL, 30000, 1795817200, 1795818100, NULL, '3fc937847651bfb6b3d6a55d1f10198bf413423a31fc7541f8b1775b058cd8a9', '53b2f70766e9823b2262f526ed735b2cbe19b839edf81e665cbac5f0c62e886f', NULL, NULL, 0, NULL, NULL, NULL, 1795817200, '03e6fb27b02be75428afa538615ff291eeee935425100b7e8c4bd6d372ad407fab', 17, 30000, 1795817200, 370285, 1796187485, 0, FALSE, FALSE, 'page', 'Come back!', NULL, NULL),
('eec17fe53bac965c3ffb6084c965b942', 'topup', '856417fc74828f6b', NULL, 'c browser', NULL, 100, 0, 0, 0, NULL, NULL, 900000000, 1795802800, 1795803700, NULL, '4cc175fff05361ea1d453471422b409ea2f99bcd1c0d40fb4c86d3d582adf409', '4d0881d8e1527c123d52ef5202b5cf942c19dfc369ff62ee67be21847fe76da4', NULL, NULL, 0, NULL, NULL, NULL, 1795802800, '03e6fb27b02be75428afa538615ff291eeee935425100b7e8c4bd6d372ad407fab', 14, 900000000, 1795802800, 86832000, 1890410800, 892964999, FALSE, FALSE, 'page', NULL, NULL, NULL),
('f8644dc7a9801dd8e7359044b9c36322', 'extend', 'ac2534a542a8a8a9', NULL, 'alice''s browser', 'alice', 500, 2, 1, 0, 1, 'months', 540000, 1795014400, 1795015300, NULL, '035aede94946835ba521b137e83774901f6ae57d036df00094fca3f0847834cd', 'f6114a80acf13d6846d80cb612c7bb228431612eaea4883325e819ea802006d0', NULL, NULL, 0, NULL, NULL, NULL, 1795014400, '03e6fb27b02be75428afa538615ff291eeee935425100b7e8c4bd6d372ad407fab', 12, 540000, 1795014400, 2592000, 1831289598, 0, FALSE, FALSE, NULL, NULL, NULL, NULL);
INSERT INTO offers (id, account_id, bolt12, is_active, is_due, revision, held_until) VALUES
('e21a8d7a9f0a855d7a6a174f557a6057769e80f3d27dc8c34af49d732ebb055a', 'ac2534a542a8a8a9', 'lno1qgsqvgnwgcg35z6ee2h3yczraddm72xrfua9uve2rlrm9deu7xyfzrc2yd2xjurnypnx7u3qv9kxjcm99eeksmms9e6x2um5yq5xzcejx5engcf49ygwuqhyh3yt58y2da7s8sv7ug5l3p5e5vk0dyjf6dnu93grhgcppfcs3qpw6xcpaaa60wgv0vq8qyys3cmagvncpu7pvzev5cc2fqsxxz5zqmczqwxft2kxt86hr8c97km0hg07jknlwt3sjr9f2w2rvarg6gx3hu3rcqpn3753rz7av668dtzq54uqsv6a95fjjfudx2vdqggut4yhrycdktmm7g7h670us5ctfq0xfxs8g422zeurjspcudefwtj4pam9365dpt4yugx9nw69ga3rq2jqrqfr3d42yxksjagqxta3uzv72p9lmz5y427qzfd6etxwnrl0rkjd9vgr8m44y0yj8dl4ewyf6fsec8n49ukph0z80khk4wummufq7ctvd93k2tnndphhqtn5v4ehg93pq0n0kfas90n4g29055uxzhljj8hway65y5gqkl5vf0tdxu4dgpl6k', TRUE, FALSE, 1, NULL);
INSERT INTO resting_names (name_hash, until, payment_hash, receipt_epoch) VALUES
('058a791af4c502353ebc682fb1b16866', 1826550400, '92b52da9d70f2ad713ed74bb27dfa309b80a33fa427af3a85a24f5c666f470c7', 0),
('55b94ea40082008b13d0d2ddff69300c', 1826561200, 'd89cf643eae840ccb37581e03a81467f67c82ccff4213bcaa9dac045a8b21940', 0),
('fcc970e99c7b78b4cb5b9b6a859d6ffd', 1827338200, '138ecb5fd5e6c52cc81752a85b62cdf30664cd7eb85c6e48fc7ab3159c683aa8', 0);
INSERT INTO cursors (node_id, pay_index) VALUES
('02cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd', 0),
('03abababababababababababababababababababababababababababababababab', 41),
('03e6fb27b02be75428afa538615ff291eeee935425100b7e8c4bd6d372ad407fab', 21);
INSERT INTO facts (name, value) VALUES
('calendar passed', '1795817200'),
('calendar unbroken since', '1795000000'),
('key fingerprint', '32556930dc8716d1');
