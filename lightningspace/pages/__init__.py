"""The pages that people see, one module per subject."""

from lightningspace.pages import (
    about,
    access,
    account,
    areas,
    control,
    domains,
    known,
    login,
    mail,
    money,
    orders,
    refunds,
    reminders,
    settings,
    tip,
    tips,
    uploads,
)

PARTS = (orders, login, tip, reminders, control, account, settings, mail, domains, tips, money)
PARTS += (access, known, uploads, areas, refunds, about)
