"""The control center's pages of mail and of domains."""

from flask import current_app, flash, redirect, render_template, request, url_for
from werkzeug.exceptions import NotFound

from lightningspace import certificates, domains, orders, wanted
from lightningspace.control import (
    POLL_SECONDS,
    SLOW_POLL_SECONDS,
    account,
    page,
    this_account,
)
from lightningspace.forms import (
    AddressForm,
    Button,
    DestinationForm,
    DomainForm,
    ForwardForm,
    MailboxForm,
    MailPasswordForm,
    QuotaForm,
)
from lightningspace.models import Domain, Service
from lightningspace.progress import Progress
from lightningspace.visitors import this_shop

FORWARD = "forward-"  # before its fields' names: the page holds the mailbox's form as well

DNS_POLL_SECONDS = 5  # while a domain waits for its records
DOMAINS_A_SECOND = 2  # of all on one page, each of which looks again by itself

NOT_READY = "Your hosting is still being set up. Please try again soon."
CLOSED = "Your hosting is being closed: nothing can be added any more."


def _one_more(what: str) -> dict:
    """What one more of "addresses" or "domains" costs, or why there is none to be had."""
    try:
        size, msat, ends_at = orders.one_more(this_shop(), this_account(), what)
    except orders.Refused as refused:
        return {"why_not": str(refused)}
    except orders.ResizeWaits as waits:
        return {"first": waits.token}
    return {"size": vars(size), "msat": msat, "ends_at": ends_at}


# -- mail ----------------------------------------------------------------------------


@account.get("/mail")
def mail():
    return _mail_page()


@account.get("/mail/addresses")
def mail_addresses():
    return render_template("account/_addresses.html", **_addresses())


@account.post("/mail/mailbox")
def add_mailbox():
    form = _mailbox_form()
    if not form.validate_on_submit() or not _added(
        form, "mailbox", form.password.data or None, quota_mb=form.quota_mb.data
    ):
        return _mail_page(400, mailbox_form=form)
    return redirect(url_for("account.mail", _anchor="addresses"), 303)


@account.post("/mail/forward")
def add_forward():
    form = _forward_form()
    if not form.validate_on_submit() or not _added(
        form, "forward", destination=form.destination.data
    ):
        return _mail_page(400, forward_form=form)
    return redirect(url_for("account.mail", _anchor="addresses"), 303)


def _added(form: AddressForm, kind: str, password: str | None = None, **settings) -> bool:
    """Whether the address is wanted now; why not is said beside its field."""
    try:
        wanted.add(this_shop(), this_account().id, kind, form.address, password, **settings)
    except wanted.Taken:
        form.local_part.errors = ["You have this address already."]
    except wanted.Full:
        form.more = _one_more("addresses")
    except wanted.NotReady:
        form.local_part.errors = [NOT_READY]
    except wanted.Closed:
        form.local_part.errors = [CLOSED]
    except ValueError:  # such as a domain that was removed a moment ago
        form.local_part.errors = ["This address cannot be yours. Please look at the domain again."]
    else:
        return True
    return False


@account.get("/mail/<address>")
def address(address):
    return _address_page(_address(address))


@account.get("/mail/<address>/status")
def address_status(address):
    row = _address(address)
    context = _addresses() | {"every_seconds": _poll_seconds([row])}
    return render_template("account/_address.html", row=row, **context)


@account.post("/mail/<address>/password")
def set_mail_password(address):
    row, form = _address(address, "mailbox"), MailPasswordForm()
    if not form.validate_on_submit():
        return _address_page(row, 400, password_form=form)
    wanted.set_password(this_shop(), row.account_id, row.kind, row.name, form.password.data or None)
    return _to_address(row)


@account.post("/mail/<address>/quota")
def set_quota(address):
    row = _address(address, "mailbox")
    form = _quota_form(row)
    if not form.validate_on_submit():
        return _address_page(row, 400, quota_form=form)
    wanted.configure(row.account_id, row.kind, row.name, quota_mb=form.quota_mb.data)
    return _to_address(row)


@account.post("/mail/<address>/destination")
def set_destination(address):
    row, form = _address(address, "forward"), DestinationForm()
    form.address = row.name
    if not form.validate_on_submit():
        return _address_page(row, 400, destination_form=form)
    wanted.configure(row.account_id, row.kind, row.name, destination=form.destination.data)
    return _to_address(row)


@account.post("/mail/<address>/remove")
def remove_address(address):
    row = _address(address)
    wanted.remove(row.account_id, row.kind, row.name)
    flash(f"{row.name} is being removed.")
    return redirect(url_for("account.mail"), 303)


def _to_address(row: Service):
    return redirect(url_for("account.address", address=row.name, _anchor="address"), 303)


def _address(name: str, *kinds: str) -> Service:
    """A mailbox or forward of this account that is not being removed; 404 when it has none."""
    for row in wanted.services_of(this_account().id):
        if row.name == name and row.kind in (kinds or wanted.ADDRESSES) and not row.gone:
            return row
    raise NotFound


def _mailbox_form(**kwargs) -> MailboxForm:
    return MailboxForm(_mail_domains(), left_mb=_left_mb(), **kwargs)


def _forward_form(**kwargs) -> ForwardForm:
    return ForwardForm(_mail_domains(), prefix=FORWARD, **kwargs)


def _quota_form(row: Service, **kwargs) -> QuotaForm:
    return QuotaForm(left_mb=_left_mb(row), **kwargs)


def _rows(*kinds: str) -> list[Service]:
    return [row for row in wanted.services_of(this_account().id) if row.kind in kinds]


def _own(local_part: str) -> str:
    return f"{local_part}@{wanted.site_name(this_shop(), this_account().username)}"


def _mail_domains() -> list[str]:
    """Where an address can be added; the hosting's own first."""
    return wanted.mail_domains(this_shop(), this_account(), _rows("mail_domain"))


def _left_mb(row: Service | None = None) -> int:
    """What the quota of a mailbox, `row` or a new one, can be at most."""
    others = [each for each in _rows("mailbox") if each != row]
    return wanted.mail_left_mb(this_account().space_mb, others)


def _addresses() -> dict:
    """What the list of addresses shows."""
    account = this_account()
    rows = _rows(*wanted.ADDRESSES)
    known = Progress(account, rows)
    there = [row for row in rows if not row.gone]
    return {
        "by_domain": _by_domain(rows),
        "no_mail": [row.name for row in _rows("mail_domain") if not (row.active or row.gone)],
        "states": {(row.kind, row.name): known.state(row) for row in rows},
        "settings": {(row.kind, row.name): wanted.settings_of(row) for row in rows},
        "quotas": wanted.mailbox_quotas_mb(account.space_mb, rows),
        "passwords": _new_passwords(there),
        "used": len(there),
        "allowed": wanted.addresses_allowed(this_shop(), account),
        "every_seconds": _poll_seconds(rows),
    }


def _by_domain(rows: list[Service]) -> list[tuple[str, list[Service]]]:
    """The addresses of each domain, of the hosting's own first."""
    own = wanted.site_name(this_shop(), this_account().username)
    found: dict[str, list[Service]] = {}
    for row in sorted(rows, key=lambda row: row.name):
        found.setdefault(row.name.rpartition("@")[2], []).append(row)
    return sorted(found.items(), key=lambda item: (item[0] != own, item[0]))


def _new_passwords(rows: list[Service]) -> dict[str, str]:
    found = {row.name: wanted.new_password(this_shop(), row) for row in rows}
    return {name: password for name, password in found.items() if password}


def _mail_facts() -> dict:
    shop, account = this_shop(), this_account()
    return {
        "mail_host": wanted.host(shop, account),
        "may_send": wanted.may_send(shop, account),
        "mail_days": shop.config.mail_send_min_days,
        "part_mb": wanted.mail_left_mb(account.space_mb, []),
    }


def _poll_seconds(rows: list[Service]) -> int | None:
    """When to look at them again; None when nothing of them changes by itself."""
    known = Progress(this_account(), rows)
    moving = [row for row in rows if known.state(row) not in ("off", "live")]
    if all(row.permanent for row in moving):
        return None
    return POLL_SECONDS if any(row.error is None for row in moving) else SLOW_POLL_SECONDS


def _mail_page(status: int = 200, mailbox_form=None, forward_form=None):
    return page(
        "account/mail.html",
        status,
        mailbox_form=mailbox_form or _mailbox_form(formdata=None),
        forward_form=forward_form or _forward_form(formdata=None),
        **_mail_facts(),
        **_addresses(),
    )


def _address_page(row: Service, status: int = 200, **forms):
    quota_mb = wanted.settings_of(row).get("quota_mb")
    context = {
        "password_form": MailPasswordForm(formdata=None),
        "quota_form": _quota_form(row, formdata=None, data={"quota_mb": quota_mb}),
        "every_seconds": _poll_seconds([row]),
        "destination_form": DestinationForm(formdata=None, data=wanted.settings_of(row)),
    }
    return page(
        "account/address.html",
        status,
        here="mail",
        row=row,
        is_for_notices=row.name == _own("info"),
        **_mail_facts(),
        **(_addresses() | context | forms),
    )


# -- domains -------------------------------------------------------------------------


@account.get("/domains", endpoint="domains")
def domain_list():
    return _domains_page()


@account.post("/domains")
def add_domain():
    form = DomainForm()
    name = _added_domain(form) if form.validate_on_submit() else None
    return _to_domain(name) if name else _domains_page(400, form)


def _added_domain(form: DomainForm) -> str | None:
    """The name of the domain that is waited for now; None: why not is said beside its field."""
    try:
        return domains.add(
            this_shop(), this_account().id, form.name.data, bool(form.wants_mail.data)
        )
    except wanted.Full:
        form.more = _one_more("domains")
    except wanted.NotReady:
        form.name.errors = [NOT_READY]
    except wanted.Closed:
        form.name.errors = [CLOSED]
    except (ValueError, wanted.Taken) as error:
        form.name.errors = [str(error)]
    return None


@account.get("/domains/<name>/status")
def domain_status(name):
    row, of_all = _domain(name), len(domains.of(this_account().id))
    facts = _domain_facts(row, _known_of_domains(), of_all)
    return render_template("account/_domain.html", facts=facts, button=Button())


@account.post("/domains/<name>/check")
def check_domain(name):
    row = _domain(name)
    domains.check_now(row.account_id, row.name)
    return _to_domain(row.name)


@account.post("/domains/<name>/mail")
def switch_domain_mail(name):
    row = _domain(name)
    wants_mail = request.form.get("wants_mail") == "yes"
    if wants_mail != row.wants_mail:
        domains.set_mail(this_shop(), row.account_id, row.name, wants_mail)
    return _to_domain(row.name)


@account.route("/domains/<name>/remove", methods=["GET", "POST"])
def remove_domain(name):
    row = _domain(name)
    if request.method == "POST":
        domains.remove(row.account_id, row.name)
        flash(f"{row.name} is being removed.")
        return redirect(url_for("account.domains"), 303)
    lost = [each for each in _rows(*wanted.ADDRESSES) if each.name.endswith(f"@{row.name}")]
    return page("account/remove_domain.html", here="domains", domain=row, lost=lost)


def _to_domain(name: str):
    return redirect(url_for("account.domains", _anchor=name), 303)


def _domain(name: str) -> Domain:
    """A domain of this account; 404 when it has no such one."""
    for row in domains.of(this_account().id):
        if row.name == name:
            return row
    raise NotFound


def _domains_page(status: int = 200, form: DomainForm | None = None):
    rows, known = domains.of(this_account().id), _known_of_domains()
    return page(
        "account/domains.html",
        status,
        form=form or DomainForm(formdata=None),
        domains=[_domain_facts(row, known, len(rows)) for row in rows],
        used=len(rows),
        allowed=wanted.domains_allowed(this_shop(), this_account()),
    )


def _known_of_domains() -> Progress:
    return Progress(this_account(), _rows("site", "alias", "mail_domain"))


def _domain_facts(row: Domain, known: Progress, of_all: int) -> dict:
    """What the fragment of one domain shows, of so many on the page."""
    own = {each.kind: each for each in known.rows if each.name == row.name and not each.gone}
    site = next((each for each in known.rows if each.kind == "site"), None)
    has_place = "alias" in own and wanted.settings_of(own["alias"])["letsencrypt"]
    is_proven = row.verified_at is not None and row.missing_at is None
    is_fine = is_proven and "alias" in own and (row.has_mx or not row.wants_mail)
    poll_seconds = _poll_seconds(list(own.values())) if is_fine else DNS_POLL_SECONDS
    return {
        "domain": row,
        "records": domains.records(this_shop(), this_account(), row),
        "alias": own.get("alias"),
        "mail": own.get("mail_domain"),
        "host": wanted.host(this_shop(), this_account()),
        "waits_for_certificate": certificates.is_wanted(site) and not has_place,
        "state": known.state,
        "is_fine": is_fine,
        "poll_seconds": poll_seconds and max(poll_seconds, of_all // DOMAINS_A_SECOND),
        "mail_ends_at": domains.mail_ends_at(row),
        "ends_at": domains.ends_at(row),
        "can_publish": "sandbox.publish" in current_app.view_functions,
    }
