-- What owners send for their sites by the browser is put there by the worker.
CREATE TABLE uploads (
  account_id TEXT   NOT NULL PRIMARY KEY REFERENCES accounts (id),
  id         TEXT   NOT NULL UNIQUE,
  total      BIGINT NOT NULL CHECK (total > 0),
  compared   BIGINT NOT NULL DEFAULT 0,
  done       BIGINT NOT NULL DEFAULT 0,
  sent_at    BIGINT NOT NULL,
  ended_at   BIGINT,
  outcome    TEXT,
  about      TEXT   NOT NULL DEFAULT '[]'
);
