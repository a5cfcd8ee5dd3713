"""The control center's page of all that is stored of a hosting, and the same as a file."""

import json
import re

from flask import Response, request, url_for
from werkzeug.exceptions import NotFound

from lightningspace.base.clock import iso_or_none, iso_time, now
from lightningspace.pages import control
from lightningspace.pages.access import proof_first
from lightningspace.pages.control import this_account
from lightningspace.rules import hostnames, known
from lightningspace.shop import this_shop

blueprint = control.part("known")

# How many rows one page and one file have. Few hostings need more than one.
PAGE_ROWS, FILE_ROWS = 50, 500


@blueprint.get("/known")
def known_rows():
    start = _start()
    rows, after = known.rows(this_shop(), this_account(), start, PAGE_ROWS)
    return control.page(
        "account/known.html",
        stored=rows,
        is_first=start == known.START,
        after=_written(after),
        file_rows=FILE_ROWS,
    )


@blueprint.get("/known/file")
@proof_first(then="known.known_rows")
def known_file():
    rows, after = known.rows(this_shop(), this_account(), _start(), FILE_ROWS)
    shop, account = this_shop(), this_account()
    goes_on = url_for("known.known_file", after=_written(after))
    facts = {
        "hosting": hostnames.site_name(shop, account.username),
        "as_of": iso_time(now()),
        "what_it_means": f"{shop.config.public_url}{url_for('about.privacy')}",
        "times": "Unix seconds; deleted_at null: it is kept",
        "next": f"{shop.config.public_url}{goes_on}" if after else None,
    }
    told = [
        {
            "table": row.table,
            "deleted_at": iso_or_none(row.deleted_at),
            "columns": row.columns,
            "not_shown": row.hidden,
        }
        for row in rows
    ]
    # One row in one line: to be read, and compared.
    head = json.dumps(facts, indent=2).removesuffix("\n}")
    lines = ",\n".join(map(json.dumps, told))
    disposition = f'attachment; filename="{account.username}-known.json"'
    return Response(
        f'{head},\n  "rows": [\n{lines}\n]}}\n',
        mimetype="application/json",
        headers={"Content-Disposition": disposition},
    )


def _start() -> tuple[int, int]:
    """Where the page or the file begins, as named by the one before."""
    typed = request.args.get("after")
    if typed is None:
        return known.START
    told = re.fullmatch("([0-9]{1,2})-([0-9]{1,9})", typed)
    if told is None:
        raise NotFound
    return int(told[1]), int(told[2])


def _written(start: tuple[int, int] | None) -> str | None:
    return start and f"{start[0]}-{start[1]}"
