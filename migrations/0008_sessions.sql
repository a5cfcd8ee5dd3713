-- Each browser that is logged in has a row. Those from before have none, and log in once more.
CREATE TABLE sessions (
  id         TEXT    NOT NULL PRIMARY KEY,
  account_id TEXT    NOT NULL REFERENCES accounts (id),
  begun_at   BIGINT  NOT NULL,
  used_at    BIGINT  NOT NULL,
  proved_at  BIGINT  NOT NULL,
  by_receipt BOOLEAN NOT NULL DEFAULT FALSE
);
CREATE INDEX sessions_of_account ON sessions (account_id);
CREATE INDEX sessions_used ON sessions (used_at);
-- A password typed with the order is a way in, so recovery by the wallet's history waits a day. Once
-- it is wiped, nothing tells whether it was typed or generated: then recovery waits, too.
UPDATE accounts SET entered_at = opened_at
  WHERE opened_at IS NOT NULL AND entered_at IS NULL AND password_sealed IS NULL;
