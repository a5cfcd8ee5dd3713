"""Write our files: show each change, keep the old file, undo what the server refuses."""

import difflib
import os
import pwd
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from hosting_doctor.ours import ANY_PHP, Command, Ours, Part
from hosting_doctor.server import OF_CUSTOMER, Server, Unknown

# Old files, kept away from the new ones: pure-ftpd takes each file of its directory for a setting.
KEPT = Path("/var/backups/hosting-doctor")
# A mark for each part that was begun and not finished. A reboot deletes the marks, and makes every
# service read its files.
BEGUN = Path("/run/hosting-doctor")
# MariaDB may have much to write before it stops.
START_SECONDS = 600


@dataclass(frozen=True)
class Change:
    """The new text of a file, or the new target of a link. `before` is None if it does not exist.

    `mode` is for a new file; an existing one keeps its own.
    """

    path: Path
    before: str | None
    after: str
    mode: int
    is_link: bool = False


class Mender:
    def __init__(self, server: Server, say: Callable[[str], None]):
        self._server = server
        self._say = say
        self._kept = KEPT / time.strftime("%Y-%m-%dT%H%M%SZ", time.gmtime())

    @cached_property
    def _ours(self) -> Ours:
        shells = [user for user in pwd.getpwall() if user.pw_dir.startswith("/var/www/clients/")]
        names = {user.pw_name for user in shells}
        names |= {user.pw_name for user in pwd.getpwall() if OF_CUSTOMER.fullmatch(user.pw_name)}
        return Ours(*self._server.first_ids, customers=frozenset(names))

    def lacking(self, part: Part) -> list[str]:
        """The paths that are missing or differ from what they should say."""
        return [str(change.path) for change in self._changes(part)]

    def is_unfinished(self, part: Part) -> bool:
        return self._mark(part).exists()

    def mend(self, part: Part) -> str | None:
        """Write and activate a part. Return why it was undone, or None if it is in place."""
        changes = self._changes(part)
        for change in changes:
            self._say(_shown(change))
        BEGUN.mkdir(mode=0o700, exist_ok=True)
        self._mark(part).touch()
        for change in changes:
            self._keep(change)
            _write(change.path, change.after, change.mode, change.is_link)
        why = self._first_that_fails(part.test)
        if why is None:
            why = self._first_that_fails(self._uses(part))
        if why is not None:
            for change in reversed(changes):
                self._take_back(change)
            if self._first_that_fails(part.test) is None:
                self._first_that_fails(self._uses(part))
        self._mark(part).unlink()
        return f"taken back, because of {why}" if why else None

    def tell_mariadb(self, lines: list[str]) -> None:
        for line in lines:
            self._say(f"{line}\n")
            self._server.ask(line)

    # A part

    def _mark(self, part: Part) -> Path:
        return BEGUN / part.name.replace("/", "")

    def _changes(self, part: Part) -> list[Change]:
        found = []
        for path, template in part.of(self._server.php_versions).items():
            before = self._server.read(path)
            after = self._ours.text(template, before)
            if after != before:
                found.append(Change(Path(path), before, after, self._ours.mode(template)))
        for path, target in part.links.items():
            if not os.path.lexists(path):
                found.append(Change(Path(path), None, target, 0, is_link=True))
        return found

    def _uses(self, part: Part) -> list[Command]:
        commands: list[Command] = []
        for command in part.use:
            if ANY_PHP in command:
                of_each = (f"php{version}-fpm" for version in self._server.php_versions)
                commands += [(*command[:-1], service) for service in of_each]
            else:
                commands.append(command)
        return commands

    def _first_that_fails(self, commands: tuple[Command, ...] | list[Command]) -> str | None:
        for command in commands:
            try:
                self._server.said(*command, seconds=START_SECONDS)
            except Unknown as reason:
                return str(reason)
        return None

    # A file

    def _keep(self, change: Change) -> None:
        if change.before is not None:
            kept = self._kept / change.path.relative_to("/")
            kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            shutil.copy2(change.path, kept)
            self._say(f"as it was: {kept}\n")

    @staticmethod
    def _take_back(change: Change) -> None:
        if change.before is None:
            change.path.unlink()
        else:
            _write(change.path, change.before, change.mode, change.is_link)


def _shown(change: Change) -> str:
    if change.is_link:
        return f"{change.path} -> {change.after}\n"
    before = (change.before or "").splitlines(keepends=True)
    after = change.after.splitlines(keepends=True)
    was = str(change.path) if change.before is not None else "/dev/null"
    return "".join(difflib.unified_diff(before, after, was, str(change.path)))


def _write(path: Path, text: str, mode: int, is_link: bool) -> None:
    """Replace the file at once: a crash leaves the old one or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    if is_link:
        new.symlink_to(text)
    else:
        opened = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with open(opened, "w", encoding="utf-8") as file:
            os.fchmod(opened, mode)
            if path.exists():
                there = path.stat()
                os.fchown(opened, there.st_uid, there.st_gid)
                os.fchmod(opened, there.st_mode & 0o777 | mode & 0o111)
            file.write(text)
            file.flush()
            os.fsync(opened)
    os.replace(new, path)
