"""The operator's side of the shop: pages, commands, figures, notifications and the doctor."""

from lightningspace.operator import monitoring, pages

PARTS = (monitoring, pages)
