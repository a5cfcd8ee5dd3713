-- A network may hold a name without paying once a day.
ALTER TABLE orders ADD COLUMN held_name TEXT;
CREATE INDEX orders_held_name ON orders (held_name) WHERE held_name IS NOT NULL;
