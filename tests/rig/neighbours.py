"""Stand-ins for what else listens on a hosting server: the database, the panel, its apps."""

from tests.rig.box import Box

LISTENERS = r"""
import socket, sys, threading

def serve(port):
    listening = socket.create_server(("", port))
    while True:
        with listening.accept()[0] as connection:
            connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nreached port %d\n" % port)

for port in map(int, sys.argv[1:]):
    threading.Thread(target=serve, args=(port,)).start()
"""


class Neighbours:
    packages = {"/usr/bin/python3": "python3"}

    def __init__(self, box: Box, has_database: bool):
        """`has_database`: the box has a real one."""
        self._box = box
        self.ports = (8080, 8081) if has_database else (3306, 8080, 8081)

    def prepare(self) -> None:
        """Nothing to prepare."""

    def start(self) -> None:
        ports = map(str, self.ports)
        self._box.background("/usr/bin/python3", "-ISc", LISTENERS, *ports)
