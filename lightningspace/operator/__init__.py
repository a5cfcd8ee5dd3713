"""What is for whoever runs the shop."""

from lightningspace.operator import monitoring, pages

PARTS = (monitoring, pages)
