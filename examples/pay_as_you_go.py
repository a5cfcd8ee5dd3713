"""Keep index.html on the web, paid by the hour: pay_as_you_go.py https://shop.example <hours>"""

import sys
import time
from ftplib import FTP_TLS
from ssl import create_default_context

from l402_requests import CredentialCache, L402Client

client = L402Client(credential_cache=CredentialCache(default_ttl=None), timeout=30)


def ask(method, path, body=None):
    url = sys.argv[1] + path
    while (answer := client.request(method, url, json=body)).status_code in (202, 503):
        time.sleep(3)  # it is paid, and still being set up
    return answer.raise_for_status().json()


hosting = ask("POST", "/api/v1/hosting", {"space_mb": 100, "duration": 1, "unit": "hours"})
while ask("GET", "/api/v1/hosting")["state"] != "live":
    time.sleep(10)  # FTP is the last to come up
ftp, tls = hosting["connections"]["ftp"], create_default_context()
with FTP_TLS(ftp["host"], context=tls) as server, open("index.html", "rb") as page:
    server.login(ftp["user"], hosting["password"])
    server.prot_p()
    server.storbinary("STOR web/index.html", page)
for _ in range(1, int(sys.argv[2])):
    while ask("GET", "/api/v1/hosting")["left_seconds"] >= 600:
        time.sleep(60)
    ask("POST", "/api/v1/hosting/extend", {"duration": 1, "unit": "hours"})
