-- A site that got no certificate asks for one again, and not too often.
ALTER TABLE services ADD COLUMN certificate_asked_at BIGINT;
ALTER TABLE services ADD COLUMN certificate_asks BIGINT NOT NULL DEFAULT 0;
-- From the tip jars' own upgrade, which is now that of all services.
DELETE FROM facts WHERE name = 'version of the tip jars';
