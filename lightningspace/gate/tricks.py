"""Addresses by which one might get past the gate."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from lightningspace.gate.addresses import paths
from lightningspace.gate.services import Service

# Endings for which nginx often has a location by a pattern of its own.
ENDINGS = (
    *("php", "html", "htm", "txt", "xml", "json", "js", "mjs", "css", "map", "svg", "png"),
    *("jpg", "jpeg", "gif", "webp", "avif", "ico", "woff2", "mp4", "mp3", "pdf", "zip", "gz"),
)
# How many files of a folder are looked through, and how many of them are asked for.
LOOKED_THROUGH, ASKED_FOR = 5000, 40


@dataclass(frozen=True)
class Trick:
    """Another way of writing a path. `beside`: an address outside the gate for which nginx should
    answer the same; "": nginx should see that `path` leads behind the gate, and ask it.
    """

    path: str
    beside: str = ""


def of(service: Service, path: str) -> Iterator[Trick]:
    """Other ways of writing a path of a service."""
    location, rest = service.location, path.removeprefix(service.location)
    for prefix in ("/", "/.", "/x/..", "/x/%2e%2e", "/x/..%2f.."):
        yield Trick(prefix + path)
    for within in ("/", "./", "x/../", "x/%2e%2e/", "x/..%2f"):
        yield Trick(location + within + rest)
    yield Trick(f"{path}?free=1")
    if location != "/":
        yield Trick(f"/%{ord(location[1]):02x}{location[2:]}{rest}")
        yield Trick(f"{location[:-1]}%2f{rest}")
        other = location.swapcase()
        if other != location:
            yield Trick(other + rest, beside="/9b1f/" + rest)
    for free in service.free:
        deep = free.removeprefix(location).count("/")
        for up in ("../", "%2e%2e/", "..%2f", "%2e%2e%2f"):
            yield Trick(free + up * deep + rest)
        yield Trick(free + "..;/" * deep + rest, beside=f"{free}9b1f/{rest}")


def paid(service: Service) -> list[str]:
    """Paths that the gate must be asked about; for files, those of files that are there.

    Empty: its files cannot be seen from here.
    """
    if service.kind == "files":
        return _files(service)
    beside = [f"{free[:-1]}9b1f/x" for free in service.free]
    return [*beside, *(f"{service.location}x.{ending}" for ending in ENDINGS)]


def _files(service: Service) -> list[str]:
    """A file for each folder and ending."""
    own_terms = tuple(path for path, _ in paths(service))
    looked, found = 0, {}
    for folder, _, names in os.walk(service.files):
        for name in sorted(names):
            looked += 1
            below = Path(folder, name).relative_to(service.files)
            path = service.location + quote(os.fsencode(below))
            if looked > LOOKED_THROUGH or len(found) >= ASKED_FOR:
                return list(found.values())
            if not path.startswith(own_terms):
                found.setdefault((folder, below.suffix), path)
    return list(found.values())
