"""JSON bodies of programs, in the shape that the forms check: one set of rules for both."""

import json
from collections.abc import Callable, Container, Mapping

from flask import request
from werkzeug.datastructures import MultiDict

from lightningspace.base.refusals import Refusal

# What a field of a body may be.
WHOLE, TEXT, YES_NO = "a whole number", "a text", "true or false"
_IS = {
    WHOLE: lambda value: type(value) is int and abs(value) < 10**15,
    TEXT: lambda value: isinstance(value, str),
    YES_NO: lambda value: isinstance(value, bool),
}

WRONG = "Some fields are wrong."


class BadBody(Refusal):
    """`errors`: what is wrong with which field; the text, with all of it."""

    status, code = 400, "bad_request"

    def __init__(self, text: str, errors: Mapping[str, list[str]] | None = None):
        self.errors = dict(errors or {})
        super().__init__(text, errors=self.errors)


def read(fields: Mapping[str, str], nullable: Container[str] = ()) -> dict:
    """The body as a dict of these fields and no other; null is as if it were not there.

    Of those that are `nullable` it says something: they come as None. Raises BadBody.
    """
    data = request.get_data(cache=True)
    try:
        body = json.loads(
            data or b"{}", object_pairs_hook=_once, parse_constant=_refuse, parse_float=_number
        )
    except (ValueError, RecursionError):
        raise BadBody("The body is no JSON object with each name once.") from None
    if not isinstance(body, dict):
        raise BadBody("The body is no JSON object.")
    errors = {
        name: [f"Write {fields[name]} here." if name in fields else "There is no such field."]
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
    """None: it is not sent, as a box that is not ticked."""
    if value is None or isinstance(value, bool):
        return "y" if value else None
    return str(value)


def _once(pairs: list[tuple]) -> dict:
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("a name twice")
    return dict(pairs)


def _number(text: str) -> int | float:
    """JSON has one kind of number: 3.0 is a whole one."""
    number = float(text)
    return int(number) if number.is_integer() else number


def _refuse(constant: str):
    raise ValueError(f"{constant} is no JSON")


# -- the forms of the pages ------------------------------------------------------------


def form_of(kind: Callable, fields: Mapping, *args, **kwargs):
    """The form as a browser would send it."""
    return kind(*args, formdata=as_typed(fields), meta={"csrf": False}, **kwargs)


def check(form) -> None:
    """Raise BadBody for what the form finds wrong."""
    if not form.validate():
        raise BadBody(WRONG, form.errors)


def check_as(form, **names: str) -> None:
    """As `check`, where the API has these names for the form's fields."""
    try:
        check(form)
    except BadBody as wrong:
        errors = {names.get(field, field): texts for field, texts in wrong.errors.items()}
        raise BadBody(str(wrong), errors) from None
