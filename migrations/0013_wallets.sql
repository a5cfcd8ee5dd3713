-- Wallets that log in to a hosting once its owner has linked them (LNURL-auth).
CREATE TABLE wallets (
  account_id TEXT   NOT NULL REFERENCES accounts (id),
  wallet_key TEXT   NOT NULL,
  linked_at  BIGINT NOT NULL,
  used_at    BIGINT,
  PRIMARY KEY (account_id, wallet_key)
);
CREATE INDEX wallets_of_key ON wallets (wallet_key);
CREATE TABLE wallet_signatures (
  k1         TEXT    NOT NULL PRIMARY KEY,
  wallet_key TEXT    NOT NULL,
  until      BIGINT  NOT NULL,
  is_used    BOOLEAN NOT NULL DEFAULT FALSE
);
CREATE INDEX wallet_signatures_over ON wallet_signatures (until);
