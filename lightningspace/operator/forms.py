"""The forms of the operator's pages."""

import re
from datetime import date

from wtforms import PasswordField, SelectField, StringField, TextAreaField
from wtforms.validators import DataRequired, InputRequired, Length, ValidationError

from lightningspace.base import messages
from lightningspace.rules import abuse
from lightningspace.visitors.forms import Form

REASON_MAX = 500
NOTE_MAX = 20_000  # what a form can hold; the command `block` takes more


class PasswordForm(Form):
    password = PasswordField(
        "Password",
        validators=[InputRequired("Enter your password.")],
        render_kw={"autocomplete": "current-password"},
    )


def _reason(missing: str) -> StringField:
    return StringField(
        "Reason",
        filters=[lambda typed: messages.on_one_line(typed or "")],
        validators=[
            DataRequired(missing),
            Length(max=REASON_MAX, message=f"At most {REASON_MAX} characters."),
        ],
    )


class RefuseForm(Form):
    reason = _reason("Write a reason: whoever claimed it reads it.")


class BlockForm(Form):
    category = SelectField("What for", choices=[each.value for each in abuse.Category])
    reason = _reason("Write a reason: the customer reads it.")
    note = TextAreaField(
        "Evidence",
        filters=[lambda typed: typed or ""],
        validators=[Length(max=NOTE_MAX, message=f"At most {NOTE_MAX} characters.")],
        render_kw={"rows": 4},
    )


class SpanForm(Form):
    """Two days, the second not before the first."""

    class Meta(Form.Meta):
        csrf = False

    first = StringField("From", render_kw={"type": "date"})
    last = StringField("To", render_kw={"type": "date"})

    def validate_first(self, field):
        _day(field)

    def validate_last(self, field):
        if not self.first.errors and _day(field) < _day(self.first):
            raise ValidationError("Choose a day that is not before the first.")

    def days(self) -> tuple[date, date]:
        """The two days of a valid form."""
        return _day(self.first), _day(self.last)


def _day(field) -> date:
    try:
        if re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", field.data or ""):
            return date.fromisoformat(field.data)
    except ValueError:
        pass
    raise ValidationError("Write a day such as 2026-01-31.")
