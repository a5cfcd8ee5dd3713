"""An FTP session over real sockets does its work, and no server can hold it up."""

import ftplib
import io
import os
import socket
import threading
import time
from contextlib import contextmanager

import pytest

from lightningspace.outside import ftp
from lightningspace.outside.ftp import (
    FtpError,
    FtpRefused,
    FtpServer,
    FtpServers,
    LoginRefused,
    NoSpace,
    NotNow,
    Unreachable,
)
from lightningspace.sandbox.certificate import self_signed
from lightningspace.sandbox.ftp import SandboxFtp
from lightningspace.sandbox.panel import MadeSite
from tests.conftest import SOON_SECONDS

SITE = "/var/www/clients/client1/web1"
USER, PASSWORD = "hosttip_alice", "a password that is long"


class OneSite:
    """A stand-in for the panel: what the FTP server asks it."""

    directory = f"{SITE}/web"

    def ftp_directory(self, username, password):
        return self.directory if (username, password) == (USER, PASSWORD) else None

    def made_sites(self):
        return [MadeSite("alice.shop.test", SITE, is_served=True, has_jail=False)]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return self_signed(tmp_path_factory.mktemp("tls") / "ftp.pem")


@contextmanager
def serving(root, certificate, panel=None, **options):
    stand_in = SandboxFtp(root, panel or OneSite(), certificate, **options)
    stand_in.start()
    try:
        yield stand_in
    finally:
        stand_in.stop()


@pytest.fixture
def server(tmp_path, certificate):
    with serving(tmp_path / "www", certificate) as stand_in:
        stand_in.lay_out()
        yield stand_in


@pytest.fixture
def pages(server):
    """The directory of the site's pages."""
    return server.root / "clients/client1/web1/web"


@pytest.fixture
def client(server, certificate):
    return FtpServer(server.host, server.port, verify_tls=str(certificate), seconds=10)


def test_files_are_stored_read_renamed_and_deleted(client, pages):
    with client.session(USER, PASSWORD) as session:
        session.store("a.txt", b"alice\r\n\xff" * 1000)
        session.rename("a.txt", "b.txt")
        assert session.read("b.txt") == b"alice\r\n\xff" * 1000
        session.store("c.txt", b"")
        session.delete("c.txt")
        names = session.names()

    assert sorted(names) == ["b.txt", "favicon.ico", "robots.txt", "standard_index.html"]
    assert sorted(os.listdir(pages)) == sorted(names)


def test_tls_is_used_for_login_and_data(client, server):
    with client.session(USER, PASSWORD) as session:
        session.names()

    commands = [command for command, _ in server.commands]
    assert commands == ["AUTH", "USER", "PASS", "PBSZ", "PROT", "TYPE", "PASV", "NLST"]


def test_data_connections_go_on_with_the_session_of_the_control_connection(client):
    with client.session(USER, PASSWORD) as session:
        conn = session._connection().transfercmd("NLST")
        assert conn.session_reused
        conn.close()


def test_session_works_without_tls_too(tmp_path):
    with serving(tmp_path, None) as stand_in:
        client = FtpServer(stand_in.host, stand_in.port, is_tls=False)
        with client.session(USER, PASSWORD) as session:
            session.store("a.txt", b"alice")
            assert session.read("a.txt") == b"alice"


def test_ipv6_works(tmp_path, certificate):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("needs IPv6 on the loopback interface")
    with serving(tmp_path, certificate, host="::1") as stand_in:
        client = FtpServer("::1", stand_in.port, verify_tls=str(certificate))
        with client.session(USER, PASSWORD) as session:
            session.store("a.txt", b"alice")

    assert ("EPSV", "") in stand_in.commands


# -- what goes wrong ---------------------------------------------------------------------


def refused(client, user=USER, password=PASSWORD):
    with pytest.raises(FtpError) as caught, client.session(user, password):
        pass
    for secret in (USER, PASSWORD, user, password):
        assert secret not in str(caught.value)
    assert caught.value.__cause__ is None and caught.value.__suppress_context__
    return caught.value


@pytest.mark.parametrize("login", [(USER, "another password"), ("bob", PASSWORD)])
def test_unknown_login_is_an_error_of_its_own(client, login):
    error = refused(client, *login)

    assert isinstance(error, LoginRefused) and not error.permanent
    assert str(error) == "the FTP server answered 530 to our login"


def test_login_to_a_missing_directory_is_the_same_error(client, server):
    server.faults.set("refuse", "PASS", message="421 Home directory not available - aborting")

    assert isinstance(refused(client), LoginRefused)


def test_untrusted_certificate_is_not_accepted(server):
    error = refused(FtpServer(server.host, server.port))

    assert error.permanent and "FTP_VERIFY_TLS" in str(error)
    assert not any(command == "USER" for command, _ in server.commands)


def test_certificate_of_another_host_is_not_accepted(server, tmp_path):
    other = self_signed(tmp_path / "other.pem", name="ftp.example")
    error = refused(FtpServer("127.0.0.1", server.port, verify_tls=str(other)))

    assert error.permanent
    # The same certificate, at a name that it does not have.
    error = refused(FtpServer("127.0.0.3", server.port, verify_tls=str(other)))
    assert "refuses" in str(error)


def test_certificate_is_not_checked_if_told_so(server):
    with FtpServer(server.host, server.port, verify_tls=False).session(USER, PASSWORD) as session:
        assert session.names()


def test_server_without_a_certificate_is_an_error_that_says_so(tmp_path):
    with serving(tmp_path, None) as stand_in:
        error = refused(FtpServer(stand_in.host, stand_in.port))

    assert error.permanent
    assert "500 to AUTH TLS" in str(error) and "FTP_TLS=never" in str(error)
    assert not any(command == "USER" for command, _ in stand_in.commands)


def test_server_that_wants_tls_is_not_sent_a_password_in_the_clear(server):
    error = refused(FtpServer(server.host, server.port, is_tls=False))

    assert "FTP_TLS=always" in str(error)
    assert not any(command == "PASS" for command, _ in server.commands)


def test_server_that_is_down_is_an_error_that_says_so(client, server):
    server.down()

    assert str(refused(client)) == "the FTP server refuses the connection"


@pytest.mark.parametrize("answer", ["452 Error during write to file", "552 Disk full"])
def test_full_disk_is_an_error_of_its_own(client, server, answer):
    server.faults.set("refuse", "STOR", message=answer)

    with client.session(USER, PASSWORD) as session, pytest.raises(NoSpace):
        session.store("a.txt", b"alice")


def test_disk_that_fills_up_meanwhile_is_an_error_of_its_own(client, server):
    server.space_bytes = 100_000

    with client.session(USER, PASSWORD) as session, pytest.raises(NoSpace):
        session.store("a.txt", b"x" * 1_000_000)


def test_directory_stays_entered_after_a_file_that_hangs(client, pages):
    client.read_seconds = 0.2
    with client.session(USER, PASSWORD) as session:
        session.make_directory("inner")
        session.enter("inner")
        session.store(".htaccess", b"Options -Indexes")
        os.mkfifo(pages / "inner" / "pipe")
        assert session.read("pipe") is None
        assert session.names() and session.read(".htaccess") == b"Options -Indexes"
        session.leave()
        session.store("beside.txt", b"a page")
        assert session.read("standard_index.html")
    assert (pages / "beside.txt").exists()


def test_mode_of_a_file_can_be_set(client, pages):
    with client.session(USER, PASSWORD) as session:
        session.store("secret", b"x")
        for mode in (0o600, 0o640):
            session.set_mode("secret", mode)
            assert (pages / "secret").stat().st_mode & 0o777 == mode
        with pytest.raises(FtpRefused):
            session.set_mode("none", 0o600)


def test_server_that_sets_no_modes_is_a_permanent_error(client, server):
    server.faults.set("refuse", "SITE CHMOD", message="500 SITE CHMOD is an unknown extension")
    with client.session(USER, PASSWORD) as session, pytest.raises(FtpError) as refused:
        session.set_mode("web", 0o710)
    assert refused.value.permanent and "SITE CHMOD" in str(refused.value)


@pytest.mark.parametrize("call", ["rename", "delete"])
def test_missing_file_is_refused_and_the_session_goes_on(client, call):
    with client.session(USER, PASSWORD) as session:
        with pytest.raises(FtpRefused):
            getattr(session, call)("a.txt", *["b.txt"][: call == "rename"])
        assert session.names()


@pytest.mark.parametrize(
    "name", ["", "..", "../a", "a/b", ".", "a\r\nDELE b", "a b", "ä", "-/..", "a" * 101]
)
def test_odd_name_never_reaches_the_server(client, server, name):
    with client.session(USER, PASSWORD) as session:
        for call in (session.read, session.delete, lambda name: session.store(name, b"")):
            with pytest.raises(AssertionError):
                call(name)

    assert server.commands[-1] == ("TYPE", "I")


# -- what cannot be read -------------------------------------------------------------------


def test_only_files_of_limited_size_are_read(client, pages):
    (pages / "directory").mkdir()
    os.mkfifo(pages / "fifo")
    (pages / "outside").symlink_to("/etc/passwd")
    (pages / "broken").symlink_to("nowhere")
    (pages / "long").write_bytes(b"x" * (ftp.READ_MAX + 1))

    with client.session(USER, PASSWORD) as session:
        for name in ("directory", "fifo", "outside", "broken", "long", "missing"):
            assert session.read(name) is None
        assert session.names()


def test_file_of_the_maximum_size_is_read(client, pages):
    (pages / "a").write_bytes(b"x" * ftp.READ_MAX)

    with client.session(USER, PASSWORD) as session:
        assert len(session.read("a")) == ftp.READ_MAX


@pytest.mark.parametrize("fault", [{"kind": "frozen"}, {"kind": "refuse", "message": "dribble"}])
def test_file_that_never_arrives_is_given_up_and_the_session_goes_on(server, certificate, fault):
    client = FtpServer(
        server.host, server.port, verify_tls=str(certificate), seconds=20, read_seconds=0.3
    )
    with client.session(USER, PASSWORD) as session:
        server.faults.set(method="RETR", **fault)
        assert session.read("robots.txt") is None
        assert session.read("robots.txt") is None  # the server is not asked again
        server.faults.clear()
        session.store("a.txt", b"alice")
        assert "a.txt" in session.names()

    assert [command for command, _ in server.commands].count("RETR") == 1


def test_directory_with_too_many_files_is_not_listed(client, pages):
    for number in range(700):
        (pages / f"{'x' * 100}-{number}").touch()

    with client.session(USER, PASSWORD) as session:
        assert session.names() is None
        session.store("a.txt", b"alice")


def test_names_of_any_bytes_are_listed(client, pages):
    for name in (b"\xff\xfe", "Åх".encode(), b"a b", b"line\nbreak"):
        (pages / os.fsdecode(name)).touch()

    with client.session(USER, PASSWORD) as session:
        # The byte 0x85, part of many characters in UTF-8, is a line break in Latin-1.
        assert {"a b", "Åх".encode().decode("latin-1")} <= set(session.names())


# -- slow servers ------------------------------------------------------------


SILENT = ("AUTH", "PASS", "PROT", "NLST", "STOR", "SIZE", "RNTO")


@pytest.mark.parametrize(
    "command, message",
    [*((each, "frozen") for each in SILENT), ("PASS", "dribble"), ("NLST", "dribble")],
)
def test_no_server_holds_a_session_up_beyond_its_time(server, certificate, command, message):
    fault = {"kind": "frozen"} if message == "frozen" else {"kind": "refuse", "message": message}
    server.faults.set(method=command, **fault)
    client = FtpServer(server.host, server.port, verify_tls=str(certificate), seconds=0.4)
    started = time.monotonic()

    with pytest.raises(FtpError, match="took too long"), client.session(USER, PASSWORD) as session:
        session.names()
        session.store("a.txt", b"alice")
        session.rename("a.txt", "b.txt")

    assert time.monotonic() - started < SOON_SECONDS


def test_server_that_talks_without_end_is_given_up():
    def talk(listener):
        conn, _ = listener.accept()
        with conn:
            try:
                while True:
                    conn.sendall(b"220-" + b"x" * 1000 + b"\r\n")
            except OSError:
                pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        talking = threading.Thread(target=talk, args=(listener,))
        talking.start()
        error = refused(FtpServer("127.0.0.1", listener.getsockname()[1], seconds=10))
        talking.join()

    assert "as it should" in str(error)


def test_listing_is_never_fetched_from_another_address():
    """A server may name any address in its answer to PASV; we connect to the server's own."""
    asked = []

    def serve(listener, data):
        conn, _ = listener.accept()
        port = data.getsockname()[1]
        answers = ["331 ok", "230 ok", "200 ok"]
        answers += [f"227 Entering (192,0,2,1,{port // 256},{port % 256})", "150 here"]
        with conn, conn.makefile("r") as lines:
            conn.sendall(b"220 hello\r\n")
            for answer in answers:
                asked.append(lines.readline())
                conn.sendall(answer.encode() + b"\r\n")
            other, _ = data.accept()
            other.sendall(b"a.txt\r\n")
            other.close()
            conn.sendall(b"226 done\r\n")
            lines.read()

    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_server(("127.0.0.1", 0)) as data,
    ):
        serving = threading.Thread(target=serve, args=(listener, data))
        serving.start()
        client = FtpServer("127.0.0.1", listener.getsockname()[1], is_tls=False, seconds=10)
        with client.session(USER, PASSWORD) as session:
            assert session.names() == ["a.txt"]
        serving.join()


@pytest.mark.parametrize("answer", ["227 (127,0,0,1,999,999)", "227 no", "229 (|||999999|)"])
def test_impossible_data_port_is_an_error(client, server, answer):
    server.faults.set("refuse", "PASV", message=answer)

    with pytest.raises(FtpError), client.session(USER, PASSWORD) as session:
        session.names()


def test_closed_data_port_is_an_error_that_says_so(client, server):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    answer = f"227 (127,0,0,1,{port // 256},{port % 256})"
    server.faults.set("refuse", "PASV", message=answer)

    with pytest.raises(FtpError, match="passive ports"), client.session(USER, PASSWORD) as session:
        session.names()


# -- the stand-in has the real server's modes ------------------------------------------------


class OneJail(OneSite):
    directory = SITE

    def made_sites(self):
        return [MadeSite("alice.shop.test", SITE, is_served=True, has_jail=True)]


@pytest.fixture
def raw(tmp_path):
    """An FTP user of a whole site, with ftplib alone."""
    with serving(tmp_path / "www", None, OneJail()) as stand_in, ftplib.FTP() as raw:
        raw.connect(stand_in.host, stand_in.port)
        raw.login(USER, PASSWORD)
        raw.site = stand_in.local(SITE)
        yield raw


def mode(path):
    return f"{path.stat().st_mode & 0o7777:o}"


def test_new_site_has_the_modes_of_the_real_server(raw):
    modes = {name: mode(raw.site / name) for name in (".", "web", "private", "tmp", "log")}
    assert modes == {".": "755", "web": "711", "private": "710", "tmp": "770", "log": "755"}
    assert mode(raw.site / "web/robots.txt") == "644"


def test_uploads_can_be_read_by_all_despite_our_umask(raw):
    umask = os.umask(0o077)
    try:
        raw.storbinary("STOR web/a.txt", io.BytesIO(b"alice"))
        raw.mkd("web/a")
    finally:
        os.umask(umask)
    assert (mode(raw.site / "web/a.txt"), mode(raw.site / "web/a")) == ("644", "755")


def test_modes_can_be_changed_and_last(raw):
    raw.storbinary("STOR web/a.txt", io.BytesIO(b"alice"))
    for name, wanted in (("web", "710"), ("web/a.txt", "600")):
        raw.voidcmd(f"SITE CHMOD {wanted} {name}")
        assert mode(raw.site / name) == wanted
    raw.storbinary("STOR web/a.txt", io.BytesIO(b"bob"))
    assert mode(raw.site / "web/a.txt") == "600"


def test_site_with_a_shell_user_holds_a_jail(raw):
    assert {"web", "bin", "etc", "home", "lib64", "usr"} <= set(raw.nlst())


# -- the servers of a shop -------------------------------------------------------------------


@pytest.fixture
def servers(server, certificate):
    addresses = {1: (server.host, server.port), 2: ("127.0.0.1", 9)}
    return FtpServers(addresses, verify_tls=str(certificate))


def test_unreachable_server_is_left_alone_and_others_are_not(servers):
    with pytest.raises(Unreachable), servers.session(2, "localhost", USER, PASSWORD):
        pass
    with pytest.raises(NotNow), servers.session(2, "localhost", USER, PASSWORD):
        pass
    with servers.session(1, "localhost", USER, PASSWORD) as session:
        assert session.names()


@pytest.mark.parametrize("password", ["another", PASSWORD])
def test_fault_of_one_site_does_not_block_its_server(servers, server, password):
    server.faults.set("cut-before", "NLST", times=1)
    with pytest.raises(FtpError), servers.session(1, "localhost", USER, password) as session:
        session.names()

    servers.check(1)


def test_server_without_an_own_address_is_reached_as_customers_do(servers):
    with pytest.raises(Unreachable), servers.session(3, "127.0.0.3", USER, PASSWORD):
        pass
