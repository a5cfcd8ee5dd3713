-- Payments to an offer that are smaller than a tip are counted, not listed. Those that are listed
-- already stay listed.
ALTER TABLE accounts ADD COLUMN small_tips BIGINT NOT NULL DEFAULT 0 CHECK (small_tips >= 0);
ALTER TABLE accounts ADD COLUMN small_tips_msat BIGINT NOT NULL DEFAULT 0
  CHECK (small_tips_msat >= 0);
