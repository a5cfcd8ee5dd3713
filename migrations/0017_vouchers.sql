-- Codes that pay an order instead of Lightning.
CREATE TABLE vouchers (
  code_hash TEXT   NOT NULL PRIMARY KEY,
  space_mb  BIGINT NOT NULL CHECK (space_mb > 0),
  days      BIGINT NOT NULL CHECK (days > 0),
  made_at   BIGINT NOT NULL,
  used_at   BIGINT
);
CREATE INDEX vouchers_unused ON vouchers (made_at) WHERE used_at IS NULL;
