"""Reading whole rows of one table, with SQL that is written once.

peewee writes the SQL of every query anew, column by column. For a row that is looked up by the
values of some columns, that takes ten times as long as the database does (`bench status`), and
every poll of a waiting page and every request with a token looks one up.
"""

from collections.abc import Iterable
from functools import cache, lru_cache
from typing import Any

from peewee import OP, BooleanField, CursorWrapper, Expression, Field, Model, ModelSelect, Node


class WholeRows(ModelSelect):
    """A SELECT of all columns, whose list is kept as text: peewee would build it for each query,
    column by column, and an account has 45 of them.
    """

    _columns: dict[tuple[type[Model], str], str] = {}

    def __sql_selection__(self, ctx, is_subquery=False):
        if not self._is_default or is_subquery:
            return super().__sql_selection__(ctx, is_subquery)
        alias = ctx.alias_manager[self.model._meta.table]
        if (self.model, alias) not in self._columns:
            names = (field.column_name for field in self.model._meta.sorted_fields)
            columns = ", ".join(f'"{alias}"."{name}"' for name in names)
            self._columns[self.model, alias] = columns
        return ctx.literal(self._columns[self.model, alias])

    def _get_model_cursor_wrapper(self, cursor):
        is_of_one_table = self._is_default and len(self._from_list) == 1 and not self._joins
        if is_of_one_table:
            return _Rows(cursor, self.model)
        return super()._get_model_cursor_wrapper(cursor)


class _Rows(CursorWrapper):
    """Objects of a table's rows, without peewee's asking what each column is of each time."""

    def __init__(self, cursor, model: type[Model]):
        super().__init__(cursor)
        self._model = model

    def process_row(self, row):
        return made(self._model, row)


def lookup(
    model: type[Model], conditions: Iterable[Any], param: str
) -> tuple[str, list[Any]] | None:
    """A SELECT of the first row that meets all conditions, and its parameters.

    `param`: how the database marks one. None: the conditions say more than which column has which
    value, or nothing at all.
    """
    values = _values(model, conditions)
    if not values:
        return None
    columns = tuple(field.column_name for field, _ in values)
    return _select(model, columns, param), [field.db_value(value) for field, value in values]


def _values(model: type[Model], conditions: Iterable[Any]) -> list[tuple[Field, Any]] | None:
    values, left = [], list(conditions)
    while left:
        each = left.pop()
        if type(each) is not Expression:
            return None
        if each.op == OP.AND:
            left += (each.lhs, each.rhs)
        elif each.op == OP.EQ and _is_column(each.lhs, model) and _is_value(each.rhs):
            values.append((each.lhs, each.rhs))
        else:
            return None
    return values


def _is_column(side: Any, model: type[Model]) -> bool:
    return isinstance(side, Field) and side.model is model


def _is_value(side: Any) -> bool:
    return isinstance(side, Model) or not (side is None or isinstance(side, Node))


@lru_cache(maxsize=500)
def _select(model: type[Model], columns: tuple[str, ...], param: str) -> str:
    own = ", ".join(f'"{field.column_name}"' for field in model._meta.sorted_fields)
    conditions = " AND ".join(f'"{column}" = {param}' for column in columns)
    return f'SELECT {own} FROM "{model._meta.table_name}" WHERE {conditions} LIMIT 1'


def made(model: type[Model], row: tuple) -> Model:
    """The object of a row with all columns, as peewee makes it."""
    names, flags = _layout(model)
    found = model(__no_default__=True)
    found.__data__ = data = dict(zip(names, row, strict=True))
    for name in flags:
        if data[name] is not None:
            data[name] = bool(data[name])
    return found


@cache
def _layout(model: type[Model]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of its fields, and of those whose values SQLite has as numbers."""
    fields = model._meta.sorted_fields
    flags = tuple(field.name for field in fields if isinstance(field, BooleanField))
    return tuple(field.name for field in fields), flags
