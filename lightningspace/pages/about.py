"""Who runs the shop, and on what terms: the pages that the foot of every page leads to."""

from flask import Blueprint, render_template
from werkzeug.exceptions import NotFound

from lightningspace.base import markdown
from lightningspace.base.config import Config
from lightningspace.base.prices import DAY
from lightningspace.rules import domains, outbox, payments, sessions, stored
from lightningspace.rules import status as how_it_is
from lightningspace.shop import this_shop

blueprint = Blueprint("about", __name__)


def facts(config: Config) -> dict:
    """What every page may say of the shop: `about` in templates."""
    return {
        "shop_name": config.shop_name,
        "url": config.public_url,
        "contact": config.contact,
        "abuse_contact": config.abuse_contact,
        "has_imprint": bool(config.imprint_file),
        "has_own_terms": bool(config.terms_file),
        "source_url": config.source_url,
        "grace_days": config.grace_days,
        # What opens a service in the browser, by its kind.
        "tools": {
            "mailbox": config.webmail_url,
            "database_user": config.phpmyadmin_url,
            "ftp": config.files_url,
        },
    }


@blueprint.get("/terms")
def terms():
    config = this_shop().config
    if config.terms_file:
        return _document("Terms", config.terms_file)
    return render_template("about/terms.html")


@blueprint.get("/abuse")
def abuse():
    """Where to report a hosting that does harm, and what to send."""
    config = this_shop().config
    if not config.abuse_contact:
        raise NotFound
    return render_template("about/abuse.html", base_domain=config.base_domain)


@blueprint.get("/privacy")
def privacy():
    config = this_shop().config
    return render_template(
        "about/privacy.html",
        own=markdown.html(config.privacy_file),
        groups=stored.by_group(),
        base_domain=config.base_domain,
        sends_mail=bool(config.smtp_url),
        days={
            "session": sessions.LASTS_SECONDS // DAY,
            "name": config.name_quarantine_days,
            "claim": domains.CLAIM_SECONDS // DAY,
            "lost": domains.LOST_SECONDS // DAY,
            "mail": outbox.GIVE_UP_SECONDS // DAY,
            "evidence": config.evidence_days,
            "doubtful": payments.DOUBTFUL_SECONDS // DAY,
        },
    )


@blueprint.get("/status")
def status():
    return render_template("about/status.html", status=how_it_is.told(this_shop()))


@blueprint.get("/imprint")
def imprint():
    if not this_shop().config.imprint_file:
        raise NotFound
    return _document("Imprint", this_shop().config.imprint_file)


def _document(title: str, text: str):
    return render_template("about/document.html", title=title, html=markdown.html(text))
