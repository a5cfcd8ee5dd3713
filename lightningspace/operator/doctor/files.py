"""The disks, what lies on them, and the programs that run."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from lightningspace.base.clock import DAY, clock_time
from lightningspace.operator.doctor.patient import NotSeen, Patient

FREE_MB_MIN = 1000
# Of the files that a disk can hold.
FREE_FILES_PERCENT = 2
# How long a copy from before an upgrade is of use.
COPY_DAYS = 7
COPIES = ("*.before-upgrade", "*.sqlite3", "*.sql", "*.dump", "*.tar*", "*.age")
BACKUP_DAYS = 2
UNITS = ("lightning-space-web", "lightning-space-worker")


def _directories(patient: Patient) -> dict[str, Path]:
    uploads, url = patient.config.uploads_dir, patient.config.database_url
    found = {"the instance directory": patient.instance}
    if uploads.exists():  # the first upload makes it
        found["UPLOADS_DIR"] = uploads
    if url.startswith("sqlite:"):
        found["the database"] = _sqlite(patient).parent
    return found


def _sqlite(patient: Patient) -> Path:
    return Path(patient.config.database_url.removeprefix("sqlite:///"))


def disks(patient: Patient) -> Iterator[str]:
    for what, path in _directories(patient).items():
        try:
            disk = os.statvfs(path)
        except OSError as error:
            yield f"{path} cannot be read: {error.strerror}"
            continue
        if not os.access(path, os.W_OK | os.X_OK):
            yield f"this user may not write into {path}: `chown -R shop: {path}`, as root"
        free_mb = disk.f_bavail * disk.f_frsize // 10**6
        if free_mb < FREE_MB_MIN:
            yield (
                f"the disk of {what}, {path}, has {free_mb} MB left: see what takes it with `du "
                f"-xh {path} | sort -h`, and make room for {FREE_MB_MIN} MB"
            )
        if disk.f_files and disk.f_favail * 100 < disk.f_files * FREE_FILES_PERCENT:
            yield (
                f"the disk of {what}, {path}, can hold {disk.f_favail} more files: see where they "
                f"are with `du -x --inodes {path} | sort -n`, and delete some"
            )


def copies(patient: Patient) -> Iterator[str]:
    """Copies of the database beside the key that opens what is sealed in them."""
    in_use = _sqlite(patient) if patient.config.database_url.startswith("sqlite:") else None
    for pattern in COPIES:
        for path in sorted(patient.instance.glob(pattern)):
            is_new = time.time() - path.stat().st_mtime < COPY_DAYS * DAY
            if path != in_use and not (is_new and pattern == COPIES[0]):
                yield (
                    f"{path} is a copy of the database beside the key that opens it: keep it on "
                    f"another machine, and `rm {path}`"
                )


def backups(patient: Patient) -> Iterator[str]:
    """The backups of lightning-space-backup.timer, if there are any. Others are not looked at."""
    made = [path.stat().st_mtime for path in patient.backups.glob("*.tar.gz*")]
    if made and time.time() - max(made) > BACKUP_DAYS * DAY:
        yield (
            f"the newest backup in {patient.backups} is of {clock_time(int(max(made)))}: "
            "`journalctl -u lightning-space-backup -n 50` says why, and `systemctl start "
            "lightning-space-backup` makes one"
        )


def units(patient: Patient) -> Iterator[str]:
    """Whether web and worker start with the machine, where it has systemd."""
    if not patient.systemd.is_dir():
        return
    for unit in UNITS:
        state = _of_unit("is-enabled", unit)
        if state in ("", "not-found"):
            raise NotSeen(f"systemd has no {unit}: see whether whatever starts it does so at boot")
        if state == "disabled":
            yield f"{unit} does not start with the machine: `systemctl enable --now {unit}`"
        if _of_unit("is-active", unit) == "failed":
            yield f"{unit} has failed: `journalctl -u {unit} -n 50` says why"


def _of_unit(question: str, unit: str) -> str:
    try:
        asked = ["systemctl", question, unit]
        return subprocess.run(asked, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotSeen(f"systemctl does not answer: {type(error).__name__}") from error


CHECKS = {"disks": disks, "copies": copies, "backups": backups, "units": units}
