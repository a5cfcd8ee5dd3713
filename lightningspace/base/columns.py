"""peewee's fields, each written into a query's SQL at once.

peewee goes through five objects wherever a query names a column: a quarter of what it takes to
write most queries, which is longer than the database works at them.
"""

import peewee


class _Column(peewee.Field):
    def __sql__(self, ctx):
        name = f'"{self.column_name}"'
        if ctx.scope != peewee.SCOPE_VALUES:
            name = f'"{ctx.alias_manager[self.model._meta.table]}".{name}'
        return ctx.literal(name)


class BigIntegerField(_Column, peewee.BigIntegerField):
    pass


class BooleanField(_Column, peewee.BooleanField):
    pass


class ForeignKeyField(_Column, peewee.ForeignKeyField):
    pass


class TextField(_Column, peewee.TextField):
    pass
