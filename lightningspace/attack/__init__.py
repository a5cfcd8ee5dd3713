"""Attacks of one customer on another, tried on the operator's own server.

`check` opens two hostings of the shop's own, annie's and bobby's, and acts as annie: it uploads
files, sends requests and logs in as any customer can, and notes what it gets of bobby's. Both are
removed afterwards. Other hostings are not touched, and no mail leaves the server.
"""

import json
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

from lightningspace.attack import files, htaccess, listening, mail, ssh
from lightningspace.attack.field import Field, NotTried
from lightningspace.attack.hostings import CannotCheck, close_left_over, neighbours
from lightningspace.base import walls
from lightningspace.base.clock import clock_time, now
from lightningspace.base.models import Fact, set_fact
from lightningspace.base.prices import DAY
from lightningspace.shop import Shop

__all__ = ["CannotCheck", "Result", "check", "check_weekly", "close_left_over", "problems"]

logger = logging.getLogger(__name__)

HELD, OPEN, KNOWN, NOT_TRIED = "held", "open", "known", "not tried"
# The fact that holds the result of a server's last check.
FOUND = "walls of server {id}"
NOT_ENDED = "the check was started and did not finish"
WEEK = 7 * DAY
STAYS_OPEN = "“Whose rights Apache has” and “What stays open” in docs/hosting-server.md"
RACE_REQUESTS = 20_000
# Some of the advice in docs/hosting-server.md is applied to new directories once a minute.
PATIENCE_SECONDS = 90

OVERRIDES = (
    "WALLS=narrow with its directives, or Apache with mpm_itk: see “Whose rights Apache has” in "
    "docs/hosting-server.md; `flask retry --check` puts right what was changed by hand"
)
DIRECTORIES = "“Who may look into what” in docs/hosting-server.md"
FIREWALL = "“Who may talk to what” in docs/hosting-server.md"
MAIL = "“Mail” in docs/hosting-server.md"


@dataclass(frozen=True)
class Attack:
    """What a customer tries on a neighbour, and what closes it (`advice`).

    `run` returns a proof of what it got, or None if the wall held. It raises NotTried if the
    server lacks what it needs; an attacker would lack it too. `open_with`: the settings of WALLS
    with which it is known to succeed.
    """

    name: str
    what: str
    advice: str
    run: Callable[[Field], str | None]
    open_with: tuple[str, ...] = ()


# In the order in which they are tried.
ATTACKS = (
    # Files first: values that a later .htaccess sends to PHP stay in its processes.
    Attack(
        "files by PHP",
        "read a neighbour's files with PHP's own functions",
        OVERRIDES,
        files.by_php,
    ),
    Attack(
        "shared /tmp",
        "read with PHP what others leave in /tmp",
        OVERRIDES,
        files.shared_tmp,
    ),
    Attack(
        "files by a shell",
        "read a neighbour's files with programs that PHP starts",
        "web has mode 0710 since FTP works (FTP_UPLOADS); for the rest: " + DIRECTORIES,
        files.by_shell,
    ),
    Attack(
        "directories",
        "list a neighbour's directories",
        DIRECTORIES,
        files.directories,
    ),
    Attack(
        "logs",
        "read a neighbour's logs",
        DIRECTORIES,
        files.logs,
    ),
    Attack(
        "takeover",
        "run code as a neighbour, through the neighbour's PHP, by .htaccess",
        OVERRIDES,
        htaccess.takeover,
    ),
    Attack(
        "poison",
        "leave code in a neighbour's PHP for the visitors of that site",
        OVERRIDES,
        htaccess.poison,
    ),
    Attack(
        "own limits",
        "open files that PHP must not open (open_basedir), by .htaccess",
        OVERRIDES,
        htaccess.own_limits,
        # PHP and what it starts still run with the customer's rights.
        open_with=(walls.MPM_ITK,),
    ),
    Attack(
        "configuration",
        "read a neighbour's files, or the server's, by a .htaccess that is a link to them",
        OVERRIDES,
        htaccess.configuration,
    ),
    Attack(
        "first words",
        "learn the first word of a neighbour's page, by a .htaccess that is a link to it",
        OVERRIDES,
        htaccess.first_words,
        open_with=(walls.NARROW, walls.MPM_ITK),
    ),
    Attack(
        "handlers",
        "have the web server run programs with its own rights, by .htaccess",
        OVERRIDES,
        htaccess.handlers,
    ),
    Attack(
        "password files",
        "protect a directory with a neighbour's password file, and so test passwords against it",
        OVERRIDES,
        htaccess.password_files,
    ),
    Attack(
        "contents",
        "learn what a neighbour's files say, by conditions in .htaccess",
        OVERRIDES,
        htaccess.contents,
    ),
    Attack(
        "questions",
        "learn which files a neighbour has, by conditions in .htaccess",
        OVERRIDES,
        htaccess.questions,
        # Only whether a file with a known path exists. Under mpm_itk conditions are read as root.
        open_with=(walls.NARROW, walls.MPM_ITK),
    ),
    Attack(
        "links",
        "read a neighbour's files through a link",
        OVERRIDES,
        htaccess.links,
    ),
    Attack(
        "race",
        "read a neighbour's file by a link that is swapped while the server looks",
        "Apache with mpm_itk closes it, and nothing else does: see “Whose rights Apache has” in "
        "docs/hosting-server.md. Customers are told to keep secrets at 0600, which holds",
        htaccess.race,
        open_with=(walls.NARROW,),
    ),
    Attack(
        "PHP sockets",
        "run code as a neighbour, through the socket of the neighbour's PHP",
        "php_fpm_use_socket, which the shop sends: `flask retry --check`",
        listening.php_sockets,
    ),
    Attack(
        "panel",
        "reach the panel and other internal services from a site",
        FIREWALL,
        listening.local_ports,
    ),
    Attack(
        "port 25",
        "hand mail to a mail server without a login",
        FIREWALL,
        listening.port_25,
    ),
    Attack(
        "mail()",
        "send mail by PHP before MAIL_SEND_MIN_DAYS are paid",
        "custom_php_ini, which the shop sends: `flask retry --check`",
        mail.by_php,
    ),
    Attack(
        "sendmail",
        "send mail by the program sendmail",
        MAIL,
        mail.sendmail,
    ),
    Attack(
        "submission",
        "send mail with a mailbox that may not send yet",
        "disablesmtp, which the shop sends: `flask retry --check`; does the mail server obey it?",
        mail.submission,
    ),
    Attack(
        "sender",
        "send mail as a neighbour, with a mailbox of one's own",
        "Mail → Reject sender and login mismatch, in the panel's server settings",
        mail.sender,
    ),
    Attack(
        "crontab",
        "leave a program behind that outlives the hosting",
        "“What they may leave behind, or take” in docs/hosting-server.md",
        files.crontab,
    ),
    Attack(
        "jail",
        "read a neighbour's files over SSH",
        "Jailkit, which the shop asks for: is it installed, "
        "and is the shell user's chroot “jailkit”?",
        ssh.jail,
    ),
    Attack(
        "tunnels",
        "reach what listens inside the server over SSH",
        FIREWALL,
        ssh.tunnels,
    ),
    # Last, because it changes the site.
    Attack(
        "takeover without PHP",
        "the takeover, from a site whose PHP is switched off",
        OVERRIDES,
        htaccess.takeover_without_php,
    ),
)


@dataclass(frozen=True)
class Result:
    """The result of one attack: held, open, known (to be open with these WALLS) or not tried.

    `proof`: what it got, or why it was not tried.
    """

    attack: str
    what: str
    result: str
    proof: str = ""
    advice: str = ""


def check(
    shop: Shop,
    server_id: int,
    address: str | None = None,
    race_requests: int = RACE_REQUESTS,
    patience_seconds: int = PATIENCE_SECONDS,
) -> Iterator[Result]:
    """Attack one server, and yield each result as it is known; the findings are stored at the end.

    `address`: where to reach the server, if not by the names that customers use. `race_requests`:
    how many requests are sent in the race for each of three files. `patience_seconds`: how long new
    directories may stay open. Raises CannotCheck, whose text is stored as well.
    """
    results: list[Result] = []
    trouble: str | None = NOT_ENDED
    try:
        with neighbours(shop, server_id) as (annie, bobby):
            field = Field(shop, annie, bobby, address, race_requests, patience_seconds)
            field.settle_in()
            for attack in ATTACKS:
                results.append(_try(field, attack))
                yield results[-1]
        trouble = None
    except (CannotCheck, NotTried) as error:
        trouble = str(error)
        raise CannotCheck(trouble) from None
    finally:
        _note(server_id, results, trouble)


def _try(field: Field, attack: Attack) -> Result:
    started = time.monotonic()
    try:
        proof = attack.run(field)
    except NotTried as error:
        return Result(attack.name, attack.what, NOT_TRIED, str(error))
    finally:
        logger.info("walls: %s, %.1f s", attack.name, time.monotonic() - started)
    if proof is None:
        return Result(attack.name, attack.what, HELD)
    if field.walls in attack.open_with:
        return Result(attack.name, attack.what, KNOWN, proof, STAYS_OPEN)
    return Result(attack.name, attack.what, OPEN, proof, attack.advice)


# -- what was found ----------------------------------------------------------------------


def _note(server_id: int, results: list[Result], trouble: str | None) -> None:
    found = [asdict(result) for result in results if result.result in (OPEN, NOT_TRIED)]
    value = json.dumps({"at": now(), "found": found, "trouble": trouble})
    set_fact(FOUND.format(id=server_id), value)


def problems(shop: Shop) -> list[str]:
    """Lines for the operator: what the last check of each server found open or could not try."""
    told = []
    for server_id in shop.config.capacity_mb:
        fact = Fact.get_or_none(Fact.name == FOUND.format(id=server_id))
        if fact is None:
            continue
        last = json.loads(fact.value)
        when = clock_time(last["at"])
        if last["trouble"]:
            told.append(f"{fact.name}: not checked at {when}: {last['trouble']}")
        for each in last["found"]:
            if each["result"] == OPEN:
                what = f"a customer can {each['what']} ({each['proof']}, {when})"
                told.append(f"{fact.name}: {what}: {each['advice']}")
            else:
                told.append(f"{fact.name}: not tried to {each['what']}: {each['proof']} ({when})")
    return told


def check_weekly(shop: Shop) -> None:
    """Check the servers whose last check is a week old. Several workers may call it at once."""
    for server_id in shop.config.capacity_mb:
        if _take_turn(server_id):
            try:
                for _ in check(shop, server_id):
                    pass
            except CannotCheck as error:
                logger.warning("walls of server %d not checked: %s", server_id, error)


def _take_turn(server_id: int) -> bool:
    name = FOUND.format(id=server_id)
    begun = json.dumps({"at": now(), "found": [], "trouble": NOT_ENDED})
    before = Fact.get_or_none(Fact.name == name)
    if before is None:
        return Fact.insert(name=name, value=begun).on_conflict_ignore().execute() != 0
    if now() - WEEK < json.loads(before.value)["at"] <= now():
        return False
    mine = Fact.update(value=begun).where((Fact.name == name) & (Fact.value == before.value))
    return mine.execute() == 1
