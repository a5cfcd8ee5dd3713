"""What a program reads first: what is sold here, and how to buy it. It makes no invoice."""

from flask import Blueprint, Response, current_app, render_template
from werkzeug.exceptions import NotFound

from lightningspace.api import answers, openapi
from lightningspace.api.answers import success
from lightningspace.api.routes import PREFIX, Route, described_in
from lightningspace.gate import manifest as at_the_gate
from lightningspace.outside import l402
from lightningspace.shop import this_shop

blueprint = Blueprint("discovery", __name__)


@blueprint.get(f"{PREFIX}/openapi.json")
def openapi_json():
    document = openapi.document(this_shop(), described_in(current_app))
    if gate := current_app.extensions.get("gate"):
        document["paths"] |= at_the_gate.paths(gate, this_shop().config.public_url)
        document["x-l402-caveats"] |= at_the_gate.caveats(gate)
    return success(document)


@blueprint.get(answers.MANIFEST)
def manifest():
    """The manifest, as in the draft of L402's discovery.

    It names no quote endpoint, for only the POSTs that sell make invoices. Nor does it name the
    node's key: an outdated one, after a change of nodes, would keep everybody from paying.
    """
    shop = this_shop()
    described = described_in(current_app)
    sold = [(name, route) for name, route in described.items() if route.sells]
    gate = current_app.extensions.get("gate")
    return success(
        {
            "version": openapi.MANIFEST_VERSION,
            "provider": {"name": shop.config.shop_name, "uri": shop.config.public_url},
            "currencies": ["msat"],
            "macaroon_versions": [l402.IDENTIFIER_VERSION],
            "payment_methods": ["bolt11"],
            "openapi": f"{PREFIX}/openapi.json",
            "services": [
                {
                    "name": l402.SERVICE,
                    "description": openapi.SUMMARY,
                    "tiers": [{"tier": 0}],
                    "capabilities": list(l402.CAPABILITIES),
                    "resources": [_resource(name, route) for name, route in sold],
                },
                *(at_the_gate.services(gate) if gate else ()),
            ],
            "caveats": openapi.CAVEATS | (at_the_gate.caveats(gate) if gate else {}),
        }
    )


def _resource(name: str, route: Route) -> dict:
    method, path = name.split()
    needs = {"capability": route.capability} if route.capability else {}
    return {
        "path": f"{PREFIX}{path}",
        "method": method,
        **needs,
        "pricing": openapi.pricing(this_shop(), route),
    }


@blueprint.get(answers.INDEX_402)
def index_402():
    """What 402index.io compares when the operator claims the shop there."""
    text = this_shop().config.index_402_verify
    if not text:
        raise NotFound
    return Response(text, mimetype="text/plain")


@blueprint.get("/llms.txt")
def llms_txt():
    shop = this_shop()
    text = render_template(
        "llms.txt",
        address=shop.config.public_url,
        size_mb=shop.config.space_sizes_mb[0],
        costs=openapi.smallest_sat(shop),
    )
    return Response(text, mimetype="text/plain")
