"""What the fields of bodies and queries may hold, in JSON Schema, as the forms check them."""

from lightningspace.base import messages, passwords
from lightningspace.base.prices import (
    EXTRAS,
    EXTRAS_MAX,
    LONGEST_SECONDS,
    SHORTEST_SECONDS,
    UNIT_SECONDS,
)
from lightningspace.rules import tips
from lightningspace.shop import Shop

PASSWORD = {"pattern": f"^{passwords.ALLOWED}{{9,64}}$", "description": passwords.RULE_IN_WORDS}
EMAIL = {"format": "email", "maxLength": 254}


def or_empty(rules: dict) -> dict:
    return {"anyOf": [rules, {"maxLength": 0}]}


def generated_if_null(rules: dict) -> dict:
    return rules | {"description": f"{rules['description']}; null: one is generated and shown"}


def rules(shop: Shop) -> dict[str, dict]:
    """The rules of the fields that are the same on every route."""
    least, most = tips.bounds_msat(shop)
    return {
        "amount_msat": {"minimum": least, "maximum": most},
        "message": {"maxLength": messages.LONGEST},
        "space_mb": {"enum": list(shop.config.space_sizes_mb)},
        "duration": {"minimum": 1, "maximum": LONGEST_SECONDS // SHORTEST_SECONDS},
        "unit": {"enum": list(UNIT_SECONDS)},
        **{extra.column: {"minimum": 0, "maximum": EXTRAS_MAX} for extra in EXTRAS},
        "address": {"pattern": "@", "description": "of one of the hosting's domains with mail"},
        "destination": {"pattern": "@", "maxLength": 254},
        "quota_mb": {"minimum": 1},
        "name": {"minLength": 1, "description": "such as example.org"},
    }
