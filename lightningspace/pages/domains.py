"""The control center's page for the customer's own domains."""

from flask import current_app, flash, redirect, render_template, request, url_for
from werkzeug.exceptions import NotFound

from lightningspace.base.clock import now
from lightningspace.base.models import Domain, Service
from lightningspace.base.prices import DAY
from lightningspace.base.refusals import Refusal
from lightningspace.pages import control
from lightningspace.pages.control import page, this_account
from lightningspace.rules import (
    certificates,
    domain_checks,
    domain_records,
    domains,
    hostnames,
    services,
    wanted,
)
from lightningspace.rules.progress import Progress
from lightningspace.shop import this_shop
from lightningspace.visitors.forms import Button, DomainForm

blueprint = control.part("domains")

DNS_POLL_SECONDS = 5  # while a domain waits for its records
DOMAINS_A_SECOND = 2  # how many of those on one page may poll


@blueprint.get("/domains", endpoint="domains")
def domain_list():
    return _domains_page()


@blueprint.post("/domains")
def add_domain():
    form = DomainForm()
    name = _added_domain(form) if form.validate_on_submit() else None
    return _to_domain(name) if name else _domains_page(400, form)


def _added_domain(form: DomainForm) -> str | None:
    """Add the domain and return its name; None: the form says why not."""
    try:
        return domains.add(
            this_shop(), this_account().id, form.name.data, bool(form.wants_mail.data)
        )
    except wanted.NoneLeft:
        form.more = control.one_more("domains")
    except (ValueError, Refusal) as error:
        form.name.errors = [str(error)]
    return None


@blueprint.get("/domains/<name>/status")
def domain_status(name):
    rows = domains.of(this_account().id)
    known = control.this_progress()
    own = _services_by_name(known).get(name, {})
    facts = _domain_facts(_named(rows, name), known, own, len(rows))
    return render_template("account/_domain.html", facts=facts, button=Button())


@blueprint.post("/domains/<name>/check")
def check_domain(name):
    row = _domain(name)
    domains.check_now(row.account_id, row.name)
    return _to_domain(row.name)


@blueprint.post("/domains/<name>/mail")
def switch_domain_mail(name):
    row = _domain(name)
    wants_mail = request.form.get("wants_mail") == "yes"
    if wants_mail != row.wants_mail:
        domains.set_mail(this_shop(), row.account_id, row.name, wants_mail)
    return _to_domain(row.name)


@blueprint.route("/domains/<name>/remove", methods=["GET", "POST"])
def remove_domain(name):
    row = _domain(name)
    if request.method == "POST":
        domains.remove(row.account_id, row.name)
        flash(f"{row.name} is being removed.")
        return redirect(url_for("domains.domains"), 303)
    lost = [
        each for each in control.rows_of(*services.ADDRESSES) if each.name.endswith(f"@{row.name}")
    ]
    return page("account/remove_domain.html", here="domains", domain=row, lost=lost)


def _to_domain(name: str):
    return redirect(url_for("domains.domains", _anchor=name), 303)


def _domain(name: str) -> Domain:
    """A domain of this account, or 404."""
    return _named(domains.of(this_account().id), name)


def _named(rows: list[Domain], name: str) -> Domain:
    for row in rows:
        if row.name == name:
            return row
    raise NotFound


def _domains_page(status: int = 200, form: DomainForm | None = None):
    rows, known = domains.of(this_account().id), control.this_progress()
    own = _services_by_name(known)
    return page(
        "account/domains.html",
        status,
        form=form or DomainForm(formdata=None),
        domains=[_domain_facts(row, known, own.get(row.name, {}), len(rows)) for row in rows],
        used=len(rows),
        allowed=services.domains_allowed(this_shop(), this_account()),
    )


def _services_by_name(known: Progress) -> dict[str, dict[str, Service]]:
    """The services of each name, by kind."""
    found: dict[str, dict[str, Service]] = {}
    for row in known.rows:
        if not row.gone:
            found.setdefault(row.name, {})[row.kind] = row
    return found


def _domain_facts(row: Domain, known: Progress, own: dict[str, Service], of_all: int) -> dict:
    """What the fragment of one domain shows. `own`: its services; `of_all`: how many domains are on
    the page.
    """
    site = services.only(known.rows, "site")
    has_place = "alias" in own and services.settings_of(own["alias"])["letsencrypt"]
    is_proven = row.verified_at is not None and row.missing_at is None
    found = domain_records.found(row)
    is_fine = is_proven and "alias" in own and (row.has_mx or not row.wants_mail)
    # Some want their mail alone here.
    is_new = now() - (row.verified_at or 0) < DAY
    is_fine = is_fine and not (found.leads_here is False and is_new)
    poll_seconds = control.poll_seconds(list(own.values())) if is_fine else DNS_POLL_SECONDS
    return {
        "domain": row,
        "records": domains.records(this_shop(), this_account(), row),
        "alias": own.get("alias"),
        "mail": own.get("mail_domain"),
        "url": certificates.domain_url(this_shop(), site, own["alias"]) if "alias" in own else None,
        "host": hostnames.host(this_shop(), this_account()),
        "waits_for_certificate": certificates.is_switched_on(this_shop(), site) and not has_place,
        "found": found,
        "is_problem": domain_checks.is_problem(row),
        "state": known.state,
        "is_fine": is_fine,
        "poll_seconds": poll_seconds and max(poll_seconds, of_all // DOMAINS_A_SECOND),
        "mail_ends_at": domains.mail_ends_at(row),
        "ends_at": domains.ends_at(row),
        "can_publish": "sandbox.publish" in current_app.view_functions,
    }
