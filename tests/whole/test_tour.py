"""`make screenshots` takes pictures of the tour."""

import os
from itertools import product
from pathlib import Path

from tests.conftest import with_ftp, with_mail
from tests.pictures import OF_README, SCHEMES, WIDTHS, Camera, file_name
from tests.tour import shown_shop

FOLDER = os.environ.get("SCREENSHOTS")


@shown_shop
@with_mail
@with_ftp
def test_pictures_of_the_tour_are_taken(app, tour, tmp_path, chromium):
    """Of all sights for `make screenshots`, otherwise of the sights in the README."""
    if FOLDER:
        sights = tour.walk()
    else:
        sights = [sight for sight in tour.begin() if (sight.page, sight.state) in OF_README]
    folder = Path(FOLDER or tmp_path)
    with chromium.new_context() as context:
        Camera(context.new_page(), app).take_all(sights, folder)
    names = [file_name(sight, *look) for sight in sights for look in product(WIDTHS, SCHEMES)]
    assert {*names, "index.html", "shop.webp"} <= {file.name for file in folder.iterdir()}
    assert all(f'src="{name}"' in (folder / "index.html").read_text() for name in names)
    print(f"\n{len(sights)} sights: open {folder.absolute() / 'index.html'}")
