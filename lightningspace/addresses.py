"""The control center's pages of mail and of domains."""

from flask import flash, redirect, render_template, url_for
from werkzeug.exceptions import NotFound

from lightningspace import hosting, wanted
from lightningspace.control import account, page, this_account, unsealed
from lightningspace.forms import (
    AddressForm,
    DestinationForm,
    ForwardForm,
    MailboxForm,
    MailPasswordForm,
    QuotaForm,
)
from lightningspace.models import Service
from lightningspace.visitors import this_shop

FORWARD = "forward-"  # before its fields' names: the page holds the mailbox's form as well


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
    return redirect(url_for("account.mail"), 303)


@account.post("/mail/forward")
def add_forward():
    form = _forward_form()
    if not form.validate_on_submit() or not _added(
        form, "forward", destination=form.destination.data
    ):
        return _mail_page(400, forward_form=form)
    return redirect(url_for("account.mail"), 303)


def _added(form: AddressForm, kind: str, password: str | None = None, **settings) -> bool:
    """Whether the address is wanted now; why not is said beside its field."""
    if settings.get("destination") == form.address:
        form.destination.errors = ["This would send its mail round in a circle."]
        return False
    try:
        wanted.add(this_shop(), this_account().id, kind, form.address, password, **settings)
    except wanted.Taken:
        form.local_part.errors = ["You have this address already."]
    except wanted.Full:
        form.is_full = True
    except wanted.NotReady:
        form.local_part.errors = ["Your hosting is still being set up. Please try again soon."]
    except wanted.Closed:
        form.local_part.errors = ["Your hosting is being closed: nothing can be added any more."]
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
    return render_template("account/_address.html", row=row, moves=_moves(row), **_addresses())


@account.post("/mail/<address>/password")
def set_mail_password(address):
    row, form = _address(address, "mailbox"), MailPasswordForm()
    if not form.validate_on_submit():
        return _address_page(row, 400, password_form=form)
    wanted.set_password(this_shop(), row.account_id, row.kind, row.name, form.password.data or None)
    return redirect(url_for("account.address", address=row.name), 303)


@account.post("/mail/<address>/quota")
def set_quota(address):
    row = _address(address, "mailbox")
    form = _quota_form(row)
    if not form.validate_on_submit():
        return _address_page(row, 400, quota_form=form)
    wanted.configure(row.account_id, row.kind, row.name, quota_mb=form.quota_mb.data)
    return redirect(url_for("account.address", address=row.name), 303)


@account.post("/mail/<address>/destination")
def set_destination(address):
    row, form = _address(address, "forward"), DestinationForm()
    if form.validate_on_submit():
        if form.destination.data != row.name:
            destination = form.destination.data
            wanted.configure(row.account_id, row.kind, row.name, destination=destination)
            return redirect(url_for("account.address", address=row.name), 303)
        form.destination.errors = ["This would send its mail round in a circle."]
    return _address_page(row, 400, destination_form=form)


@account.post("/mail/<address>/remove")
def remove_address(address):
    row = _address(address)
    wanted.remove(row.account_id, row.kind, row.name)
    flash(f"{row.name} is being removed.")
    return redirect(url_for("account.mail"), 303)


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
    own = wanted.site_name(this_shop(), this_account().username)
    domains = [row.name for row in _rows("mail_domain") if not row.gone]
    return sorted(domains, key=lambda name: (name != own, name))


def _left_mb(row: Service | None = None) -> int:
    """What the quota of a mailbox, `row` or a new one, can be at most."""
    others = [each for each in _rows("mailbox") if each != row]
    return wanted.mail_left_mb(this_account().space_mb, others)


def _addresses() -> dict:
    """What the list of addresses shows."""
    account = this_account()
    rows = _rows(*wanted.ADDRESSES)
    rows.sort(key=lambda row: (row.name.rpartition("@")[::-2], row.kind))
    there = [row for row in rows if not row.gone]
    return {
        "addresses": rows,
        "states": {(row.kind, row.name): hosting.state(account, row) for row in rows},
        "settings": {(row.kind, row.name): wanted.settings_of(row) for row in rows},
        "quotas": {
            row.name: wanted.quota_mb(account.space_mb, row, rows)
            for row in there
            if row.kind == "mailbox"
        },
        "passwords": _new_passwords(there),
        "used": len(there),
        "allowed": wanted.addresses_allowed(this_shop(), account),
        "waits": any(_moves(row) for row in rows),
    }


def _new_passwords(rows: list[Service]) -> dict[str, str]:
    """The generated passwords that the panel has and that were not noted yet."""
    shown = {}
    for row in rows:
        if row.own_password_sealed and row.password_sealed is None:
            shown[row.name] = unsealed(row.own_password_sealed)
    return {name: password for name, password in shown.items() if password}


def _mail_facts() -> dict:
    shop, account = this_shop(), this_account()
    site = wanted.site_name(shop, account.username)
    return {
        "mail_host": shop.config.server_hosts.get(account.server_id, site),
        "may_send": wanted.may_send(shop, account),
        "mail_days": shop.config.mail_send_min_days,
        "part_mb": wanted.mail_left_mb(account.space_mb, []),
    }


def _moves(row: Service) -> bool:
    """Whether it changes in a moment by itself."""
    return not row.is_applied and not row.permanent


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
        "destination_form": DestinationForm(formdata=None, data=wanted.settings_of(row)),
    }
    return page(
        "account/address.html",
        status,
        here="mail",
        row=row,
        moves=_moves(row),
        is_for_notices=row.name == _own("info"),
        **_mail_facts(),
        **_addresses(),
        **(context | forms),
    )
