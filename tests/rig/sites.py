"""A site on the server, as its record at the panel wants it."""

import itertools
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import jinja2

from tests.rig.box import Box, Node, directory, file, link

# The first numbers for customers on a new Debian with ISPConfig.
FIRST_UID, FIRST_GID = 5003, 5004
# Each box has its own users: the kernel counts a user's processes in all boxes together.
USERS_IN_BOX = 200
PHP_FIRST_PORT = 9010
SITE_LOGS = "/var/log/ispconfig/httpd"

_templates = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    keep_trailing_newline=True,
)


def template(name: str, **values: object) -> str:
    return _templates.get_template(name).render(**values)


def _names(record: dict) -> list[str]:
    www = [f"www.{record['domain']}"] if record["subdomain"] == "www" else []
    return [record["domain"], *www]


def uid_of(box: Box, user: str) -> int:
    return FIRST_UID + box.number * USERS_IN_BOX + int(user.removeprefix("web")) - 1


def gid_of(box: Box, group: str) -> int:
    return FIRST_GID + box.number * USERS_IN_BOX + int(group.removeprefix("client")) - 1


@dataclass
class Site:
    """`record`: the panel's. `extra_domains`: the records of its alias domains."""

    box: Box
    record: dict
    extra_domains: list[dict]
    php_sockets: str

    @property
    def key(self) -> str:
        """What identifies the site: with another key it is another site."""
        return f"{self.root} {self.domain}"

    @property
    def domain(self) -> str:
        return self.record["domain"]

    @property
    def user(self) -> str:
        return self.record["system_user"]

    @property
    def group(self) -> str:
        return self.record["system_group"]

    @property
    def uid(self) -> int:
        return uid_of(self.box, self.user)

    @property
    def gid(self) -> int:
        return gid_of(self.box, self.group)

    @property
    def root(self) -> str:
        return self.record["document_root"]

    @property
    def client_root(self) -> str:
        return f"/var/www/clients/{self.group}"

    @property
    def real_web(self) -> str:
        return f"{self.root}/web"

    @property
    def linked_web(self) -> str:
        return f"/var/www/{self.domain}/web"

    @property
    def log(self) -> str:
        return f"{SITE_LOGS}/{self.domain}"

    @property
    def is_on(self) -> bool:
        return self.record["active"] == "y"

    @property
    def has_php(self) -> bool:
        return self.record["php"] == "php-fpm"

    @property
    def own_names(self) -> list[str]:
        return _names(self.record)

    @property
    def names(self) -> list[str]:
        extra = (_names(record) for record in self.extra_domains if record["active"] == "y")
        return [*self.own_names, *itertools.chain.from_iterable(extra)]

    @property
    def allow_override(self) -> str:
        return self.record["allow_override"] or "All"

    @property
    def follow_links(self) -> str:
        anybodys = self.record["disable_symlinknotowner"] == "y"
        return "FollowSymLinks" if anybodys else "SymLinksIfOwnerMatch"

    @property
    def apache_directives(self) -> str:
        text = (self.record["apache_directives"] or "").replace("\r\n", "\n").replace("\r", "\n")
        text = text.replace("{DOCROOT}", self.linked_web).replace("{DOMAIN}", self.domain)
        return text.replace("{DOCROOT_CLIENT}", self.real_web)

    @property
    def nginx_directives(self) -> str:
        return self.record["nginx_directives"] or ""

    @property
    def redirect_type(self) -> str:
        return self.record["redirect_type"]

    @property
    def redirect_path(self) -> str:
        """Where all requests are redirected, or ""."""
        path = self.record["redirect_path"] if self.redirect_type else ""
        is_url = path.startswith(("http://", "https://"))
        return path if not path or is_url or path.endswith("/") else f"{path}/"

    @property
    def php_socket(self) -> str:
        is_used = self.record["php_fpm_use_socket"] == "y"
        return f"{self.php_sockets}/{self.user}.sock" if is_used else ""

    @property
    def php_port(self) -> int:
        return PHP_FIRST_PORT + int(self.record["domain_id"]) - 1

    @property
    def fastcgi_backend(self) -> str:
        """The PHP backend, for Apache."""
        if self.php_socket:
            return f"unix:{self.php_socket}|fcgi://localhost"
        return f"fcgi://127.0.0.1:{self.php_port}"

    @property
    def fastcgi_pass(self) -> str:
        """The PHP backend, for nginx."""
        return f"unix:{self.php_socket}" if self.php_socket else f"127.0.0.1:{self.php_port}"

    @cached_property
    def php_ini(self) -> dict[str, str]:
        text = (self.record["custom_php_ini"] or "").replace("{WEBROOT}", self.real_web)
        lines = (line.strip() for line in text.splitlines())
        said = (line.partition("=") for line in lines if not line.startswith((";", "#", "//")))
        pairs = {name.strip(): value.strip() for name, _, value in said}
        return {name: value for name, value in pairs.items() if value}

    def pool(self) -> str:
        return template("pool.conf", site=self, record=self.record)

    def lay_out(self) -> None:
        """Make a new site's directories and first files."""
        root, web, uid, gid = self.root, self.real_web, self.uid, self.gid
        own = {"uid": uid, "gid": gid}
        nodes: dict[str, Node] = {
            root: directory(),
            web: directory(0o711, **own),
            f"{root}/private": directory(0o710, **own),
            f"{root}/tmp": directory(0o770, **own),
            f"{root}/cgi-bin": directory(**own),
            f"{root}/webdav": directory(0o710, **own),
            f"{root}/ssl": directory(),
            f"{root}/.ssh": directory(0o700, **own),
            f"{root}/log": directory(),
            self.log: directory(0o755, gid=gid),
            f"{self.log}/error.log": file(""),
            f"{web}/standard_index.html": file(f"<h1>Welcome to {self.domain}</h1>\n", **own),
            f"{web}/favicon.ico": file(b"\0", **own),
            f"{web}/robots.txt": file("User-agent: *\n", **own),
            f"/var/www/{self.domain}": link(root),
            f"{self.client_root}/{self.domain}": link(root),
        }
        self.box.write(
            nodes,
            before=f"test -d {self.client_root} || mkdir -p -m 755 {self.client_root}",
            after=f"mount --bind {self.log} {root}/log",
        )

    def clear_away(self) -> None:
        links = f"/var/www/{self.domain} {self.client_root}/{self.domain}"
        self.box.shell(
            f"pkill -KILL -u {self.uid} || true; umount -l {self.root}/log;"
            f" rm -rf -- {self.root} {self.log} {links}"
        )
