-- What is paid to an offer and is less than a tip is counted and not listed. Those that are listed
-- already stay so.
ALTER TABLE accounts ADD COLUMN small_tips BIGINT NOT NULL DEFAULT 0 CHECK (small_tips >= 0);
ALTER TABLE accounts ADD COLUMN small_tips_msat BIGINT NOT NULL DEFAULT 0
  CHECK (small_tips_msat >= 0);
