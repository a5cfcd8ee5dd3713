"""JSON bodies from programs, checked by the same forms as what people type."""

import json
from collections.abc import Callable, Container, Mapping

from flask import request
from werkzeug.datastructures import MultiDict

from lightningspace.base.refusals import Refusal

# The types that a field of a body may have.
WHOLE, TEXT, YES_NO = "a whole number", "a text", "true or false"
_IS = {
    WHOLE: lambda value: type(value) is int and abs(value) < 10**15,
    TEXT: lambda value: isinstance(value, str),
    YES_NO: lambda value: isinstance(value, bool),
}

WRONG = "Some fields are wrong."


class BadBody(Refusal):
    """`errors`: what is wrong with each field. The text: what is wrong with the body."""

    status, code = 400, "bad_request"

    def __init__(self, text: str, errors: Mapping[str, list[str]] | None = None):
        self.errors = dict(errors or {})
        super().__init__(text, errors=self.errors)


def read(fields: Mapping[str, str], nullable: Container[str] = ()) -> dict:
    """The body, as a dict of these fields and no others. Raises BadBody.

    Fields that are null are left out, except the `nullable` ones, which are None.
    """
    data = request.get_data(cache=True)
    try:
        body = json.loads(
            data or b"{}", object_pairs_hook=_once, parse_constant=_refuse, parse_float=_number
        )
    except (ValueError, RecursionError):
        raise BadBody("The body is not a JSON object with each name once.") from None
    if not isinstance(body, dict):
        raise BadBody("The body is not a JSON object.")
    errors = {
        name: [f"This has to be {fields[name]}." if name in fields else "There is no such field."]
        for name, value in body.items()
        if name not in fields or not (value is None or _IS[fields[name]](value))
    }
    if errors:
        raise BadBody(WRONG, errors)
    return {name: value for name, value in body.items() if value is not None or name in nullable}


def as_typed(body: Mapping) -> MultiDict:
    """A body as a browser would send it in a form."""
    typed = {name: _typed(value) for name, value in body.items()}
    return MultiDict({name: text for name, text in typed.items() if text is not None})


def _typed(value) -> str | None:
    """None: not sent, like a box that is not ticked."""
    if value is None or isinstance(value, bool):
        return "y" if value else None
    return str(value)


def _once(pairs: list[tuple]) -> dict:
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a name twice")
    return dict(pairs)


def _number(text: str) -> int | float:
    """JSON has one kind of number: 3.0 is a whole number."""
    number = float(text)
    return int(number) if number.is_integer() else number


def _refuse(constant: str):
    raise ValueError(f"{constant} is no JSON")


# -- the forms of the pages ------------------------------------------------------------


def form_of(kind: Callable, fields: Mapping, *args, **kwargs):
    """The form, with its fields as a browser would send them."""
    return kind(*args, formdata=as_typed(fields), meta={"csrf": False}, **kwargs)


def check(form) -> None:
    """Raise BadBody for what the form finds wrong."""
    if not form.validate():
        raise BadBody(WRONG, form.errors)


def check_as(form, **names: str) -> None:
    """As `check`, with the API's names for the form's fields."""
    try:
        check(form)
    except BadBody as wrong:
        errors = {names.get(field, field): texts for field, texts in wrong.errors.items()}
        raise BadBody(str(wrong), errors) from None
