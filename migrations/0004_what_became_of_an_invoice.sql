-- Tell an invoice that the node no longer knows from one that we had it delete.
ALTER TABLE orders ADD COLUMN withdrawn_at BIGINT;
ALTER TABLE orders ADD COLUMN missing_at BIGINT;
DROP INDEX orders_open;
DROP INDEX orders_to_apply;
DROP INDEX orders_of_account;
CREATE INDEX orders_open ON orders (account_id) WHERE paid_at IS NULL AND released_at IS NULL;
CREATE INDEX orders_to_apply ON orders (account_id, paid_at)
  WHERE paid_at IS NOT NULL AND applied_at IS NULL;
CREATE UNIQUE INDEX orders_opening ON orders (account_id) WHERE kind = 'open';
CREATE INDEX orders_of_account ON orders (account_id, door, paid_at, token, received_msat);
