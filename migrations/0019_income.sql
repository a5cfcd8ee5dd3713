-- What came in by the day, and what a bitcoin cost, for the operator's pages.
CREATE TABLE income (
  day   BIGINT NOT NULL,
  kind  TEXT   NOT NULL,
  times BIGINT NOT NULL,
  msat  BIGINT NOT NULL,
  PRIMARY KEY (day, kind)
);
INSERT INTO income (day, kind, times, msat)
SELECT
  paid_at / 86400,
  CASE
    WHEN kind = 'open' THEN 'hosting'
    WHEN kind = 'lost' THEN 'lost'
    WHEN kind = 'topup' AND door <> 'owner' THEN 'tip'
    ELSE 'more'
  END,
  COUNT(*),
  SUM(received_msat)
FROM orders WHERE paid_at IS NOT NULL AND node_id <> 'voucher' GROUP BY 1, 2;
INSERT INTO income (day, kind, times, msat)
SELECT
  day,
  'gate',
  SUM(CASE WHEN outcome = 'paid' THEN times ELSE 0 END),
  SUM(CASE WHEN outcome = 'paid_msat' THEN times ELSE 0 END)
FROM gate_counts WHERE outcome IN ('paid', 'paid_msat') GROUP BY day;
CREATE TABLE daily_rates (
  currency    TEXT   NOT NULL,
  day         BIGINT NOT NULL,
  per_bitcoin TEXT   NOT NULL,
  PRIMARY KEY (currency, day)
);
CREATE INDEX orders_paid ON orders (paid_at, token) WHERE paid_at IS NOT NULL;
