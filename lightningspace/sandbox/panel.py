"""A stand-in ISPConfig 3.2.12: its remote/json.php over HTTP, pitfalls included.

tests/sandbox/test_panel.py compares its answers with recorded answers of the real panel. It serves
no sites and no mail: it only keeps the records.
"""

import base64
import configparser
import hashlib
import json
import logging
import math
import pickle
import random
import re
import secrets
import socket
import socketserver
import sqlite3
import statistics
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import idna

from lightningspace.base import clock
from lightningspace.sandbox.faults import Faults
from lightningspace.sandbox.jobs import Job, JobQueue

logger = logging.getLogger(__name__)

SESSION_SECONDS = 1800
LOCKOUT_FAILURES = 10
LOCKOUT_SECONDS = 300
QUOTA_REFRESH_SECONDS = 300
FRESH_SITE_KB = 28
WELCOME_MAIL_BYTES = 2048

RESTART_SECONDS = 0.5
# The server's settings, by section.
SERVER_INI = Path(__file__).parent / "server.ini"
# Changes to these tables reload the web server.
OF_THE_WEB = ("site", "alias")
# Column lengths: MariaDB in strict mode refuses longer values.
LONGEST = {"allow_override": 255}

WEAK_PASSWORD = (
    "The chosen password does not match the security guidelines. "
    'It has to be at least 8 chars in length and have a strength of "Good".'
)
MAINTENANCE = (
    "This ISPConfig installation is currently under maintenance. "
    "We should be back shortly. Thank you for your patience."
)
SQL_SYNTAX_ERROR = (
    "You have an error in your SQL syntax; check the manual that corresponds to your MariaDB "
    "server version for the right syntax to use near 'AND 1' at line 1"
)
BAD_GATEWAY = (
    b"<html><head><title>502 Bad Gateway</title></head><body>502 Bad Gateway</body></html>"
)


class Refusal(Exception):
    """The panel refuses: HTTP 200, code remote_fault, this message."""


class Fatal(Exception):
    """PHP crashes: HTTP 500 and an empty body."""


@dataclass
class Row:
    """A record. `live_at`: when the queue has carried it out. `run`: the run that does so."""

    record: dict
    live_at: float
    run: float = 0
    password: str | None = None
    login_broken: bool = False
    # When the server resets its ssl_letsencrypt, and whether its ssl as well.
    taken_back_at: float | None = None
    ssl_before: str = "n"


class MadeSite(NamedTuple):
    domain: str
    directory: str
    is_served: bool
    has_jail: bool


@dataclass
class Draft:
    """A record about to be stored.

    `given`: the caller's values. `values`: the old values, with the given ones over them.
    """

    panel: "SandboxPanel"
    kind: "Kind"
    id: int | None
    given: dict[str, str]
    values: dict[str, str]

    def text(self, column: str) -> str:
        return self.values.get(column) or ""


Rule = Callable[[Draft], str]
Filter = Callable[[str], str]


@dataclass(frozen=True)
class Kind:
    """One kind of record: its table, the columns of a new one, its rules in order."""

    name: str
    method: str
    table: str
    id_column: str
    columns: dict[str, str | None]
    rules: list[Rule]
    filters: dict[str, list[Filter]] = field(default_factory=dict)
    password: str | None = None
    readonly: frozenset[str] = frozenset()
    # Reset by every add and update that does not name them.
    reset: dict[str, str] = field(default_factory=dict)

    def stored(self, column: str, value: object) -> str | None:
        """`value` as a SELECT would return it."""
        text = php_text(value)
        if self.columns[column] in ("y", "n") and column != "php" and text not in ("y", "n"):
            # A checkbox accepts only "y": JSON true and 1 are stored as "n", other words as "".
            return "n" if text in ("", "1") else ""
        for change in self.filters.get(column, ()):
            text = change(text)
        # Its tables are utf8mb3: three bytes a character.
        return text if column == self.password else re.sub("[^\0-\uffff]", "????", text)


def php_text(value: object) -> str:
    if value is None or value is False:
        return ""
    if value is True:
        return "1"
    return "Array" if isinstance(value, list | dict) else str(value)


def columns(text: str) -> dict[str, str | None]:
    """`name=default` words; a name alone defaults to NULL."""
    pairs = (word.partition("=") for word in text.split())
    return {name: value if equals else None for name, equals, value in pairs}


# Filters: what a form makes of a value before its rules see it.


def ascii_domain(text: str) -> str:
    """The domain in A-labels, "" if it has none. A leading dot passes, as in the real one."""
    try:
        labels = [ascii_label(x) for x in idna.uts46_remap(text, std3_rules=False).split(".")]
    except UnicodeError:
        return ""
    if not all(labels[1:-1]) or any(len(x) > 63 or x.strip("-") != x for x in labels):
        return ""
    return ".".join(labels)


def ascii_label(label: str) -> str:
    """The name in A-labels. Raises UnicodeError for malformed ones."""
    if label.startswith("xn--"):
        label[4:].encode().decode("punycode")
    elif label[2:4] == "--":
        raise UnicodeError("hyphens in the third and fourth place")
    return label if label.isascii() else "xn--" + label.encode("punycode").decode()


def ascii_address(text: str) -> str:
    """Each line's address or domain with its domain in A-labels."""
    split = (line.rpartition("@") for line in text.split("\n"))
    return "\n".join(local + at + ascii_domain(domain) for local, at, domain in split)


def ascii_lower(text: str) -> str:
    return re.sub("[A-Z]+", lambda found: found[0].lower(), text)


def without_tags(text: str) -> str:
    without_scripts = re.sub(
        r"<script[^>]*>.*?</script>", "", text, flags=re.IGNORECASE | re.DOTALL
    )
    return re.sub(r"<(?!\s)[^>]*(>|$)", "", without_scripts)


def one_line(text: str) -> str:
    return re.sub(r"[\r\n]", "", text)


def without_spaces(text: str) -> str:
    return re.sub(r"\s", "", text)


def plain_path(path: str) -> str:
    parts: list[str] = []
    for part in re.sub("//+", "/", path).split("/"):
        if part != "..":
            parts.append(part)
        elif parts and parts[-1]:
            parts.pop()
    return "/".join(parts)


ADDRESS: list[Filter] = [ascii_address, ascii_lower]
LINE: list[Filter] = [without_tags, one_line]
CODE: list[Filter] = [str.strip, str.upper, without_spaces, *LINE]


def filtering(filters: list[Filter], names: str) -> dict[str, list[Filter]]:
    return dict.fromkeys(names.split(), filters)


# Rules return what is wrong, "" if nothing. The panel ends messages of its own validators with
# <br /> and those of custom ones with <br>; callers see the difference.


def standard(message: str) -> str:
    return f"{message}<br />\r\n"


def custom(message: str) -> str:
    return f"{message}<br>\r\n"


def filled(column: str, message: str, end=standard) -> Rule:
    return lambda draft: "" if draft.text(column) else end(message)


def matches(column: str, pattern: str, message: str, end=standard, optional=False) -> Rule:
    compiled = re.compile(pattern, re.ASCII)

    def rule(draft: Draft) -> str:
        text = draft.text(column)
        return "" if (optional and not text) or compiled.fullmatch(text) else end(message)

    return rule


def unique(column: str, message: str) -> Rule:
    def rule(draft: Draft) -> str:
        text = draft.text(column).casefold()
        taken = (row.record[column] or "" for row in draft.panel.others(draft))
        return standard(message) if text and text in (t.casefold() for t in taken) else ""

    return rule


def good_password(column: str) -> Rule:
    def rule(draft: Draft) -> str:
        text = draft.given.get(column, "")
        return WEAK_PASSWORD if text and not is_strong(text) else ""

    return rule


def is_strong(password: str) -> bool:
    """Whether its strength is "Good". The panel does not count backslashes and non-ASCII characters
    as symbols, and measures the length in bytes.
    """
    classes = (r"[a-z]", r"[A-Z]", r"[0-9]", r"""[`~!@#$%^&*()_+|=\-\[\]}{';:/?.>,<" ]""")
    variety = sum(bool(re.search(each, password)) for each in classes)
    length = len(password.encode())
    return length > 8 or (length == 8 and variety >= 3)


def on_update(rule: Rule) -> Rule:
    return lambda draft: rule(draft) if draft.id is not None else ""


def web_names(values: dict) -> set[str]:
    domain = (values.get("domain") or "").lower()
    return {domain, f"www.{domain}"} if values.get("subdomain") == "www" else {domain}


def domain_is_free(draft: Draft) -> str:
    names = web_names(draft.values)
    taken = any(names & web_names(row.record) for row in draft.panel.others(draft))
    return custom("domain_error_unique") if draft.text("domain") and taken else ""


def username_is_free(draft: Draft) -> str:
    # Compared with logins, not clients: an incomplete client does not reserve its name.
    login = None if draft.panel.races else draft.panel.login(draft.text("username"))
    return custom("username_error_unique") if login and login["client_id"] != str(draft.id) else ""


def username_is_no_web_user(draft: Draft) -> str:
    collides = re.fullmatch(r"web(\d.*)?", draft.text("username"))
    return custom("username_error_collision") if collides else ""


def directory_is_in_site(draft: Draft) -> str:
    site = draft.panel.find("site", draft.text("parent_domain_id"))
    root = (site.record["document_root"] if site else "") or "?"
    path = draft.text("dir")
    inside = path == root or path.startswith(root + "/")
    return "" if inside and ".." not in path else custom("directory_error_notinweb")


def shell_name_is_allowed(draft: Draft) -> str:
    name = draft.text("username")
    allowed = re.fullmatch(r"[\w.\-]{1,32}", name, re.ASCII) and name != "root"
    return "" if allowed else custom("invalid_username_txt")


def fits(draft: Draft) -> str:
    long = (c for c, most in LONGEST.items() if len(draft.given.get(c) or "") > most)
    verb = "INSERT INTO" if draft.id is None else "UPDATE"
    return "".join(
        f"Data too long for column '{column}' at row 1 {verb} `{draft.kind.table}`"
        for column in long
    )


def database_name_is_free(draft: Draft) -> str:
    def place(values):
        return (values.get("server_id") or "0", (values.get("database_name") or "").casefold())

    taken = any(place(row.record) == place(draft.values) for row in draft.panel.others(draft))
    return "There is already a database with that name on the same server." if taken else ""


def limits_are_numbers(draft: Draft) -> str:
    limits = (c for c, d in draft.kind.columns.items() if c.startswith("limit_") and d == "0")
    bad = [c for c in limits if c in draft.given and not re.fullmatch(r"-?\d*", draft.given[c])]
    return "".join(standard(f"{column}_error_notint") for column in bad)


WEB_DOMAIN = r"[\w.\-]{1,255}\.[a-zA-Z0-9\-]{2,63}"
ISDOMAIN = r"([a-zA-Z0-9\-]{1,63}\.)*[a-zA-Z0-9\-]{2,63}"
EMAIL = r"[!-?A-~]+@[!-?A-~]+\.[!-?A-~]{2,}"
OWN_EMAIL = rf"(?!.*\+){EMAIL}"
REDIRECT = (
    r"([\[]scheme[\]]|ftp|https?)://[\w.\-]+(:\d+)?(/[\w/.,\-+?~!:%]*(\?\S+)?)?(#\S*)?"
    r"|/(?!.*\.\.)[\w/.\-]{1,255}/"
)
QUOTA = r"-1|\d{1,10}"
NUMBER = r"\d{1,11}"
SYSTEM_NAMES = "invalid_system_user_or_group_txt"
SITE_RESET = {
    "pm_max_children": "1",
    "pm_start_servers": "1",
    "pm_min_spare_servers": "1",
    "pm_max_spare_servers": "1",
    "log_retention": "30",
}


def number(column: str) -> Rule:
    return matches(column, NUMBER, f"{column}_error_regex")


def quota(column: str) -> list[Rule]:
    return [
        filled(column, f"{column}_error_empty"),
        matches(column, QUOTA, f"{column}_error_regex"),
    ]


def system_name(column: str, word: str, key: str) -> list[Rule]:
    return [
        filled(column, f"{key}_error_empty"),
        matches(column, rf"{word}\d+", SYSTEM_NAMES, custom),
    ]


DIRECTORY: list[Rule] = [
    filled("dir", "directory_error_empty"),
    matches("dir", r"/[a-zA-Z0-9.\-_/]{10,128}", "directory_error_regex"),
    directory_is_in_site,
]
WEB_NAME: list[Rule] = [
    filled("domain", "domain_error_empty", custom),
    matches("domain", WEB_DOMAIN, "domain_error_regex", custom, optional=True),
    domain_is_free,
]

CLIENT = Kind(
    "client",
    "client",
    "client",
    "client_id",
    columns("""
        company_name= company_id= gender= contact_firstname= contact_name= customer_no= vat_id=
        street= zip= city= state= country= telephone= mobile= fax= email= internet= icq= notes=
        bank_account_owner= bank_account_number= bank_code= bank_name= bank_account_iban=
        bank_account_swift= paypal_email= default_mailserver=0 mail_servers= limit_maildomain=0
        limit_mailbox=0 limit_mailalias=0 limit_mailaliasdomain=0 limit_mailforward=0
        limit_mailcatchall=0 limit_mailrouting=0 limit_mail_wblist=0 limit_mailfilter=0
        limit_fetchmail=0 limit_mailquota=0 limit_spamfilter_wblist=0 limit_spamfilter_user=0
        limit_spamfilter_policy=0 limit_mail_backup=n limit_relayhost=n default_xmppserver=0
        xmpp_servers= limit_xmpp_domain=0 limit_xmpp_user=0 limit_xmpp_muc=n limit_xmpp_anon=n
        limit_xmpp_auth_options=plain,hashed,isp limit_xmpp_vjud=n limit_xmpp_proxy=n
        limit_xmpp_status=n limit_xmpp_pastebin=n limit_xmpp_httparchive=n default_webserver=0
        web_servers= limit_web_ip limit_web_domain=0 limit_web_quota=0 web_php_options= limit_cgi=n
        limit_ssi=n limit_perl=n limit_ruby=n limit_python=n force_suexec=n limit_hterror=n
        limit_wildcard=n limit_ssl=n limit_ssl_letsencrypt=n limit_web_subdomain=0
        limit_web_aliasdomain=0 limit_ftp_user=0 limit_shell_user=0 ssh_chroot= limit_webdav_user=0
        limit_backup=n limit_directive_snippets=n limit_aps=0 default_dnsserver=0 db_servers=
        limit_dns_zone=0 default_slave_dnsserver=0 limit_dns_slave_zone=0 limit_dns_record=0
        default_dbserver=0 dns_servers= limit_database=0 limit_database_user=0
        limit_database_quota=0 limit_cron=0 limit_cron_type= limit_cron_frequency=0
        limit_traffic_quota=0 limit_client=0 limit_domainmodule=0 limit_mailmailinglist=0
        limit_openvz_vm=0 limit_openvz_vm_template_id=0 parent_client_id=0 username= password
        language= usertheme= template_master=0 template_additional= created_at= locked=n canceled=n
        can_use_api=n tmp_data id_rsa ssh_rsa= customer_no_template=R[CLIENTID]C[CUSTOMER_NO]
        customer_no_start=1 customer_no_counter=0 added_date added_by= validation_status=accept
        risk_score=0 activation_code=
    """),
    [
        filled("contact_name", "contact_error_empty"),
        filled("username", "username_error_empty"),
        username_is_free,
        username_is_no_web_user,
        matches("username", r"[\w.\-]{0,64}", "username_error_regex"),
        good_password("password"),
        filled("language", "language_error_empty"),
        matches("email", EMAIL, "email_error_isemail"),
        filled("email", "email_error_empty"),
        limits_are_numbers,
        filled("web_php_options", "web_php_options_notempty"),
        filled("ssh_chroot", "ssh_chroot_notempty"),
    ],
    filters=filtering(ADDRESS, "email paypal_email")
    | filtering(CODE, "vat_id bank_account_iban bank_account_swift")
    | filtering([str.strip, *LINE], "contact_firstname contact_name")
    | filtering([without_tags], "notes")
    | filtering(
        LINE,
        "company_name company_id customer_no street zip city state telephone mobile fax internet"
        " icq bank_account_owner bank_account_number bank_code bank_name added_by",
    ),
    password="password",
    readonly=frozenset(
        {"can_use_api", "tmp_data", "id_rsa", "ssh_rsa", "created_at", "parent_client_id"}
    ),
)
SITE_COLUMNS = columns("""
    server_id=0 ip_address= ipv6_address= domain= type= parent_domain_id=0 vhost_type=
    document_root= web_folder= system_user= system_group= hd_quota=0 traffic_quota=-1
    cgi=n ssi=n suexec=n errordocs=0 is_subdomainwww=1 subdomain= php= ruby=n python=n perl=n
    redirect_type= redirect_path= seo_redirect= rewrite_to_https=n ssl=n ssl_letsencrypt=n
    ssl_letsencrypt_exclude=n ssl_state= ssl_locality= ssl_organisation= ssl_organisation_unit=
    ssl_country= ssl_domain= ssl_request= ssl_cert= ssl_bundle= ssl_key= ssl_action=
    stats_password stats_type= allow_override=All apache_directives nginx_directives
    php_fpm_use_socket=n php_fpm_chroot=n pm= pm_max_children=1 pm_start_servers=1
    pm_min_spare_servers=1 pm_max_spare_servers=1 pm_process_idle_timeout=10 pm_max_requests=0
    php_open_basedir= custom_php_ini backup_interval= backup_copies=0 backup_format_web=
    backup_format_db= backup_encrypt=n backup_password= backup_excludes= active=n
    traffic_quota_lock=n proxy_directives last_quota_notification rewrite_rules added_date
    added_by= directive_snippets_id=0 enable_pagespeed=n http_port=80 https_port=443
    folder_directive_snippets log_retention=30 proxy_protocol=n server_php_id=0
    jailkit_chroot_app_sections jailkit_chroot_app_programs delete_unused_jailkit=n
    last_jailkit_update last_jailkit_hash disable_symlinknotowner=n
""")
SITE = Kind(
    "site",
    "sites_web_domain",
    "web_domain",
    "domain_id",
    SITE_COLUMNS,
    [
        matches("server_id", r"[1-9]\d*", "no_server_error"),
        *WEB_NAME,
        *quota("hd_quota"),
        *quota("traffic_quota"),
        on_update(filled("document_root", "documentroot_error_empty")),
        on_update(filled("system_user", "sysuser_error_empty")),
        on_update(matches("system_user", r"web\d+", SYSTEM_NAMES, custom)),
        on_update(filled("system_group", "sysgroup_error_empty")),
        on_update(matches("system_group", r"client\d+", SYSTEM_NAMES, custom)),
        matches("redirect_path", REDIRECT, "redirect_error_regex", optional=True),
        filled("allow_override", "allow_override_error_empty"),
        fits,
        number("pm_max_children"),
        number("pm_start_servers"),
        number("pm_min_spare_servers"),
        number("pm_max_spare_servers"),
        number("pm_process_idle_timeout"),
        number("pm_max_requests"),
        number("http_port"),
        number("https_port"),
        number("log_retention"),
    ],
    filters=filtering(ADDRESS, "domain")
    | filtering(LINE, "ssl_domain")
    | filtering([without_tags], "ssl_key ssl_request ssl_cert ssl_bundle"),
    readonly=frozenset({"document_root", "system_user", "system_group"}),
    reset=SITE_RESET,
)
ALIAS = Kind(
    "alias",
    "sites_web_aliasdomain",
    "web_domain",
    "domain_id",
    SITE_COLUMNS
    | columns("""
        ip_address ipv6_address vhost_type document_root web_folder system_user system_group
        cgi=y ssi=y suexec=y errordocs=1 php=y ssl_state ssl_locality ssl_organisation
        ssl_organisation_unit ssl_country ssl_domain ssl_request ssl_cert ssl_bundle ssl_key
        ssl_action stats_type=awstats php_fpm_use_socket=y pm=ondemand pm_max_children=10
        pm_start_servers=2 pm_max_spare_servers=5 php_open_basedir backup_interval=none
        backup_copies=1 backup_format_web=default backup_format_db=gzip backup_excludes added_by
        log_retention=10
    """),
    WEB_NAME,
    filters=filtering(ADDRESS, "domain"),
)
FTP = Kind(
    "ftp",
    "sites_ftp_user",
    "ftp_user",
    "ftp_user_id",
    columns("""
        server_id=0 parent_domain_id=0 username= username_prefix= password quota_size=-1 active=n
        uid= gid= dir= quota_files=0 ul_ratio=0 dl_ratio=0 ul_bandwidth=0 dl_bandwidth=0 expires
        user_type=user user_config
    """),
    [
        unique("username", "username_error_unique"),
        matches("username", r"[\w.\-@+]{0,64}", "username_error_regex"),
        good_password("password"),
        *quota("quota_size"),
        *system_name("uid", "web", "uid"),
        *system_name("gid", "client", "gid"),
        *DIRECTORY,
    ],
    password="password",
)
SHELL = Kind(
    "shell",
    "sites_shell_user",
    "shell_user",
    "shell_user_id",
    columns("""
        server_id=0 parent_domain_id=0 username= username_prefix= password quota_size=-1 active=n
        puser= pgroup= shell=/bin/bash dir= chroot= ssh_rsa=
    """),
    [
        unique("username", "username_error_unique"),
        matches("username", r"[\w.\-]{0,32}", "username_error_regex"),
        shell_name_is_allowed,
        good_password("password"),
        filled("quota_size", "quota_size_error_empty"),
        *system_name("puser", "web", "uid"),
        *system_name("pgroup", "client", "uid"),
        filled("shell", "shell_error_empty"),
        matches("shell", r"/[a-zA-Z0-9/]{5,20}", "shell_error_regex"),
        *DIRECTORY,
    ],
    filters=filtering([plain_path], "dir"),
    password="password",
)
DATABASE_USER = Kind(
    "database_user",
    "sites_database_user",
    "web_database_user",
    "database_user_id",
    columns("""
        server_id=0 database_user= database_user_prefix= database_password database_password_mongo
    """),
    [
        filled("database_user", "database_user_error_empty"),
        unique("database_user", "database_user_error_unique"),
        matches("database_user", r"[a-zA-Z0-9_]{2,64}", "database_user_error_regex"),
        good_password("database_password"),
    ],
    password="database_password",
)
DATABASE = Kind(
    "database",
    "sites_database",
    "web_database",
    "database_id",
    columns("""
        server_id=0 parent_domain_id=0 type= database_name= database_name_prefix=
        database_quota=0 quota_exceeded=n last_quota_notification database_user_id=0
        database_ro_user_id=0 database_charset= remote_access=n remote_ips backup_interval=
        backup_copies=0 active=n
    """),
    [
        filled("database_name", "database_name_error_empty"),
        matches("database_name", r"[a-zA-Z0-9_]{2,64}", "database_name_error_regex"),
        database_name_is_free,
    ],
)
MAIL_DOMAIN = Kind(
    "mail_domain",
    "mail_domain",
    "mail_domain",
    "domain_id",
    columns("""
        server_id=0 domain= dkim=n dkim_selector=default dkim_private dkim_public relay_host=
        relay_user= relay_pass= active=n
    """),
    [
        filled("domain", "domain_error_empty"),
        unique("domain", "domain_error_unique"),
        matches("domain", ISDOMAIN, "domain_error_regex"),
    ],
    filters=filtering(ADDRESS, "domain"),
)
MAILBOX = Kind(
    "mailbox",
    "mail_user",
    "mail_user",
    "mailuser_id",
    columns("""
        server_id=0 email= login= password name= uid=-1 gid=-1 maildir= maildir_format=maildir
        quota=0 cc= forward_in_lda=n sender_cc= homedir= autoresponder=n autoresponder_start_date
        autoresponder_end_date autoresponder_subject= autoresponder_text= move_junk=n
        purge_trash_days=0 purge_junk_days=0 custom_mailfilter postfix=n greylisting=n access=y
        disableimap=n disablepop3=n disabledeliver=n disablesmtp=n disablesieve=n
        disablesieve-filter=n disablelda=n disablelmtp=n disabledoveadm=n last_access
        disablequota-status=n disableindexer-worker=n last_quota_notification backup_interval=
        backup_copies=0 imap_prefix=
    """),
    [
        matches("email", OWN_EMAIL, "email_error_isemail"),
        unique("email", "email_error_unique"),
        matches("login", r"[_a-zA-Z0-9][\w.\-+@]{0,63}", "login_error_regex"),
        unique("login", "login_error_unique"),
        good_password("password"),
        matches("quota", r"-1|\d+", "quota_error_value"),
    ],
    filters=filtering(ADDRESS, "email login cc sender_cc")
    | filtering(LINE, "name maildir maildir_format homedir autoresponder_subject")
    | filtering([without_tags], "autoresponder_text"),
    password="password",
)
FORWARD = Kind(
    "forward",
    "mail_forward",
    "mail_forwarding",
    "forwarding_id",
    columns("server_id=0 source= destination= type= active=n allow_send_as=n greylisting=n"),
    [matches("source", OWN_EMAIL, "email_error_isemail")],
    filters=filtering(ADDRESS, "source") | filtering([*ADDRESS, without_tags], "destination"),
)
OWNED = (SITE, ALIAS, FTP, SHELL, DATABASE_USER, DATABASE, MAIL_DOMAIN, MAILBOX, FORWARD)
KINDS = {kind.name: kind for kind in (CLIENT, *OWNED)}

# Logins to the panel: the administrator's, and one for each client.
SYS_USER = columns("""
    username= passwort modules=dashboard,mail,sites,dns,tools,help startmodule=dashboard
    app_theme=default typ=user active=1 language=en groups= default_group= client_id= id_rsa=
    ssh_rsa= lost_password_function=1 lost_password_hash= lost_password_reqtime otp_type=none
    otp_data otp_recovery otp_attempts=0
""")
# An additional PHP version without get_full_data.
PHP_TEXT = ("name", "php_fpm_init_script", "php_fpm_ini_dir", "php_fpm_pool_dir")
SQL_ESCAPES = str.maketrans(
    {"\0": r"\0", "\n": r"\n", "\r": r"\r", "\x1a": r"\Z"} | {c: "\\" + c for c in "\\'\""}
)
# What the client lock switches off, by table and column.
LOCKED_BY = {
    "site": "active",
    "ftp": "active",
    "shell": "active",
    "database": "active",
    "mailbox": "postfix",
}


@cache
def _parsed_ini(path: Path) -> dict[str, dict[str, str]]:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(path.read_text(encoding="utf-8"))
    return {section: dict(parser[section]) for section in parser.sections()}


def read_ini(path: Path) -> dict[str, dict[str, str]]:
    return {name: dict(section) for name, section in _parsed_ini(path).items()}


def is_done(row: Row) -> bool:
    return row.live_at <= clock.now()


def is_counted(row: Row) -> bool:
    """Whether the server has measured the row's usage since it went live."""
    return clock.now() >= row.live_at + QUOTA_REFRESH_SECONDS


def _has_certificate(site: dict) -> bool:
    return (site["ssl"], site["ssl_letsencrypt"]) == ("y", "y")


def is_hashed(params: dict) -> bool:
    """Whether the caller says that the password is already a hash."""
    return php_text(params.get("_ispconfig_pw_crypted")) == "1"


def crypt_like(password: str) -> str:
    salt = secrets.token_hex(8)
    digest = hashlib.sha512((salt + password).encode()).digest()
    return f"$6$rounds=5000${salt}${base64.b64encode(digest, b'./').decode().rstrip('=')}"


def as_hashed(kind: Kind, password: str) -> str:
    """The password as the panel alters it before hashing: only the altered one logs in."""
    if kind is DATABASE_USER:
        return password.translate(SQL_ESCAPES)
    if kind is MAILBOX:
        return password.encode("latin-1", "replace").decode(errors="replace")
    return password


def mysql_like(password: str) -> str:
    once = hashlib.sha1(password.encode()).digest()
    return "*" + hashlib.sha1(once).hexdigest().upper()


def rights(userid: str, groupid: str, group: str = "riud") -> dict[str, str]:
    return {
        "sys_userid": userid,
        "sys_groupid": groupid,
        "sys_perm_user": "riud",
        "sys_perm_group": group,
        "sys_perm_other": "",
    }


class SandboxPanel:
    """ISPConfig as the shop sees it.

    Switches for tests and demonstrations: `faults` (see faults.py; for `refuse` the messages
    "HTTP <status>", "garbage" and "dribble" are special), `before_call` (called with the method of
    each call), `delays` (seconds by method, "*" for the others), `maintenance`, `forbidden`
    (methods that the remote user may not call), `web_config` (the server's web settings, defaults
    of new sites included), `disk_kb` (usage by site id), `database_bytes` and `mail_bytes` (usage
    of databases and mailboxes), `php_versions` (id and name of additional PHP versions) and
    `no_certificates` (Let's Encrypt issues none; `certificates_asked` are the names of each one
    that the server should fetch).

    The queue (see jobs.py): a change takes `queue_seconds`, or `job_seconds` for its kind of record
    (0: no time); runs begin `run_seconds` apart (0: at once). With `restarts`, a run that changes
    sites restarts the web server, which also serves the panel: open connections are cut when they
    are used again, and new ones are refused for half a second. With `kept_hang` open connections
    are never answered instead, as with mod_fcgid and mpm_itk. During a client_add, every other call
    takes `slowed_seconds` longer.
    """

    def __init__(
        self,
        store: Path | None = None,
        user: str = "shop",
        password: str = "sandbox-panel",
        port: int = 0,
        faults: Faults | None = None,
    ):
        self.user = user
        self.password = password
        self.port = port
        self.faults = faults or Faults()
        self.calls: list[tuple[str, dict]] = []
        self.before_call: Callable[[str], None] = lambda method: None
        self.delays: dict[str, float] = {}
        self.queue_seconds: float = 2
        self.job_seconds: dict[str, float] = {}
        self.run_seconds: float = 0
        self.restarts = False
        self.kept_hang = False
        self.slowed_seconds: float = 0
        self.maintenance = False
        self.ahead_seconds = 0  # how far its clock is ahead of ours
        self.forbidden: set[str] = set()
        self.disk_kb: dict[int, int] = {}
        self.database_bytes: dict[int, int] = {}
        self.mail_bytes: dict[int, int] = {}
        self.php_versions: list[tuple[int, str]] = []
        self.no_certificates = False
        self.certificates_asked: list[list[str]] = []
        self.server_config = read_ini(SERVER_INI)
        self.web_config = self.server_config["web"]

        self._lock = threading.RLock()
        self._server: _Server | None = None
        self._timings: dict[str, tuple[float, float, float]] = {}
        self._random = random.Random(1)
        self._sessions: dict[str, int] = {}
        self._failures: list[int] = []
        self._rows: dict[str, dict[int, Row]] = {name: {} for name in (*KINDS, "sys_user")}
        self._next_id: dict[str, int] = {}
        self._queue = JobQueue()
        self._adding_clients = 0
        self._clear: dict[str, str] = {}  # passwords by hash
        self.races = False
        self._methods = self._make_methods()
        self._db = self._open(store) if store else None
        if not self._rows["sys_user"]:
            self._add_login("admin", "administrator", "en", "0")

    # Life

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/remote/json.php"

    def start(self) -> None:
        """Return once the panel is listening."""
        self._server = _Server(("127.0.0.1", self.port), self)
        self.port = self._server.server_address[1]
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()

    def down(self) -> None:
        """Close all connections and refuse new ones until `up`; the records stay."""
        if self._server:
            self._server.close()
            self._server = None

    def up(self) -> None:
        self.start()

    def stop(self) -> None:
        self.down()
        with self._lock:
            if self._db:
                self._db.close()
                self._db = None

    # What tests ask and arrange

    def records(self, kind: str) -> list[dict]:
        with self._lock:
            self._take_back()
            return [dict(row.record) for row in self._rows[kind].values()]

    def password_of(self, kind: str, id: int | str) -> str | None:
        """The password that works; None if there is none or it was hashed twice.

        It differs from the one that was sent if a database user's contains quotes or backslashes,
        or a mailbox's contains non-ASCII characters.
        """
        row = self.find(kind, id)
        return row.password if row else None

    def is_live(self, kind: str, id: int | str) -> bool:
        """Whether the record exists and the queue has carried it out."""
        row = self.find(kind, id)
        if row is None:
            return False
        with self._lock:
            # The web server is reloaded at the end of a run.
            return self._queue.has_ended(row.run) if kind in OF_THE_WEB else is_done(row)

    def ftp_directory(self, username: str, password: str) -> str | None:
        """This user's FTP directory; None if the login is wrong or does not work yet."""
        with self._lock:
            for row in self._rows["ftp"].values():
                record = row.record
                if (record["username"], row.password) == (username, password):
                    site = self.find("site", record["parent_domain_id"])
                    is_there = is_done(row) and site is not None and is_done(site)
                    return record["dir"] if is_there and record["active"] == "y" else None
        return None

    def made_sites(self) -> list[MadeSite]:
        """The sites that the queue has created."""
        with self._lock:
            shells = [row.record for row in self._rows["shell"].values() if is_done(row)]
            jails = {shell["dir"] for shell in shells if shell["chroot"] == "jailkit"}
            rows = [row for row in self._rows["site"].values() if is_done(row)]
            return [self._made_site(row, row.record["document_root"] in jails) for row in rows]

    def _made_site(self, row: Row, has_jail: bool) -> MadeSite:
        is_served = row.record["active"] == "y" and self._queue.has_ended(row.run)
        return MadeSite(row.record["domain"], row.record["document_root"], is_served, has_jail)

    def can_log_in(self, client_id: int | str) -> bool:
        """Whether the client can log in to the panel."""
        row = self.find("client", client_id)
        login = row and self.login(row.record["username"])
        return bool(login) and login["active"] == "1" and not row.login_broken

    def half_make(self, client_id: int | str) -> None:
        """Leave the client as a client_add that was killed half-way would."""
        with self._lock:
            row = self.find("client", client_id)
            row.record.update(created_at=None, id_rsa=None, ssh_rsa="")
            self._save("client", int(client_id), row)
            self._remove_login(client_id)
            self._commit()

    def jobs_of_others(self, for_seconds: int) -> None:
        """Keep the queue busy with other customers' changes, so that ours wait behind them."""
        with self._lock:
            self._queue.add(for_seconds, self.run_seconds, "0", reloads=False)

    def seconds_to_go(self) -> int:
        """How long until the queue is empty, if nothing is added."""
        with self._lock:
            return math.ceil(max(0, self._queue.ends_at() - clock.now()))

    def reloaded(self) -> float:
        """When the run began that last restarted the web server."""
        with self._lock:
            return self._queue.reloaded() if self.restarts else 0

    def forget_sessions(self) -> None:
        """End all sessions early, as in a restored panel."""
        with self._lock:
            self._sessions.clear()

    def lock_out(self) -> None:
        """Refuse all calls for five minutes, as after too many failed logins."""
        with self._lock:
            self._failures = [clock.now()] * LOCKOUT_FAILURES

    def snapshot(self) -> bytes:
        """The present records and queue, for `go_back`."""
        with self._lock:
            return pickle.dumps((self._rows, self._next_id, self._queue, self._clear))

    def go_back(self, snapshot: bytes, later: int = 0) -> None:
        """Return to a snapshot, without sessions, noted calls or faults.

        The records' times are moved by `later` seconds. Only for a panel without a store.
        """
        with self._lock:
            self._rows, self._next_id, self._queue, self._clear = pickle.loads(snapshot)
            for rows in self._rows.values():
                for row in rows.values():
                    row.live_at, row.run = row.live_at + later, row.run + later
            self._queue.shift(later)
            self._sessions, self._failures, self.calls = {}, [], []
            self.maintenance, self.forbidden = False, set()
        self.faults.clear()

    def set_next_id(self, kind: str, id: int) -> None:
        with self._lock:
            self._next_id[KINDS[kind].table] = id

    def use_timings(self, path: Path) -> None:
        """Delay each call as measured: {method: {p50, p95, max}} in ms."""
        measured = json.loads(Path(path).read_text(encoding="utf-8"))
        spreads = {
            name.split(" (")[0]: tuple(spread[key] / 1000 for key in ("p50", "p95", "max"))
            for name, spread in measured.items()
        }
        # Calls that were not measured take as long as a typical one.
        typical = tuple(statistics.median(column) for column in zip(*spreads.values(), strict=True))
        self._timings = {"*": typical} | spreads

    # Storage

    def _open(self, store: Path) -> sqlite3.Connection:
        db = sqlite3.connect(store, check_same_thread=False)
        db.execute("PRAGMA synchronous=OFF")
        db.execute(
            "CREATE TABLE IF NOT EXISTS rows (kind TEXT, id INTEGER, json TEXT,"
            " PRIMARY KEY (kind, id))"
        )
        for kind, id, text in db.execute("SELECT kind, id, json FROM rows ORDER BY kind, id"):
            if kind == "meta":
                meta = json.loads(text)
                self._next_id = meta["next_id"]
                self._queue = JobQueue.from_dict(meta.get("queue", {}))
            else:
                row = self._rows[kind][id] = Row(**json.loads(text))
                if kind in KINDS and row.password:
                    self._clear[row.record[KINDS[kind].password]] = row.password
        return db

    def _save(self, kind: str, id: int, row: Row) -> None:
        self._rows[kind][id] = row
        self._write(kind, id, vars(row))

    def _write(self, kind: str, id: int, value: dict) -> None:
        if self._db:
            self._db.execute(
                "INSERT OR REPLACE INTO rows VALUES (?, ?, ?)", (kind, id, json.dumps(value))
            )

    def _forget(self, kind: str, id: int) -> None:
        self._rows[kind].pop(id, None)
        if self._db:
            self._db.execute("DELETE FROM rows WHERE kind = ? AND id = ?", (kind, id))

    def _commit(self) -> None:
        if self._db and self._db.in_transaction:
            self._write("meta", 0, {"next_id": self._next_id, "queue": asdict(self._queue)})
            self._db.commit()

    def _new_id(self, table: str) -> int:
        id = self._next_id.get(table, 1)
        self._next_id[table] = id + 1
        return id

    def _queue_job(self, kind: str, record: dict) -> Job:
        seconds = self.job_seconds.get(kind, self.queue_seconds)
        server_id = record.get("server_id", "0")
        return self._queue.add(seconds, self.run_seconds, server_id, kind in OF_THE_WEB)

    def find(self, kind: str, id: int | str) -> Row | None:
        with self._lock:
            return self._rows[kind].get(int(id)) if str(id).isdecimal() else None

    def others(self, draft: Draft) -> list[Row]:
        """The other rows of the draft's table that its rules can see."""
        if self.races and draft.kind.table != "web_domain":  # that one has a unique key
            return []
        kinds = [kind.name for kind in KINDS.values() if kind.table == draft.kind.table]
        return [row for kind in kinds for id, row in self._rows[kind].items() if id != draft.id]

    # Answers

    def answer(self, method: str, body: bytes, races: bool = False) -> tuple[int, bytes]:
        """HTTP status and body. `races`: the call does not see what the previous one added."""
        try:
            params = self._read(method, body)
            return 200, self._perform(method, params, races)
        except Refusal as refusal:
            code = refusal.args[1] if len(refusal.args) > 1 else "remote_fault"
            answer = {"code": code, "message": refusal.args[0], "response": False}
        except Fatal:
            return 500, b""
        except Exception:
            logger.exception("the sandbox panel failed at %s", method)
            return 500, b""
        return 200, json.dumps(answer).encode()

    def note(self, method: str, body: bytes) -> None:
        try:
            params = json.loads(body)
        except ValueError:
            return
        if isinstance(params, dict):
            params.pop("session_id", None)
            with self._lock:
                self.calls.append((method, params))

    def _read(self, method: str, body: bytes) -> dict:
        if method not in self._methods:
            raise Refusal(f"Method {method} does not exist", "invalid_method")
        try:
            params = json.loads(body)
        except ValueError:
            params = None
        if not isinstance(params, dict | list):
            raise Refusal("The JSON data sent to the api is invalid", "invalid_data")
        return params if isinstance(params, dict) else {}

    def _perform(self, method: str, params: dict, races: bool) -> bytes:
        self._take_time(method)
        with self._lock:
            if method not in ("login", "logout"):
                self._check_session(params.get("session_id"))
                if method in self.forbidden:
                    raise Refusal("You do not have the permissions to access this function.")
            self.races = races
            self._take_back()
            try:
                response = self._methods[method](params)
                return json.dumps({"code": "ok", "message": "", "response": response}).encode()
            finally:
                self._commit()

    def _take_time(self, method: str) -> None:
        is_client_add = method == "client_add"
        seconds = self._delay(method)
        with self._lock:
            self._adding_clients += is_client_add
        if seconds:  # sleeping for 0 seconds would also hand the processor to another thread
            time.sleep(seconds)
        with self._lock:
            self._adding_clients -= is_client_add

    def _delay(self, method: str) -> float:
        seconds = self.delays.get(method, self.delays.get("*", 0.0))
        if method != "client_add" and self._adding_clients:
            seconds += self.slowed_seconds
        spread = self._timings.get(method, self._timings.get("*"))
        if spread:
            p50, p95, most = spread
            points = [(0.0, 0.7 * p50), (0.5, p50), (0.95, p95), (1.0, most)]
            at = self._random.random()
            right = next(i for i, (share, _) in enumerate(points) if at <= share and i > 0)
            (x0, y0), (x1, y1) = points[right - 1], points[right]
            seconds += y0 + (y1 - y0) * (at - x0) / (x1 - x0)
        return seconds

    def _make_methods(self) -> dict[str, Callable[[dict], object]]:
        def bind(function, kind):
            return lambda params: function(kind, params)

        methods = {
            f"{kind.method}_{verb}": bind(function, kind)
            for kind in OWNED
            for verb, function in (
                ("add", self._add),
                ("get", self._get),
                ("update", self._update),
                ("delete", self._delete),
            )
        }
        return methods | {
            "login": self._login,
            "logout": self._logout,
            "client_add": self._client_add,
            "client_get": lambda params: self._lookup(CLIENT, params.get("client_id")),
            "client_get_by_username": self._client_get_by_username,
            "client_get_groupid": self._client_get_groupid,
            "client_update": self._client_update,
            "client_delete": self._client_delete,
            "client_delete_everything": self._client_delete_everything,
            "sites_web_domain_set_status": self._set_status,
            "mail_domain_get_by_domain": self._mail_domain_get_by_domain,
            "monitor_jobqueue_count": self._jobqueue_count,
            "server_get": self._server_get,
            "server_get_php_versions": self._php_versions,
            "quota_get_by_user": lambda params: self._used_by_client("site", params),
            "databasequota_get_by_user": lambda params: self._used_by_client("database", params),
            "mailquota_get_by_user": lambda params: self._used_by_client("mailbox", params),
        }

    # Sessions

    def _login(self, params: dict) -> str:
        if self.maintenance:
            raise Refusal(MAINTENANCE)
        if not params.get("username"):
            raise Refusal("The login username is empty.")
        if not params.get("password"):
            raise Refusal("The login password is empty.")
        if self._locked_out():
            raise Refusal("The login failure limit has been reached.")
        if (params["username"], params["password"]) != (self.user, self.password):
            self._failures.append(clock.now())
            raise Refusal("The login failed. Username or password wrong.")
        session = secrets.choice("abcdefghijklmnopqrstuvwxyz") + secrets.token_hex(20)
        self._sessions[session] = clock.now()
        return session

    def _logout(self, params: dict) -> bool:
        if not params.get("session_id"):
            raise Refusal("The SessionID is empty.")
        self._sessions.pop(php_text(params["session_id"]), None)
        return True

    def _check_session(self, session: object) -> None:
        if not session:
            raise Refusal("The SessionID is empty.")
        if not isinstance(session, str):
            raise Refusal("Wrong SessionID datatype.")
        if self._locked_out():
            raise Refusal("The Session failure limit has been reached.")
        opened = self._sessions.get(session)
        if opened is None or clock.now() - opened >= SESSION_SECONDS:
            self._sessions.pop(session, None)
            self._failures.append(clock.now())
            raise Refusal("The Session is expired or does not exist.")

    def _locked_out(self) -> bool:
        since = clock.now() - LOCKOUT_SECONDS
        self._failures = [at for at in self._failures if at > since]
        return len(self._failures) >= LOCKOUT_FAILURES

    # Any kind of record

    def _params(self, params: dict) -> dict:
        given = params.get("params")
        if isinstance(given, str):
            raise Fatal
        return given if isinstance(given, dict) else {}

    def _owner(self, client_id: object) -> tuple[int, dict]:
        """The client's id, and its records' owner columns; 0 or no id is the administrator."""
        text = php_text(client_id)
        if text in ("", "0"):
            return 0, {"sys_userid": "1", "sys_groupid": "1"}
        for row in self._rows["sys_user"].values():
            if row.record["client_id"] == text:
                record = row.record
                return int(text), {
                    "sys_userid": record["userid"],
                    "sys_groupid": record["default_group"],
                }
        raise Refusal(f"Invalid client_id {text}")

    def _validate(self, kind: Kind, id: int | None, old: dict, given: dict) -> dict[str, str]:
        """The given values of this kind's columns, as they will be stored. Raises Refusal."""
        changes = {
            column: kind.stored(column, value)
            for column, value in given.items()
            if column in kind.columns and column not in kind.readonly
        }
        draft = Draft(self, kind, id, changes, old | changes)
        errors = "".join(rule(draft) for rule in kind.rules)
        if errors:
            raise Refusal(errors)
        return changes

    def _hash(self, kind: Kind, password: str) -> str:
        hashed = mysql_like(password) if kind is DATABASE_USER else crypt_like(password)
        self._clear[hashed] = password
        return hashed

    def _add(self, kind: Kind, params: dict) -> str:
        given = self._params(params)
        client_id, owner = self._owner(params.get("client_id"))
        if kind is MAILBOX:
            self._check_mail_domain(given)
        changes = self._validate(kind, None, {}, kind.reset | given)
        return self._insert(kind, client_id, owner, changes, is_hashed(given))

    def _insert(
        self, kind: Kind, client_id: int, owner: dict, changes: dict, is_hashed: bool
    ) -> str:
        id = self._new_id(kind.table)
        record = {kind.id_column: str(id)}
        record |= rights(**_names(owner), group="ru" if kind is SITE else "riud")
        record |= kind.columns | changes
        job = self._queue_job(kind.name, record)
        row = Row(record, job.done_at, job.run)
        if kind.password:
            self._set_password(kind, row, changes.get(kind.password), is_hashed)
        if kind is SITE:
            record["allow_override"] = self.web_config["htaccess_allow_override"]
            self._lay_out(record, client_id)
        self._save(kind.name, id, row)
        self._ask_for_certificate(kind.name, {}, record, job)
        return str(id)

    def _set_password(self, kind: Kind, row: Row, password: str | None, is_hashed: bool) -> None:
        if password and not is_hashed:
            password = self._hash(kind, as_hashed(kind, password))
        row.record[kind.password] = password or None
        row.password = self._clear.get(password or "")

    def _lay_out(self, record: dict, client_id: int) -> None:
        root = f"/var/www/clients/client{client_id}/web{record['domain_id']}"
        record["document_root"] = root
        record["system_user"] = f"web{record['domain_id']}"
        record["system_group"] = f"client{client_id}"
        basedir = self.web_config["php_open_basedir"].replace("[website_path]", root)
        record["php_open_basedir"] = basedir.replace("[website_domain]", record["domain"])

    def _check_mail_domain(self, given: dict) -> None:
        _, at, domain = php_text(given.get("email")).partition("@")
        if at and not any(r["domain"] == domain.lower() for r in self.records("mail_domain")):
            raise Refusal(f"Mail domain - {domain} - does not exist as primary.")

    def _update(self, kind: Kind, params: dict) -> int:
        given = kind.reset | self._params(params)
        client_id, owner = self._owner(params.get("client_id"))
        return self._change(kind, params.get("primary_id"), given, client_id, owner)

    def _change(self, kind: Kind, primary_id: object, given: dict, client_id=0, owner=None) -> int:
        """Merge `given` into the record, and move it to `client_id` unless that is 0.

        Return 1 if the record changed, else 0.
        """
        id = int(primary_id) if php_text(primary_id).isdecimal() else 0
        row = self._row_in_table(kind, id)
        old = dict(row.record) if row else {}
        changes = self._validate(kind, id, old, given)
        if row is None:
            return 0

        password = changes.pop(kind.password, None) if kind.password else None
        row.record.update(changes)
        if password:
            self._set_password(kind, row, password, is_hashed(given))
        if client_id and owner["sys_groupid"] != old["sys_groupid"]:
            row.record.update(owner)
            if kind is SITE:
                self._lay_out(row.record, client_id)
        if row.record == old:
            return 0
        name = self._kind_in_table(kind, id)
        job = self._queue_job(name, row.record)
        self._save(name, id, row)
        self._ask_for_certificate(name, old, row.record, job)
        return 1

    def _ask_for_certificate(self, name: str, old: dict, new: dict, job: Job) -> None:
        """Ask for a certificate if the site is set to have one, or if an alias of it changes."""
        if name not in OF_THE_WEB:
            return
        site = self.find("site", new["parent_domain_id"] if name == "alias" else new["domain_id"])
        before = (old.get("ssl", "n"), old.get("ssl_letsencrypt", "n")) if name == "site" else None
        if site is None or not _has_certificate(site.record) or before == ("y", "y"):
            return
        aliases = [row.record for row in self._rows["alias"].values()]
        names = [site.record["domain"]] + [
            alias["domain"]
            for alias in aliases
            if alias["parent_domain_id"] == site.record["domain_id"]
            and (alias["active"], alias["ssl_letsencrypt_exclude"]) == ("y", "n")
        ]
        self.certificates_asked.append(names)
        if self.no_certificates:
            site.taken_back_at = job.done_at
            site.ssl_before = before[0] if before else "y"
            self._save("site", int(site.record["domain_id"]), site)

    def _take_back(self) -> None:
        """Reset the settings of sites whose certificate failed, as the server does."""
        for id, row in self._rows["site"].items():
            if row.taken_back_at is not None and row.taken_back_at <= clock.now():
                row.record |= {"ssl": row.ssl_before, "ssl_letsencrypt": "n"}
                row.taken_back_at = None
                self._save("site", id, row)

    def _set_status(self, params: dict) -> int:
        active = {"active": "y", "inactive": "n"}.get(params.get("status"))
        if active is None:
            raise Refusal("The status is not available")
        return self._change(SITE, params.get("primary_id"), {"active": active})

    def _get(self, kind: Kind, params: dict) -> object:
        return self._lookup(kind, params.get("primary_id"))

    def _lookup(self, kind: Kind, wanted: object) -> object:
        """One record or None for an id; a list for a dict of columns."""
        if isinstance(wanted, dict):
            known = {kind.id_column, *rights("", ""), *kind.columns}
            if not wanted or not wanted.keys() <= known:
                return []
            return [r for r in self._table(kind) if all(like(r[c], v) for c, v in wanted.items())]
        text = php_text(wanted)
        if text == "-1":
            return self._table(kind)
        if re.fullmatch(r"-\d+|0+", text):
            raise Refusal("The ID has to be > 0 or -1.")
        if not text.isdecimal():
            # The panel splices it into its SQL, which fails; that looks like "nothing found".
            return []
        row = self._row_in_table(kind, int(text))
        return row.record if row else None

    def _delete(self, kind: Kind, params: dict) -> int:
        text = php_text(params.get("primary_id"))
        if not re.fullmatch(r"-?\d+", text):
            sql = f"DELETE FROM `{kind.table}` WHERE {kind.id_column} = {text} AND 1"
            error = f"Unknown column '{text}' in 'WHERE'" if text else SQL_SYNTAX_ERROR
            raise Refusal(f"{error} {sql}")
        id = int(text)
        row = self._row_in_table(kind, id)
        if not row:
            return 0
        name = self._kind_in_table(kind, id)
        self._forget(name, id)
        self._ask_for_certificate(name, row.record, row.record, self._queue_job(name, row.record))
        if kind is DATABASE_USER:
            for database_id, row in self._rows["database"].items():
                if row.record["database_user_id"] == text:
                    row.record["database_user_id"] = None
                    self._save("database", database_id, row)
        return 1

    # Sites and extra domains share a table, so ids are shared and each other's calls work.

    def _kind_in_table(self, kind: Kind, id: int) -> str:
        shared = (k.name for k in KINDS.values() if k.table == kind.table)
        return next((name for name in shared if id in self._rows[name]), kind.name)

    def _row_in_table(self, kind: Kind, id: int) -> Row | None:
        return self._rows[self._kind_in_table(kind, id)].get(id)

    def _table(self, kind: Kind) -> list[dict]:
        shared = (k.name for k in KINDS.values() if k.table == kind.table)
        records = [row.record for name in shared for row in self._rows[name].values()]
        return sorted(records, key=lambda record: int(record[kind.id_column]))

    # Clients

    def login(self, username: str) -> dict | None:
        with self._lock:
            logins = (row.record for row in self._rows["sys_user"].values())
            return next((r for r in logins if r["username"].lower() == username.lower()), None)

    def _add_login(self, username: str, password: str | None, language: str, client: str) -> None:
        id = self._new_id("sys_user")
        group = str(id)
        record = {"userid": group} | rights("1", "1") | SYS_USER
        record.update(
            username=username,
            language=language,
            client_id=client,
            groups=group,
            default_group=group,
        )
        record["passwort"] = crypt_like(password) if password else None
        if client == "0":
            modules = "dashboard,admin,client,mail,monitor,sites,dns,vm,tools,help"
            record.update(typ="admin", sys_groupid="0", groups="1,2", modules=modules)
        self._save("sys_user", id, Row(record, 0))

    def _change_login(self, client_id: object, **changes) -> None:
        for id, row in self._rows["sys_user"].items():
            if row.record["client_id"] == str(client_id):
                row.record.update(changes)
                self._save("sys_user", id, row)

    def _remove_login(self, client_id: object) -> None:
        logins = self._rows["sys_user"].items()
        for id in [id for id, row in logins if row.record["client_id"] == str(client_id)]:
            self._forget("sys_user", id)

    def _client_add(self, params: dict) -> str:
        given = {k: v for k, v in self._params(params).items() if k not in ("locked", "canceled")}
        self._owner(params.get("reseller_id"))
        try:
            changes = self._validate(CLIENT, None, {}, given)
        except Refusal as refusal:
            twice = self.login(php_text(given.get("username")))
            raise Refusal(refusal.args[0] + ("Duplicate username<br />" if twice else "")) from None
        owner = {"sys_userid": "1", "sys_groupid": "1"}
        id = self._insert(CLIENT, 0, owner, changes, is_hashed(given))
        row = self.find("client", id)
        row.record.update(
            created_at=str(clock.now()),
            id_rsa=f"the sandbox's private key of client {id}",
            ssh_rsa=f"the sandbox's public key of client {id}",
        )
        self._save("client", int(id), row)
        self._add_login(changes["username"], row.password, changes["language"], id)
        return id

    def _client_get_by_username(self, params: dict) -> dict:
        login = self.login(php_text(params.get("username")))
        if not login:
            raise Refusal("There is no user account for this user name.")
        return login

    def _client_get_groupid(self, params: dict) -> int:
        client_id = php_text(params.get("client_id"))
        for row in self._rows["sys_user"].values():
            if client_id != "0" and row.record["client_id"] == client_id:
                return int(row.record["default_group"])
        raise Refusal("There is no group for this client ID.")

    def _client_update(self, params: dict) -> int:
        given = self._params(params)
        self._owner(params.get("reseller_id"))
        changed = self._change(CLIENT, params.get("client_id"), given)
        row = self.find("client", php_text(params.get("client_id")))
        if row is None:
            return 0
        record, id = row.record, int(row.record["client_id"])
        login = {"username": record["username"], "language": record["language"]}
        login["active"] = "0" if record["canceled"] == "y" else "1"
        if given.get("password"):
            row.login_broken = False
            login["passwort"] = record["password"]
        elif "password" not in given and record["password"] and not is_hashed(given):
            # The stored hash is mistaken for a new password and hashed again.
            row.password, row.login_broken, changed = None, True, 1
            record["password"] = login["passwort"] = crypt_like(record["password"])
        self._change_login(id, **login)
        self._apply_client_lock(row)
        self._save("client", id, row)
        return changed

    def _apply_client_lock(self, client: Row) -> None:
        """Apply the client lock, as every client_update does whatever it is called for.

        Locked: note what is on and switch it off; a second lock then notes everything as off.
        Unlocked: switch on everything except what the note lists as off.
        """
        login = self.login(client.record["username"])
        group = login["default_group"] if login else None
        before = json.loads(client.record["tmp_data"] or "{}")
        note: dict[str, bool] = {}
        for kind, column in LOCKED_BY.items():
            for id, row in self._rows[kind].items():
                if row.record["sys_groupid"] != group:
                    continue
                if client.record["locked"] == "y":
                    note[f"{kind} {id}"] = row.record[column] == "y"
                    row.record[column] = "n"
                else:
                    row.record[column] = "y" if before.get(f"{kind} {id}", True) else "n"
                self._save(kind, id, row)
        client.record["tmp_data"] = json.dumps(note)

    def _client_id(self, params: dict) -> int:
        text = php_text(params.get("client_id"))
        if not text.isdecimal() or int(text) == 0:
            raise Refusal("The ID has to be > 0 or -1.")
        return int(text)

    def _client_delete(self, params: dict) -> int:
        """Delete the client alone; its records stay."""
        id = self._client_id(params)
        if id not in self._rows["client"]:
            return 0
        self._forget("client", id)
        self._remove_login(id)
        self._queue_job("client", {})
        return 1

    def _client_delete_everything(self, params: dict) -> int:
        id = self._client_id(params)
        try:
            group = self._owner(id)[1]["sys_groupid"]
        except Refusal:
            # An earlier try deleted the group; what it owned cannot be found any more.
            group = None
        for kind in OWNED:
            rows = self._rows[kind.name].items()
            for owned, row in [x for x in rows if x[1].record["sys_groupid"] == group]:
                self._forget(kind.name, owned)
                self._queue_job(kind.name, row.record)
        return self._client_delete(params)

    # The rest

    def _mail_domain_get_by_domain(self, params: dict) -> list[dict]:
        domain = php_text(params.get("domain"))
        return [r for r in self.records("mail_domain") if domain and r["domain"] == domain.lower()]

    def _jobqueue_count(self, params: dict) -> str:
        return str(self._queue.waiting(php_text(params.get("server_id")) or "0"))

    def _server_get(self, params: dict) -> object:
        section = php_text(params.get("section"))
        if not params.get("server_id"):
            return {"1": self._config_of(1, section)}
        return self._config_of(params["server_id"], section)

    def _config_of(self, server_id: object, section: str) -> object:
        config = self.server_config if php_text(server_id) == "1" else {}
        return config.get(section) if section else config or []

    def _php_versions(self, params: dict) -> list:
        """Rows with `get_full_data`, texts without; neither was recorded."""
        if not params.get("server_id") or params.get("php") != "php-fpm":
            return []
        rows = [_php_row(params["server_id"], id, name) for id, name in self.php_versions]
        if params.get("get_full_data"):
            return rows
        return [":".join(row[column] for column in PHP_TEXT) for row in rows]

    def _used_by_client(self, kind: str, params: dict) -> list[dict]:
        usage = {"site": self._usage, "database": self._database_usage, "mailbox": self._mail_usage}
        try:
            client_id, owner = self._owner(params.get("client_id"))
        except Refusal:
            return []
        rows = [] if not client_id else self._rows[kind].values()
        return [
            row.record | usage[kind](row)
            for row in rows
            if row.record["sys_groupid"] == owner["sys_groupid"]
        ]

    def _database_usage(self, database: Row) -> dict:
        used = self.database_bytes.get(int(database.record["database_id"]), 0)
        limit = int(database.record["database_quota"]) * 1000 * 1000
        return {
            "database_quota_raw": limit,
            "used_raw": used,
            "used_percentage": round(100 * used / limit) if limit > 0 else 0,
        }

    def _mail_usage(self, mailbox: Row) -> dict:
        welcome = WELCOME_MAIL_BYTES if is_counted(mailbox) else 0
        used = self.mail_bytes.get(int(mailbox.record["mailuser_id"]), welcome)
        limit = int(mailbox.record["quota"])
        return {
            "last_access": mailbox.record["last_access"] or "Never or unknown",
            "used": used,
            "quota_raw": mailbox.record["quota"],
            "used_raw": used,
            "used_percentage": round(100 * used / limit) if limit > 0 else 0,
        }

    def _usage(self, site: Row) -> dict:
        kb = self.disk_kb.get(int(site.record["domain_id"]))
        if kb is None:
            if not is_counted(site):
                nothing = {"used": None, "soft": None, "hard": None, "files": None}
                raw = {"used_raw": 0, "soft_raw": -1, "hard_raw": -1, "files_raw": None}
                return nothing | raw | {"used_percentage": 0}
            kb = FRESH_SITE_KB
        limit = int(site.record["hd_quota"]) * 1024
        return {
            "used": str(kb),
            "soft": limit,
            "hard": limit,
            "files": 0,
            "used_raw": kb * 1024,
            "soft_raw": limit * 1024,
            "hard_raw": limit * 1024,
            "files_raw": 0,
            "used_percentage": round(100 * kb / limit) if limit > 0 else 0,
        }


def _php_row(server_id: object, id: int, name: str) -> dict:
    version = name.removeprefix("PHP ")
    return {
        "server_php_id": str(id),
        **rights("1", "1"),
        "server_id": str(server_id),
        "client_id": "0",
        "name": name,
        "php_fastcgi_binary": None,
        "php_fastcgi_ini_dir": None,
        "php_fpm_init_script": f"php{version}-fpm",
        "php_fpm_ini_dir": f"/etc/php/{version}/fpm",
        "php_fpm_pool_dir": f"/etc/php/{version}/fpm/pool.d",
        "php_fpm_socket_dir": None,
        "php_cli_binary": None,
        "php_jk_section": None,
        "active": "y",
        "sortprio": "100",
    }


def _names(owner: dict) -> dict:
    return {"userid": owner["sys_userid"], "groupid": owner["sys_groupid"]}


def like(stored: str | None, wanted: object) -> bool:
    """MySQL's comparison: case-insensitive, and LIKE as soon as there is a %."""
    if stored is None:
        return False
    text = php_text(wanted)
    if "%" not in text:
        return stored.casefold() == text.casefold()
    pattern = re.escape(text).replace("%", ".*").replace("_", ".")
    return re.fullmatch(pattern, stored, re.IGNORECASE | re.DOTALL) is not None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], panel: SandboxPanel):
        self.panel = panel
        self.closing = threading.Event()
        self._open: set = set()
        self._open_lock = threading.Lock()
        self._reloaded = panel.reloaded()
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        with socket.socket() as first:
            # While nobody listens, the kernel keeps only a port that was bound by its number.
            first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            first.bind(self.server_address)
            self.server_address = first.getsockname()
            # HTTPServer's own looks up our host name, which can take seconds.
            socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]

    def service_actions(self) -> None:
        """Refuse connections for a moment when the web server restarts."""
        if self.closing.is_set():
            time.sleep(0.001)  # until `shutdown` has been called
            return
        reloaded = self.panel.reloaded()
        if reloaded != self._reloaded:
            self._reloaded = reloaded
            self.socket.shutdown(socket.SHUT_RDWR)
            self.closing.wait(RESTART_SECONDS)
            self.server_activate()

    def process_request(self, request, client_address) -> None:
        with self._open_lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request) -> None:
        with self._open_lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request, client_address) -> None:
        # Clients hang up; that is normal.
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    def close(self) -> None:
        self.closing.set()
        with suppress(OSError):  # while the web server restarts, it is shut down already
            self.socket.shutdown(socket.SHUT_RDWR)  # wakes serve_forever
        self.shutdown()
        self.server_close()
        with self._open_lock:
            still_open = list(self._open)
        for request in still_open:
            try:
                request.shutdown(2)
            except OSError:
                pass


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.reloaded = self.server.panel.reloaded()

    def parse_request(self) -> bool:
        """Read only the headers that the panel needs: http.server's own parser would take longer
        than most calls do.
        """
        self.close_connection = True
        try:
            self.command, self.path, self.request_version = self.raw_requestline.decode().split()
        except ValueError:
            return False
        self.headers = {}
        while line := self.rfile.readline().strip():
            name, _, value = line.decode("latin-1").partition(":")
            self.headers[name.lower()] = value.strip()
        self.close_connection = self.headers.get("connection", "").lower() == "close"
        return True

    def do_POST(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.server.panel.reloaded() != self.reloaded:
            if self.server.panel.kept_hang:
                self.server.closing.wait()
            return self.hang_up()
        if url.path != "/remote/json.php":
            return self.reply(404, b"")
        method = re.split("[=&]", url.query)[0]
        panel = self.server.panel
        panel.note(method, body)
        panel.before_call(method)
        fault = panel.faults.take(method)
        kind = fault.kind if fault else ""

        if kind == "slow":
            time.sleep(fault.seconds)
        elif kind == "frozen":
            while not panel.faults.thawed.wait(0.02) and not self.server.closing.is_set():
                pass
            return self.hang_up()
        elif kind == "cut-before":
            return self.hang_up()
        elif kind == "refuse" and fault.message != "dribble":
            return self.reply(*refusal(fault.message))

        if kind == "twice":
            panel.answer(method, body)
        status, answer = panel.answer(method, body, races=kind == "twice")
        if kind == "cut-after":
            return self.hang_up()
        if kind == "refuse":
            return self.dribble(answer)
        self.reply(status, answer)

    def do_GET(self) -> None:
        self.do_POST()

    def hang_up(self) -> None:
        self.close_connection = True

    def reply(self, status: int, body: bytes) -> None:
        self.open_reply(status, len(body))
        self.wfile.write(body)

    def open_reply(self, status: int, length: int) -> None:
        self.send_response_only(status)
        moment = clock.now() + self.server.panel.ahead_seconds
        self.send_header("Date", self.date_time_string(moment))
        self.send_header("Content-Type", "application/json; charset=utf-8")
        self.send_header("Content-Length", str(length))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()

    def dribble(self, body: bytes) -> None:
        """Send one byte a second, and the rest at once when the faults are cleared."""
        self.open_reply(200, len(body))
        for sent in range(len(body)):
            self.wfile.write(body[sent : sent + 1])
            self.wfile.flush()
            if self.server.panel.faults.thawed.wait(1) or self.server.closing.is_set():
                self.wfile.write(body[sent + 1 :])
                return

    def log_message(self, format, *args) -> None:
        pass


def refusal(message: str) -> tuple[int, bytes]:
    if message == "garbage":
        return 200, b"Warning: mysqli::query(): MySQL server has gone away"
    if message.startswith("HTTP "):
        status = int(message.removeprefix("HTTP "))
        return status, BAD_GATEWAY if status == 502 else b""
    fault = {"code": "remote_fault", "message": message, "response": False}
    return 200, json.dumps(fault).encode()
