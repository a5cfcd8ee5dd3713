"""The control center's page for tips: what came in, and which doors are open for more."""

import logging

from flask import flash, redirect, render_template, request, url_for
from werkzeug.exceptions import NotFound

from lightningspace.base.models import Service
from lightningspace.outside.node import NodeError, NodeRefused
from lightningspace.pages import control
from lightningspace.pages.control import page, this_account
from lightningspace.rules import hostnames, order_book, services, tips, wanted
from lightningspace.shop import this_shop
from lightningspace.visitors.forms import Button, TipJarForm

logger = logging.getLogger(__name__)
blueprint = control.part("tips")

# What the owner reads after switching something on, or off.
SWITCHED = {
    "tips_page": ("The tip page is on.", "The tip page is off: nobody can open it."),
    "tips_address": ("The Lightning Address takes tips.", "The Lightning Address takes no tips."),
    "tips_offer": ("The offer takes tips.", "The offer takes no tips."),
    "tips_show_end": (
        "Visitors see until when your hosting is paid.",
        "Only you see until when your hosting is paid.",
    ),
}


@blueprint.get("/tips", endpoint="tips")
def tips_page():
    return _tips_page()


def _tips_page(status: int = 200, jar_form: TipJarForm | None = None):
    shop, own, jar = this_shop(), this_account(), _jar()
    form = jar_form or (_jar_form(jar, formdata=None) if jar else None)
    before = request.args.get("before")
    received, older = order_book.listed(own.id, tips.DOORS, before)
    return page(
        "account/tips.html",
        status,
        jar_form=form,
        can_have_jar=this_shop().config.ftp_uploads,
        **_jar_state(jar),
        received=received,
        received_msat=tips.received_msat(own),
        before=before,
        older=older,
        address=tips.lightning_address(shop, own),
        lnurl=tips.lnurl(shop, own),
        link=tips.page_url(shop, own),
        badge=tips.badge_url(shop, own),
        **_offer(),
    )


def _offer() -> dict:
    """The offer's text; None: there is none, or the node did not answer (`no_answer`) or refused
    (`is_refused`).
    """
    try:
        offer, refused = tips.offer(this_shop(), this_account()), None
    except NodeError as error:
        logger.warning("no offer: %s", error)
        offer, refused = None, error
    return {
        "offer": offer,
        "is_refused": isinstance(refused, NodeRefused),
        "no_answer": refused is not None and not isinstance(refused, NodeRefused),
    }


@blueprint.post("/tips/switch")
def switch_tips():
    name, active = request.form.get("name"), request.form.get("active") == "on"
    if name not in SWITCHED:
        raise NotFound
    if this_account().closing_at:
        raise wanted.AccountClosed
    tips.switch(this_account().id, **{name: active})
    flash(SWITCHED[name][not active])
    return redirect(url_for("tips.tips", _anchor="doors"), 303)


@blueprint.post("/tips/<token>/hide")
def hide_tip(token):
    hidden = request.form.get("hidden") == "on"
    if not tips.hide(this_account().id, token, hidden):
        raise NotFound
    before = request.args.get("before")
    return redirect(url_for("tips.tips", before=before, _anchor="received"), 303)


# -- the tip jar on the site -------------------------------------------------------------


@blueprint.post("/tips/jar")
def change_jar():
    jar = _jar()
    if jar is None:
        raise wanted.UnknownService
    form = _jar_form(jar)
    if not form.validate_on_submit():
        return _tips_page(400, form)
    wanted.configure(this_account().id, "tipjar", jar.name, **form.settings())
    flash("The tip jar is being changed.")
    return redirect(url_for("tips.tips", _anchor="jar"), 303)


@blueprint.get("/tips/jar")
def jar_state():
    """The fragment that shows the tip jar, and polls while the jar is being put on the site."""
    jar = _jar()
    if jar is None:
        return control.shown_anew("tips")
    return render_template("account/_jar.html", button=Button(), **_jar_state(jar))


def _jar_state(jar: Service | None) -> dict:
    return {
        "jar": jar,
        "jar_state": control.this_progress().told_state(jar) if jar else None,
        "jar_moves": jar is not None and not jar.is_applied and not jar.permanent,
    }


@blueprint.post("/tips/jar/put")
def put_jar():
    """Put the tip jar on the site, or back there, whatever start page the site has."""
    _change_jar(is_there=True, put_back=True)
    flash("The tip jar is being put on your site. That takes a minute or two.")
    return redirect(url_for("tips.tips", _anchor="jar"), 303)


@blueprint.post("/tips/jar/remove")
def remove_jar():
    _change_jar(is_there=False, put_back=False)
    flash("The tip jar is being taken off your site.")
    return redirect(url_for("tips.tips", _anchor="jar"), 303)


def _change_jar(**settings) -> None:
    site = hostnames.site_name(this_shop(), this_account().username)
    wanted.configure(this_account().id, "tipjar", site, **settings)


def _jar() -> Service | None:
    """The service that is the tip jar; None: the site is to have none."""
    row = next(iter(control.rows_of("tipjar")), None)
    return row if row and services.settings_of(row)["is_there"] else None


def _jar_form(jar: Service, **kwargs) -> TipJarForm:
    return TipJarForm(tips.bounds(this_shop()), services.settings_of(jar), **kwargs)
