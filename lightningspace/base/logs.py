"""What is logged, by whichever program or library, without anything that opens a hosting, and
without messages to its owner or rows of the database.

Nobody logs a credential on purpose. But a client may put its token into an address, which access
logs repeat, and the message of an exception may quote what it stumbled over.
"""

import logging
import re

import psycopg
from peewee import PeeweeException

MASK = "[masked]"

# In an address "+", "/" and "=" are written with a percent sign.
_SIGN = "(?:[A-Za-z0-9+/_=-]|%2[BbFf]|%3[Dd])"
_SECRETS = re.compile(
    # Whatever follows the scheme, as long as it is no word of a sentence.
    rf"(?P<scheme>(?i:L402|LSAT)(?:\s|%20|\+)+){_SIGN}{{16,}}(?:(?::|%3[Aa]){_SIGN}*)?"
    # Macaroons of version 2, with a location or without, in base64.
    rf"|Ag[EJ]{_SIGN}{{24,}}"
    # Preimages, and macaroons in hex.
    r"|[0-9a-fA-F]{64,}"
    # Invoices: who has one and its preimage may recover a hosting.
    r"|(?i:ln(?:bcrt|bc|tbs|tb)[0-9]*[munp]?1[02-9ac-hj-np-z]{50,})"
    # What wallets send along with a tip, in the address of a GET (LUD-12).
    r"|(?P<comment>[?&]comment=)[^&\s]+"
)


def mask(text: str) -> str:
    """The text without tokens, preimages, invoices and messages."""
    return _SECRETS.sub(lambda found: (found["scheme"] or found["comment"] or "") + MASK, text)


def first_line(error: BaseException) -> str:
    """What a database said went wrong; the lines below may show a customer's data."""
    return str(error).partition("\n")[0]


def install() -> None:
    """Mask every record of every logger in this process from now on."""
    logging.setLogRecordFactory(Record)


def _without_rows(text: str, error: BaseException | None) -> str:
    """A traceback without what PostgreSQL tells below its first line: a row as it is stored."""
    while error is not None:
        if isinstance(error, PeeweeException | psycopg.Error):
            text = text.replace(str(error), first_line(error))
        error = error.__cause__ or error.__context__
    return text


class Record(logging.LogRecord):
    """A record that masks whatever a handler's formatter makes of it."""

    def getMessage(self) -> str:
        return mask(super().getMessage())

    @property
    def exc_text(self) -> str | None:
        """The traceback as text, which formatters put here before they show it."""
        return self._exc_text

    @exc_text.setter
    def exc_text(self, text: str | None) -> None:
        if text and self.exc_info:
            text = _without_rows(text, self.exc_info[1])
        self._exc_text = text and mask(text)

    @property
    def stack_info(self) -> str | None:
        return self._stack_info

    @stack_info.setter
    def stack_info(self, text: str | None) -> None:
        self._stack_info = text and mask(text)
