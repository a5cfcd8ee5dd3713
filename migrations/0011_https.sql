-- Links to sites say https where the panel was seen to have a certificate, and a week's certificates
-- are counted.
ALTER TABLE services ADD COLUMN certificate_at BIGINT;
CREATE INDEX services_asked ON services (certificate_asked_at) WHERE certificate_asked_at IS NOT NULL;
-- Owners see what was found in DNS for their domains.
ALTER TABLE domains ADD COLUMN found TEXT;
