"""What makes the shop quicker in tests, in their own process and in those of tests/programs.py."""

from lightningspace.base import models, passwords

# A hash is slow to deter attackers; here it would take a tenth of the run.
passwords.METHOD = "scrypt:1024:8:1"
# No machine fails here, so commits need not wait for the disk.
DURABLE = models.SQLITE_PRAGMAS
models.SQLITE_PRAGMAS = DURABLE | {"synchronous": "off"}
