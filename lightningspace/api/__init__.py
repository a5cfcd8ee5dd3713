"""What programs ask for, a module for each of its subjects."""

from lightningspace.api import (
    discovery,
    domains,
    hosting,
    lnurl,
    mail,
    payments,
    selling,
    tip,
    tips,
)

# The description of the API names its paths in this order.
PARTS = (selling, hosting, mail, domains, payments, tips, tip, discovery, lnurl)
