-- The text of an offer has the site's name in it, and nobody asks for it once the hosting is gone.
UPDATE offers SET bolt12 = '' WHERE account_id IS NULL;
