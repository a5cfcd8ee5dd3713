-- Nobody gets a mail before confirming the address. Whoever pays after the upgrade is sent a link.
-- The addresses of hostings that are open count as confirmed.
ALTER TABLE accounts ADD COLUMN email_waits TEXT;
UPDATE accounts SET email_waits = email, email = NULL WHERE opened_at IS NULL;
CREATE TABLE mail_places (
  for_whom TEXT   NOT NULL,
  number   BIGINT NOT NULL,
  taken_at BIGINT NOT NULL,
  PRIMARY KEY (for_whom, number)
);
CREATE INDEX mail_places_taken ON mail_places (taken_at);
