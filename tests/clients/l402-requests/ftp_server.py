"""An FTP server that wants TLS: ftp_server.py <certificate> <directory>. It lets everybody in, and
says its port on its first line, and on the next ones who came: [user, password].
"""

import json
import sys

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import TLS_FTPHandler
from pyftpdlib.servers import FTPServer

certificate, directory = sys.argv[1:]


class Everybody(DummyAuthorizer):
    def validate_authentication(self, username, password, handler):
        if not self.has_user(username):
            self.add_user(username, password, directory, perm="elradfmw")
        print(json.dumps([username, password]), flush=True)


class Handler(TLS_FTPHandler):
    authorizer = Everybody()
    certfile = certificate
    tls_control_required = tls_data_required = True


server = FTPServer(("127.0.0.1", 0), Handler)
print(server.address[1], flush=True)
server.serve_forever()
