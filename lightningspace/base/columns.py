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


class _Reference(peewee.ForeignKeyAccessor):
    """A row that was deleted since ours was read is None, as the column is NULL by then."""

    def get_rel_instance(self, instance):
        try:
            return super().get_rel_instance(instance)
        except self.rel_model.DoesNotExist:
            if not self.field.null:
                raise
            instance.__rel__[self.name] = None
            return None


class ForeignKeyField(_Column, peewee.ForeignKeyField):
    accessor_class = _Reference


class TextField(_Column, peewee.TextField):
    pass
