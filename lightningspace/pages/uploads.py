"""The control center's form for a ZIP or a page to put online, and how far that is."""

import json

from flask import flash, redirect, render_template, request, url_for
from flask_login import current_user

from lightningspace.base.archive import CHUNK, Unusable
from lightningspace.pages import control
from lightningspace.rules import hostnames, services, uploads
from lightningspace.shop import this_shop
from lightningspace.visitors import limits
from lightningspace.visitors.forms import Button, UploadForm
from lightningspace.visitors.logins import login_manager

blueprint = control.part("uploads")

# A form with its file, and how much of a larger one is read so that the browser hears the reason.
BODY_BYTES_MAX = uploads.BYTES_MAX + 64 * 1024
READ_BYTES_MAX = 2 * BODY_BYTES_MAX
TOO_LARGE = "This file is larger than 64 MB. Please send it by FTP or SSH, or in parts."


def admit():
    """Before a request is read: let a large one in if it comes with a login.

    The token against forms of other sites is in its body. Until that is read, other sites are kept
    out by the cookie, which browsers do not send with their forms, and by the origin, which has
    been checked before.
    """
    if request.endpoint != "uploads.send":
        return None
    if not current_user.is_authenticated:
        return login_manager.unauthorized()
    limit = this_shop().config.uploads_limit
    limits.take(f"uploads of {limits.owners()}", limit, limit)
    request.max_content_length = BODY_BYTES_MAX
    length = request.content_length or 0
    if not BODY_BYTES_MAX < length <= READ_BYTES_MAX:
        return None
    request.max_content_length = length
    while request.stream.read(CHUNK):
        continue
    form = UploadForm(formdata=None)
    form.file.errors = [TOO_LARGE]
    return _page(413, form)


@blueprint.get("/upload")
def upload():
    return _page()


@blueprint.post("/upload")
def send():
    form = UploadForm()
    if not form.validate_on_submit():
        return _page(400, form)
    sent = form.sent
    try:
        packed = uploads.receive(
            this_shop(), control.this_account(), sent.filename, sent.stream, form.replaces.data
        )
    except (Unusable, uploads.SiteOff, uploads.NoRoom) as refused:
        form.file.errors = [refused.text]
        return _page(refused.status, form)
    if packed.top:
        flash(
            f"Everything lay in the directory “{packed.top}”: its contents go to your site’s top."
        )
    if not packed.has_start_page:
        flash(
            "There is no index.html or index.php among these files: what your visitors see first "
            "stays as it is."
        )
    return redirect(url_for("uploads.upload"), 303)


@blueprint.post("/upload/replace")
@limits.limited("changes", among=limits.owners)
def replace():
    try:
        uploads.replace(this_shop(), control.this_account(), request.form.get("id", ""))
    except uploads.Gone as refused:
        flash(refused.text, "problem")
    return redirect(url_for("uploads.upload"), 303)


@blueprint.get("/upload/status")
def state():
    site = hostnames.site_name(this_shop(), control.this_account().username)
    return render_template(
        "account/_upload_state.html",
        site=site,
        site_url=control.site_url(),
        button=Button(),
        **_state(),
    )


def _page(status: int = 200, form: UploadForm | None = None):
    return control.page("account/upload.html", status, here="upload", **shown(form))


def shown(form: UploadForm | None = None) -> dict:
    """What the form and the state below it show. `can_upload` False: the shop has no FTP."""
    account, site = control.this_account(), services.only(control.own_rows(), "site")
    return {
        "upload_form": form or UploadForm(formdata=None),
        "upload_bytes_max": uploads.BYTES_MAX,
        "upload_too_large": TOO_LARGE,
        "can_upload": _uploader() is not None,
        "upload_is_on": site is not None
        and account.closing_at is None
        and services.is_on(account, site),
        **_state(),
    }


def _state() -> dict:
    sent, row = uploads.of_account(control.this_account().id), _uploader()
    # What becomes of the tip jar follows a moment after the files.
    is_followed = row is not None and not row.is_applied and not row.permanent
    return {
        "upload": sent,
        "upload_about": json.loads(sent.about) if sent else [],
        "upload_row": row,
        "upload_has_jar": row is not None and services.settings_of(row)["is_there"],
        "upload_moves": sent is not None
        and (sent.outcome is None or (sent.outcome == uploads.Outcome.DONE and is_followed)),
    }


def _uploader():
    """The service that stands for everything we do on the site over FTP."""
    return services.only(control.own_rows(), "tipjar")
