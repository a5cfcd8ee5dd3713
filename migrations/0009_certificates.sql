-- A site whose certificate could not be had asks for it again, and not too often.
ALTER TABLE services ADD COLUMN certificate_asked_at BIGINT;
ALTER TABLE services ADD COLUMN certificate_asks BIGINT NOT NULL DEFAULT 0;
-- Written by the tip jars' own upgrade, which is that of all services by now.
DELETE FROM facts WHERE name = 'version of the tip jars';
