"""Masks credentials, and messages to owners, in everything that any logger of the process writes.

Rows of the database stay out as well.

Nobody logs a credential on purpose. But a client may put its token into a URL, which access logs
repeat, and an exception's message may quote the input that caused it.
"""

import logging
import re

import psycopg
from peewee import PeeweeException

MASK = "[masked]"

# In a URL, "+", "/" and "=" may be percent-encoded.
_SIGN = "(?:[A-Za-z0-9+/_=-]|%2[BbFf]|%3[Dd])"
_SECRETS = re.compile(
    # Whatever follows the scheme, unless it is short enough to be a word.
    rf"(?P<scheme>(?i:L402|LSAT)(?:\s|%20|\+)+){_SIGN}{{16,}}(?:(?::|%3[Aa]){_SIGN}*)?"
    # Macaroons (version 2) in base64, with or without a location.
    rf"|Ag[EJ]{_SIGN}{{24,}}"
    # Preimages, and macaroons in hex.
    r"|[0-9a-fA-F]{64,}"
    # Invoices: an invoice and its preimage together can recover a hosting.
    r"|(?i:ln(?:bcrt|bc|tbs|tb)[0-9]*[munp]?1[02-9ac-hj-np-z]{50,})"
    # The comment that wallets send with a tip, in the query of a GET (LUD-12).
    r"|(?P<comment>[?&]comment=)[^&\s]+"
)


def mask(text: str) -> str:
    """Replace tokens, preimages, invoices and comments in a text."""
    return _SECRETS.sub(lambda found: (found["scheme"] or found["comment"] or "") + MASK, text)


def first_line(error: BaseException) -> str:
    """What a database said went wrong; the lines below may show a customer's data."""
    return str(error).partition("\n")[0]


def install() -> None:
    """From now on, mask every record of every logger in this process."""
    logging.setLogRecordFactory(Record)


def _without_rows(text: str, error: BaseException | None) -> str:
    """A traceback without what PostgreSQL tells below its first line: a row as it is stored."""
    while error is not None:
        if isinstance(error, PeeweeException | psycopg.Error):
            text = text.replace(str(error), first_line(error))
        error = error.__cause__ or error.__context__
    return text


class Record(logging.LogRecord):
    """A log record that masks its message, traceback and stack."""

    def getMessage(self) -> str:
        return mask(super().getMessage())

    @property
    def exc_text(self) -> str | None:
        """The formatted traceback; formatters cache it here before they use it."""
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
