"""The control center's pages for mailboxes and forwards."""

from flask import flash, redirect, render_template, url_for
from werkzeug.exceptions import NotFound

from lightningspace.base.models import Service
from lightningspace.base.refusals import Refusal
from lightningspace.pages import control
from lightningspace.pages.control import page, this_account
from lightningspace.rules import accounts, hostnames, services, wanted
from lightningspace.shop import this_shop
from lightningspace.visitors.forms import (
    AddressForm,
    DestinationForm,
    ForwardForm,
    MailboxForm,
    MailPasswordForm,
    QuotaForm,
)

blueprint = control.part("mail")

FORWARD = "forward-"  # prefix of its fields: the page has the mailbox's form as well


@blueprint.get("/mail")
def mail():
    return _mail_page()


@blueprint.get("/mail/addresses")
def mail_addresses():
    return render_template("account/_addresses.html", **_addresses())


@blueprint.post("/mail/mailbox")
def add_mailbox():
    form = _mailbox_form()
    if not form.validate_on_submit() or not _added(
        form, "mailbox", form.password.data or None, quota_mb=form.quota_mb.data
    ):
        return _mail_page(400, mailbox_form=form)
    return redirect(url_for("mail.mail", _anchor="addresses"), 303)


@blueprint.post("/mail/forward")
def add_forward():
    form = _forward_form()
    if not form.validate_on_submit() or not _added(
        form, "forward", destination=form.destination.data
    ):
        return _mail_page(400, forward_form=form)
    return redirect(url_for("mail.mail", _anchor="addresses"), 303)


def _added(form: AddressForm, kind: str, password: str | None = None, **settings) -> bool:
    """Add the address; False: the form says why not."""
    try:
        wanted.add(this_shop(), this_account().id, kind, form.address, password, **settings)
    except wanted.NoneLeft:
        form.more = control.one_more("addresses")
    except Refusal as refused:
        form.local_part.errors = [refused.text]
    except ValueError:  # such as a domain that was removed a moment ago
        form.local_part.errors = ["You cannot have this address here. Please check the domain."]
    else:
        return True
    return False


@blueprint.get("/mail/<address>")
def address(address):
    return _address_page(_address(address))


@blueprint.get("/mail/<address>/status")
def address_status(address):
    row = _address(address)
    context = _addresses() | {"every_seconds": control.poll_seconds([row])}
    return render_template("account/_address.html", row=row, **context)


@blueprint.post("/mail/<address>/password")
def set_mail_password(address):
    row, form = _address(address, "mailbox"), MailPasswordForm()
    if not form.validate_on_submit():
        return _address_page(row, 400, password_form=form)
    wanted.set_password(this_shop(), row.account_id, row.kind, row.name, form.password.data or None)
    return _to_address(row)


@blueprint.post("/mail/<address>/quota")
def set_quota(address):
    row = _address(address, "mailbox")
    form = _quota_form(row)
    if not form.validate_on_submit():
        return _address_page(row, 400, quota_form=form)
    wanted.configure(row.account_id, row.kind, row.name, quota_mb=form.quota_mb.data)
    return _to_address(row)


@blueprint.post("/mail/<address>/destination")
def set_destination(address):
    row, form = _address(address, "forward"), DestinationForm()
    form.address = row.name
    if not form.validate_on_submit():
        return _address_page(row, 400, destination_form=form)
    wanted.configure(row.account_id, row.kind, row.name, destination=form.destination.data)
    return _to_address(row)


@blueprint.post("/mail/<address>/remove")
def remove_address(address):
    row = _address(address)
    wanted.remove(row.account_id, row.kind, row.name)
    flash(f"{row.name} is being removed.")
    return redirect(url_for("mail.mail"), 303)


def _to_address(row: Service):
    return redirect(url_for("mail.address", address=row.name, _anchor="address"), 303)


def _address(name: str, *kinds: str) -> Service:
    """A mailbox or forward of this account that is not being removed, or 404."""
    for row in control.this_progress().rows:
        if row.name == name and row.kind in (kinds or services.ADDRESSES) and not row.gone:
            return row
    raise NotFound


def _mailbox_form(**kwargs) -> MailboxForm:
    return MailboxForm(_mail_domains(), left_mb=_left_mb(), **kwargs)


def _forward_form(**kwargs) -> ForwardForm:
    return ForwardForm(_mail_domains(), prefix=FORWARD, **kwargs)


def _quota_form(row: Service, **kwargs) -> QuotaForm:
    return QuotaForm(left_mb=_left_mb(row), **kwargs)


def _own(local_part: str) -> str:
    return f"{local_part}@{hostnames.site_name(this_shop(), this_account().username)}"


def _mail_domains() -> list[str]:
    """The domains where an address can be added; the hosting's own first."""
    return services.mail_domains(this_shop(), this_account(), control.rows_of("mail_domain"))


def _left_mb(row: Service | None = None) -> int:
    """The largest quota that a mailbox can have; `row` None: a new one."""
    others = [each for each in control.rows_of("mailbox") if each != row]
    return services.mail_left_mb(this_account().space_mb, others)


def _addresses() -> dict:
    """What the list of addresses shows."""
    account = this_account()
    rows = control.rows_of(*services.ADDRESSES)
    known = control.this_progress()
    there = [row for row in rows if not row.gone]
    return {
        "by_domain": _by_domain(rows),
        "no_mail": [
            row.name for row in control.rows_of("mail_domain") if not (row.active or row.gone)
        ],
        "states": {(row.kind, row.name): known.state(row) for row in rows},
        "settings": {(row.kind, row.name): services.settings_of(row) for row in rows},
        "quotas": services.mailbox_quotas_mb(account.space_mb, rows),
        "passwords": {row.name: each for row, each in control.new_passwords(there)},
        "hides_passwords": control.hides_passwords(there),
        "used": len(there),
        "allowed": services.addresses_allowed(this_shop(), account),
        "every_seconds": control.poll_seconds(rows),
    }


def _by_domain(rows: list[Service]) -> list[tuple[str, list[Service]]]:
    """The addresses of each domain; the hosting's own first."""
    own = hostnames.site_name(this_shop(), this_account().username)
    found: dict[str, list[Service]] = {}
    for row in sorted(rows, key=lambda row: row.name):
        found.setdefault(row.name.rpartition("@")[2], []).append(row)
    return sorted(found.items(), key=lambda item: (item[0] != own, item[0]))


def _mail_facts() -> dict:
    shop, account = this_shop(), this_account()
    return {
        "mail_host": hostnames.host(shop, account),
        "may_send": accounts.may_send(shop, account),
        "mail_days": shop.config.mail_send_min_days,
        "part_mb": services.mail_left_mb(account.space_mb, []),
    }


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
    quota_mb = services.settings_of(row).get("quota_mb")
    context = {
        "password_form": MailPasswordForm(formdata=None),
        "quota_form": _quota_form(row, formdata=None, data={"quota_mb": quota_mb}),
        "every_seconds": control.poll_seconds([row]),
        "destination_form": DestinationForm(formdata=None, data=services.settings_of(row)),
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
