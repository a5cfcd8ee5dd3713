"""Compares what the panel has with what the rows in the database want.

It shares no code with the shop: names, numbers and walls are written out here again.

    others = everything(panel)          # before the shop has anything there
    ...
    assert_panel_matches(shop, panel, others=others)
    assert wrong_calls(panel) == []
"""

import json
from collections import defaultdict

from lightningspace.base.models import Account, Order, Service

KINDS = {
    "client": ("client_id", "username"),
    "site": ("domain_id", "domain"),
    "alias": ("domain_id", "domain"),
    "ftp": ("ftp_user_id", "username"),
    "shell": ("shell_user_id", "username"),
    "database_user": ("database_user_id", "database_user"),
    "database": ("database_id", "database_name"),
    "mail_domain": ("domain_id", "domain"),
    "mailbox": ("mailuser_id", "email"),
    "forward": ("forwarding_id", "source"),
}
WITH_PASSWORD = ("ftp", "shell", "database_user", "mailbox")
NARROW = """\
    AllowOverride Nonfatal=All
    AllowOverrideList <IfModule <IfVersion <IfDefine <IfDirective <IfSection <IfFile \
<If <ElseIf <Else <Files <FilesMatch <Limit <LimitExcept \
Require <RequireAll <RequireAny <RequireNone Order Allow Deny \
Redirect RedirectMatch RedirectPermanent RedirectTemp \
DirectoryIndex FallbackResource AddCharset AddDefaultCharset AddLanguage DefaultLanguage
    Options -FollowSymLinks +SymLinksIfOwnerMatch
"""
PASSED = "    CGIPassAuth On\n"
PRETTY = """\
    DirectoryIndex index.php index.html index.htm standard_index.html
    <If "-f '%{DOCUMENT_ROOT}/index.php'">
        FallbackResource /index.php
    </If>
"""
DAY = 24 * 60 * 60


def assert_panel_matches(shop, panel, *account_ids: str, passwords=None, others=None) -> None:
    """Assert that the panel has what the rows of these accounts want; of all opened ones by
    default.

    Each row is applied and has one record, with the wanted fields and a password; the clients have
    nothing else. `passwords`: those that must work, by (kind, name). `others`: all that the panel
    had before there were accounts: it is unchanged, and there is nothing else.
    """
    wrong = differences(shop, panel, account_ids, passwords or {}, others)
    assert not wrong, "the panel is not as wanted:\n  " + "\n  ".join(wrong)


def everything(panel) -> dict[str, list[dict]]:
    """All that the panel has stored, its clients' logins included."""
    return {kind: panel.records(kind) for kind in (*KINDS, "sys_user")}


def differences(shop, panel, account_ids=(), passwords=None, others=None) -> list[str]:
    """What is not as it should be, a line each, without passwords and hashes."""
    wrong, ours = [], []
    for account in Account.select().where(Account.opened_at.is_null(False)):
        check = _Check(shop, panel, account, passwords or {})
        check.run()
        ours += check.seen
        if not account_ids or account.id in account_ids:
            wrong += [f"account {account.username}: {line}" for line in check.wrong]
    wrong += _closed(shop, panel, set(account_ids))
    if others is not None:
        wrong += _changes(panel, ours, others)
    return wrong


def _closed(shop, panel, account_ids: set[str]) -> list[str]:
    """What closed accounts have left behind."""
    prefix = shop.config.panel_prefix
    alive = {account.id for account in Account.select(Account.id)}
    names = {record["username"] for record in panel.records("client")}
    wrong = [
        f"account {id} is closed and has a client still"
        for id in account_ids - alive
        if prefix + id in names
    ]
    bare = (Order.username, Order.browser, Order.attempt, Order.bolt11)
    for order in Order.select().where(Order.applied_at.is_null(False) & Order.account.is_null()):
        wrong += [
            f"order {order.token[:8]} of a closed account has its {column.name} still"
            for column in bare
            if getattr(order, column.name) is not None
        ]
    return wrong


def _changes(panel, ours: list[tuple[str, str]], others: dict[str, list[dict]]) -> list[str]:
    """What differs from `others`, apart from our own records."""
    wrong = []
    for kind, id_column in [*((k, c[0]) for k, c in KINDS.items()), ("sys_user", "userid")]:
        now = {r[id_column]: r for r in panel.records(kind) if (kind, r[id_column]) not in ours}
        before = {record[id_column]: record for record in others[kind]}
        for id in sorted(now.keys() | before.keys()):
            if id not in before:
                wrong.append(f"{kind} {id} is nobody's: {_name(kind, now[id])}")
            elif id not in now:
                wrong.append(f"{kind} {id} of somebody else is gone: {_name(kind, before[id])}")
            elif now[id] != before[id]:
                columns = [c for c in before[id] if now[id].get(c) != before[id][c]]
                wrong.append(f"{kind} {id} of somebody else has another {', '.join(columns)}")
    return wrong


def _name(kind: str, record: dict) -> str:
    return record["username" if kind == "sys_user" else KINDS[kind][1]]


def directives(is_pretty: bool) -> str:
    """The directives that a site's configuration ends with."""
    lines = NARROW + PASSED + PRETTY * is_pretty
    blocks = [
        f"<Directory {{{name}}}>\n{lines}</Directory>" for name in ("DOCROOT", "DOCROOT_CLIENT")
    ]
    return "\n".join(blocks)


def basedir(client: object, site: object) -> str:
    home = f"/var/www/clients/client{client}/web{site}"
    return f"{home}/web:{home}/private:{home}/tmp:/usr/share/php:/dev/urandom"


class _Check:
    """One account's rows and its client's records."""

    def __init__(self, shop, panel, account: Account, passwords: dict):
        self.shop = shop
        self.panel = panel
        self.account = account
        self.passwords = passwords
        self.rows = list(Service.select().where(Service.account == account.id))
        self.is_on = account.suspended_at is None and account.blocked_at is None
        self.seen: list[tuple[str, str]] = []
        self.ids: dict[str, str] = defaultdict(lambda: "of nothing")
        self.wrong: list[str] = []

    def run(self) -> None:
        self._check_account()
        group = self._check_client()
        for kind in KINDS:
            if kind != "client" and group is not None:
                self._check_kind(kind, group)

    def say(self, line: str) -> None:
        self.wrong.append(line)

    def _check_account(self) -> None:
        account = self.account
        for column in ("reconcile_at", "leased_by", "leased_until", "closing_at"):
            if getattr(account, column) is not None:
                self.say(f"{column} is {getattr(account, column)}")
        if account.ready_at is None:
            self.say("it is not ready")

    def _check_client(self) -> str | None:
        """The group that owns all of the client's records, or None if there is no such client."""
        name = self.shop.config.panel_prefix + self.account.id
        rows = [row for row in self.rows if row.kind == "client"]
        if [row.name for row in rows] != [name]:
            self.say(f"client rows: {[row.name for row in rows]}")
            return None
        clients = [r for r in self.panel.records("client") if r["username"] == name]
        if len(clients) != 1:
            self.say(f"the panel has {len(clients)} clients called {name}")
            return None
        id = clients[0]["client_id"]
        self.seen.append(("client", id))
        self.ids["client"] = id
        self._check_row(rows[0], id)
        expected = {"canceled": "y", "locked": "n", "ssh_chroot": "jailkit"}
        self._compare("client", name, clients[0], expected)
        if self.panel.can_log_in(id):
            self.say(f"client {id} can log in to the panel")
        logins = [r for r in self.panel.records("sys_user") if r["client_id"] == id]
        if len(logins) != 1:
            self.say(f"client {id} has {len(logins)} logins")
            return None
        self.seen.append(("sys_user", logins[0]["userid"]))
        return logins[0]["default_group"]

    def _check_kind(self, kind: str, group: str) -> None:
        id_column, name_column = KINDS[kind]
        records = [r for r in self.panel.records(kind) if r["sys_groupid"] == group]
        self.seen += [(kind, record[id_column]) for record in records]
        rows = {row.name: row for row in self.rows if row.kind == kind}
        for record in records:
            if record[name_column] not in rows:
                self.say(f"{kind} {record[id_column]} is not wanted: {record[name_column]}")
        for name, row in rows.items():
            there = [record for record in records if record[name_column] == name]
            wanted = 0 if kind == "shell" and not (row.active and self.is_on) else 1
            if len(there) != wanted:
                self.say(f"{kind} {name} is there {len(there)} times, not {wanted}")
            elif not wanted:
                self._check_row(row, None)
            else:
                self.ids.setdefault(kind, there[0][id_column])
                self._check_row(row, there[0][id_column])
                self._compare(kind, name, there[0], self._expected(row))
                self._check_password(row, there[0][id_column])

    def _check_row(self, row: Service, id: str | None) -> None:
        nothing = {"error": None, "permanent": False, "tries": 0, "failed_since": None}
        nothing |= {"gone": False, "applied_revision": row.revision, "panel_id": id and int(id)}
        if id is not None:  # without a record its password waits to be sent
            nothing["password_sealed"] = None
        for column, value in nothing.items():
            actual = getattr(row, column)
            if actual != value:
                shown = "set" if column == "password_sealed" else actual
                self.say(f"the row of {row.kind} {row.name}: {column} is {shown}, not {value}")

    def _compare(self, kind: str, name: str, record: dict, expected: dict) -> None:
        for column, value in expected.items():
            if (record[column] or "") != str(value):
                self.say(f"{kind} {name}: {column} is {record[column]!r}, not {str(value)!r}")

    def _check_password(self, row: Service, id: str) -> None:
        if row.kind not in WITH_PASSWORD:
            return
        opens = self.panel.password_of(row.kind, id)
        if not opens:
            self.say(f"{row.kind} {row.name} has no password")
        expected = self.passwords.get((row.kind, row.name))
        if row.own_password_sealed:
            expected = self.shop.vault.unseal(row.own_password_sealed)
        if expected and opens != expected:
            self.say(f"{row.kind} {row.name} has another password")

    # -- what a record should be ---------------------------------------------------

    def _expected(self, row: Service) -> dict:
        fields = getattr(self, f"_{row.kind}")(row, json.loads(row.settings))
        return {"server_id": self.account.server_id} | fields

    def _yes(self, row: Service) -> str:
        return "y" if row.active and self.is_on else "n"

    def _share(self, percent: int) -> int:
        return max(1, self.account.space_mb * percent // 100)

    def _may_send(self) -> bool:
        paid = self.account.expires_at - (self.account.ready_at or self.account.opened_at)
        paid -= self.account.unpaid_seconds
        return paid >= self.shop.config.mail_send_min_days * DAY

    def _home(self) -> str:
        return f"/var/www/clients/client{self.ids['client']}/web{self.ids['site']}"

    def _site(self, row, settings):
        has_certificate = settings.get("letsencrypt") and row.certificate_asked_at is not None
        tls = "y" if has_certificate else "n"
        return {
            "type": "vhost",
            "vhost_type": "name",
            "ip_address": "*",
            "subdomain": "www",
            "hd_quota": self._share(70),
            "traffic_quota": -1,
            "php": "php-fpm" if settings.get("php", True) else "no",
            "server_php_id": settings.get("php_version", 0),
            "redirect_type": "R=301,L" if settings.get("redirect_to") else "",
            "redirect_path": settings.get("redirect_to", ""),
            "allow_override": "None",
            "apache_directives": directives(
                settings.get("pretty_addresses", False) and settings.get("php", True)
            ),
            "nginx_directives": "",
            "custom_php_ini": "" if self._may_send() else "sendmail_path = /bin/false",
            "php_open_basedir": basedir(self.ids["client"], row.panel_id),
            "php_fpm_use_socket": "y",
            "php_fpm_chroot": "n",
            "pm": "ondemand",
            "pm_max_children": 4,
            "log_retention": 30,
            "document_root": f"/var/www/clients/client{self.ids['client']}/web{row.panel_id}",
            "system_user": f"web{row.panel_id}",
            "system_group": f"client{self.ids['client']}",
            "active": self._yes(row),
        } | ({"ssl": tls, "ssl_letsencrypt": tls} if self._yes(row) == "y" else {})

    def _alias(self, row, settings):
        parent = {"type": "alias", "parent_domain_id": self.ids["site"], "subdomain": "www"}
        exclude = "n" if settings.get("letsencrypt") else "y"
        parent |= {"redirect_type": "", "redirect_path": "", "ssl_letsencrypt_exclude": exclude}
        return parent | {"active": self._yes(row)}

    def _ftp(self, row, settings):
        return {
            "parent_domain_id": self.ids["site"],
            "uid": f"web{self.ids['site']}",
            "gid": f"client{self.ids['client']}",
            "dir": self._home(),
            "quota_size": -1,
            "active": self._yes(row),
        }

    def _shell(self, row, settings):
        return {
            "parent_domain_id": self.ids["site"],
            "puser": f"web{self.ids['site']}",
            "pgroup": f"client{self.ids['client']}",
            "dir": self._home(),
            "shell": "/bin/bash",
            "chroot": "jailkit",
            "ssh_rsa": settings.get("ssh_key", ""),
            "quota_size": -1,
            "active": "y",
        }

    def _database_user(self, row, settings):
        return {}

    def _database(self, row, settings):
        return {
            "parent_domain_id": self.ids["site"],
            "database_user_id": self.ids["database_user"],
            "database_ro_user_id": 0,
            "database_quota": self._share(10),
            "database_charset": "utf8mb4",
            "type": "mysql",
            "remote_access": "n",
            "active": self._yes(row),
        }

    def _mail_domain(self, row, settings):
        return {"active": "y" if row.active else "n"}  # a suspended mailbox receives, too

    def _mailbox(self, row, settings):
        local, domain = row.name.split("@")
        off = "n" if self._yes(row) == "y" else "y"
        may_send = off == "n" and self._may_send()
        return {
            "login": row.name,
            "maildir": f"/var/vmail/{domain}/{local}",
            "quota": self._mailbox_mb(settings.get("quota_mb")) * 1024 * 1024,
            "postfix": "y",
            "disableimap": off,
            "disablepop3": off,
            "disablesmtp": "n" if may_send else "y",
        }

    def _mailbox_mb(self, own: int | None) -> int:
        """Its own quota, cut if all such quotas exceed the fifth for mail; else an equal share."""
        part = self.account.space_mb * 20 // 100
        quotas = [json.loads(r.settings).get("quota_mb") for r in self.rows if r.kind == "mailbox"]
        together = sum(quota or 0 for quota in quotas)
        if own:
            return max(1, own if together <= part else own * part // together)
        return max(1, (part - together) // quotas.count(None))

    def _forward(self, row, settings):
        return {
            "destination": settings["destination"],
            "type": "forward",
            "active": self._yes(row),
        }


# -- what the panel was asked for ------------------------------------------------------

FORBIDDEN = ("client_delete", "client_change_password", "sites_web_domain_set_status")
IDS = """
    client_id primary_id reseller_id server_id parent_domain_id database_user_id
    database_ro_user_id server_php_id
""".split()


def wrong_calls(panel, may_send=lambda address: False) -> list[str]:
    """Calls that would have opened a wall between customers, or done harm at the panel.

    `may_send`: whether a mailbox's account, by address, has enough paid days to send.
    """
    wrong, used = [], set()
    for position, (method, given) in enumerate(panel.calls):
        faults = list(_faults_of(method, given, used, may_send))
        wrong += [f"call {position}, {method}: {fault}" for fault in faults]
        if method.endswith("_add") and method != "client_add":
            used.add(given.get("client_id"))
    return wrong


def _faults_of(method: str, given: dict, used: set, may_send):
    params = given.get("params") or {}
    if method in FORBIDDEN:
        yield "it is never to be called"
    for name, value in (given | params).items():
        is_search = method.endswith("_get") and isinstance(value, dict)
        if name in IDS and type(value) is not int and not is_search:
            yield f"{name} is no number"
    # client_update switches services on, so it is safe only before the client has any.
    if method == "client_update" and given.get("client_id") in used:
        yield "the client has services already"
    if method == "client_update" and params != {"canceled": "y", "password": ""}:
        yield "it does more than keep the client out"
    if method == "client_add" and params.get("ssh_chroot") != "jailkit":
        yield "without jailkit"
    if not method.endswith(("_add", "_update")):
        return
    if method.endswith("_update") and method != "client_update" and given.get("client_id") != 0:
        yield "it would move the record"
    if method.startswith("sites_web_domain_") and params.get("php_fpm_use_socket") != "y":
        yield "without the socket"
    if method.startswith("sites_web_domain_"):
        if params.get("allow_override") != "None":
            yield "with a wide allow_override"
        if params.get("apache_directives") not in (directives(False), directives(True)):
            yield "without the directives that are our own"
        if method.endswith("_update") and ":/tmp" in params.get("php_open_basedir", ":/tmp"):
            yield "with the common /tmp"
    if method.startswith("sites_shell_user_") and params.get("chroot") != "jailkit":
        yield "without jailkit"
    sends = method.startswith("mail_user_") and params.get("disablesmtp") != "y"
    if sends and not may_send(params.get("email")):
        yield "the mailbox may send"
