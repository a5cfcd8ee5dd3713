-- The grace period is as long as what was bought since the time was last over, and closings are
-- limited by what was paid for the accounts.
ALTER TABLE accounts ADD COLUMN paid_msat BIGINT NOT NULL DEFAULT 0 CHECK (paid_msat >= 0);
ALTER TABLE accounts ADD COLUMN began_at BIGINT;
ALTER TABLE accounts ADD COLUMN kept_until BIGINT;
UPDATE accounts SET paid_msat = (
  SELECT COALESCE(SUM(received_msat), 0) FROM orders
  WHERE orders.account_id = accounts.id AND orders.applied_at IS NOT NULL
);
-- All that was ever bought used to count, but for the pauses. It still does here: the upgrade
-- shortens nobody's grace period.
UPDATE accounts SET began_at = ready_at + unpaid_seconds
  WHERE ready_at IS NOT NULL AND unpaid_seconds > 0;
CREATE INDEX accounts_valued ON accounts (valued_at) WHERE opened_at IS NOT NULL;
