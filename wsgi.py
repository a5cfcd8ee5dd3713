"""The shop for gunicorn (`gunicorn wsgi:app`) and for `flask --app wsgi …`."""

import logging
import os
import sys
from typing import NoReturn

from peewee import PeeweeException

from app import INSTANCE, create_app
from lightningspace import shop
from lightningspace.base import logs, models
from lightningspace.base.config import ConfigError, from_env

# With this code gunicorn ends as well; with another it would start its workers again for ever.
NO_START = 4


def stop(why: str) -> NoReturn:
    print(why, file=sys.stderr, flush=True)
    sys.exit(NO_START)


logs.install()
logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")

try:
    app = create_app(from_env(os.environ, INSTANCE))
    # `flask init-db` comes before the tables are there.
    if models.db.table_exists("facts"):
        if "copy-database" not in sys.argv:  # which only reads
            shop.settle_in(app.extensions["shop"])
        models.db.close()  # gunicorn may fork after this, and a connection is not for two
    elif "init-db" not in sys.argv:
        stop("The database has no tables: run `flask --app wsgi init-db` first.")
except (ConfigError, shop.WrongKey) as error:
    stop(f"The shop does not start: {error}")
except PeeweeException as error:
    reason = str(error).partition("\n")[0]
    stop(f"The shop does not start: the database of DATABASE_URL does not open: {reason}")
