"""The control center's pages for paid areas of the site."""

from flask import flash, redirect, render_template, request, url_for
from werkzeug.exceptions import NotFound

from lightningspace.base.models import Service
from lightningspace.base.prices import Terms, in_units
from lightningspace.base.refusals import Refusal
from lightningspace.pages import control
from lightningspace.pages.control import page, this_account
from lightningspace.rules import areas as rules
from lightningspace.rules import services, tips, wanted
from lightningspace.shop import this_shop
from lightningspace.visitors import limits
from lightningspace.visitors.forms import Button, PaidAreaForm

blueprint = control.part("areas")

POLL_SECONDS = 3


@blueprint.get("/areas")
def areas():
    return _areas_page()


@blueprint.post("/areas")
@limits.limited("changes", among=limits.owners)
def add_area():
    form = _form()
    if not form.validate_on_submit():
        return _areas_page(400, form)
    name = form.name.data
    try:
        wanted.add(this_shop(), this_account().id, "paidarea", name, **form.settings())
    except wanted.AccountNotReady:
        raise
    except Refusal as refused:
        form.name.errors = [refused.text]
        return _areas_page(refused.status, form)
    return _to_area(name)


@blueprint.get("/areas/<area>")
def area(area):
    return _area_page(_area(area))


@blueprint.get("/areas/<area>/status")
def area_status(area):
    """The fragment that shows its state, and polls while it is put on the site and tried."""
    row = next((row for row in _rows() if row.name == area), None)
    if row is None:
        return control.shown_anew("areas")
    return render_template("account/_area.html", button=Button(), **_shown(row))


@blueprint.post("/areas/<area>/change")
@limits.limited("changes", among=limits.owners)
def change_area(area):
    row = _area(area)
    form = _form(row)
    if not form.validate_on_submit():
        return _area_page(row, 400, form)
    wanted.configure(row.account_id, row.kind, row.name, **form.settings())
    flash("The paid area is being changed.")
    return _to_area(row.name)


@blueprint.post("/areas/<area>/switch")
@limits.limited("changes", among=limits.owners)
def switch_area(area):
    row, active = _area(area), request.form.get("active") == "on"
    wanted.switch(row.account_id, row.kind, row.name, active)
    return _to_area(row.name)


@blueprint.post("/areas/<area>/try")
@limits.limited("changes", among=limits.owners)
def try_area(area):
    """Have it looked at again; `programs_only`: its owner agrees to sell to programs alone."""
    row = _area(area)
    changes = {"programs_only": True} if request.form.get("programs_only") == "yes" else {}
    wanted.configure(row.account_id, row.kind, row.name, **changes)
    return _to_area(row.name)


@blueprint.post("/areas/<area>/remove")
@limits.limited("changes", among=limits.owners)
def remove_area(area):
    row = _area(area)
    wanted.remove(row.account_id, row.kind, row.name)
    flash("The paid area is being removed. What was for sale there stays on your site.")
    return redirect(url_for("areas.areas"), 303)


def _rows() -> list[Service]:
    return rules.of_account(control.this_progress().rows)


def _area(name: str) -> Service:
    row = next((row for row in _rows() if row.name == name and not row.gone), None)
    if row is None:
        raise NotFound
    return row


def _to_area(name: str):
    return redirect(url_for("areas.area", area=name), 303)


def _form(row: Service | None = None, **kwargs) -> PaidAreaForm:
    bounds = tips.bounds(this_shop()) if this_account().tips_address else None
    return PaidAreaForm(bounds, services.settings_of(row) if row else None, **kwargs)


def _areas_page(status: int = 200, form: PaidAreaForm | None = None):
    return page(
        "account/areas.html",
        status,
        areas=[_shown(row) for row in _rows()],
        most=services.KINDS["paidarea"].most,
        form=form or _form(formdata=None),
        can_have_areas=this_shop().config.ftp_uploads,
    )


def _area_page(row: Service, status: int = 200, form: PaidAreaForm | None = None):
    return page(
        "account/area.html",
        status,
        here="areas",
        form=form or _form(row, formdata=None),
        walls=this_shop().config.walls,
        can_have_https=this_shop().config.sites_tls != "none",
        **_shown(row),
    )


def _shown(row: Service) -> dict:
    """One area, and its state: "going", "trouble", "tried", "off", "wrong" or "on"."""
    settings, account = services.settings_of(row), this_account()
    if row.gone:
        state = "going"
    elif not row.is_applied:
        state = "trouble" if row.error else "tried"
    elif not services.is_on(account, row):
        state = "off"
    else:
        state = "wrong" if row.note else "on"
    moves = not row.is_applied and not row.permanent
    return {
        "area": row,
        "area_state": state,
        "area_settings": settings,
        "area_time": Terms(0, *in_units(settings["seconds"])).time_in_words,
        "area_url": control.site_url() + f"{row.name}/",
        "paid_to": rules.address(this_shop(), account, settings),
        "every_seconds": POLL_SECONDS if moves else None,
    }
