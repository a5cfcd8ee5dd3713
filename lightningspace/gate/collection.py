"""Deleting the folders that nobody pays for any more, when their grace is over, by the worker.

A folder is put aside in the transaction that deletes its row, and is then emptied in small steps.
"""

import logging
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from stat import S_ISDIR

from lightningspace.base.clock import HOUR, now
from lightningspace.base.gate_models import GateDisk
from lightningspace.base.models import transaction
from lightningspace.base.settings import ConfigError
from lightningspace.gate import services
from lightningspace.gate.disks import MODE
from lightningspace.gate.services import Gate, Service
from lightningspace.rules import clock_watch

logger = logging.getLogger(__name__)

# Where folders are put aside: beside the others, and where no address leads.
ASIDE = ".over"
AT_ONCE = 1000


class Collection:
    """Collects the folders on a gate's disks. Any number of workers may do so at once."""

    def __init__(self, gate: Gate):
        self._disks = [service for service in gate.services if service.disk]
        self._failing: set[str] = set()

    def look(self, stopping: Callable[[], bool] = lambda: False) -> None:
        """Delete what is due. After a look that was killed, the next one goes on."""
        clock_watch.wake()
        for service in self._disks:
            self._guarded(service.disk, self._look_at, service, stopping)

    def _look_at(self, service: Service, stopping: Callable[[], bool]) -> None:
        for token_id in due(service):
            if stopping():
                return
            self._guarded(f"{service.disk}/{token_id}", put_aside, service, token_id)
        for name in _aside(service):
            self._guarded(f"{service.disk}/{ASIDE}/{name}", _delete, service, name, stopping)

    def _guarded(self, what: str, step: Callable, *arguments) -> None:
        try:
            step(*arguments)
            self._failing.discard(what)
        except OSError as error:
            if what not in self._failing:  # once, until it works again
                logger.error("%s cannot be deleted: %s", what, error.strerror)
            self._failing.add(what)


def problems(path: Path) -> list[str]:
    """Folders of this gate.toml that should be gone."""
    try:
        disks = [each for each in services.read(path).services if each.disk]
    except ConfigError:  # `settlement.problems` tells
        return []
    told = []
    for service in disks:
        late = _is_over(service) & (GateDisk.until <= now() - service.grace_seconds - HOUR)
        try:
            left = [name for name in _aside(service) if _age(service, name) > HOUR]
        except OSError as error:
            told.append(f"the disk {service.name}: {error}")
            continue
        if folders := GateDisk.select().where(late).count() + len(left):
            told.append(
                f"{folders} folders of the disk {service.name} should be deleted by now: may the "
                f"worker write in {service.disk}? See docs/gateway.md"
            )
    theirs = GateDisk.service.not_in([service.name for service in disks])
    if kept := GateDisk.select().where(theirs).count():
        told.append(f"{kept} folders are kept of disks that gate.toml does not name any more")
    return told


def _is_over(service: Service):
    """The condition that its time and its grace are over. As for hostings, a gap without a calendar
    pass begins each grace anew.
    """
    moment = now() - service.grace_seconds
    is_trusted = clock_watch.unbroken_since() <= moment
    return (GateDisk.service == service.name) & (GateDisk.until <= (moment if is_trusted else 0))


def due(service: Service) -> list[str]:
    """The token ids of some folders to delete."""
    rows = GateDisk.select(GateDisk.token_id).where(_is_over(service))
    return [row.token_id for row in rows.order_by(GateDisk.until).limit(AT_ONCE)]


def put_aside(service: Service, token_id: str) -> None:
    """Put a folder aside, unless it has been paid for by now, and forget it.

    Somebody who pays at this very moment is either in time and keeps it, or gets an empty one.
    """
    with _opened(service) as (disk, aside), transaction():
        own = _is_over(service) & (GateDisk.token_id == token_id)
        if GateDisk.delete().where(own).execute() == 1:
            with suppress(FileNotFoundError):  # killed before the row was gone
                _rename(token_id, disk, aside)


def _delete(service: Service, name: str, stopping: Callable[[], bool]) -> None:
    """Delete what is put aside, by paths no longer than a name, however deep a folder is."""
    # If it is not there any more, another worker has deleted it.
    with _opened(service) as (_, aside), suppress(FileNotFoundError):
        if not S_ISDIR(os.stat(name, dir_fd=aside, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=aside)
            return
        left = [name]
        while left:
            name = left.pop()
            with _folder(name, aside) as folder:
                with os.scandir(folder) as found:
                    entries = list(found)
                for entry in entries:
                    if stopping():
                        return
                    if entry.is_dir(follow_symlinks=False):
                        left.append(_rename(entry.name, folder, aside))
                    else:
                        os.unlink(entry.name, dir_fd=folder)
            os.rmdir(name, dir_fd=aside)


def _rename(name: str, folder: int, aside: int) -> str:
    name_aside = secrets.token_hex(16)
    os.rename(name, name_aside, src_dir_fd=folder, dst_dir_fd=aside)
    return name_aside


def _aside(service: Service) -> list[str]:
    """The names of what is put aside."""
    try:
        return os.listdir(f"{service.disk}/{ASIDE}")
    except FileNotFoundError:
        return []


def _age(service: Service, name: str) -> float:
    try:
        return now() - os.lstat(f"{service.disk}/{ASIDE}/{name}").st_ctime
    except FileNotFoundError:
        return 0


@contextmanager
def _opened(service: Service) -> Iterator[tuple[int, int]]:
    """A disk, and where its folders are put aside: as descriptors, so that no link leads away."""
    with _folder(service.disk) as disk:
        with suppress(FileExistsError):
            os.mkdir(ASIDE, dir_fd=disk)
            os.chmod(ASIDE, MODE, dir_fd=disk)
        with _folder(ASIDE, disk) as aside:
            yield disk, aside


@contextmanager
def _folder(path: str, within: int | None = None) -> Iterator[int]:
    """`within`: the folder that it lies in; then it must not be a link."""
    flags = os.O_RDONLY | os.O_DIRECTORY | (os.O_NOFOLLOW if within is not None else 0)
    descriptor = os.open(path, flags, dir_fd=within)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
