"""The settings of what the operator is told, and by which ways."""

from dataclasses import dataclass

from lightningspace.base import parsers
from lightningspace.base.groups import OPERATOR


@dataclass(frozen=True)
class OperatorSettings:
    """What is for whoever runs the shop, and for nobody else."""

    admin_mail: str = OPERATOR.setting(
        parsers.mail_address,
        "Your own address: it gets what `flask --app wsgi problems` lists, each problem once, and "
        "at most one mail an hour. Empty: none.",
        "",
    )
