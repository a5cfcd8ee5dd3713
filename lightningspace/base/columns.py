"""peewee's fields, with a short cut for writing a column's name into SQL.

peewee itself goes through five objects for each name. That is a quarter of the time that it takes
to build most queries, and building them takes longer than the database takes to run them.
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
    """If the other row was deleted after ours was read, it is None: the column is NULL by then."""

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
