"""Usernames: the rule, the reserved ones, and generated ones."""

import re
import secrets
import string

RULE = re.compile(r"[a-z][a-z0-9]{2,15}")
RULE_IN_WORDS = "3 to 16 lower-case letters and digits, a letter first"

# A name becomes <name>.<BASE_DOMAIN>, info@ it, and part of FTP, SSH and database names:
# refused are names that a visitor, a mail server or the system would take for somebody else's.
RESERVED = frozenset(
    """
    abuse account accounts admin administrator administrators apache api app autoconfig
    autodiscover backup billing bin bitcoin blog cdn client clients contact control cpanel
    daemon dashboard data database dbispconfig demo dev dns docs domain email example ftp ftps
    games gateway git gnats guest help helpdesk host hosting hostmaster http https imap imaps
    info informationschema invoice invoices irc ispapps ispconfig lightning list lists lnurl
    local localhost login lsat mail mailer mailerdaemon mailman mails manager marketing master
    me messagebus mobile mta mx my mysql mysqld nagios news nobody noc node noreply ns null
    office official operator owner panel payment payments php phpmyadmin pma pop pop3 pop3s
    postfix postgres postmaster proftpd proxy puma pureftpd root sales secure security server
    service services setup sftp shell shop site sites smtp smtps spam sql ssh sshd ssl staff
    static stats status store support sync sys sysadmin syslog system systemd terms test tip
    tips tls tor update usenet user users uucp vmail vpn web webadmin webmail webmaster
    webserver welcome wellknown whois wpad www wwwdata
    """.split()
)
RESERVED_SHAPES = re.compile(r"(web|client|www|ns|mx|mail|smtp|imap|pop|ftp|root|admin)[0-9]+")


def is_reserved(name: str) -> bool:
    return name in RESERVED or RESERVED_SHAPES.fullmatch(name) is not None


def generate() -> str:
    """Three letters and five digits; whether it is free, the database says."""
    while True:
        letters = "".join(secrets.choice(string.ascii_lowercase) for _ in range(3))
        name = letters + "".join(secrets.choice(string.digits) for _ in range(5))
        if not is_reserved(name):
            return name
