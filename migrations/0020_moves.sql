-- Which server a hosting is being moved from.
ALTER TABLE accounts ADD COLUMN moved_from BIGINT;
