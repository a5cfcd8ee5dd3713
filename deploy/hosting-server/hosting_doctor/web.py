"""Checks of the web server and PHP."""

import http.client
import re
import ssl

from hosting_doctor.server import Server

APACHE_LEAST = (2, 4, 69)
# A name that no site ever has.
NOBODY = "nobody.invalid"
CLOSED = 503
# The AllowOverride that the shop sends, and those that allow less.
OVERRIDES = {
    "narrow": {"Nonfatal=All", "None"},
    "mpm_itk": {"All Nonfatal=All", "Nonfatal=All", "None"},
}
RUNS = {
    "narrow": "Apache without mpm_itk",
    "mpm_itk": "Apache with mpm_itk",
    "nginx": "nginx",
}
NAMES_MAX = 5
SECONDS = 10


def few(names: list[str]) -> str:
    left = len(names) - NAMES_MAX
    return ", ".join(names[:NAMES_MAX]) + (f" and {left} more" if left > 0 else "")


def walls(server: Server) -> str | None:
    found, wanted = server.found_walls, server.walls
    if found != wanted and (wanted, found) != ("narrow", "mpm_itk"):
        return f"the shop's WALLS is {wanted}, but {RUNS[found]} runs here"
    panel = server.read("/etc/apache2/sites-available/ispconfig.vhost") or ""
    if found == "mpm_itk" and "<IfModule mpm_itk_module>" in panel:
        return (
            "the panel's own site mistakes mpm_itk for mod_php, and Apache would not start again: "
            "rename that IfModule in ispconfig.vhost (docs/hosting-server.md has the command)"
        )
    return None


def apache_version(server: Server) -> str | None:
    version = re.search(r"Apache/([\d.]+)", server.said("apache2ctl", "-v"))
    numbers = tuple(map(int, version[1].split("."))) if version else ()
    if numbers < APACHE_LEAST:
        least = ".".join(map(str, APACHE_LEAST))
        return f"a .htaccess can read any file that Apache can: apt upgrade, to {least} or newer"
    return None


def overrides(server: Server) -> str | None:
    good = OVERRIDES[server.walls]
    said = {
        name: re.findall(r"^\s*AllowOverride[ \t]+(.*\S)", text, re.M)
        for name, text in server.sites()
    }
    bad = [name for name, values in said.items() if values and values[-1] not in good]
    if bad:
        return (
            f".htaccess may do more than WALLS={server.walls} allows: {few(bad)}; "
            "at the shop, `flask retry --check` corrects what was changed by hand"
        )
    return None


def php_sockets(server: Server) -> str | None:
    bad = []
    for version in server.php_versions:
        for name, text in server.files(f"/etc/php/{version}/fpm/pool.d", "*.conf"):
            bad += [
                name for at in re.findall(r"^\s*listen\s*=\s*(\S+)", text, re.M) if at[0] != "/"
            ]
    if bad:
        return (
            "the PHP of these listens on a port, where every customer can run code as them: "
            f"{few(bad)}; at the shop, `flask retry --check` moves it to a socket"
        )
    return None


def unknown_names(server: Server) -> str | None:
    wrong = []
    for address in server.addresses:
        for scheme in ("http", "https"):
            answer = _ask(scheme, address)
            if answer not in (CLOSED, None):
                wrong.append(f"{scheme} at {address}: {answer}")
    return f"an unknown name gets something other than {CLOSED}: {few(wrong)}" if wrong else None


def _ask(scheme: str, address: str) -> int | str | None:
    """The HTTP status for an unknown name, None if TLS refuses it, or the text of another error."""
    unverified = ssl.create_default_context()
    unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
    try:
        if scheme == "https":
            asking: http.client.HTTPConnection = _Https(NOBODY, address, unverified)
        else:
            asking = http.client.HTTPConnection(address, 80, timeout=SECONDS)
        asking.request("GET", "/", headers={"Host": NOBODY, "Connection": "close"})
        return asking.getresponse().status
    except ssl.SSLError as error:
        return None if "UNRECOGNIZED_NAME" in (error.reason or "") else str(error)
    except (OSError, http.client.HTTPException) as error:
        return str(error)


class _Https(http.client.HTTPSConnection):
    """Connects to an address, and asks for another name there."""

    def __init__(self, name: str, address: str, context: ssl.SSLContext):
        super().__init__(name, 443, timeout=SECONDS, context=context)
        self._address = address

    def connect(self) -> None:
        self.host, name = self._address, self.host
        http.client.HTTPConnection.connect(self)
        self.sock = self._context.wrap_socket(self.sock, server_hostname=name)
