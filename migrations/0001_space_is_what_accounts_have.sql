-- Space: no counters of what is sold. The accounts that are paid for say it, and unpaid orders hold
-- nothing. A server's job queue is a fact of the worker's by now.
ALTER TABLE servers DROP COLUMN held_mb;
ALTER TABLE servers DROP COLUMN unpaid_mb;
ALTER TABLE servers DROP COLUMN queue_empty_at;
ALTER TABLE orders DROP COLUMN held_mb;
ALTER TABLE orders DROP COLUMN only_time;
CREATE INDEX accounts_sold ON accounts (server_id, space_mb) WHERE opened_at IS NOT NULL;
