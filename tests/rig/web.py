"""The web servers and PHP of a box: how each is set up, started and reloaded."""

from pathlib import Path

from tests.rig.box import Box, Node, file, link
from tests.rig.sites import Site, template
from tests.rig.waiting import UNTIL_SO

# Those that ISPConfig's installer enables, but for suexec, which PHP-FPM does not need.
APACHE_MODULES = """
    access_compat actions alias auth_basic auth_digest authn_core authn_file authz_core authz_host
    authz_user autoindex cgi dav dav_fs deflate dir env filter headers include mime negotiation
    proxy proxy_fcgi reqtimeout rewrite setenvif socache_shmcb ssl status
""".split()
APACHE_CONFIGURATIONS = ["charset", "localized-error-pages", "security"]
# Enough processes for tests, and quick to start.
APACHE_FEW = """
StartServers 1
<IfModule mpm_prefork_module>
    MinSpareServers 1
    MaxSpareServers 4
</IfModule>
<IfModule mpm_event_module>
    ThreadsPerChild 16
    MinSpareThreads 1
    MaxSpareThreads 32
    MaxRequestWorkers 32
</IfModule>
"""


def _sites_available(sites: list[Site], name: str) -> dict[str, Node]:
    """The configuration of the sites, and a link for each that is on."""
    nodes = {}
    for site in sites:
        nodes[f"sites-available/{site.domain}.vhost"] = file(template(name, site=site))
        if site.is_on:
            enabled = f"sites-enabled/100-{site.domain}.vhost"
            nodes[enabled] = link(f"../sites-available/{site.domain}.vhost")
    return nodes


RELOAD = (Path(__file__).parent / "reload.pl").read_text(encoding="utf-8")


def _reload(
    box: Box, pid_file: str, signal: str, log: str, says: str = "", has_children: bool = True
) -> None:
    """Run reload.pl: waiting in a shell script would take longer than the reload."""
    box.run("perl", "-e", RELOAD, pid_file, signal, "1" if has_children else "", log, says)


APACHE_START = f"""{UNTIL_SO}
. /etc/apache2/envvars
# What is linked without being there: not every module has a configuration.
find /etc/apache2/mods-enabled -xtype l -delete
: > $APACHE_LOG_DIR/error.log
apache2 -k start
until_so [ -s $APACHE_PID_FILE ]
until_so pgrep -P $(cat $APACHE_PID_FILE) >/dev/null
"""


class Apache:
    """Apache. `is_itk`: with mpm_itk, which serves each site with its customer's rights."""

    packages = {"/usr/sbin/apache2": "apache2"}
    ports = (80, 443)

    def __init__(self, box: Box, is_itk: bool):
        self._box = box
        if is_itk:
            itk = {"/usr/lib/apache2/modules/mpm_itk.so": "libapache2-mpm-itk"}
            self.packages = self.packages | itk
        self._modules = ["mpm_prefork", "mpm_itk"] if is_itk else ["mpm_event"]
        self._modules += APACHE_MODULES

    def files(self, sites: list[Site]) -> dict[str, Node]:
        nodes = {
            "conf-enabled/few.conf": file(APACHE_FEW),
            "sites-enabled/000-default.conf": link("../sites-available/000-default.conf"),
            "sites-enabled/000-ispconfig.conf": file(template("ispconfig.conf")),
        }
        for name in APACHE_CONFIGURATIONS:
            nodes[f"conf-enabled/{name}.conf"] = link(f"../conf-available/{name}.conf")
        for name in self._modules:
            for end in ("load", "conf"):
                nodes[f"mods-enabled/{name}.{end}"] = link(f"../mods-available/{name}.{end}")
        nodes |= _sites_available(sites, "site.vhost")
        return {f"/etc/apache2/{path}": node for path, node in nodes.items()}

    def prepare(self) -> None:
        """Remove this machine's own configuration of Apache."""
        self._box.shell(
            "rm -rf /etc/apache2/*-enabled && cd /etc/apache2 &&"
            " mkdir mods-enabled conf-enabled sites-enabled"
            # ISPConfig's files have another ending than Debian's.
            " && sed -i 's,sites-enabled/[*].conf,sites-enabled/,' apache2.conf"
            " && mkdir -p /run/apache2 /run/lock/apache2 /var/log/apache2"
        )

    def start(self) -> None:
        self._box.shell(APACHE_START)

    def is_concerned(self, path: str) -> bool:
        return path.startswith("/etc/apache2/") or path == "/etc/group"

    def reload(self) -> None:
        log = "/var/log/apache2/error.log"
        _reload(self._box, "/run/apache2/apache2.pid", "USR1", log, "resuming normal")


class Nginx:
    packages = {"/usr/sbin/nginx": "nginx-light"}
    ports = (80,)

    def __init__(self, box: Box):
        self._box = box

    def files(self, sites: list[Site]) -> dict[str, Node]:
        nodes = {"sites-enabled/default": link("../sites-available/default")}
        nodes |= _sites_available(sites, "site.nginx")
        return {f"/etc/nginx/{path}": node for path, node in nodes.items()}

    def prepare(self) -> None:
        self._box.shell("rm -rf /etc/nginx/sites-enabled/* && mkdir -p /var/log/nginx")

    def start(self) -> None:
        self._box.shell("nginx")

    def is_concerned(self, path: str) -> bool:
        return path.startswith("/etc/nginx/") or path == "/etc/group"

    def reload(self) -> None:
        self._box.run("nginx", "-t", "-q")
        _reload(self._box, "/run/nginx.pid", "HUP", "/var/log/nginx/error.log")


# Debian's own pool, without spare processes.
PHP_OWN_POOL = """[www]
user = www-data
group = www-data
listen = /run/php/php{version}-fpm.sock
listen.owner = www-data
listen.group = www-data
pm = ondemand
pm.max_children = 2
"""


def php_version() -> str:
    """The version of Debian's PHP, or ""."""
    found = sorted(Path("/usr/sbin").glob("php-fpm[0-9]*"))
    return found[-1].name.removeprefix("php-fpm") if found else ""


class Php:
    packages = {f"/usr/sbin/php-fpm{php_version()}": "php-fpm"}
    ports = ()

    def __init__(self, box: Box, limits: dict[str, str]):
        """`limits`: the resource limits it runs with, by prlimit's names."""
        self._box = box
        self._limits = limits
        self._version = version = php_version()
        self._log = f"/var/log/php{version}-fpm.log"
        self._pools = f"/etc/php/{version}/fpm/pool.d"
        self.sockets = f"/var/lib/php{version}-fpm"

    def files(self, sites: list[Site]) -> dict[str, Node]:
        own = PHP_OWN_POOL.replace("{version}", self._version)
        pools = {"www": own} | {site.user: site.pool() for site in sites if site.has_php}
        return {f"{self._pools}/{name}.conf": file(text) for name, text in pools.items()}

    def prepare(self) -> None:
        self._box.shell(f"rm -f {self._pools}/*; mkdir -p {self.sockets} /run/php; : > {self._log}")

    def start(self) -> None:
        limits = " ".join(f"--{name}={value}" for name, value in self._limits.items())
        daemon = f"{limits and 'prlimit'} {limits} php-fpm{self._version} --daemonize"
        self._box.shell(f"{daemon} 2>/dev/null || {{ tail {self._log} >&2; exit 1; }}")

    def is_concerned(self, path: str) -> bool:
        return path.startswith(self._pools)

    def reload(self) -> None:
        pid_file = f"/run/php/php{self._version}-fpm.pid"
        _reload(self._box, pid_file, "USR2", self._log, "ready to handle", has_children=False)
