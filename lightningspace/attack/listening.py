"""Attacks on what listens on the server: neighbours' PHP, the panel, caches, the mail server."""

from lightningspace.attack.field import Field


def php_sockets(field: Field) -> str | None:
    user, script = f"web{field.bobby.number}", f"{field.bobby.root}/web/who.php"
    # ISPConfig numbers its ports from 9010.
    ports = [f"tcp://127.0.0.1:{port}" for port in (9000, 9009 + field.bobby.number)]
    for address in [f"unix://{socket}" for socket in field.sockets()] + ports:
        text = field.ask("fastcgi", address=address, script=script).get("text") or ""
        if user in text:
            return f"{address} ran it as {user}"
    return None


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


def port_25(field: Field) -> str | None:
    to = f"info@{field.bobby.name}"
    for host in ("127.0.0.1", field.annie.host):
        said = field.ask("smtp", host=host, port=25, to=to, **{"from": "anybody@example.org"})
        if said.get("accepted"):
            return f"{host}: {said.get('text', '')[:60]}"
    group = _reached_by_group(field, 25)
    return f"127.0.0.1, as the group {group}" if group else None


def _reached_by_group(field: Field, port: int) -> str | None:
    """A supplementary group of annie's that gets through: firewalls may filter by group."""
    for group in field.run("id -Gn").split()[1:]:
        connect = f"timeout 3 bash -c 'exec 3<>/dev/tcp/127.0.0.1/{port}' && echo reached"
        if "reached" in field.run(f'sg {group} -c "{connect}"'):
            return group
    return None
