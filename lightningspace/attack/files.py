"""Attacks on a neighbour's files by PHP and by programs that PHP starts."""

import secrets

from lightningspace.attack.field import Field


def by_php(field: Field) -> str | None:
    for mode in field.secrets:
        text = field.ask("read", path=field.path(mode)).get("text")
        if proof := field.found(text, "file_get_contents"):
            return proof
    return None


def shared_tmp(field: Field) -> str | None:
    secret, path = secrets.token_hex(12), f"/tmp/walls-{secrets.token_hex(6)}"
    field.run(f"echo {secret} > {path}; chmod 644 {path}")
    text = field.ask("read", path=path).get("text") or ""
    field.run(f"rm -f {path}")
    return "file_get_contents read a file in /tmp" if secret in text else None


def by_shell(field: Field) -> str | None:
    text = field.run("cat " + " ".join(map(field.path, field.secrets)))
    return field.found(text, "cat")


def directories(field: Field) -> str | None:
    root = field.bobby.root
    places = (root.rpartition("/")[0], f"{root}/web", f"{root}/private", f"{root}/tmp")

    def look() -> str | None:
        listed = [path for path in places if "listed" in field.run(f"ls -A {path} && echo listed")]
        return f"ls {listed[0].removeprefix('/var/www/')}" if listed else None

    return field.patiently(look)


def logs(field: Field) -> str | None:
    places = f"/var/log/ispconfig/httpd/{field.bobby.name}/* {field.bobby.root}/log/*"
    read = f"for log in {places}; do head -c 1 $log >/dev/null 2>&1 && echo read $log; done"

    def look() -> str | None:
        found = [line for line in field.run(read).splitlines() if line.startswith("read ")]
        return found[0].removeprefix("read ") if found else None

    return field.patiently(look)


def crontab(field: Field) -> str | None:
    said = field.run("echo '0 0 1 1 * true' | crontab - && echo made && crontab -r")
    return "crontab accepted an entry" if "made" in said else None
