"""ISPConfig: whether it lets us do what hostings need, and keeps them apart."""

import secrets
from collections import defaultdict
from collections.abc import Iterator
from urllib.parse import urlsplit

from lightningspace.base import walls
from lightningspace.operator.doctor.dates import ends_soon, of_answer, wrong_time
from lightningspace.operator.doctor.patient import Patient
from lightningspace.outside.ispconfig import Forbidden, PanelError
from lightningspace.outside.ispconfig_functions import InspectedPanel, harmless_calls

CALL_SECONDS = 10
ISPCONFIG = "“System → Remote Users” in ISPConfig"


def lets_us_in(patient: Patient) -> Iterator[str]:
    """Logs in once: after ten failures the panel would lock the shop out."""
    config = patient.config
    patient.panel = InspectedPanel(
        config.panel_url,
        config.panel_user,
        config.panel_password,
        config.panel_verify_tls,
        CALL_SECONDS,
    )
    try:
        patient.panel.log_in()
    except PanelError as error:
        yield (
            f"{error}: see whether {config.panel_url} opens from this machine, and whether "
            f"PANEL_USER and its password are those of {ISPCONFIG}"
        )


def functions(patient: Patient) -> Iterator[str]:
    missing = defaultdict(list)
    for method, (group, arguments) in harmless_calls().items():
        if not patient.panel.may_call(method, arguments):
            missing[group].append(method)
    for group, methods in missing.items():
        yield (
            f"the remote user may not call {', '.join(methods)}: tick “{group}” of "
            f"{patient.config.panel_user} under {ISPCONFIG}; then `deploy/flask retry <name>` "
            "for each hosting that `problems` names"
        )


def servers(patient: Patient) -> Iterator[str]:
    """Skipped where the remote user has no "Server functions", which are optional."""
    for server_id in patient.config.panel_server_id:
        try:
            settings = patient.panel.web_settings(server_id)
        except Forbidden:
            return
        except PanelError as error:
            yield (
                f"server {server_id}: {error}: see whether “System → Server config” shows a server "
                "of that id, as PANEL_SERVER_ID says"
            )
            continue
        for fault in walls.faults_of_server(patient.config.walls, settings):
            yield f"server {server_id}: {fault}, under “System → Server config → Web”"


def makes_clients(patient: Patient) -> Iterator[str]:
    """With --write alone: makes a client, finds it, closes its login, and deletes it again."""
    if not patient.writes:
        return
    panel, name = patient.panel, f"{patient.config.panel_prefix}doctor{secrets.token_hex(4)}"
    id = panel.add_client(name, f"nobody@{patient.config.base_domain}")
    try:
        if panel.find_login(name) is None:
            yield f"a new client, {name}, has no login: ISPConfig's own log says why"
        panel.close_client_login(id)
    finally:
        panel.delete_client(id)
    if panel.find_clients(name):
        yield f"the client {name} was not removed: delete it by hand, under “Client” in ISPConfig"


def certificate(patient: Patient) -> Iterator[str]:
    url = urlsplit(patient.config.panel_url)
    if url.scheme != "https":
        return
    yield from ends_soon(
        f"ISPConfig's certificate at {url.hostname}",
        "`ispconfig_update.sh` makes a new one",
        url.hostname,
        url.port or 443,
        patient.config.panel_verify_tls,
    )


def has_our_time(patient: Patient) -> Iterator[str]:
    moment = of_answer(patient.config.panel_url, patient.config.panel_verify_tls)
    if moment is not None:
        yield from wrong_time("the panel's", moment)


CHECKS = {
    "panel": lets_us_in,
    "panel functions": functions,
    "panel servers": servers,
    "panel clients": makes_clients,
    "panel certificate": certificate,
    "panel clock": has_our_time,
}
