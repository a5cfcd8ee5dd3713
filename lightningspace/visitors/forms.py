"""The forms: what people may type. What is wrong is said beside the field."""

import re
import secrets
from calendar import timegm
from datetime import date
from urllib.parse import urlsplit

from flask import g, request
from flask_wtf import FlaskForm
from werkzeug.datastructures import FileStorage, MultiDict
from wtforms import (
    BooleanField,
    Field,
    FileField,
    HiddenField,
    IntegerField,
    PasswordField,
    RadioField,
    SelectField,
    SelectMultipleField,
    StringField,
    TextAreaField,
)
from wtforms.validators import DataRequired, Email, InputRequired, Length, Optional, ValidationError

from lightningspace import paidarea, tipjar
from lightningspace.base import messages, names, passwords, ssh_keys
from lightningspace.base.clock import now
from lightningspace.base.prices import (
    DAY,
    EXTRAS,
    EXTRAS_MAX,
    LONGEST_SECONDS,
    SHORTEST_SECONDS,
    UNIT_SECONDS,
    Size,
    Terms,
    in_units,
)
from lightningspace.outside import l402, lnurl
from lightningspace.rules.kinds import AREA, NO_AREAS
from lightningspace.visitors import authorization, csrf

TERMS_FIELDS = ("space_mb", "duration", "unit")
# The times that the front page offers at a click, by their labels.
TIMES = {
    "1 day": (1, "days"),
    "1 month": (1, "months"),
    "3 months": (3, "months"),
    "1 year": (365, "days"),
}
# The amount that a form shows at first, within its bounds.
SATS_AT_FIRST = 1000
# The choice that means every service.
EVERY_SERVICE = "all"
# What private keys of OpenSSH, OpenSSL and PuTTY begin with, and OpenSSH's without its first line.
PRIVATE_KEY = re.compile(r"PRIVATE\s+KEY|PuTTY-User-Key-File|Private-Lines|b3BlbnNzaC1rZXk", re.I)
BROWSER_REMEMBERS = {"autocomplete": "username", "autocapitalize": "none", "spellcheck": "false"}
TYPED_AS_IT_IS = {"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}

RECEIPT_BYTES_MAX = 16 * 1024
INVOICE_MAX = 4000
# What a handed-out token may allow.
CAPABILITIES_IN_WORDS = {
    "read": "see the hosting, but no passwords",
    "mail": "change mailboxes and forwards",
    "domains": "add and remove domains",
    "settings": "change settings",
    "pay": "order more time or another size",
    "close": "close and delete the hosting",
}
TOKEN_NAME_MAX = 40
TIP_MODES = {"site": "keeps this site online", "wallet": "goes to my own wallet"}
AREA_MODES = {"wallet": "to my own wallet", "site": "to this hosting: it keeps the site online"}
TOKEN_DAYS_MAX = 10 * 366


def _stripped(value):
    return value.strip() if isinstance(value, str) else value


def _lower(value):
    return value.lower() if isinstance(value, str) else value


def _on_one_line(value):
    return messages.on_one_line(value) if isinstance(value, str) else value


def _in_lines(value):
    """Make each line end one character: browsers send two, and count one."""
    if not isinstance(value, str):
        return value
    return "\n".join(map(messages.on_one_line, value.splitlines())).strip()


def _whole(typed) -> int:
    """Read plain digits: int() would take "1_0" and the digits of every other script, too."""
    if not re.fullmatch("[0-9]{1,9}", str(typed).strip()):
        raise ValueError("no whole number")
    return int(typed)


class WholeNumberField(IntegerField):
    def process_formdata(self, valuelist):
        try:
            self.data = _whole(valuelist[0]) if valuelist else self.data
        except ValueError:
            self.data = None  # the form's own check says it in our words


class Form(FlaskForm):
    class Meta(FlaskForm.Meta):
        csrf_class = csrf.Token

        def wrap_formdata(self, form, formdata):
            # Only typed text: FlaskForm would also take uploaded files and JSON of any type.
            if formdata is None or isinstance(formdata, MultiDict):
                return formdata
            return request.form if form.is_submitted() else None

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.meta.csrf:  # others only ask
            g.setdefault("forms", []).append(self)


def wrong_fields() -> list[Field]:
    """The fields of this request's forms that have to be typed again."""
    fields = [field for form in g.get("forms", ()) for field in form if field.errors]
    return [field for field in fields if not isinstance(field, HiddenField)]


def takes_focus(field: Field) -> bool:
    """Whether it is the first wrong field that the page shows, where the visitor goes on."""
    return g.setdefault("first_wrong", field) is field


def _form_id() -> HiddenField:
    """A form that was rendered once makes one order, however often it is sent. See also
    browsers.browser_id.
    """
    return HiddenField(default=lambda: secrets.token_hex(16))


class TimeForm(Form):
    duration = WholeNumberField(
        "Time", default=3, validators=[InputRequired("Enter a whole number, such as 3.")]
    )
    unit = SelectField(
        "Unit",
        choices=list(UNIT_SECONDS),
        default="months",
        validators=[InputRequired("Choose hours, days or months.")],
    )

    def validate_duration(self, field):
        if field.data is None:
            raise ValidationError("Enter a whole number, such as 3.")
        if self.unit.data not in UNIT_SECONDS:
            return  # said beside the unit
        seconds = field.data * UNIT_SECONDS[self.unit.data]
        if not SHORTEST_SECONDS <= seconds <= LONGEST_SECONDS:
            raise ValidationError("Choose from one hour to two years (24 months, or 730 days).")


class TermsForm(TimeForm):
    """Space and time; the sizes offered come from the settings."""

    space_mb = RadioField(
        "Space",
        coerce=_whole,
        validate_choice=False,
        validators=[InputRequired("Choose a size.")],
    )

    def __init__(self, sizes_mb: tuple[int, ...], **kwargs):
        super().__init__(**kwargs)
        self.space_mb.choices = [(size, size_in_words(size)) for size in sizes_mb]
        if self.space_mb.data is None and not self.is_submitted():
            self.space_mb.data = sizes_mb[0]

    def validate_space_mb(self, field):
        _check_size(field)

    def terms(self) -> Terms:
        return Terms(self.space_mb.data, self.duration.data, self.unit.data)


def with_chosen_time(typed: MultiDict) -> MultiDict:
    """What the front page's form has sent: one of TIMES takes the place of a typed time."""
    chosen = TIMES.get(typed.get("time"))
    if chosen is None:
        return typed
    sent = MultiDict(typed)
    sent["duration"], sent["unit"] = map(str, chosen)
    return sent


class PriceForm(TermsForm):
    class Meta(Form.Meta):
        csrf = False  # asking for a price changes nothing


class NameForm(PriceForm):
    """What somebody thinks of ordering, and under which name."""

    username = StringField("Name", filters=[_stripped, _lower])


class OrderForm(TermsForm):
    username = StringField(
        "Name", filters=[_stripped, _lower], validators=[Optional()], render_kw=BROWSER_REMEMBERS
    )
    email = StringField(
        "E-mail",
        filters=[_stripped],
        validators=[Optional(), Length(max=254), Email("This is not an e-mail address.")],
        render_kw={"autocomplete": "email", "inputmode": "email"},
    )
    password = PasswordField(
        "Password",
        # A password of blanks is checked like any other: passwords are used as typed.
        validators=[Optional(strip_whitespace=False)],
        render_kw={"autocomplete": "new-password"},
    )
    form_id = _form_id()

    def validate_username(self, field):
        if not names.RULE.fullmatch(field.data):
            raise ValidationError(f"A name has {names.RULE_IN_WORDS}.")

    def validate_password(self, field):
        _check_password(field)

    def terms_are_valid(self) -> bool:
        """Check only space and time, as for a request for the price."""
        return _are_valid(self, TERMS_FIELDS)


class LoginForm(Form):
    username = StringField(
        "Name",
        filters=[_stripped],
        validators=[InputRequired("Write your name here."), Length(max=64)],
        render_kw=BROWSER_REMEMBERS,
    )
    password = PasswordField(
        "Password",
        validators=[InputRequired("Write your password here."), Length(max=1000)],
        render_kw={"autocomplete": "current-password"},
    )


class VoucherForm(Form):
    code = StringField(
        "Voucher",
        filters=[_stripped],
        validators=[InputRequired("Write the voucher’s code here."), Length(max=100)],
        render_kw=TYPED_AS_IT_IS,
    )


class SecretAreaField(TextAreaField):
    """A text area for a secret, which does not come back in a page."""

    def _value(self):
        return ""


class ReceiptForm(Form):
    """`credential`: the receipt that was pasted or else is in the file, once it can be read.

    `source`: the field that it comes from.
    """

    credential: authorization.Credential | None = None

    receipt = SecretAreaField("Access key", render_kw={"rows": "4"} | TYPED_AS_IT_IS)
    file = FileField("Or the file that you saved")

    @property
    def source(self) -> Field:
        is_pasted = self.receipt.data and self.receipt.data.strip()
        return self.receipt if is_pasted or not request.files.get(self.file.name) else self.file

    def validate_receipt(self, field):
        if self.source is field:
            self._read(field.data or "")

    def validate_file(self, field):
        if self.source is field:
            self._read(self._in_file())

    def _read(self, text: str) -> None:
        if not text.strip():
            raise ValidationError("Paste your access key, or choose the file that holds it.")
        try:
            self.credential = authorization.pasted(text)
        except l402.Invalid:
            raise ValidationError(
                "This is not an access key, which is one long text with a colon near its end. "
                "Paste all of it, or choose the file that holds it."
            ) from None

    def _in_file(self) -> str:
        held = request.files[self.file.name].stream.read(RECEIPT_BYTES_MAX + 1)
        if len(held) > RECEIPT_BYTES_MAX:
            raise ValidationError("This file is too large to be an access key.")
        # What is not text is not a receipt either.
        return held.decode("utf-8-sig", "replace")


class RecoveryForm(Form):
    """`secret`: the preimage, once it can be read."""

    secret: bytes | None = None

    invoice = TextAreaField(
        "Invoice",
        validators=[InputRequired("Paste the invoice that you paid."), Length(max=INVOICE_MAX)],
        render_kw={"rows": "4", "placeholder": "lnbc…"} | TYPED_AS_IT_IS,
    )
    preimage = TextAreaField(
        "Preimage",
        validators=[InputRequired("Paste the preimage of its payment."), Length(max=INVOICE_MAX)],
        render_kw={"rows": "2"} | TYPED_AS_IT_IS,
    )

    def validate_preimage(self, field):
        try:
            self.secret = authorization.pasted_preimage(field.data)
        except l402.Invalid:
            raise ValidationError(
                "A preimage has 64 characters, 0 to 9 and a to f, or 44 in base64."
            ) from None


class RefundForm(Form):
    destination = TextAreaField(
        "Where to pay it",
        validators=[InputRequired("Paste where to pay it."), Length(max=INVOICE_MAX)],
        render_kw={"rows": "3", "placeholder": "you@wallet.example, lno1…, lnbc…"} | TYPED_AS_IT_IS,
    )


class TokenForm(Form):
    """What a token to be handed out may do. `valid_until`: when it ends; None: never."""

    valid_until: int | None = None

    name = StringField(
        "Name",
        filters=[_on_one_line],
        validators=[DataRequired("Give it a name that you will recognize.")],
        render_kw={"maxlength": str(TOKEN_NAME_MAX), "autocomplete": "off"},
    )
    capabilities = SelectMultipleField(
        "It may", choices=list(CAPABILITIES_IN_WORDS), validate_choice=False
    )
    until = StringField(
        "Until the end of", filters=[_stripped], validators=[Optional()], render_kw={"type": "date"}
    )

    def validate_name(self, field):
        if len(field.data) > TOKEN_NAME_MAX:
            raise ValidationError(f"A name has up to {TOKEN_NAME_MAX} characters.")

    def validate_capabilities(self, field):
        if not field.data or not set(field.data) <= CAPABILITIES_IN_WORDS.keys():
            raise ValidationError("Choose what it may do.")

    def validate_until(self, field):
        try:
            day = date.fromisoformat(field.data)
        except ValueError:
            raise ValidationError("Write a day such as 2030-12-31, or nothing.") from None
        ends = timegm(day.timetuple()) + DAY
        if not now() < ends <= now() + TOKEN_DAYS_MAX * DAY:
            raise ValidationError("Choose a day from today on, within ten years.")
        self.valid_until = ends

    def rights(self) -> l402.Rights:
        return l402.Rights(frozenset(self.capabilities.data), self.valid_until)


class ProofForm(Form):
    password = PasswordField(
        "Password",
        validators=[InputRequired("Write your password here."), Length(max=1000)],
        render_kw={"autocomplete": "current-password"},
    )


class NewPasswordForm(Form):
    current = None

    new = PasswordField(
        "New password",
        validators=[InputRequired("Write a new password.")],
        render_kw={"autocomplete": "new-password"},
    )
    ends_receipt = BooleanField("Make a new access key, too")

    def validate_new(self, field):
        _check_password(field)


class PasswordForm(NewPasswordForm):
    current = PasswordField(
        "Current password",
        validators=[InputRequired("Write your current password.")],
        render_kw={"autocomplete": "current-password"},
    )


# -- mail and domains ----------------------------------------------------------------


class QuotaField(WholeNumberField):
    """MB; empty: a share of what the other mailboxes leave."""

    def __init__(self, label="Space in MB", **kwargs):
        super().__init__(label, validators=[Optional()], **kwargs)


class MailForm(Form):
    """The settings of a mailbox. `left_mb`: the most that its quota may be."""

    def __init__(self, left_mb: int = 0, **kwargs):
        super().__init__(**kwargs)
        self._left_mb = left_mb

    def validate_quota_mb(self, field):
        if not field.data:
            raise ValidationError("Enter a whole number of MB, such as 10, or leave it empty.")
        if field.data > self._left_mb:
            raise ValidationError(f"At most {self._left_mb} MB of your space for mail are left.")

    def validate_password(self, field):
        _check_password(field)


class QuotaForm(MailForm):
    quota_mb = QuotaField()


class MailPasswordForm(MailForm):
    password = PasswordField(
        "New password",
        validators=[Optional(strip_whitespace=False)],
        render_kw={"autocomplete": "new-password"},
    )


class AddressForm(MailForm):
    """A new address of one of the account's domains."""

    more: dict | None = None  # what one more costs, once all are used

    local_part = StringField(
        "Address",
        filters=[_stripped, _lower],
        validators=[InputRequired("Enter the part before the @.")],
        render_kw={"autocapitalize": "none", "spellcheck": "false", "autocomplete": "off"},
    )
    domain = SelectField("Domain", validate_choice=False)

    def __init__(self, domains: list[str], **kwargs):
        super().__init__(**kwargs)
        self.domain.choices = [(domain, names.in_unicode(domain)) for domain in domains]

    def validate_local_part(self, field):
        if "@" in field.data:
            raise ValidationError("Enter only the part before the @, and choose the domain.")
        if not names.is_local_part(field.data):
            raise ValidationError(f"Use {names.LOCAL_PART_IN_WORDS}.")
        if len(self.address) > names.ADDRESS_MAX:
            raise ValidationError(
                f"An address has at most {names.ADDRESS_MAX} characters, "
                f"and this one would have {len(self.address)}."
            )

    def validate_domain(self, field):
        if field.data not in dict(field.choices):
            raise ValidationError("Choose one of your domains with mail.")

    @property
    def address(self) -> str:
        return f"{self.local_part.data}@{self.domain.data}"


class MailboxForm(AddressForm):
    password = PasswordField(
        "Password",
        validators=[Optional(strip_whitespace=False)],
        render_kw={"autocomplete": "new-password"},
    )
    quota_mb = QuotaField()


class DestinationForm(Form):
    address: str | None = None  # the one whose mail is forwarded

    destination = StringField(
        "Goes to",
        filters=[_stripped],
        validators=[InputRequired("Enter the address that its mail goes to.")],
        render_kw={"autocomplete": "off", "inputmode": "email", "autocapitalize": "none"},
    )

    def validate_destination(self, field):
        try:
            field.data = names.as_address(field.data)
        except ValueError:
            raise ValidationError("Mail cannot be forwarded to this address.") from None
        if field.data == self.address:
            raise ValidationError("This would send its mail in a circle.")


class ForwardForm(AddressForm, DestinationForm):
    pass


class DomainForm(Form):
    more: dict | None = None  # what one more costs, once all are used

    name = StringField(
        "Domain",
        filters=[_stripped],
        validators=[InputRequired("Enter your domain, such as example.org.")],
        render_kw={"autocapitalize": "none", "spellcheck": "false", "autocomplete": "off"},
    )
    wants_mail = BooleanField("Receive mail for it here as well")


# -- more time, another size ---------------------------------------------------------


class PrefilledTimeForm(TimeForm):
    class Meta(Form.Meta):
        csrf = False  # asking for a price changes nothing


class ExtendForm(TimeForm):
    form_id = _form_id()

    def time_is_valid(self) -> bool:
        """Check only the time, for whoever only asks for the price."""
        return _are_valid(self, ("duration", "unit"))


class AmountForm(Form):
    """An amount, for as much time as it buys. `bounds`: the least and the most, in sat."""

    sats = WholeNumberField("Amount in sat")

    def __init__(self, bounds: tuple[int, int], **kwargs):
        least, most = self.bounds = bounds
        super().__init__(**kwargs)
        if self.sats.raw_data is None:
            self.sats.data = min(max(SATS_AT_FIRST, least), most)

    def validate_sats(self, field):
        least, most = self.bounds
        if field.data is None or not least <= field.data <= most:
            raise ValidationError(f"Enter a whole number from {least:,} to {most:,} sat.")


class PrefilledAmountForm(AmountForm):
    class Meta(Form.Meta):
        csrf = False  # asking what it buys changes nothing


class TopUpForm(AmountForm):
    form_id = _form_id()


class TipForm(TopUpForm):
    message = StringField(
        "Message",
        validators=[Optional()],
        render_kw={"maxlength": str(messages.LONGEST), "autocomplete": "off"},
    )

    def validate_message(self, field):
        if len(field.data) > messages.LONGEST:
            raise ValidationError(f"A message has up to {messages.LONGEST} characters.")


def _read_wallet_address(form: FlaskForm, field: StringField) -> None:
    """Check an owner's Lightning Address, which is needed if the money goes to their wallet."""
    if form.mode.data == "wallet" and not field.data:
        raise ValidationError("Enter the Lightning Address of your wallet.")
    if not field.data:
        return
    try:
        field.data = lnurl.as_address(field.data)
    except ValueError:
        raise ValidationError(
            "This is not a Lightning Address, such as you@wallet.example."
        ) from None


class TipJarForm(Form):
    """What the tip jar on a site says and takes. `bounds`: as in AmountForm.

    Where a text is left empty the jar has its own.
    """

    amounts_sat: list[int]

    mode = RadioField("What visitors give", validate_choice=False)
    wallet_address = StringField(
        "Lightning Address of your wallet",
        filters=[_stripped],
        render_kw=TYPED_AS_IT_IS | {"inputmode": "email", "placeholder": "you@wallet.example"},
    )
    title = StringField(
        "Title",
        filters=[_on_one_line],
        render_kw={"maxlength": str(tipjar.TITLE_MAX), "autocomplete": "off"},
    )
    text = TextAreaField(
        "Text",
        filters=[_in_lines],
        render_kw={"maxlength": str(tipjar.TEXT_MAX), "rows": "4"},
    )
    amounts = StringField(
        "Amounts in sat", filters=[_stripped], render_kw=TYPED_AS_IT_IS | {"inputmode": "text"}
    )

    def __init__(self, bounds: tuple[int, int], settings: dict, **kwargs):
        self._bounds = bounds
        amounts = " ".join(map(str, settings["amounts_sat"]))
        super().__init__(data=settings | {"amounts": amounts}, **kwargs)
        self.mode.choices = list(TIP_MODES.items())

    def validate_mode(self, field):
        if field.data not in TIP_MODES:
            raise ValidationError("Choose where it goes.")

    def validate_wallet_address(self, field):
        _read_wallet_address(self, field)

    def validate_title(self, field):
        if len(field.data or "") > tipjar.TITLE_MAX:
            raise ValidationError(f"A title has up to {tipjar.TITLE_MAX} characters.")

    def validate_text(self, field):
        if len(field.data or "") > tipjar.TEXT_MAX:
            raise ValidationError(f"The text has up to {tipjar.TEXT_MAX} characters.")

    def validate_amounts(self, field):
        least, most = self._bounds
        amounts = dict.fromkeys(re.split(r"[,;]?\s+", field.data or ""))  # each once
        try:
            self.amounts_sat = [_whole(each) for each in amounts]
        except ValueError:
            raise ValidationError("Enter whole numbers with spaces between them.") from None
        if len(amounts) > tipjar.AMOUNTS_MAX:
            raise ValidationError(f"Enter up to {tipjar.AMOUNTS_MAX} amounts.")
        if not all(least <= amount <= most for amount in self.amounts_sat):
            raise ValidationError(f"Enter amounts from {least:,} to {most:,} sat.")

    def settings(self) -> dict:
        kept = {name: self[name].data for name in ("mode", "title", "text")}
        return kept | {
            "wallet_address": self.wallet_address.data or None,
            "amounts_sat": self.amounts_sat,
        }


class PaidAreaForm(TimeForm):
    """What is sold in a paid area. `bounds`: as in AmountForm, of what this hosting takes; None: it
    takes nothing by its Lightning Address. `settings`: as they are; None: for a new area.
    """

    name = StringField(
        "Address", filters=[_stripped], render_kw=TYPED_AS_IT_IS | {"placeholder": "members"}
    )
    price_sat = WholeNumberField("Price in sat", default=1000)
    mode = RadioField("Where the money goes", default="wallet", validate_choice=False)
    wallet_address = StringField(
        "Lightning Address of your wallet",
        filters=[_stripped],
        render_kw=TYPED_AS_IT_IS | {"inputmode": "email", "placeholder": "you@wallet.example"},
    )
    title = StringField(
        "Title",
        filters=[_on_one_line],
        render_kw={"maxlength": str(paidarea.TITLE_MAX), "autocomplete": "off"},
    )

    def __init__(self, bounds: tuple[int, int] | None, settings: dict | None = None, **kwargs):
        self._bounds, self._before = bounds, settings
        data = {"duration": 1, "unit": "days"}
        if settings:
            duration, unit = in_units(settings["seconds"])
            data = settings | {"duration": duration, "unit": unit}
        super().__init__(data=data, **kwargs)
        self.mode.choices = list(AREA_MODES.items())
        if settings:
            del self.name

    def validate_name(self, field):
        field.data = (field.data or "").strip("/").lower()
        if not AREA.fullmatch(field.data):
            raise ValidationError("Up to 30 letters a to z, digits and hyphens, such as members.")
        if field.data in NO_AREAS:
            raise ValidationError("The server itself uses this address. Please choose another.")

    def validate_price_sat(self, field):
        if field.data is None or not 1 <= field.data <= paidarea.PRICE_MAX:
            raise ValidationError(f"Enter whole sat, from 1 to {paidarea.PRICE_MAX:,}.")

    def validate_mode(self, field):
        if field.data not in AREA_MODES:
            raise ValidationError("Choose where it goes.")
        if field.data == "wallet":
            return
        if self._bounds is None:
            raise ValidationError(
                "The Lightning Address of this hosting takes nothing right now: switch it on under "
                "Tips first."
            )
        least, most = self._bounds
        if self.price_sat.data is not None and not least <= self.price_sat.data <= most:
            raise ValidationError(f"This hosting takes from {least:,} to {most:,} sat at once.")

    def validate_wallet_address(self, field):
        _read_wallet_address(self, field)
        if field.data and field.data.endswith(".onion"):
            raise ValidationError("Your site cannot ask an onion service for invoices.")

    def validate_title(self, field):
        if len(field.data or "") > paidarea.TITLE_MAX:
            raise ValidationError(f"A title has up to {paidarea.TITLE_MAX} characters.")

    def settings(self) -> dict:
        """`programs_only` is for the wallet that was looked at."""
        address = self.wallet_address.data or None
        kept = {name: self[name].data for name in ("price_sat", "mode")}
        kept["title"] = self.title.data or ""
        kept["seconds"] = self.duration.data * UNIT_SECONDS[self.unit.data]
        wallet = {"mode": kept["mode"], "wallet_address": address}
        before = self._before or {}
        is_same = all(before.get(name) == value for name, value in wallet.items())
        only = is_same and before.get("programs_only", False)
        return kept | wallet | {"programs_only": only}


class SizeForm(Form):
    """A new size for an account, which shows its present `size` at first.

    That one can be kept even when it is no longer on offer.
    """

    space_mb = RadioField("Space", coerce=_whole, validate_choice=False)

    def __init__(self, sizes_mb: tuple[int, ...], size: Size, **kwargs):
        super().__init__(data=vars(size), **kwargs)
        sizes = sorted({*sizes_mb, size.space_mb})
        self.space_mb.choices = [(each, size_in_words(each)) for each in sizes]

    def validate_space_mb(self, field):
        _check_size(field)

    def size(self) -> Size:
        return Size(**{name: self[name].data for name in Size.__annotations__})


def _check_extras(form, field):
    if field.data is None or field.data > EXTRAS_MAX:
        raise ValidationError(f"Enter a whole number from 0 to {EXTRAS_MAX}.")


# One field for each extra, between the space and what a subclass adds.
for _extra in EXTRAS:
    setattr(SizeForm, _extra.column, WholeNumberField(_extra.title, validators=[_check_extras]))


class PrefilledSizeForm(SizeForm):
    class Meta(Form.Meta):
        csrf = False  # asking for a price changes nothing


class ResizeForm(SizeForm):
    form_id = _form_id()


class ServicePasswordForm(Form):
    """`services`: (value, title) of each service to choose from."""

    service = SelectField("Service", default=EVERY_SERVICE)
    password = PasswordField(
        "New password",
        validators=[Optional(strip_whitespace=False)],
        render_kw={"autocomplete": "new-password"},
    )

    def __init__(self, services: list[tuple[str, str]], **kwargs):
        super().__init__(**kwargs)
        self.service.choices = [(EVERY_SERVICE, "All of them"), *services]

    @property
    def makes_one(self) -> bool:
        """Whether the button that has us generate one was pressed."""
        return "make" in request.form

    def validate(self, extra_validators=None):
        is_valid = super().validate(extra_validators)
        if self.makes_one or self.password.errors:
            return is_valid
        if not self.password.data:
            self.password.errors = ["Enter a password, or let us choose one."]
            return False
        return is_valid

    def validate_password(self, field):
        if not self.makes_one:
            _check_password(field)


class SshKeyForm(Form):
    ssh_key = TextAreaField(
        "Public key",
        default="",
        filters=[_stripped],
        validators=[Optional()],
        render_kw={"rows": "4", "spellcheck": "false", "autocapitalize": "none"},
    )

    def validate_ssh_key(self, field):
        typed, field.data = field.data, None  # nothing that may be secret comes back in the page
        if PRIVATE_KEY.search(typed):
            raise ValidationError(
                "This is a private key. Nobody but you may have it, and we have not kept it. Paste "
                "the public one, from the file that ends in .pub."
            )
        if ssh_keys.BEGINS.search(typed):
            field.data = typed
        try:
            field.data = ssh_keys.read(typed)
        except ValueError as error:
            raise ValidationError(str(error)) from None


class PhpForm(Form):
    version = SelectField("PHP")

    def __init__(self, versions: list[tuple[str, str]], **kwargs):
        super().__init__(**kwargs)
        self.version.choices = versions


class RedirectForm(Form):
    redirect_to = StringField(
        "Redirect to",
        default="",
        filters=[_stripped],
        validators=[Optional()],
        render_kw={"autocomplete": "off", "inputmode": "url", "autocapitalize": "none"},
    )

    def __init__(self, redirected: list[str], **kwargs):
        """`redirected`: the names that redirect there."""
        super().__init__(**kwargs)
        self._redirected = redirected

    def validate_redirect_to(self, field):
        try:
            field.data = names.as_web_address(field.data)
        except (ValueError, UnicodeError):
            raise ValidationError(
                "Enter an address such as https://example.org/: a host and perhaps directories, "
                f"up to {names.WEB_ADDRESS_MAX} characters."
            ) from None
        if urlsplit(field.data).hostname.removeprefix("www.") in self._redirected:
            raise ValidationError("This would send visitors in a circle.")


class UploadForm(Form):
    """`sent`: the file that came with it."""

    sent: FileStorage | None = None

    file = FileField("A ZIP of your site, or a page", render_kw={"accept": ".zip,.html,.htm"})
    replaces = BooleanField("Replace files of the same name")

    def validate_file(self, field):
        self.sent = request.files.get(field.name)
        if not self.sent:
            raise ValidationError("Choose a ZIP file or a page that is on your device.")


class EmailForm(Form):
    email = StringField(
        "E-mail",
        filters=[_stripped],
        validators=[
            InputRequired("Enter your e-mail address."),
            Length(max=254, message="This is not an e-mail address."),
            Email("This is not an e-mail address."),
        ],
        render_kw={"autocomplete": "email", "inputmode": "email"},
    )


class CloseForm(Form):
    username = StringField("Name", filters=[_stripped], render_kw={"autocomplete": "off"})
    ends = HiddenField()


class Button(Form):
    """A form that is only a button: it carries the CSRF token."""


def size_in_words(size_mb: int) -> str:
    return f"{size_mb} MB" if size_mb < 1000 else f"{size_mb / 1000:g} GB"


def _check_password(field):
    if passwords.is_good(field.data):
        return
    if not passwords.has_only_allowed(field.data):
        raise ValidationError("Use letters a to z, digits and symbols, but none of ' \" and \\.")
    if len(field.data) > passwords.LENGTH_MAX:
        raise ValidationError(f"At most {passwords.LENGTH_MAX} characters.")
    raise ValidationError(
        "At least 9 characters, or 8 with three of: lower case, upper case, digit, symbol."
    )


def _check_size(field):
    sizes = dict(field.choices)
    if field.process_errors or field.data not in sizes:
        field.errors.clear()  # WTForms' own words
        raise ValidationError(f"Choose one of these sizes: {', '.join(sizes.values())}.")


def _are_valid(form: Form, fields: tuple[str, ...]) -> bool:
    return all([form[name].validate(form, _inline(form, name)) for name in fields])


def _inline(form, name):
    inline = getattr(type(form), f"validate_{name}", None)
    return [inline] if inline else []
