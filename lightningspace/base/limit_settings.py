"""The settings of limits, and of the gate."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from lightningspace.base import parsers
from lightningspace.base.groups import GATE, LIMITS
from lightningspace.base.parsers import limit, list_of, whole

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class LimitSettings:
    """How often something may be done, and by whom."""

    proxy_hops: int = LIMITS.setting(
        whole(0, 10),
        "How many reverse proxies in a row stand in front of the shop and add to "
        "`X-Forwarded-For`. Other addresses in that header are ignored.",
        "0",
    )
    rate_limit_storage: str = LIMITS.setting(
        parsers.limit_storage,
        "Where limits are counted. `memory://`: in each process; `redis://localhost:6379`: in a "
        "Redis, for all processes (it needs `pip install redis`). While Redis is down, each "
        "process counts for itself.",
        "memory://",
    )
    unpaid_per_client: int = LIMITS.setting(
        whole(1, 10_000),
        "How many names one network may hold without having paid. Ordering the same name again "
        "within a day does not count again.",
        "3",
    )
    orders_limit: str = LIMITS.setting(
        limit,
        "Orders that one network may place. What a hosting's owner and programs order is counted "
        "apart, for each hosting.",
        "20 per minute",
    )
    orders_limit_overall: str = LIMITS.setting(
        limit,
        "Orders that all networks together may place. What a hosting's owner and programs order is "
        "counted apart, for each hosting.",
        "300 per minute",
    )
    new_hostings_per_hour: int = LIMITS.setting(
        whole(0, 10**6),
        "How many hostings may be opened in an hour before no more are sold for a while. Orders "
        "that are already paid open all the same. Anybody can use up this number for a few sat, "
        "with small hostings for an hour, and shut all other new customers out for that hour. So "
        "set it only where a flood of hostings is worse, and well above a good day. `0`: any "
        "number.",
        "0",
    )
    logins_limit: str = LIMITS.setting(
        limit,
        "Attempts by one network to log in or prove an identity, by password, access key or "
        "wallet. At the login, an access key counts only if it fails. Browsers that were logged in "
        "to a hosting before are counted apart, for each hosting and once more for all hostings "
        "together. New login passwords have the same limit, counted apart.",
        "10 per minute",
    )
    logins_limit_overall: str = LIMITS.setting(
        limit,
        "Password logins by all networks together. What is counted by hosting has this limit for "
        "each hosting, by all networks together.",
        "300 per minute",
    )
    changes_limit: str = LIMITS.setting(
        limit,
        "Changes that one network may make to one hosting: over the API all of them; in the "
        "control center new passwords for services, a new address for reminders, retries, and "
        "attempts to close it with a wrong name. API and control center are counted apart.",
        "60 per minute",
    )
    changes_limit_overall: str = LIMITS.setting(
        limit,
        "Changes that all networks together may make to one hosting, or ask the API for without a "
        "valid credential.",
        "600 per minute",
    )
    uploads_limit: str = LIMITS.setting(
        limit,
        "Files of up to 64 MB that may be sent to one hosting, by one network or all together.",
        "6 per minute",
    )
    names_limit: str = LIMITS.setting(
        limit,
        "Names that one network may check on the front page before it orders. Above that the page "
        "does not say whether a name is free. Orders for names that are taken are counted apart.",
        "30 per minute",
    )
    names_limit_overall: str = LIMITS.setting(
        limit, "Names that all networks together may check.", "300 per minute"
    )
    server_addresses: tuple[Address, ...] = LIMITS.setting(
        list_of(parsers.address),
        "The addresses that the hosting servers call the shop from. What tip jars and paid areas "
        "ask for from there is counted for each hosting; otherwise all hostings of a server share "
        "`TIPS_LIMIT`.",
        "",
    )
    tips_limit: str = LIMITS.setting(
        limit,
        "Invoices for tips, to any hosting, that one network may ask for.",
        "20 per minute",
    )
    tips_limit_overall: str = LIMITS.setting(
        limit, "Invoices for tips that all networks together may ask for.", "300 per minute"
    )

    refunds_limit: str = LIMITS.setting(
        limit, "Refunds that one network may claim, or prove a payment for.", "10 per minute"
    )
    refunds_limit_overall: str = LIMITS.setting(
        limit, "The same for all networks together.", "100 per minute"
    )

    gate_config: Path | None = GATE.setting(
        parsers.file_or_none,
        "The `gate.toml` that says what is behind the gate: see [gateway.md](gateway.md). Empty: "
        "there is no gate.",
        "",
    )
    gate_limit: str = GATE.setting(
        limit, "Invoices that the gate makes for one network, an IPv4 /24 here.", "30 per minute"
    )
    gate_limit_overall: str = GATE.setting(
        limit, "Invoices that the gate makes for all networks together.", "300 per minute"
    )
