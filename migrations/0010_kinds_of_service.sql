-- Only the program says which kinds of service there are, so a new one needs no migration.
CREATE TABLE old_services AS SELECT * FROM services;
DROP TABLE services;
CREATE TABLE services (
  account_id       TEXT    NOT NULL REFERENCES accounts (id),
  kind             TEXT    NOT NULL,
  name             TEXT    NOT NULL,
  settings         TEXT    NOT NULL DEFAULT '{}',
  active           BOOLEAN NOT NULL DEFAULT TRUE,
  gone             BOOLEAN NOT NULL DEFAULT FALSE,
  password_sealed  TEXT,
  own_password_sealed TEXT,
  revision         BIGINT  NOT NULL DEFAULT 1,
  applied_revision BIGINT  NOT NULL DEFAULT 0,
  applied_at       BIGINT,
  panel_id         BIGINT CHECK (panel_id > 0),
  error            TEXT,
  note             TEXT,
  permanent        BOOLEAN NOT NULL DEFAULT FALSE,
  tries            BIGINT  NOT NULL DEFAULT 0,
  tried_at         BIGINT,
  failed_since     BIGINT,
  certificate_asked_at BIGINT,
  certificate_asks BIGINT  NOT NULL DEFAULT 0,
  PRIMARY KEY (account_id, kind, name),
  UNIQUE (kind, name),
  CHECK (applied_revision <= revision),
  CHECK (applied_revision = 0 OR applied_at IS NOT NULL)
);
INSERT INTO services (
  account_id, kind, name, settings, active, gone, password_sealed, own_password_sealed,
  revision, applied_revision, applied_at, panel_id, error, note, permanent, tries, tried_at,
  failed_since, certificate_asked_at, certificate_asks
) SELECT
  account_id, kind, name, settings, active, gone, password_sealed, own_password_sealed,
  revision, applied_revision, applied_at, panel_id, error, note, permanent, tries, tried_at,
  failed_since, certificate_asked_at, certificate_asks
FROM old_services;
DROP TABLE old_services;
CREATE INDEX services_applied ON services (applied_at);
CREATE INDEX services_to_wipe ON services (applied_at) WHERE own_password_sealed IS NOT NULL;
CREATE INDEX services_failing ON services (failed_since) WHERE failed_since IS NOT NULL;
