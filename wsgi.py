"""The shop for gunicorn (`gunicorn wsgi:app`) and for `flask --app wsgi …`."""

import logging
import os
import sys
from typing import NoReturn

from peewee import OperationalError, PeeweeException, SqliteDatabase

from app import INSTANCE, create_app
from lightningspace import cli, shop
from lightningspace.base import logs, models, schema
from lightningspace.base.config import ConfigError, from_env
from lightningspace.operator.doctor import command as doctor

# The exit code of what somebody has to mend; and that of what may pass by itself, after which
# systemd starts us again.
NO_START, NOT_YET = 4, 5


def stop(why: str, code: int = NO_START) -> NoReturn:
    print(why, file=sys.stderr, flush=True)
    sys.exit(code)


logs.install()
logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")

# Commands that make the schema, fill an empty database or copy one as it is, run before the shop
# settles in.
command = cli.command(sys.argv[1:])
try:
    if command == "doctor":  # which finds out itself why the shop does not start, and tells it
        logging.getLogger().setLevel(logging.ERROR)
        app = doctor.app(os.environ, INSTANCE, create_app)
    else:
        app = create_app(from_env(os.environ, INSTANCE))
        if command not in ("init-db", "upgrade", "restore"):
            schema.check(models.db.obj)
            if command != "copy-database":  # which only reads
                shop.settle_in(app.extensions["shop"])
        models.db.close()  # gunicorn may fork next, and two processes cannot share a connection
except schema.WrongSchema as error:
    stop(str(error))
except (ConfigError, shop.CannotSettle) as error:
    stop(f"The shop does not start: {error}")
except PeeweeException as error:
    reason = logs.first_line(error)
    is_down = isinstance(error, OperationalError) and not isinstance(models.db.obj, SqliteDatabase)
    stop(
        f"The shop does not start: the database of DATABASE_URL does not open: {reason}",
        NOT_YET if is_down else NO_START,
    )
