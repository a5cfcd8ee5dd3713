"""The API's routes for customers' domains."""

from lightningspace.api import codes, resources, routes
from lightningspace.api.answers import created, going, success, the
from lightningspace.api.bodies import TEXT, WRONG, YES_NO, BadBody, check, form_of
from lightningspace.api.holders import changer, changes, holder, progress_of, sells
from lightningspace.api.invoices import PRICE_OF_SIZE, added, wait_for_own_order
from lightningspace.api.routes import described
from lightningspace.base.models import Domain
from lightningspace.rules import domains, services, wanted
from lightningspace.rules.tokens import Holder
from lightningspace.shop import this_shop
from lightningspace.visitors.forms import DomainForm

blueprint = routes.part("domains")

FIELDS = {"name": TEXT, "wants_mail": YES_NO}
CHANGES = {"wants_mail": YES_NO}


@blueprint.get("/hosting/domains", endpoint="domains")
@described("The domains", {200: "Domains"}, capability="read")
def domain_list():
    found = holder()
    allowed = services.domains_allowed(this_shop(), found.account)
    return success({"domains": _domains(found), "domains_allowed": allowed})


@blueprint.get("/hosting/domains/<name>")
@described("One domain", {200: "Domain"}, capability="read", codes=codes.ONE)
def domain(name):
    return success(the(_domains(holder()), "name", name))


@blueprint.post("/hosting/domains")
@described(
    "Add a domain",
    {201: "Domain"},
    capability="domains",
    fields=FIELDS,
    required=("name",),
    sells="one more domain than is included or was bought",
    price=PRICE_OF_SIZE,
    codes=(*codes.CHANGE, *codes.SIZE_SALE, "taken", "full"),
    note="It works once its `records` are found. A 402 needs the capability pay.",
)
@changes
@sells
def add_domain():
    found = changer()
    form = form_of(DomainForm, routes.body())
    check(form)
    wait_for_own_order(found)
    typed, wants_mail = form.name.data, bool(form.wants_mail.data)
    try:
        answer = added(
            found,
            "domains",
            lambda: domains.add(this_shop(), found.account.id, typed, wants_mail),
        )
        name = domains.normalise(typed)
    except ValueError as error:
        raise BadBody(WRONG, {"name": [str(error)]}) from None
    return answer or created(_domains(found), "api_domains.domain", name=name)


@blueprint.patch("/hosting/domains/<name>")
@described(
    "Switch a domain's mail",
    {200: "Domain"},
    capability="domains",
    fields=CHANGES,
    codes=(*codes.ONE, *codes.CHANGE),
)
@changes
def change_domain(name):
    found = changer()
    row = _domain(found, name)
    wants_mail = routes.body().get("wants_mail")
    if wants_mail is not None and wants_mail != row.wants_mail:
        domains.set_mail(this_shop(), row.account_id, row.name, wants_mail)
    return success(the(_domains(found), "name", name))


@blueprint.delete("/hosting/domains/<name>")
@described(
    "Remove a domain with its mailboxes",
    {202: "DomainGoing"},
    capability="domains",
    codes=(*codes.ONE, *codes.CHANGE),
)
@changes
def remove_domain(name):
    found = changer()
    row = _domain(found, name)
    domains.remove(row.account_id, row.name)
    return going(name=name)


@blueprint.post("/hosting/domains/<name>/check")
@described(
    "Have a domain's records looked up now",
    {202: "Domain"},
    capability="domains",
    codes=(*codes.ONE, *codes.CHANGE),
)
@changes
def check_domain(name):
    """Have the domain's records looked up within seconds."""
    found = changer()
    row = _domain(found, name)
    domains.check_now(row.account_id, row.name)
    return success(the(_domains(found), "name", name), 202, Retry_After="5")


def _domain(found: Holder, name: str) -> Domain:
    for row in domains.of(found.account.id):
        if row.name == name:
            return row
    raise wanted.UnknownService


def _domains(found: Holder) -> list[dict]:
    return resources.domains(this_shop(), progress_of(found))
