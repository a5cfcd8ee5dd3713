-- No more counters of sold space: the paid accounts say how much it is, and unpaid orders hold none.
-- The worker keeps a server's job queue as a fact.
ALTER TABLE servers DROP COLUMN held_mb;
ALTER TABLE servers DROP COLUMN unpaid_mb;
ALTER TABLE servers DROP COLUMN queue_empty_at;
ALTER TABLE orders DROP COLUMN held_mb;
ALTER TABLE orders DROP COLUMN only_time;
CREATE INDEX accounts_sold ON accounts (server_id, space_mb) WHERE opened_at IS NOT NULL;
