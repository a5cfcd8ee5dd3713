"""The settings of the operator's own pages, messages, backups and figures."""

from dataclasses import dataclass

from lightningspace.base import parsers
from lightningspace.base.groups import OPERATOR
from lightningspace.base.parsers import whole


@dataclass(frozen=True)
class OperatorSettings:
    """What is for the operator alone."""

    admin_mail: str = OPERATOR.setting(
        parsers.mail_address,
        "Your own address: it gets what `flask --app wsgi problems` lists, each problem once, and "
        "at most one mail an hour; and on Mondays a summary of the week. Empty: none.",
        "",
    )
    admin_webhook: str = OPERATOR.setting(
        parsers.webhook,
        "The address of a program of yours that gets the same as JSON: see "
        "[operating.md](operating.md#what-you-are-told). Empty: none.",
        "",
    )
    admin_webhook_secret: str = OPERATOR.secret(
        parsers.bearer_token,
        "What those messages are signed with: 20 characters or more.",
        "",
    )
    operator_password_hash: str = OPERATOR.secret(
        parsers.password_hash,
        "The hash of the password that logs in at `/operator`. `flask --app wsgi "
        "operator-password` prints it, in quotes, because it has `$` in it. Empty: nobody can log "
        "in there, except with a link of `flask --app wsgi operator-login`.",
        "",
    )
    evidence_days: int = OPERATOR.setting(
        whole(1, 3650), "For how many days the evidence of `block` is kept.", "90"
    )
    refused_names: tuple[str, ...] = OPERATOR.setting(
        parsers.patterns,
        "A file with names that nobody may have, one on each line: of hostings (`*bank*`) and of "
        "customers' own domains (`*.bank.example`). It is read at the start. Customers who already "
        "have such a name keep it. Empty: none.",
        "",
    )
    backup_age_recipient: tuple[str, ...] = OPERATOR.setting(
        parsers.list_of(parsers.age_recipient),
        "The public keys, such as `age1…`, that `flask --app wsgi backup` encrypts to with the "
        "program age, separated by commas. Empty: backups are not encrypted.",
        "",
    )
    metrics_token: str = OPERATOR.secret(
        parsers.bearer_token,
        "Whoever sends it as `Authorization: Bearer …` may read `/metrics`: 20 characters or more. "
        "Empty: only programs on this machine may, if they ask the web program directly.",
        "",
    )
    worker_metrics: tuple[str, int] | None = OPERATOR.setting(
        parsers.listening_or_none,
        "Where the worker shows its own figures to Prometheus, such as `127.0.0.1:9101`. Empty: "
        "nowhere.",
        "",
    )
    refund_auto_msat: int = OPERATOR.setting(
        whole(0, 10**12),
        "Payments without an order and late tips up to this amount are paid back without asking "
        "you, as soon as their payer claims them. You pay the fee, which is 5 sat or 1 % at most.",
        "0",
    )
