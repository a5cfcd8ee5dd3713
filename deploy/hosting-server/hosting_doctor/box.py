"""Checks of the server itself, and of the panel's settings."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass

from hosting_doctor.server import Server, Unknown

SITES = "/var/www"
# File systems that cannot have quotas: a container's, a test machine's.
NO_QUOTAS = ("overlay", "tmpfs")
FREE_PERCENT = 10
YES = ("y", "yes")


def _is_on(value: str) -> bool:
    return value == "y"


def _is_off(value: str) -> bool:
    """True as well for a setting that was never saved."""
    return value != "y"


@dataclass(frozen=True)
class Setting:
    """A setting of the panel. `is_good` gets its value, "" if it was never saved.

    `advice`: what to set instead.
    """

    section: str
    name: str
    is_good: Callable[[str], bool]
    advice: str
    is_of_apache: bool = False


SETTINGS = (
    Setting(
        "web",
        "htaccess_allow_override",
        lambda value: value in ("None", "Nonfatal=All", "All Nonfatal=All"),
        "Web → .htaccess AllowOverride: None, or All Nonfatal=All under mpm_itk",
        is_of_apache=True,
    ),
    Setting(
        "web",
        "php_open_basedir",
        lambda value: "/tmp" not in value.split(":"),
        "Web → PHP open_basedir: take /tmp out of it",
    ),
    Setting("web", "security_level", lambda value: value == "20", "Web → Security level: High"),
    Setting(
        "web",
        "connect_userid_to_webid",
        _is_on,
        "Web → Connect Linux userid to webid: on, or a new customer gets the user number of a "
        "deleted one, and the files that one left behind",
    ),
    Setting(
        "web",
        "set_folder_permissions_on_update",
        _is_off,
        "Web → Set folder permissions on update: off",
    ),
    Setting(
        "web",
        "check_apache_config",
        _is_off,
        "Web → Test webserver configuration on restart: off",
        is_of_apache=True,
    ),
    Setting("web", "php_fpm_default_chroot", _is_off, "Web → Default chrooted PHP-FPM: off"),
    Setting(
        "mail",
        "reject_sender_login_mismatch",
        _is_on,
        "Mail → Reject sender and login mismatch: on",
    ),
    Setting(
        "jailkit",
        "jailkit_hardlinks",
        lambda value: value == "no",
        "Jailkit → Hardlinks within Jailkit chroot: no",
    ),
)


def panel_settings(server: Server) -> str | None:
    """Look at the defaults that the panel gives a site; the shop sets some of them once more."""
    is_apache = server.settings.get(("web", "server_type")) != "nginx"
    told = [
        each.advice
        for each in SETTINGS
        if not each.is_good(server.settings.get((each.section, each.name), ""))
        and (is_apache or not each.is_of_apache)
    ]
    return f"in the panel, System → Server Config: {'; '.join(told)}" if told else None


def quotas(server: Server) -> str | None:
    mounts = [line.split() for line in (server.read("/proc/self/mounts") or "").splitlines()]
    holding = [each for each in mounts if f"{SITES}/".startswith(f"{each[1].rstrip('/')}/")]
    _, at, kind, options, *_ = max(holding, key=lambda each: len(each[1]))
    if kind in NO_QUOTAS:
        raise Unknown(f"{at} is {kind}, which has no quotas")
    if not re.search(r"\b(usrquota|usrjquota|uquota|prjquota|pquota|quota)\b", options):
        return f"customers can fill the disk: mount {at} with usrquota,grpquota (/etc/fstab)"
    if not re.search(
        rf"^user quota on {re.escape(at)} .* is on", server.run("quotaon", "-p", at).stdout, re.M
    ):
        return f"customers can fill the disk: quotaon {at}"
    return None


def disk(_: Server) -> str | None:
    told = []
    for path in dict.fromkeys(("/", SITES, "/var/vmail", "/var/log", "/var/lib/mysql")):
        if os.path.exists(path):
            found = os.statvfs(path)
            for what, free, of in (
                ("space", found.f_bavail, found.f_blocks),
                ("inodes", found.f_favail, found.f_files),
            ):
                if of and 100 * free / of < FREE_PERCENT:
                    told.append(f"{path}: {100 * free // of} % of its {what}")
    return f"less than {FREE_PERCENT} % is free: {', '.join(told)}" if told else None


def clock(server: Server) -> str | None:
    if not server.has_systemd:
        raise Unknown("systemd does not run here")
    said = server.said("timedatectl", "show", "--property", "NTPSynchronized", "--value")
    if said.strip() not in YES:
        return "the clock is not synchronized: apt install systemd-timesyncd, or chrony"
    return None


def upgrades(server: Server) -> str | None:
    periods = server.said("apt-config", "dump")
    on = {
        name: re.search(rf'^APT::Periodic::{name} "([1-9]\d*|always)";', periods, re.M)
        for name in ("Update-Package-Lists", "Unattended-Upgrade")
    }
    has_program = server.run("sh", "-c", "command -v unattended-upgrade").returncode == 0
    if not (has_program and all(on.values())):
        return (
            "security updates are not installed by themselves: apt install unattended-upgrades, "
            "then dpkg-reconfigure -plow unattended-upgrades"
        )
    return None
