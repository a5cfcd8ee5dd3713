-- Why a hosting is blocked, as a category, and the evidence.
ALTER TABLE accounts ADD COLUMN blocked_for TEXT;
UPDATE accounts SET blocked_for = 'other' WHERE blocked_at IS NOT NULL;
CREATE TABLE evidence (
  id         TEXT   NOT NULL PRIMARY KEY,
  username   TEXT   NOT NULL,
  category   TEXT   NOT NULL,
  note       TEXT   NOT NULL,
  noted_at   BIGINT NOT NULL
);
CREATE INDEX evidence_noted ON evidence (noted_at);
