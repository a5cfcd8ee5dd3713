"""The gate's tables as peewee classes."""

from peewee import EXCLUDED, CompositeKey

from lightningspace.base.columns import BigIntegerField, TextField
from lightningspace.base.models import Table


class GateBalance(Table):
    token_id = TextField()
    service = TextField()
    msat = BigIntegerField()
    until = BigIntegerField()

    class Meta:
        table_name = "gate_balances"
        primary_key = CompositeKey("token_id", "service")


class GateCredited(Table):
    payment_hash = TextField(primary_key=True)
    until = BigIntegerField()

    class Meta:
        table_name = "gate_credited"


class GateLease(Table):
    process = TextField()
    token_id = TextField()
    service = TextField()
    msat = BigIntegerField()
    renewed_at = BigIntegerField()

    class Meta:
        table_name = "gate_leases"
        primary_key = CompositeKey("process", "token_id", "service")


class GateSettled(Table):
    request_id = TextField(primary_key=True)
    settled_at = BigIntegerField()

    class Meta:
        table_name = "gate_settled"


class GateRevoked(Table):
    token_id = TextField(primary_key=True)
    revoked_at = BigIntegerField()
    until = BigIntegerField()

    class Meta:
        table_name = "gate_revoked"


class GateFreebie(Table):
    service = TextField()
    network = TextField()
    day = BigIntegerField()
    used = BigIntegerField()

    class Meta:
        table_name = "gate_freebies"
        primary_key = CompositeKey("service", "network", "day")


class GateCount(Table):
    service = TextField()
    day = BigIntegerField()
    outcome = TextField()
    times = BigIntegerField()

    class Meta:
        table_name = "gate_counts"
        primary_key = CompositeKey("day", "service", "outcome")


def add_count(service: str, day: int, outcome: str, times: int) -> None:
    """Within a transaction: count an outcome `times` more."""
    GateCount.insert(service=service, day=day, outcome=outcome, times=times).on_conflict(
        conflict_target=[GateCount.service, GateCount.day, GateCount.outcome],
        update={GateCount.times: GateCount.times + EXCLUDED.times},
    ).execute()


class GateDisk(Table):
    service = TextField()
    token_id = TextField()
    until = BigIntegerField()

    class Meta:
        table_name = "gate_disks"
        primary_key = CompositeKey("service", "token_id")
