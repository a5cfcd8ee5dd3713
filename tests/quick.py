"""Makes the shop faster in tests, in their own process and in those of tests/programs.py."""

from lightningspace.base import models, passwords

# Password hashes are slow to deter attackers; here they would take a tenth of the time.
passwords.METHOD = "scrypt:1024:8:1"
# No machine crashes here, so commits need not wait for the disk.
DURABLE = models.SQLITE_PRAGMAS
models.SQLITE_PRAGMAS = DURABLE | {"synchronous": "off"}
