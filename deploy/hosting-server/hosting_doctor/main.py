"""The doctor's command line."""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict

from hosting_doctor.checks import OK, UNKNOWN, WRONG, Check, Doctor, Finding
from hosting_doctor.server import Server

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
WALLS = ("narrow", "mpm_itk", "nginx")
ENDS = "Exit status: 0 all is well, 1 something is wrong, 2 something could not be checked."


def main(arguments: list[str]) -> int:
    options = _options(arguments)
    if os.geteuid() != 0:
        print("run it as root", file=sys.stderr)
        return 2
    # Untranslated output of other programs, and a PATH with sbin in it, over SSH too.
    os.environ |= {"PATH": PATH, "LC_ALL": "C.UTF-8"}
    # With --json, changes are shown on stderr, so that stdout is JSON alone.
    told = sys.stderr if options.json else sys.stdout
    doctor = Doctor(Server(options.walls), lambda text: print(text, end="", file=told, flush=True))
    results = set()
    for finding in _findings(doctor, options):
        results.add(finding.result)
        print(json.dumps(asdict(finding)) if options.json else _line(finding), flush=True)
    return 1 if WRONG in results else 2 if UNKNOWN in results else 0


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="doctor",
        description="Say what this ISPConfig server lacks before strangers may buy hosting on it.",
        epilog=ENDS,
    )
    parser.add_argument("check", nargs="*", help="run only these, by the names that are printed")
    parser.add_argument("--fix", action="store_true", help="write the files that are wrong")
    parser.add_argument("--json", action="store_true", help="print JSON, a line for each check")
    parser.add_argument("--walls", choices=WALLS, help="the shop's setting WALLS")
    return parser.parse_args(arguments)


def _findings(doctor: Doctor, options: argparse.Namespace) -> Iterator[Finding]:
    for check in _wanted(doctor.checks(), options.check):
        found = doctor.look(check)
        is_to_mend = options.fix and found.result == WRONG and doctor.can_mend(check)
        yield doctor.mend(check) if is_to_mend else found


def _wanted(checks: list[Check], names: list[str]) -> list[Check]:
    unknown = set(names) - {check.name for check in checks}
    if unknown:
        sys.exit(f"no check here is called {', '.join(sorted(unknown))}")
    return [check for check in checks if not names or check.name in names]


def _line(finding: Finding) -> str:
    if finding.result == OK:
        return f"{OK:8} {finding.check}"
    return f"{finding.result:8} {finding.check}: {finding.text}"
