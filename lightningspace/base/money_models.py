"""The tables of refunds, vouchers and sums, as peewee classes."""

from peewee import CompositeKey

from lightningspace.base.columns import BigIntegerField, ForeignKeyField, TextField
from lightningspace.base.models import Order, Table


class Refund(Table):
    id = TextField(primary_key=True)
    order = ForeignKeyField(Order, column_name="order_token", backref="refunds")
    msat = BigIntegerField()
    made_at = BigIntegerField()
    approved_at = BigIntegerField(null=True)
    refused_at = BigIntegerField(null=True)
    reason = TextField(null=True)
    claimed_at = BigIntegerField(null=True)
    destination = TextField(null=True)
    problem = TextField(null=True)
    sent_at = BigIntegerField(null=True)
    payment_hash = TextField(null=True, unique=True)
    expires_at = BigIntegerField(null=True)
    paid_at = BigIntegerField(null=True)
    preimage = TextField(null=True)
    fee_msat = BigIntegerField(null=True)

    class Meta:
        table_name = "refunds"


class Voucher(Table):
    code_hash = TextField(primary_key=True)
    space_mb = BigIntegerField()
    days = BigIntegerField()
    made_at = BigIntegerField()
    used_at = BigIntegerField(null=True)

    class Meta:
        table_name = "vouchers"


class IncomeOfDay(Table):
    day = BigIntegerField()
    kind = TextField()
    times = BigIntegerField()
    msat = BigIntegerField()

    class Meta:
        table_name = "income"
        primary_key = CompositeKey("day", "kind")


class DailyRate(Table):
    currency = TextField()
    day = BigIntegerField()
    per_bitcoin = TextField()

    class Meta:
        table_name = "daily_rates"
        primary_key = CompositeKey("currency", "day")
