"""The tour leads past every page; `make screenshots` takes pictures of it."""

import os
from itertools import product
from pathlib import Path

from tests.conftest import with_ftp, with_mail
from tests.pictures import OF_README, SCHEMES, WIDTHS, Camera, file_name
from tests.tour import ERRORS, shown_shop

FOLDER = os.environ.get("SCREENSHOTS")
# What answers with no page of its own: fragments, files, and what only leads on.
NO_PAGES = {
    *(
        "orders.price",
        "orders.name",
        "orders.order_status",
        "control.status",
        "tips.jar_state",
        "uploads.state",
    ),
    *("money.extend_price", "money.top_up_price", "money.size_price"),
    *("mail.mail_addresses", "mail.address_status", "domains.domain_status"),
    "areas.area_status",
    *("monitoring.healthz", "monitoring.figures"),
    *("access.receipt_file", "access.next_receipt_file", "known.known_file", "tip.badge"),
    *(
        "orders.reopened_form",
        "orders.reopened_cancelling",
        "orders.reopened_voucher",
        "login.cookie",
    ),
    *("login.wallet_status", "access.new_wallet_status", "lnurl_auth.signed"),
    *("static", "gate_static", "favicon", "robots", "discovery.llms_txt"),
}
FOR_PROGRAMS = ("/api/", "/.well-known/")


@shown_shop
@with_mail
@with_ftp
def test_the_tour_leads_past_every_page_and_its_pictures_are_taken(app, tour, tmp_path, request):
    """Of all sights for `make screenshots`, else of those in the README."""
    sights = tour.walk()
    pages = {
        rule.endpoint
        for rule in app.url_map.iter_rules()
        if "GET" in rule.methods and not rule.rule.startswith(FOR_PROGRAMS)
    }
    assert pages - tour.shown == NO_PAGES
    names = [file_name(sight, 360, "dark") for sight in sights]
    assert len(set(names)) == len(names)
    assert all((sight.page == ERRORS) == ("Error " in sight.answer.text) for sight in sights)

    chromium = request.getfixturevalue("chromium")  # not before: the pages need no browser
    folder = Path(FOLDER or tmp_path)
    if not FOLDER:
        sights = [sight for sight in sights if (sight.page, sight.state) in OF_README]
    with chromium.new_context() as context:
        Camera(context.new_page(), app).take_all(sights, folder)
    names = [file_name(sight, *look) for sight in sights for look in product(WIDTHS, SCHEMES)]
    assert {*names, "index.html", "shop.webp"} <= {file.name for file in folder.iterdir()}
    assert all(f'src="{name}"' in (folder / "index.html").read_text() for name in names)
    print(f"\n{len(sights)} sights: open {folder.absolute() / 'index.html'}")
