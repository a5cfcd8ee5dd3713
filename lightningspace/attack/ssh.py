"""Attacks over SSH."""

from lightningspace.attack.field import Field, NotTried


def jail(field: Field) -> str | None:
    _need_a_shell(field)
    paths = " ".join(map(field.path, field.secrets))
    return field.found(field.ssh(f"cat {paths}").stdout, "cat over SSH")


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
        # ssh prints nothing if there is no jail: Jailkit refuses directories that are not root's.
        guess = "it ends at once; does root own the client's directory?"
        raise NotTried(f"no shell by SSH: {there.stderr.strip()[:100] or guess}")
