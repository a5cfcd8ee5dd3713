"""What programs ask for, one module per subject."""

from lightningspace.api import (
    discovery,
    domains,
    hosting,
    lnurl,
    lnurl_auth,
    mail,
    payments,
    selling,
    tip,
    tips,
)

# The OpenAPI document lists paths in this order.
PARTS = (selling, hosting, mail, domains, payments, tips, tip, discovery, lnurl, lnurl_auth)
