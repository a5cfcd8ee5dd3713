"""Who runs the shop, and on what terms: the pages that the foot of every page leads to."""

from flask import Blueprint, render_template
from werkzeug.exceptions import NotFound

from lightningspace.base import markdown
from lightningspace.base.config import Config
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
        "source_url": config.source_url,
        "grace_days": config.grace_days,
    }


@blueprint.get("/terms")
def terms():
    config = this_shop().config
    if config.terms_file:
        return _document("Terms", config.terms_file)
    return render_template("about/terms.html")


@blueprint.get("/privacy")
def privacy():
    return render_template("about/privacy.html", own=markdown.html(this_shop().config.privacy_file))


@blueprint.get("/imprint")
def imprint():
    if not this_shop().config.imprint_file:
        raise NotFound
    return _document("Imprint", this_shop().config.imprint_file)


def _document(title: str, text: str):
    return render_template("about/document.html", title=title, html=markdown.html(text))
