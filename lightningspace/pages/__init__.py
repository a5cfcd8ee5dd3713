"""The pages that people see, a module for each of their subjects."""

from lightningspace.pages import (
    access,
    account,
    control,
    domains,
    login,
    mail,
    money,
    orders,
    reminders,
    settings,
    tip,
    tips,
)

PARTS = (orders, login, tip, reminders, control, account, settings, mail, domains, tips, money)
PARTS += (access,)
