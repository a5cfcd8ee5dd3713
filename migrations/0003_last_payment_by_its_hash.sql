-- The last payment recorded from a node is known by its hash. If it was another program's, of which
-- nothing is kept, the payments since our last one are read again. Each still counts once.
CREATE TABLE old_cursors AS SELECT node_id, pay_index FROM cursors;
DROP TABLE cursors;
CREATE TABLE cursors (
  node_id      TEXT   NOT NULL PRIMARY KEY,
  pay_index    BIGINT NOT NULL CHECK (pay_index >= 0),
  payment_hash TEXT,
  CHECK (pay_index = 0 OR payment_hash IS NOT NULL)
);
INSERT INTO cursors (node_id, pay_index) SELECT node_id, 0 FROM old_cursors;
-- After a node's restore several payments may have the same index: the latest counts.
UPDATE cursors SET (pay_index, payment_hash) = (
  SELECT orders.pay_index, orders.payment_hash FROM orders
  JOIN old_cursors ON old_cursors.node_id = orders.node_id
  WHERE orders.node_id = cursors.node_id AND orders.pay_index <= old_cursors.pay_index
  ORDER BY orders.pay_index DESC, orders.paid_at DESC LIMIT 1
) WHERE node_id IN (
  SELECT orders.node_id FROM orders
  JOIN old_cursors ON old_cursors.node_id = orders.node_id
  WHERE orders.pay_index <= old_cursors.pay_index
);
DROP TABLE old_cursors;
