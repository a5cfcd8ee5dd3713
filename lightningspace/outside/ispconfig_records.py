"""ISPConfig's records: their methods and columns, and the fields that the shop sends."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from lightningspace.base import walls


@dataclass(frozen=True)
class Wish:
    """What is wanted of one record.

    `id`: the record's own; None: it is to be added. `ids`: the id of the first record of each kind
    that the account has. `is_active`: its owner has it on; `is_on`: that is so, and the account is
    neither suspended nor blocked. `quota_mb` None: its kind has none.
    """

    name: str
    server_id: int
    client_id: int
    id: int | None
    ids: dict[str, int | None]
    is_active: bool
    is_on: bool
    quota_mb: int | None
    settings: dict
    walls_mode: str
    may_send: bool


@dataclass(frozen=True)
class Used:
    """Where the panel says how much is used: a method, its column, and how many bytes it counts in.

    `quota_unit`: what is one MB of a quota, in bytes.
    """

    method: str
    column: str
    unit: int
    quota_unit: int


@dataclass(frozen=True)
class Kind:
    """One kind of record.

    method            the prefix of its methods
    id, name          its columns
    password          the column of its password; None: it has none
    id_argument       what its methods call the id
    fields            what the record is to be
    is_incomplete     an add does not set all of it: an update has to follow
    is_thing          it stands for one thing of its name on the server, such as a database: to
                      delete a double of the record deletes the thing itself
    opens_when_off    switched off it would still let people in: it is deleted instead
    taken_back        the fields that the server sets back where it fails to carry them out
    used              None: the panel does not measure it
    """

    method: str
    id: str
    name: str
    fields: Callable[[Wish], dict]
    password: str | None = None
    id_argument: str = "primary_id"
    is_incomplete: bool = False
    is_thing: bool = False
    opens_when_off: bool = False
    taken_back: tuple[str, ...] = ()
    used: Used | None = None


KINDS = {
    "site": Kind(
        "sites_web_domain",
        "domain_id",
        "domain",
        fields=lambda wish: site_fields(
            wish.server_id,
            wish.client_id,
            wish.id,
            wish.name,
            wish.quota_mb,
            wish.is_on,
            walls_mode=wish.walls_mode,
            may_send=wish.may_send,
            **wish.settings,
        ),
        is_incomplete=True,  # it ignores walls between neighbours, and names its directory only now
        taken_back=("ssl", "ssl_letsencrypt"),  # where no certificate could be fetched
        # used_raw would be 0 where `used` says that nothing is known.
        used=Used("quota_get_by_user", "used", 1024, 1024 * 1024),
    ),
    "alias": Kind(
        "sites_web_aliasdomain",
        "domain_id",
        "domain",
        fields=lambda wish: alias_fields(
            wish.server_id, wish.ids["site"], wish.name, wish.is_on, **wish.settings
        ),
    ),
    "ftp": Kind(
        "sites_ftp_user",
        "ftp_user_id",
        "username",
        fields=lambda wish: ftp_fields(
            wish.server_id, wish.client_id, wish.ids["site"], wish.name, wish.is_on
        ),
        password="password",
    ),
    "shell": Kind(
        "sites_shell_user",
        "shell_user_id",
        "username",
        fields=lambda wish: shell_fields(
            wish.server_id, wish.client_id, wish.ids["site"], wish.name, **wish.settings
        ),
        password="password",
        is_thing=True,
        opens_when_off=True,
    ),
    "database_user": Kind(
        "sites_database_user",
        "database_user_id",
        "database_user",
        fields=lambda wish: database_user_fields(wish.server_id, wish.name),
        password="database_password",
        is_thing=True,
    ),
    "database": Kind(
        "sites_database",
        "database_id",
        "database_name",
        fields=lambda wish: database_fields(
            wish.server_id,
            wish.ids["site"],
            wish.name,
            wish.ids["database_user"],
            wish.quota_mb,
            wish.is_on,
        ),
        is_thing=True,
        used=Used("databasequota_get_by_user", "used_raw", 1, 1000 * 1000),
    ),
    "mail_domain": Kind(
        "mail_domain",
        "domain_id",
        "domain",
        fields=lambda wish: mail_domain_fields(wish.server_id, wish.name, wish.is_active),
        is_thing=True,
    ),
    "mailbox": Kind(
        "mail_user",
        "mailuser_id",
        "email",
        fields=lambda wish: mailbox_fields(
            wish.server_id, wish.name, wish.quota_mb, wish.is_on, wish.is_on and wish.may_send
        ),
        password="password",
        is_thing=True,
        # Its quota is set in bytes, by us.
        used=Used("mailquota_get_by_user", "used_raw", 1, 1024 * 1024),
    ),
    "forward": Kind(
        "mail_forward",
        "forwarding_id",
        "source",
        fields=lambda wish: forward_fields(
            wish.server_id, wish.name, wish.settings["destination"], wish.is_on
        ),
    ),
}


class Hashed(str):
    """A password's hash from the panel. Sent back as it is, it keeps the password."""

    # As crypt(3) writes them; nothing else is sent back.
    FORM = re.compile(r"\$[a-z0-9]{1,2}\$[./A-Za-z0-9=,$-]{20,200}")


# -- what a record says --------------------------------------------------------------


def record_id(kind: str, record: dict) -> int:
    return int(record[KINDS[kind].id])


def name_of(kind: str, record: dict) -> str | None:
    return record.get(KINDS[kind].name)


def owner(record: dict) -> int:
    """The group of the client that owns it, as in `Panel.group_id`."""
    return int(record["sys_groupid"])


def has_certificate(site: dict) -> bool:
    """Whether a site has one or is just asking for one."""
    return site.get("ssl_letsencrypt") == "y"


def hash_of(kind: str, record: dict) -> Hashed | None:
    """The hash of the record's password; None if there is none that can be sent back."""
    hashed = record.get(KINDS[kind].password) or ""
    return Hashed(hashed) if Hashed.FORM.fullmatch(hashed) else None


def differences(record: dict, fields: dict) -> list[str]:
    """Names of the fields that differ in the panel's record, whose values are all strings."""
    return [name for name, value in fields.items() if (record.get(name) or "") != str(value)]


def not_kept(kind: str, record: dict, fields: dict) -> list[str]:
    """Like `differences`, without what the server may have taken back by itself since."""
    may_differ = [name for name in KINDS[kind].taken_back if fields.get(name) == "y"]
    return [name for name in differences(record, fields) if name not in may_differ]


def in_mb(kind: str, used_bytes: int) -> int:
    """In MB as quotas of this kind count them, rounded up."""
    return -(-used_bytes // KINDS[kind].used.quota_unit)


# -- what a record is to be ----------------------------------------------------------


def site_fields(
    server_id: int,
    client_id: int,
    site_id: int | None,
    domain: str,
    quota_mb: int,
    active: bool,
    *,
    walls_mode: str = walls.NARROW,
    may_send: bool = False,
    php: bool = True,
    php_version: int = 0,
    letsencrypt: bool = False,
    pretty_addresses: bool = False,
    redirect_to: str = "",
) -> dict:
    """A site. `site_id`: None to add it. `walls_mode`: one of `walls.MODES`. `may_send`: whether
    PHP may send mail. `php_version`: 0 for the server's default, or an id that the panel offers.
    """
    fields = {
        "server_id": int(server_id),
        "domain": domain,
        "ip_address": "*",
        "type": "vhost",
        "vhost_type": "name",
        "hd_quota": int(quota_mb),
        "traffic_quota": -1,
        "subdomain": "www",
        "http_port": 80,
        "https_port": 443,
        "php": "php-fpm" if php else "no",
        "server_php_id": int(php_version),
        "ssl": _yes(letsencrypt),
        "ssl_letsencrypt": _yes(letsencrypt),
        "redirect_type": walls.redirect_type(walls_mode) if redirect_to else "",
        "redirect_path": redirect_to,
        "allow_override": walls.allow_override(walls_mode),
        "apache_directives": walls.apache_directives(walls_mode, pretty_addresses and php),
        "nginx_directives": walls.nginx_directives(walls_mode, pretty_addresses and php),
        "custom_php_ini": walls.php_ini(may_send),
        # Over TCP any customer's PHP could run code as any other. A chroot would add no safety, and
        # PHP would lose databases, mail and time zones.
        "php_fpm_use_socket": "y",
        "php_fpm_chroot": "n",
        # An update resets the following unless they are sent.
        "pm": "ondemand",
        "pm_max_children": 4,
        "pm_process_idle_timeout": 10,
        "pm_max_requests": 0,
        "log_retention": 30,
        "active": _yes(active),
    }
    if site_id is not None:  # an add would overwrite it
        fields["php_open_basedir"] = walls.open_basedir(site_directory(client_id, site_id))
    return fields


def alias_fields(
    server_id: int, site_id: int, domain: str, active: bool, letsencrypt: bool = False
) -> dict:
    """An extra domain that shows the site. `letsencrypt`: include it in the site's certificate."""
    return {
        "server_id": int(server_id),
        "parent_domain_id": int(site_id),
        "domain": domain,
        "type": "alias",
        "redirect_type": "",
        "redirect_path": "",
        "subdomain": "www",
        "ssl_letsencrypt_exclude": _yes(not letsencrypt),
        "active": _yes(active),
    }


def ftp_fields(server_id: int, client_id: int, site_id: int, username: str, active: bool) -> dict:
    return _site_user(server_id, client_id, site_id, username) | {
        "uid": f"web{int(site_id)}",
        "gid": f"client{int(client_id)}",
        "active": _yes(active),
    }


def shell_fields(server_id: int, client_id: int, site_id: int, username: str, ssh_key: str) -> dict:
    """A shell user. It is never switched off, because its password would still open SSH."""
    return _site_user(server_id, client_id, site_id, username) | {
        "puser": f"web{int(site_id)}",
        "pgroup": f"client{int(client_id)}",
        "shell": "/bin/bash",
        "chroot": "jailkit",  # with "no" it could read every other customer's files
        "ssh_rsa": ssh_key,
        "active": "y",
    }


def _site_user(server_id: int, client_id: int, site_id: int, username: str) -> dict:
    return {
        "server_id": int(server_id),
        "parent_domain_id": int(site_id),
        "username": username,
        "quota_size": -1,
        "dir": site_directory(client_id, site_id),
    }


def site_directory(client_id: int, site_id: int) -> str:
    """The site's directory on the server; its pages are in `web` below it."""
    return f"/var/www/clients/client{int(client_id)}/web{int(site_id)}"


def database_user_fields(server_id: int, username: str) -> dict:
    return {"server_id": int(server_id), "database_user": username}


def database_fields(
    server_id: int, site_id: int, name: str, user_id: int, quota_mb: int, active: bool
) -> dict:
    return {
        "server_id": int(server_id),
        "parent_domain_id": int(site_id),
        "type": "mysql",
        "database_name": name,
        "database_quota": int(quota_mb),
        "database_user_id": int(user_id),
        "database_ro_user_id": 0,
        "database_charset": "utf8mb4",
        "remote_access": "n",
        "remote_ips": "",
        "active": _yes(active),
    }


def mail_domain_fields(server_id: int, domain: str, active: bool) -> dict:
    return {"server_id": int(server_id), "domain": domain, "active": _yes(active)}


def mailbox_fields(
    server_id: int, email: str, quota_mb: int, may_read: bool, may_send: bool
) -> dict:
    """A mailbox. It always receives."""
    local, domain = email.split("@")
    return {
        "server_id": int(server_id),
        "email": email,
        "login": email,
        "quota": int(quota_mb) * 1024 * 1024,
        "name": local,
        "maildir": f"/var/vmail/{domain}/{local}",
        "homedir": "/var/vmail",
        "move_junk": "n",
        "purge_trash_days": 0,
        "purge_junk_days": 0,
        "postfix": "y",
        "disablesmtp": _yes(not may_send),  # a mailbox that may send can do so as anybody
        "disableimap": _yes(not may_read),
        "disablepop3": _yes(not may_read),
    }


def forward_fields(server_id: int, source: str, destination: str, active: bool) -> dict:
    return {
        "server_id": int(server_id),
        "source": source,
        "destination": destination.lower(),  # as the panel does; old rows hold it as typed
        "type": "forward",
        "active": _yes(active),
    }


def _yes(is_so: bool) -> str:
    return "y" if is_so else "n"
