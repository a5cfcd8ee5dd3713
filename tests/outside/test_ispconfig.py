"""The panel's client: its exact calls, its one session, and its errors."""

import re
import threading
import time
from functools import partial

import pytest

from lightningspace.outside import ispconfig as panel_module
from lightningspace.outside import ispconfig_records
from lightningspace.outside.ispconfig import Panel, PanelError, PanelRefused
from tests import contract
from tests.conftest import PANEL_PASSWORD, SOON_SECONDS, eventually


@pytest.fixture
def ispconfig(panel):
    return Panel(panel.url, "shop", PANEL_PASSWORD)


def logins(panel) -> int:
    return [method for method, _ in panel.calls].count("login")


def test_missing_records_are_none(ispconfig):
    assert ispconfig.find_clients("ls_nobody") == []
    assert ispconfig.group_id(7) is None
    for kind in ispconfig_records.KINDS:
        assert ispconfig.find(kind, "nobody.shop.test") == []
        assert ispconfig.get(kind, 7) is None


def test_a_new_client_is_found_and_cannot_log_in_at_the_panel(ispconfig):
    client_id = ispconfig.add_client("ls_1", "info@alice.shop.test")
    assert ispconfig.find_clients("ls_1") == [{"id": client_id, "is_closed": False}]
    ispconfig.close_client_login(client_id)
    assert ispconfig.find_clients("ls_1") == [{"id": client_id, "is_closed": True}]


def test_the_real_panel_shows_records_as_they_were_sent(subtests):
    for file, case, fields, different in [
        (
            "sites_web_domain_get",
            "with the walls between customers",
            ispconfig_records.site_fields(1, 2, 2, "bella.shop.test", 70, True),
            # An add ignores the first; the others were not yet sent when this was recorded.
            ["allow_override", "apache_directives", "custom_php_ini", "php_open_basedir"],
        ),
        (
            "sites_shell_user_get",
            "jailkit",
            ispconfig_records.shell_fields(1, 2, 2, "ls_bella", ""),
            [],
        ),
        (
            "mail_user_get",
            "no sending",
            ispconfig_records.mailbox_fields(1, "info@bella.shop.test", 20, True, False),
            [],
        ),
        (
            "mail_forward_get",
            "by source",
            ispconfig_records.forward_fields(
                1, "sales@bella.shop.test", "someone@example.org", True
            ),
            [],
        ),
        (
            "sites_web_aliasdomain_get",
            "ok",
            ispconfig_records.alias_fields(1, 3, "alias2.example", True),
            ["ssl_letsencrypt_exclude"],  # not yet sent when this was recorded
        ),
        ("mail_domain_get", "ok", ispconfig_records.mail_domain_fields(1, "one.example", True), []),
        ("sites_database_user_get", "ok", ispconfig_records.database_user_fields(1, "c27user"), []),
    ]:
        with subtests.test(file=file, case=case, fields=fields, different=different):
            recorded = next(c for c in contract.load("ispconfig", file) if c["case"] == case)
            answer = recorded["response"]["response"]
            record = answer[0] if isinstance(answer, list) else answer
            assert ispconfig_records.differences(record, fields) == different


def test_one_session_serves_many_calls(ispconfig, panel):
    for _ in range(5):
        ispconfig.find_clients("ls_1")
    assert logins(panel) == 1


def test_many_threads_share_one_session(ispconfig, panel):
    threads = [threading.Thread(target=ispconfig.find_clients, args=("ls_1",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert logins(panel) == 1


def test_a_dead_session_is_renewed_once_and_the_call_repeated(ispconfig, panel, time_machine):
    ispconfig.find_clients("ls_1")
    time_machine.forward(1801)
    assert ispconfig.find_clients("ls_1") == []
    assert logins(panel) == 2


def test_ten_threads_with_a_dead_session_do_not_lock_us_out(
    ispconfig, panel, time_machine, monkeypatch
):
    ispconfig.find_clients("ls_1")
    time_machine.forward(1801)
    ispconfig._answered_at -= panel_module.PAUSE_SECONDS
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(ispconfig.find_clients("ls_1")))
        for _ in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [[]] * 12
    assert logins(panel) == 2


def test_a_lockout_is_waited_out_without_calls(ispconfig, panel):
    message = "The Session failure limit has been reached."
    panel.faults.set("refuse", "client_get", message=message, times=1)
    calls = 0
    for _ in range(3):
        with pytest.raises(PanelError, match="locked us out"):
            ispconfig.find_clients("ls_1")
        calls = calls or len(panel.calls)
    assert len(panel.calls) == calls


def test_a_refused_password_is_not_tried_again_within_the_minute(panel):
    wrong = Panel(panel.url, "shop", "wrong password")
    for text in ("refuses PANEL_USER's password", "last login failed"):
        with pytest.raises(PanelError, match=text):
            wrong.find_clients("ls_1")
    assert logins(panel) == 1


def test_a_missing_permission_is_permanent_and_names_the_function(ispconfig, panel):
    panel.forbidden = {"client_add"}
    with pytest.raises(PanelError, match="client_add") as error:
        ispconfig.add_client("ls_1", "info@alice.shop.test")
    assert error.value.permanent


def test_a_validation_fault_is_permanent_and_keeps_its_keys(ispconfig, panel):
    with pytest.raises(PanelError, match="email_error_isemail") as error:
        ispconfig.add_client("ls_1", "no address")
    assert error.value.permanent


def test_maintenance_is_a_passing_error(ispconfig, panel):
    panel.maintenance = True
    with pytest.raises(PanelError, match="under maintenance") as error:
        ispconfig.find_clients("ls_1")
    assert not error.value.permanent


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("HTTP 500", "HTTP 500"),
        ("HTTP 502", "HTTP 502"),
        ("garbage", "no JSON of ISPConfig"),
        ("INSERT INTO `client` VALUES ('$6$secret')", "ISPConfig's own log"),
    ],
)
def test_odd_answers_are_errors_with_our_own_text(ispconfig, panel, message, text):
    panel.faults.set("refuse", message=message)
    with pytest.raises(PanelError, match=text) as error:
        ispconfig.find_clients("ls_1")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("kind", ["cut-before", "cut-after"])
def test_a_cut_connection_is_a_passing_error(ispconfig, panel, kind):
    panel.faults.set(kind, "client_delete_everything", times=1)
    with pytest.raises(PanelError, match="the connection was cut") as error:
        ispconfig.delete_client(1)
    assert not error.value.permanent
    ispconfig.delete_client(1)


@pytest.mark.parametrize("kind", ["cut-before", "cut-after"])
def test_a_reading_call_is_repeated_once_after_a_cut_connection(ispconfig, panel, kind):
    for method, ask in (
        ("client_get", lambda: ispconfig.find_clients("ls_1")),
        ("client_get_by_username", lambda: ispconfig.find_login("ls_1")),
        ("client_get_groupid", lambda: ispconfig.group_id(1)),
        ("sites_web_domain_get", lambda: ispconfig.find("site", "alice.shop.test")),
        ("mailquota_get_by_user", lambda: ispconfig.used("mailbox", 1)),
        ("monitor_jobqueue_count", lambda: ispconfig.jobs_waiting(1)),
        ("server_get_php_versions", lambda: ispconfig.php_versions(1)),
    ):
        panel.faults.set(kind, method, times=1)
        ask()
        panel.faults.set(kind, method, times=2)
        with pytest.raises(PanelError, match=f"did not answer {method}: the connection was cut"):
            ask()
        assert [called for called, _ in panel.calls].count(method) == 4


@pytest.mark.parametrize("kept_hang", [False, True])
def test_restarts_of_the_web_server_cut_no_reading_call(ispconfig, panel, kept_hang, monkeypatch):
    """A restarted server cuts kept connections at their next use, or lets them hang."""
    monkeypatch.setattr(panel_module, "CALL_SECONDS", 5)
    panel.restarts, panel.kept_hang, panel.queue_seconds = True, kept_hang, 0
    client = ispconfig.add_client("ls_1", "info@alice.shop.test")
    fields = ispconfig_records.site_fields(1, client, None, "alice.shop.test", 10, True)
    site = ispconfig.add("site", client, fields)
    for quota in range(11, 16):
        changed = partial(ispconfig.update, "site", site, fields | {"hd_quota": quota})
        eventually(partial(_is_answered, changed, "refused|cut"))
        eventually(partial(_is_answered, partial(ispconfig.jobs_waiting, 1), "refused"))


def _is_answered(call, unless: str) -> bool:
    """Whether the call succeeded; while the server restarts, its error matches `unless`."""
    try:
        call()
    except PanelError as error:
        assert re.search(unless, str(error))
        return False
    return True


def test_a_panel_that_is_down_is_reported_and_used_again_when_up(ispconfig, panel):
    panel.down()
    with pytest.raises(PanelError, match="connection refused"):
        ispconfig.find_clients("ls_1")
    panel.up()
    assert ispconfig.find_clients("ls_1") == []


def test_an_unknown_host_is_reported():
    with pytest.raises(PanelError, match="its name is not found"):
        Panel("http://panel.invalid/remote/json.php", "shop", "secret 1").find_clients("ls_1")


def test_plain_http_where_tls_is_expected_is_reported(panel):
    url = panel.url.replace("http://", "https://")
    with pytest.raises(PanelError, match="certificate is not accepted|connection was cut"):
        Panel(url, "shop", "secret 1").find_clients("ls_1")


@pytest.mark.parametrize("weather", [("frozen", ""), ("refuse", "dribble")])
def test_a_call_ends_after_its_time_limit(panel, weather):
    ispconfig = Panel(panel.url, "shop", PANEL_PASSWORD, seconds=0.5)
    ispconfig.find_clients("ls_1")
    panel.faults.set(weather[0], "client_get", message=weather[1])
    started = time.monotonic()
    with pytest.raises(PanelError, match="it took too long"):
        ispconfig.find_clients("ls_1")
    assert time.monotonic() - started < SOON_SECONDS
    panel.faults.clear()
    assert ispconfig.find_clients("ls_1") == []


def test_empty_names_and_passwords_never_reach_the_panel(ispconfig, panel):
    with pytest.raises(ValueError, match="empty"):
        ispconfig.add("ftp", 1, ispconfig_records.ftp_fields(1, 1, 1, "", True), "correct horse")
    with pytest.raises(ValueError, match="empty"):
        ispconfig.add("ftp", 1, ispconfig_records.ftp_fields(1, 1, 1, "ls_alice", True))
    with pytest.raises(ValueError, match="empty"):
        ispconfig.update("ftp", 1, ispconfig_records.ftp_fields(1, 1, 1, "ls_alice", True), "")
    assert panel.calls == []


def test_a_proxy_of_the_machine_is_not_used(ispconfig, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert ispconfig.find_clients("ls_1") == []


SQL = (
    "Duplicate entry '7' for key 'domain_id' UPDATE web_domain SET parent_domain_id = 7 <br>"
    " sys_groupid <br /> WHERE domain_id = '$6$rounds=5000$hash'"
)


def test_sql_in_a_fault_is_not_shown_nor_taken_for_a_reason(ispconfig, panel):
    panel.faults.set("refuse", "client_get", message=SQL)
    with pytest.raises(PanelRefused) as refused:
        ispconfig.find_clients("ls_1")
    assert not refused.value.permanent
    assert str(refused.value) == "the panel refused client_get; ISPConfig's own log says why"


def test_every_reason_of_a_refusal_is_shown(ispconfig, panel):
    message = "domain_error_empty<br>\r\nquota_error<br />\r\n"
    panel.faults.set("refuse", "client_get", message=message)
    with pytest.raises(PanelRefused) as refused:
        ispconfig.find_clients("ls_1")
    assert refused.value.permanent
    assert str(refused.value) == "the panel refused client_get: domain_error_empty, quota_error"


def test_a_panel_that_demands_stronger_passwords_is_reported(ispconfig):
    fields = ispconfig_records.ftp_fields(1, 1, 1, "ls_alice", True)
    with pytest.raises(
        PanelRefused, match='stronger password than 8 characters and "Good"'
    ) as refused:
        ispconfig.add("ftp", 0, fields, "short")
    assert refused.value.permanent and "short" not in str(refused.value)


# -- what the panel knows ------------------------------------------------------------


def answers(panel, method, response) -> None:
    """Let the stand-in answer every call of this method like this."""
    panel._methods[method] = lambda params: response


def recorded_answer(method, case) -> list:
    recorded = [c for c in contract.load("ispconfig", method) if c["case"] == case]
    return recorded[0]["response"]["response"]


@pytest.mark.parametrize(
    ("kind", "method", "case", "used"),
    [
        ("site", "quota_get_by_user", "ok", {"one.example": None}),
        ("site", "quota_get_by_user", "fresh site", {"bella.shop.test": 157450240}),
        ("site", "quota_get_by_user", "unknown client", {}),
        ("database", "databasequota_get_by_user", "", {"longu": 0}),
        ("mailbox", "mailquota_get_by_user", "ok", {"info@one.example": 0}),
    ],
)
def test_space_in_use_is_read_from_the_real_panels_answer(
    ispconfig, panel, kind, method, case, used
):
    answers(panel, method, recorded_answer(method, case))
    assert ispconfig.used(kind, 1) == used


@pytest.mark.parametrize(
    ("used", "bytes_used"),
    [(None, None), (0, 0), ("7", 7), (12.5, 12), ("-3", 0), (-3, 0), (10**15 - 1, 10**15 - 1)],
)
def test_space_in_use_is_never_negative(ispconfig, panel, used, bytes_used):
    answers(panel, "mailquota_get_by_user", [{"email": "info@one.example", "used_raw": used}])
    assert ispconfig.used("mailbox", 1) == {"info@one.example": bytes_used}


def test_space_without_a_figure_is_unknown(ispconfig, panel):
    answers(panel, "mailquota_get_by_user", [{"email": "info@one.example"}])
    assert ispconfig.used("mailbox", 1) == {"info@one.example": None}


@pytest.mark.parametrize("used", ["", "12 MB", True, [7], {"1": 7}, 10**15, 1e30, float("nan")])
def test_a_malformed_figure_is_a_fault(ispconfig, panel, used):
    answers(panel, "mailquota_get_by_user", [{"email": "info@one.example", "used_raw": used}])
    with pytest.raises(PanelError, match="otherwise than known"):
        ispconfig.used("mailbox", 1)


@pytest.mark.parametrize(
    "answer", [{"0": {}}, "text", 7, True, [None], ["text"], [[]], [{}], [{"email": []}]]
)
def test_an_unknown_answer_about_space_is_a_fault(ispconfig, panel, answer):
    answers(panel, "mailquota_get_by_user", answer)
    with pytest.raises(PanelError):
        ispconfig.used("mailbox", 1)


def test_php_versions_have_the_ids_that_sites_name(ispconfig, panel, caplog):
    assert ispconfig.php_versions(1) == []
    panel.php_versions = [(3, "PHP 8.3"), (4, "PHP 8.4")]
    assert ispconfig.php_versions(1) == [(3, "PHP 8.3"), (4, "PHP 8.4")]
    assert caplog.text == ""


@pytest.mark.parametrize(
    "answer",
    [
        ["PHP 8.3:php8.3-fpm:/etc/php/8.3/fpm:/etc/php/8.3/fpm/pool.d"],  # without get_full_data
        {"3": "PHP 8.3"},
        "PHP 8.3",
        True,
        7,
        [None, [], 7],
        [{"server_php_id": "3"}],
        [{"server_php_id": "3", "name": " "}],
        [{"server_php_id": "0", "name": "PHP 8.3"}],
        [{"server_php_id": None, "name": "PHP 8.3"}],
        [{"server_php_id": "3 OR 1", "name": "PHP 8.3"}],
    ],
)
def test_php_versions_without_an_id_are_not_offered(ispconfig, panel, caplog, answer):
    answers(panel, "server_get_php_versions", answer)
    assert ispconfig.php_versions(1) == []
    assert "versions that cannot be chosen" in caplog.text


def test_a_php_version_that_is_switched_off_is_not_offered(ispconfig, panel):
    answers(
        panel,
        "server_get_php_versions",
        [
            {"server_php_id": "3", "name": "PHP 7.4", "active": "n"},
            {"server_php_id": 4, "name": "PHP 8.4", "active": "y"},
        ],
    )
    assert ispconfig.php_versions(1) == [(4, "PHP 8.4")]
